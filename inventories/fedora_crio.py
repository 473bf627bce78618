"""
Kubernetes on Fedora 41 or later, with CRI-O. Copy this file, put your hosts in it, and see the plan
first:

    pyinfra inventories/fedora_crio.py deploys/fedora_single_node.py --dry --diff
    pyinfra inventories/fedora_crio.py deploys/fedora_single_node.py

Packages come from the distribution: kubernetes1.37, cri-o1.37 and their like.
"""

control_plane = [("fed-master", {"ssh_hostname": "192.168.10.10"})]
# Several nodes need a network that routes to each other's pods can pass.
nodes = [("fed-node", {"ssh_hostname": "192.168.10.11"})]

all = (
    ["fed-master", "fed-node"],
    {
        "ssh_user": "root",
        "cluster_name": "fedora",
        # Whatever patch the packages have.
        "kubernetes_version": "1.37",
        "control_plane_endpoint": "192.168.10.10",
        "cluster_cidr": "10.10.0.0/16",
        "service_cidr": "10.254.0.0/16",
        # "containerd" is the other one.
        "container_runtime": "cri-o",
        # For deploys/multinode.py, where packets of pods travel inside those of hosts; flanneld is
        # a file of this machine, from https://github.com/flannel-io/flannel/releases:
        # "network": "flannel",
        # "flannel_store": "etcd",
        # "flannel_source": "flanneld-amd64",
        # "flannel_version": "0.28.9",
    },
)
