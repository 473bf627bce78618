"""What a run costs, beside what an Ansible playbook for the same resources costs."""
