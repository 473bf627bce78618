"""
Kubernetes of the guides' era from scratch, 1.2 to 1.23 on docker: copy this file, put your hosts in
it, and see the plan first:

    pyinfra inventories/scratch_docker.py deploys/scratch.py --dry --diff
    pyinfra inventories/scratch_docker.py deploys/scratch.py

Each setting below has its default value, except those that only you can know. They can all be left
out.
"""

# Hosts, by the names that they know each other by. A host may be in both groups.
control_plane = [
    ("kube-master", {"ssh_hostname": "192.168.10.10"}),
]
nodes = [
    ("kube-node-1", {"ssh_hostname": "192.168.10.11"}),
    ("kube-node-2", {"ssh_hostname": "192.168.10.12"}),
]
# One, three or five members of etcd; those of the control plane when the group is left out.
# etcd = ["kube-master"]

_all_hosts = [name for name, _ in [*control_plane, *nodes]]

all = (
    _all_hosts,
    {
        "ssh_user": "root",
        # What you must set.
        "cluster_name": "kubernetes",
        "kubernetes_version": "1.20.2",
        # Where clients reach the control plane: "host" or "host:port". It may be a load balancer or
        # a DNS name that leads to the apiserver.
        "control_plane_endpoint": "192.168.10.10",
        # Who gets which address. A node keeps the pod CIDR that it has.
        "cluster_cidr": "10.10.0.0/16",
        "node_cidr_mask_size": 24,
        "service_cidr": "10.0.0.0/16",
        "cluster_dns": "10.0.0.10",
        "cluster_domain": "cluster.local",
        # How the apiserver is reached: "https", or "http" up to 1.19.
        "apiserver_approach": "https",
        # Who makes the bridge cbr0: "manual" for this deploy, "kubelet" for kubelet (up to 1.23).
        "bridge_approach": "manual",
        # Whether hosts get routes to each other's pods; False where your router has them.
        "route_pods": True,
        # Who shares a credential: "shared", "per_component" or "per_node".
        "credential_policy": "per_node",
        # What a credential is: "token", or "certificate" for client certificates.
        "credential_kind": "token",
        # Where binaries come from: a URL, a mirror, or a folder on this machine. Image archives
        # (kube-apiserver.tar …) in that folder are loaded; other images are pulled.
        "kubernetes_source": "https://dl.k8s.io",
        # None for bare metal; what is allowed depends on the release.
        "cloud_provider": None,
        # Whether the control plane writes its logs to /var/log as well; up to 1.25.
        "log_to_host": False,
        # More flags of a component, without dashes; checked against the release.
        "apiserver_flags": {},
        "kubelet_flags": {},
    },
)
