"""
Kubernetes on Fedora, several nodes with flannel between them. Copy this file, put your hosts in
it, and see the plan first:

    pyinfra inventories/multinode.py deploys/multinode.py --dry --diff
    pyinfra inventories/multinode.py deploys/multinode.py

Packages come from the distribution; kubernetes_version must be the one that they contain.
"""

# Each name is a node's name too.
control_plane = [("fed-master", {"ssh_hostname": "192.168.122.10"})]
nodes = [
    ("fed-node-1", {"ssh_hostname": "192.168.122.77", "node_labels": {"name": "fed-node-1"}}),
    ("fed-node-2", {"ssh_hostname": "192.168.122.36", "node_labels": {"name": "fed-node-2"}}),
]

all = (
    ["fed-master", "fed-node-1", "fed-node-2"],
    {
        "ssh_user": "root",
        "cluster_name": "fedora",
        "kubernetes_version": "1.20.2",
        "control_plane_endpoint": "192.168.122.10",
        "service_cidr": "10.254.0.0/16",
        # flannel gives each node a subnet of this range. Take a private one.
        "network": "flannel",
        "flannel_network": "10.16.0.0/16",
        "flannel_subnet_len": 24,
        # "vxlan", "udp" or "host-gw".
        "flannel_backend": "vxlan",
        "flannel_vni": 1,
        "flannel_etcd_prefix": "/coreos.com/network",
        # Fedora has flannel up to release 34. For a later one, name an RPM of flannel, file or URL,
        # or set flannel_source to a flanneld, with its flannel_version and flannel_sha256.
        "rpm_files": [],
    },
)
