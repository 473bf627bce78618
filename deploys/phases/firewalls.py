"""
Which ports of a host are opened, and what its firewalls do with the packets of a cluster.
"""

from __future__ import annotations

from collections.abc import Collection

from pyinfra_kube.cluster.components import flanneld
from pyinfra_kube.cluster.components.own_ports import kubelet_port
from pyinfra_kube.cluster.spec.settings import FLANNEL_PORTS, NODE_DNS
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.engine.snapshot import ask_now, read
from pyinfra_kube.facts.firewalld import Firewalld
from pyinfra_kube.facts.record import Record
from pyinfra_kube.operations import firewall_report, firewalld, iptables


def see_firewalls(cluster: Cluster, pods: str, opened: bool = False) -> None:
    """
    Report which rules of the current host's firewalls would stop the cluster's packets.

    + cluster: the cluster
    + pods: the pod bridge
    + opened: whether the run opens the apiserver's port
    """

    firewall_report.seen(
        name="Check which firewall rules stop the cluster's packets",
        packets=packets(cluster, pods),
        network=cluster.spec.cluster_cidr,
        pending=_pending(cluster, opened),
        note=lambda lines: cluster.notes("firewalls").update({cluster.host_spec.name: lines}),
    )


def look_at_firewalls(cluster: Cluster, pods: str) -> None:
    """
    Note again which rules of the current host's firewalls stop the cluster's packets.

    + cluster: the cluster
    + pods: the pod bridge
    """

    found = firewall_report.lines(packets(cluster, pods), cluster.spec.cluster_cidr, ask=ask_now)
    cluster.notes("firewalls")[cluster.host_spec.name] = found


def packets(cluster: Cluster, pods: str) -> list[firewall_report.Packet]:
    """
    The packets that must pass the current host: those of pods, and those to its open ports.

    + cluster: the cluster
    + pods: the pod bridge
    """

    found = []
    if cluster.is_a("node"):
        way, all_pods = _way(cluster), cluster.spec.cluster_cidr
        own = all_pods if cluster.spec.flannel_leases else cluster.node.pod_cidr
        found += [
            firewall_report.Packet("forward", pods, way, own, all_pods),
            firewall_report.Packet("forward", way, pods, all_pods, own),
        ]
        if cluster.spec.node_local_dns:
            found += [
                firewall_report.Packet("input", pods, "", own, NODE_DNS, protocol, 53)
                for protocol in ("udp", "tcp")
            ]
        if cluster.on_flannel and cluster.spec.flannel_backend in FLANNEL_PORTS:
            port = cluster.spec.flannel_port or FLANNEL_PORTS[cluster.spec.flannel_backend]
            found.append(_arriving(cluster, "udp", port))
        first = cluster.plan.addresses[cluster.spec.control_plane[0].name] or ""
        found.append(_arriving(cluster, "tcp", kubelet_port(cluster.spec), first))
    if cluster.is_a("control_plane"):
        found.append(_arriving(cluster, "tcp", cluster.spec.apiserver_port))
    return found


def _arriving(
    cluster: Cluster, protocol: str, port: int, source: str = ""
) -> firewall_report.Packet:
    own = cluster.own_address
    return firewall_report.Packet("input", _link(cluster), "", source, own, protocol, port)


def _pending(cluster: Cluster, opened: bool) -> list[str]:
    if cluster.spec.packet_filter == "nftables":
        return []
    found = iptables.forward_rules(cluster.spec.cluster_cidr) if cluster.is_a("node") else []
    return [*found, *([_api_rule(cluster)] if opened and cluster.is_a("control_plane") else [])]


def open_ports(cluster: Cluster) -> None:
    """
    Open the ports that others reach on the current host.

    + cluster: the cluster
    """

    if cluster.is_a("control_plane"):
        opened = cluster.spec.open_ports and cluster.spec.packet_filter == "iptables"
        iptables.rules(
            name="Open the apiserver's port" if opened else "Open the apiserver's port no more",
            rules=[_api_rule(cluster)] if opened else [],
            owner="kube-apiserver-ports",
            present=opened,
            runtime=cluster.runtime.name,
        )


def open_firewalld(cluster: Cluster, present: bool = True, gone: Collection[str] = ()) -> None:
    """
    Have the current host's firewalld let the cluster's packets in, where it runs.

    + cluster: the cluster
    + present: ``False`` takes that back
    + gone: hosts whose packets are not let in any more
    """

    spec = cluster.spec
    opened = spec.open_firewalld and present
    if not (read(Record).of(firewalld.KIND) or (opened and read(Firewalld))):
        return
    hosts = [cluster.plan.addresses[one.name] for one in spec.hosts if one.name not in gone]
    others = [one for one in hosts if one and one != cluster.own_address]
    api = [f"{spec.apiserver_port}/tcp"] if cluster.is_a("control_plane") else []
    firewalld.opened(
        name="Open firewalld for the cluster" if opened else "Close firewalld again",
        sources=[spec.cluster_cidr, *others] if opened else [],
        ports=api if opened else [],
        interface=_link(cluster),
    )


def _api_rule(cluster: Cluster) -> str:
    return f"-I INPUT -p tcp --dport {cluster.spec.apiserver_port} -j ACCEPT"


def _link(cluster: Cluster) -> str:
    """The device by which other hosts reach the current one; empty when unknown."""

    link = cluster.own_facts.link_of(cluster.own_address)
    return link.name if link else ""


def _way(cluster: Cluster) -> str:
    """The device that leads to the pods of other nodes."""

    backend = cluster.spec.flannel_backend if cluster.on_flannel else ""
    return flanneld.device_of(backend, cluster.spec.flannel_vni) or _link(cluster)
