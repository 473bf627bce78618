"""
Kubernetes from scratch with three control-plane hosts: the API is there while any two of them are.
Copy this file, put your hosts in it, and see the plan first:

    pyinfra inventories/scratch_three.py deploys/scratch.py --dry --diff
    pyinfra inventories/scratch_three.py deploys/scratch.py
"""

# Each runs a member of etcd too. For members elsewhere, make a group etcd of one, three or five.
control_plane = [
    ("kube-control-1", {"ssh_hostname": "192.168.10.21"}),
    ("kube-control-2", {"ssh_hostname": "192.168.10.22"}),
    ("kube-control-3", {"ssh_hostname": "192.168.10.23"}),
]
nodes = [
    ("kube-node-1", {"ssh_hostname": "192.168.10.31"}),
    ("kube-node-2", {"ssh_hostname": "192.168.10.32"}),
]

all = (
    [name for name, _ in [*control_plane, *nodes]],
    {
        "ssh_user": "root",
        "cluster_name": "kubernetes",
        "kubernetes_version": "1.37.2",
        # A load balancer of yours, or a DNS name, that leads to port 6443 of all three. Without it
        # everybody uses the first one, and needs it.
        "control_plane_endpoint": "192.168.10.20:6443",
    },
)
