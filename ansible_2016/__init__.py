"""Inventories of the Ansible playbooks of 2016."""
