"""
Kubernetes from scratch with flannel, where no router knows the pods: packets between pods travel
inside packets between hosts. Copy this file, put your hosts in it, and see the plan first:

    pyinfra inventories/scratch_flannel.py deploys/scratch.py --dry --diff
    pyinfra inventories/scratch_flannel.py deploys/scratch.py
"""

control_plane = [
    ("kube-master", {"ssh_hostname": "192.168.10.10"}),
]
# They may be in different networks, as long as they reach each other.
nodes = [
    ("kube-node-1", {"ssh_hostname": "192.168.10.11"}),
    ("kube-node-2", {"ssh_hostname": "192.168.20.12"}),
]

all = (
    [name for name, _ in [*control_plane, *nodes]],
    {
        "ssh_user": "root",
        "cluster_name": "kubernetes",
        "kubernetes_version": "1.37.2",
        "network": "flannel",
        # "vxlan", "udp", or "host-gw" for nodes in one network.
        "flannel_backend": "vxlan",
        # A file of this machine, from https://github.com/flannel-io/flannel/releases. A URL may
        # stand here too; give the file's flannel_sha256 with it.
        "flannel_source": "flanneld-amd64",
    },
)
