"""
The pod network: the bridge cbr0, masquerading, forwarding, routes to other hosts' pods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pyinfra_kube.cluster.errors import refuse
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.range_checks import check_mtu
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.firewalls import see_firewalls
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.run.context import Cluster, current_cluster, told
from pyinfra_kube.deploys.run.host_facts import BRIDGE, DNS_BRIDGE, DOCKER_BRIDGE, HostFacts
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import bridge, cni, iptables, nftables, routes


@phase("Pod network")
def set_up_pod_network() -> None:
    """Make the bridge before docker needs it, and let pods' packets pass."""

    cluster = current_cluster()
    if cluster.spec.network == "none":
        if cluster.is_a("node"):
            leave_network(cluster)
        else:
            routes.routes(name="Remove the routes to pods", present=False)
        return
    if cluster.is_a("node"):
        # kubenet makes its bridge itself; docker needs any other one to exist.
        if needs_bridge():
            bridge.bridge(
                name=f"Make the bridge {BRIDGE} of the pods",
                bridge=BRIDGE,
                address=cluster.node.bridge_address,
                mtu=cluster.spec.bridge_mtu,
                runtime=cluster.runtime.name,
            )
        _let_pods_out(cluster)
        # Where nobody answers yet, pods learn so at once and ask the second server.
        if cluster.spec.node_local_dns:
            set_node_dns(cluster)
    set_routes(cluster)
    see_firewalls(cluster, BRIDGE, opened=cluster.spec.open_ports)


def _let_pods_out(cluster: Cluster) -> None:
    network: dict[str, Any] = {
        "cluster_cidr": cluster.spec.cluster_cidr,
        "runtime": cluster.runtime.name,
    }
    masquerade = "Masquerade packets that leave the cluster"
    if cluster.spec.packet_filter == "nftables":
        # What it accepts another table may still drop: there is nothing to set for forwarding.
        nftables.masquerade(name=masquerade, **network)
        leave_forwarding(cluster)
        return
    iptables.masquerade(
        name=masquerade,
        # A kubelet that sets up the bridge sets this rule itself.
        present=cluster.spec.bridge_approach == "manual",
        **network,
    )
    iptables.forward(name="Forward the packets of pods", **network)


def leave_network(cluster: Cluster) -> None:
    """
    Remove the current host's pod network of ours, from the description that CNI reads to routes.

    + cluster: the cluster
    """

    # Up to 1.23 kubelet itself puts pods on docker's network.
    if cluster.runtime is not DOCKER:
        cni.pod_network_absent(name="Remove the description of the pod network")
    leave_forwarding(cluster)
    if cluster.spec.packet_filter == "nftables":
        nftables.masquerade(
            name="Remove the table of the pods' network",
            cluster_cidr=cluster.spec.cluster_cidr,
            present=False,
            runtime=cluster.runtime.name,
        )
    iptables.masquerade(
        name="Remove the masquerade of the pods' network",
        cluster_cidr=cluster.spec.cluster_cidr,
        present=False,
        runtime=cluster.runtime.name,
    )
    routes.routes(name="Remove the routes to pods", present=False)
    bridge.bridge(
        name="Remove the bridge of the pods",
        bridge=BRIDGE,
        present=False,
        runtime=cluster.runtime.name,
    )
    if True in cluster.release.fact("node_local_dns"):
        set_node_dns(cluster, present=False)


def set_node_dns(cluster: Cluster, present: bool = True) -> None:
    """
    Give the current host the address of its own DNS cache, on a bridge without ports.

    + cluster: the cluster
    + present: whether it must have it
    """

    verb = "Set" if present else "Remove"
    bridge.bridge(
        name=f"{verb} the address of the node's own DNS cache",
        bridge=DNS_BRIDGE,
        address=f"{NODE_DNS}/32",
        present=present,
        runtime=cluster.runtime.name,
    )


def leave_forwarding(cluster: Cluster) -> None:
    """
    Remove the rules that forward pods' packets on the current host.

    + cluster: the cluster
    """

    iptables.rules(
        name="Remove the rules of the pods' network",
        rules=[],
        owner="kube-forward",
        present=False,
        runtime=cluster.runtime.name,
    )


def set_routes(cluster: Cluster, gone: Collection[str] = ()) -> None:
    """
    Set the current host's routes to the pods of the other nodes.

    + cluster: the cluster
    + gone: nodes that are removed
    """

    cidrs = {cluster.plan.nodes[name].pod_cidr for name in gone}
    ways = cluster.plan.routes(cluster.host_spec.name)
    routes.routes(
        name="Route to the pods of the other nodes",
        routes=[routes.Route(pods, via=host) for pods, host in ways if pods not in cidrs],
    )


def bridge_of_pods(cluster: Cluster) -> str:
    """The name of the pod bridge on Fedora: up to 1.23 it is docker's own."""

    if cluster.runtime is not DOCKER:
        return BRIDGE
    return str(cluster.spec.docker_options.get("bridge", DOCKER_BRIDGE))


def check_mtus(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> None:
    """
    Check that the MTU of the nodes' bridges fits the links that packets leave by.

    + spec: the cluster
    + host_facts: gathered facts of each connected host

    Raises ``InputError``.
    """

    nodes = told(spec.nodes, host_facts)
    links = {host.name: seen.link_of(host.address) for host, seen in nodes}
    refuse(check_mtu(spec, {name: link.mtu for name, link in links.items() if link}))


def needs_bridge() -> bool:
    """Whether the current host's docker uses our bridge."""

    cluster = current_cluster()
    approach = cluster.spec.bridge_approach, cluster.release.kubelet_bridge
    return cluster.is_a("node") and approach != ("kubelet", "kubenet")


# Alone, it brings what it needs.
PHASES = (prepare_host, record_allocations, set_up_pod_network)

if "__name__" not in globals():
    run_phases(PHASES)
