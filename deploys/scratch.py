"""
Kubernetes from scratch: containers on the bridge cbr0, kubelet and kube-proxy as units, the control
plane as static pods, and the cluster's own certificates and tokens. docker runs them up to 1.23,
containerd from 1.24 on.

    pyinfra inventories/scratch.py deploys/scratch.py
"""

from __future__ import annotations

from collections.abc import Iterator

from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.releases import Release, newest_patch
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases.addon_removal import leave_addons
from pyinfra_kube.deploys.phases.addons import (
    allow_components,
    load_dns_image,
    run_dns,
    wait_for_cas,
)
from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.container_runtime import run_container_runtime
from pyinfra_kube.deploys.phases.control_plane import run_control_plane
from pyinfra_kube.deploys.phases.credentials import give_credentials, keep_credentials
from pyinfra_kube.deploys.phases.encryption import encrypt_secrets
from pyinfra_kube.deploys.phases.etcd import secure_etcd
from pyinfra_kube.deploys.phases.flannel import leave_flannel, run_flannel
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.phases.kube_proxy import run_kube_proxy
from pyinfra_kube.deploys.phases.kubelet import (
    install_kubelet,
    start_with_apiserver,
    start_with_static_pods,
)
from pyinfra_kube.deploys.phases.liveness import monitor_units
from pyinfra_kube.deploys.phases.manifests import apply_manifests
from pyinfra_kube.deploys.phases.metrics_server import run_metrics_server
from pyinfra_kube.deploys.phases.network_policies import enforce_policies
from pyinfra_kube.deploys.phases.node_local_dns import run_node_dns
from pyinfra_kube.deploys.phases.node_logs import send_logs
from pyinfra_kube.deploys.phases.package_locks import lock_packages
from pyinfra_kube.deploys.phases.pod_network import check_mtus, set_up_pod_network
from pyinfra_kube.deploys.phases.selinux import label_files, let_pods_read
from pyinfra_kube.deploys.phases.upgrade import check_upgrade, upgrade_cluster
from pyinfra_kube.deploys.phases.verification import (
    register_nodes,
    show_cluster,
    verify_cluster,
)
from pyinfra_kube.deploys.run.context import current_cluster, current_spec
from pyinfra_kube.engine.phase import phase, run_phases


@phase("Inventory")
def check_inventory() -> None:
    """Refuse what this path does not build, MTUs that do not fit, and a forbidden upgrade."""

    refuse(_of_other_paths(current_spec()))
    cluster = current_cluster()
    check_mtus(cluster.spec, cluster.host_facts)
    check_upgrade(cluster)


def _of_other_paths(spec: ClusterSpec) -> Iterator[Problem]:
    release = Release.of(spec.kubernetes_version)
    if spec.flannel_in_etcd:
        allowed = 'routes; or "flannel" on the API from 1.24 on'
        yield Problem("network", spec.network, None, allowed, "use deploys/multinode.py")
    if not release.is_whole:
        allowed = "a release with all three numbers: no package chooses the patch on this path"
        fix = f'write "{newest_patch(release.version)}"'
        yield Problem("kubernetes_version", release.version, None, allowed, fix)
    if spec.etcd_source:
        allowed = "nothing: etcd is a static pod on this path, and its image has the program"
        fix = "leave it out; image_source or registry_mirrors name another image"
        yield Problem("etcd_source", None, None, allowed, fix)


PHASES = (
    check_inventory,
    prepare_host,
    let_pods_read,
    record_allocations,
    leave_flannel,
    set_up_pod_network,
    run_container_runtime,
    keep_credentials,
    give_credentials,
    upgrade_cluster,
    lock_packages,
    install_kubelet,
    run_control_plane,
    start_with_static_pods,
    # While the control plane starts.
    run_kube_proxy,
    load_dns_image,
    allow_components,
    start_with_apiserver,
    encrypt_secrets,
    register_nodes,
    secure_etcd,
    run_flannel,
    label_files,
    verify_cluster,
    monitor_units,
    wait_for_cas,
    run_dns,
    run_node_dns,
    leave_addons,
    run_metrics_server,
    send_logs,
    apply_manifests,
    enforce_policies,
    show_cluster,
)


@phase("Kubernetes from scratch")
def scratch() -> None:
    """Build the cluster that the inventory describes, and check that it works."""

    run_phases(PHASES)


if "__name__" not in globals():
    scratch()
