"""
The pod network: the bridge cbr0, masquerading, forwarding, routes to other hosts' pods.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.range_checks import check_mtu
from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.firewalls import see_firewalls
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE, DOCKER_BRIDGE, HostFacts
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import bridge, iptables, routes


@phase("Pod network")
def set_up_pod_network() -> None:
    """Make the bridge before docker needs it, and let pods' packets pass."""

    cluster = current_cluster()
    if cluster.is_a("node"):
        # kubenet makes its bridge itself; docker needs any other one to exist.
        if needs_bridge():
            bridge.bridge(
                name=f"Make the bridge {BRIDGE} of the pods",
                bridge=BRIDGE,
                address=cluster.plan.nodes[cluster.host_spec.name].bridge_address,
                mtu=cluster.spec.bridge_mtu,
                runtime=cluster.runtime.name,
            )
        iptables.masquerade(
            name="Masquerade packets that leave the cluster",
            cluster_cidr=cluster.plan.cluster_cidr,
            # A kubelet that sets up the bridge sets this rule itself.
            present=cluster.spec.bridge_approach == "manual",
            runtime=cluster.runtime.name,
        )
        iptables.forward(
            name="Forward the packets of pods",
            cluster_cidr=cluster.plan.cluster_cidr,
            runtime=cluster.runtime.name,
        )
    routes.routes(
        name="Route to the pods of the other nodes",
        routes=[
            routes.Route(pods, via=host)
            for pods, host in cluster.plan.routes(cluster.host_spec.name)
        ],
    )
    see_firewalls(cluster, BRIDGE, opened=cluster.spec.open_ports)


def bridge_of_pods(cluster: Cluster) -> str:
    """The name of the pod bridge where it is docker's own."""

    return str(cluster.spec.docker_options.get("bridge", DOCKER_BRIDGE))


def check_mtus(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> None:
    """
    Check that the MTU of the nodes' bridges fits the links that packets leave by.

    + spec: the cluster
    + host_facts: gathered facts of each connected host

    Raises ``InputError``.
    """

    mtus = {
        host.name: link.mtu
        for host in spec.nodes
        if host.name in host_facts and (link := host_facts[host.name].link_of(host.address))
    }
    if problems := check_mtu(spec, mtus):
        raise InputError(problems)


def needs_bridge() -> bool:
    """Whether the current host's docker uses our bridge."""

    cluster = current_cluster()
    kubenet = (
        cluster.spec.bridge_approach == "kubelet" and cluster.release.kubelet_bridge == "kubenet"
    )
    return cluster.is_a("node") and not kubenet


# Alone, it brings what it needs.
if "__name__" not in globals():
    run_phases([prepare_host, record_allocations, set_up_pod_network])
