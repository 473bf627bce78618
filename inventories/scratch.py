"""
Kubernetes from scratch: copy this file, put your hosts in it, and see the plan first:

    pyinfra inventories/scratch.py deploys/scratch.py --dry --diff
    pyinfra inventories/scratch.py deploys/scratch.py

Hosts, a name and a release are all that an inventory needs. docs/settings.md lists every other
setting, with its default. An unknown key or a wrong value is refused before any host is touched.
"""

# Hosts, by the names that they know each other by. A host may be in both groups.
control_plane = [
    ("kube-master", {"ssh_hostname": "192.168.10.10"}),
]
nodes = [
    ("kube-node-1", {"ssh_hostname": "192.168.10.11"}),
    ("kube-node-2", {"ssh_hostname": "192.168.10.12"}),
]

all = (
    [name for name, _ in [*control_plane, *nodes]],
    {
        "ssh_user": "root",
        "cluster_name": "kubernetes",
        "kubernetes_version": "1.37.2",
        # Debian's containerd may be older than the release wants. For another one, put containerd,
        # crictl and the CNI plugins into a folder of this machine, and say which containerd it is:
        # "runtime_source": "containerd-2.4.2",
        # "containerd_version": "2.4.2",
    },
)
