"""
Kubernetes on Fedora, one node. Copy this file, put your hosts in it, and see the plan first:

    pyinfra inventories/fedora_single_node.py deploys/fedora_single_node.py --dry --diff
    pyinfra inventories/fedora_single_node.py deploys/fedora_single_node.py

Packages come from the distribution; kubernetes_version must be the one that they contain.
"""

control_plane = [("fed-master", {"ssh_hostname": "192.168.10.10"})]
nodes = [("fed-node", {"ssh_hostname": "192.168.10.11"})]

all = (
    ["fed-master", "fed-node"],
    {
        "ssh_user": "root",
        "cluster_name": "fedora",
        "kubernetes_version": "1.20.2",
        "control_plane_endpoint": "192.168.10.10",
        # The node's docker gets the first network of these.
        "cluster_cidr": "10.10.0.0/16",
        "service_cidr": "10.254.0.0/16",
        # Nodes register themselves; "manual" creates their objects from here.
        "node_registration": "self",
        # Whether packages may come from updates-testing too.
        "enable_updates_testing": False,
    },
)
