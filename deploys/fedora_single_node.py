"""
Kubernetes on Fedora with one node: systemd units from packages, settings in /etc/kubernetes.

    pyinfra inventories/fedora_single_node.py deploys/fedora_single_node.py
"""

from __future__ import annotations

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.credentials import give_fedora_credentials, keep_credentials
from pyinfra_kube.deploys.phases.etcd import register_fedora_etcd, secure_etcd
from pyinfra_kube.deploys.phases.fedora_control_plane import (
    run_fedora_control_plane,
    run_fedora_etcd,
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
)
from pyinfra_kube.deploys.phases.liveness import monitor_fedora_units
from pyinfra_kube.deploys.phases.package_locks import lock_fedora_packages
from pyinfra_kube.deploys.phases.selinux import label_files
from pyinfra_kube.deploys.phases.upgrade import check_upgrade, upgrade_fedora_cluster
from pyinfra_kube.deploys.run.context import cluster_on
from pyinfra_kube.engine.phase import phase, run_phases

SEVERAL = "deploys/multinode.py"


@phase("Inventory")
def check_inventory() -> None:
    """
    Refuse a cluster with another network, up to 1.23 one with several nodes, and a forbidden
    upgrade.
    """

    cluster = cluster_on("routes", instead=SEVERAL)
    nodes = [node.name for node in cluster.spec.nodes]
    if len(nodes) > 1 and cluster.runtime is DOCKER:
        allowed = "one node: nothing would route packets to the pods of another"
        fix = f'use {SEVERAL}, with network = "flannel"'
        raise InputError([Problem("nodes", nodes, None, allowed, fix)])
    check_upgrade(cluster)


PHASES = (
    check_inventory,
    prepare_fedora_host,
    record_allocations,
    keep_credentials,
    give_fedora_credentials,
    register_fedora_etcd,
    run_fedora_etcd,
    upgrade_fedora_cluster,
    run_fedora_control_plane,
    set_up_fedora_network,
    run_fedora_runtime,
    lock_fedora_packages,
    configure_fedora_docker,
    run_fedora_docker,
    run_fedora_node,
    allow_fedora_components,
    label_files,
    verify_fedora_cluster,
    monitor_fedora_units,
    run_fedora_dns,
    secure_etcd,
)


@phase("Kubernetes on Fedora")
def fedora_single_node() -> None:
    """Build the cluster that the inventory describes, and check that it works."""

    run_phases(PHASES)


if "__name__" not in globals():
    fedora_single_node()
