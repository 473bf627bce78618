"""
Kubernetes on Fedora with several nodes, and flannel's network between them.

    pyinfra inventories/multinode.py deploys/multinode.py
"""

from __future__ import annotations

from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.credentials import give_fedora_credentials, keep_credentials
from pyinfra_kube.deploys.phases.etcd import register_fedora_etcd, secure_etcd
from pyinfra_kube.deploys.phases.fedora_control_plane import (
    run_fedora_control_plane,
    run_fedora_etcd,
)
from pyinfra_kube.deploys.phases.fedora_flannel import (
    limit_flannel,
    run_flannel,
    set_flannel_network,
)
from pyinfra_kube.deploys.phases.fedora_hosts import prepare_fedora_host
from pyinfra_kube.deploys.phases.fedora_node import (
    configure_fedora_docker,
    run_fedora_docker,
    run_fedora_node,
    run_fedora_runtime,
    set_up_fedora_network,
)
from pyinfra_kube.deploys.phases.fedora_verification import (
    allow_fedora_components,
    run_fedora_dns,
    verify_fedora_cluster,
    verify_flannel,
)
from pyinfra_kube.deploys.phases.liveness import monitor_fedora_units
from pyinfra_kube.deploys.phases.package_locks import lock_fedora_packages
from pyinfra_kube.deploys.phases.selinux import label_files
from pyinfra_kube.deploys.phases.upgrade import check_upgrade, upgrade_fedora_cluster
from pyinfra_kube.deploys.run.context import cluster_on
from pyinfra_kube.engine.phase import phase, run_phases


@phase("Inventory")
def check_inventory() -> None:
    """Refuse a cluster with another network, and a forbidden upgrade."""

    check_upgrade(cluster_on("flannel", instead="deploys/fedora_single_node.py"))


PHASES = (
    check_inventory,
    prepare_fedora_host,
    record_allocations,
    keep_credentials,
    give_fedora_credentials,
    register_fedora_etcd,
    run_fedora_etcd,
    set_flannel_network,
    upgrade_fedora_cluster,
    run_fedora_control_plane,
    set_up_fedora_network,
    run_fedora_runtime,
    lock_fedora_packages,
    configure_fedora_docker,
    run_flannel,
    run_fedora_docker,
    run_fedora_node,
    allow_fedora_components,
    verify_flannel,
    label_files,
    verify_fedora_cluster,
    monitor_fedora_units,
    run_fedora_dns,
    secure_etcd,
    limit_flannel,
)


@phase("Kubernetes on Fedora")
def multinode() -> None:
    """Build the cluster that the inventory describes, and check that it works."""

    run_phases(PHASES)


if "__name__" not in globals():
    multinode()
