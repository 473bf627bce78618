"""
Kubernetes from scratch: docker on cbr0, kubelet and kube-proxy as units, the control plane as
static pods, certificates and tokens of its own.

    pyinfra inventories/scratch.py deploys/scratch.py
"""

from __future__ import annotations

from pyinfra_kube.deploys.phases.container_runtime import run_container_runtime
from pyinfra_kube.deploys.phases.control_plane import (
    run_apiserver,
    run_controller_manager,
    run_etcd,
    run_scheduler,
)
from pyinfra_kube.deploys.phases.credentials import keep_credentials
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.phases.kubelet import run_kubelet
from pyinfra_kube.deploys.phases.pod_network import check_mtus, set_up_pod_network
from pyinfra_kube.deploys.phases.proxy import run_proxy
from pyinfra_kube.deploys.phases.verification import verify_cluster
from pyinfra_kube.deploys.run.context import cluster_on
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.prefetch import prefetch


@phase("Kubernetes from scratch")
def scratch() -> None:
    """Build the cluster that the inventory describes, and see that it works."""

    cluster = cluster_on("routes", instead="deploys/multinode.py")
    check_mtus(cluster.spec, cluster.host_facts)
    prefetch(build)
    build()


def build() -> None:
    """The phases, in order."""

    prepare_host()
    set_up_pod_network()
    run_container_runtime()
    keep_credentials()
    run_kubelet()
    run_proxy()
    run_etcd()
    run_apiserver()
    run_controller_manager()
    run_scheduler()
    verify_cluster()


if "__name__" not in globals():
    scratch()
