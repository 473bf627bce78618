"""
SELinux's labels of what a cluster has on a host.
"""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.packages import ships
from pyinfra_kube.deploys.phases.container_runtime import CNI_BIN_DIR
from pyinfra_kube.deploys.phases.host_preparation import distribution_packages
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.operations import packages, selinux
from pyinfra_kube.operations.component_unit import SYSTEM

PART = "selinux"
_WHOLE = (CONFIG_DIR, "/etc/kubernetes", "/etc/cni/net.d", "/etc/crio", CNI_BIN_DIR)
_PROGRAMS = (
    *("kubelet", "kube-proxy", "kubectl", "crictl", "containerd", "crio", "flanneld", "etcd"),
)


@phase("SELinux")
def let_pods_read() -> None:
    """Have containers of the control plane read and write the cluster's files, by rules."""

    cluster = current_cluster()
    if not _has_policy(cluster):
        return
    if cluster.spec.install_packages:
        packages.packages(
            name="Install the policy of containers",
            packages=distribution_packages([PART]),
            removable=cluster.spec.removable_packages,
        )
    selinux.rules(name="Let containers read the cluster's files", rules=rules(cluster))


@phase("SELinux")
def label_files() -> None:
    """Give the cluster's files the labels of the policy, where somebody changed them."""

    cluster = current_cluster()
    if not cluster.own_facts.fit.state.selinux:
        return
    root = cluster.spec.kubelet_root
    selinux.labels(
        name="Label the cluster's files",
        paths=[
            *(f"/usr/local/bin/{name}" for name in _PROGRAMS),
            *(f"{SYSTEM}/{name}.service" for name in _PROGRAMS),
            *(root, f"{root}/config.yaml", f"{root}/kubeconfig", cluster.spec.etcd_data_dir),
        ],
        whole=_WHOLE,
    )


def rules(cluster: Cluster) -> dict[str, str]:
    """
    Return the types of the cluster's files on the current host, by pattern.

    + cluster: the cluster
    """

    written = ["/var/log/kube-apiserver"] if cluster.is_a("control_plane") else []
    written += [cluster.spec.etcd_data_dir] if cluster.is_a("etcd") else []
    read = [CONFIG_DIR] if written else []
    return {
        **{f"{path}(/.*)?": "container_share_t" for path in read},
        **{f"{path}(/.*)?": "container_file_t" for path in written},
    }


def _has_policy(cluster: Cluster) -> bool:
    here = cluster.own_facts
    return bool(here.fit.state.selinux) and ships(PART, here.system, here.release)
