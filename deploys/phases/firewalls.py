"""
What firewalls on a host do with the packets that the cluster needs (N6, H2).
"""

from __future__ import annotations

from pyinfra_kube.cluster.spec.settings import FLANNEL_PORTS
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.engine.snapshot import ask_now
from pyinfra_kube.operations import firewall, iptables


def see_firewalls(cluster: Cluster, pods: str, opened: bool = False) -> None:
    """
    Say what of the current host's firewalls would stop the cluster's packets.

    + it: the cluster
    + pods: the bridge of the pods
    + opened: whether the run opens the apiserver's port
    """

    firewall.seen(
        name="Check which firewall rules stop the cluster's packets",
        packets=packets(cluster, pods),
        network=cluster.plan.cluster_cidr,
        pending=_pending(cluster, opened),
        note=lambda lines: cluster.notes("firewalls").update({cluster.host_spec.name: lines}),
    )


def look_at_firewalls(cluster: Cluster, pods: str) -> None:
    """
    Note anew what of the current host's firewalls stops the cluster's packets.

    + it: the cluster
    + pods: the bridge of the pods
    """

    found = firewall.lines(packets(cluster, pods), cluster.plan.cluster_cidr, ask=ask_now)
    cluster.notes("firewalls")[cluster.host_spec.name] = found


def packets(cluster: Cluster, pods: str) -> list[firewall.Packet]:
    """
    The packets that must pass the current host: of pods, and to what others reach there.

    + it: the cluster
    + pods: the bridge of the pods
    """

    found = []
    if cluster.is_a("node"):
        way, all_pods = _way(cluster), cluster.plan.cluster_cidr
        own = (
            cluster.plan.nodes[cluster.host_spec.name].pod_cidr
            if cluster.spec.network == "routes"
            else all_pods
        )
        found += [
            firewall.Packet("forward", pods, way, own, all_pods),
            firewall.Packet("forward", way, pods, all_pods, own),
        ]
        if cluster.spec.network == "flannel" and cluster.spec.flannel_backend in FLANNEL_PORTS:
            port = cluster.spec.flannel_port or FLANNEL_PORTS[cluster.spec.flannel_backend]
            found.append(_arriving(cluster, "udp", port))
        master = cluster.plan.addresses[cluster.spec.control_plane[0].name] or ""
        found.append(_arriving(cluster, "tcp", kubelet_port(cluster), master))
    if cluster.is_a("control_plane"):
        found.append(_arriving(cluster, "tcp", cluster.spec.apiserver_port))
    return found


def _arriving(cluster: Cluster, protocol: str, port: int, source: str = "") -> firewall.Packet:
    own = cluster.plan.addresses[cluster.host_spec.name] or ""
    return firewall.Packet("input", _link(cluster), "", source, own, protocol, port)


def kubelet_port(cluster: Cluster) -> int:
    """The port that the apiserver reaches kubelets at."""

    return int(str(cluster.spec.kubelet_flags.get("port", cluster.release.ports["kubelet"])))


def _pending(cluster: Cluster, opened: bool) -> list[str]:
    found = iptables.forward_rules(cluster.plan.cluster_cidr) if cluster.is_a("node") else []
    return [*found, *([api_rule(cluster)] if opened and cluster.is_a("control_plane") else [])]


def api_rule(cluster: Cluster) -> str:
    """The rule that opens the apiserver's port."""

    return f"-I INPUT -p tcp --dport {cluster.spec.apiserver_port} -j ACCEPT"


def _link(cluster: Cluster) -> str:
    """The device that other hosts reach the current one by, empty where that is not known."""

    link = cluster.host_facts[cluster.host_spec.name].link_of(
        cluster.plan.addresses[cluster.host_spec.name]
    )
    return link.name if link else ""


def _way(cluster: Cluster) -> str:
    """The device that pods of other nodes are reached by."""

    if cluster.spec.network == "flannel":
        devices = {"vxlan": f"flannel.{cluster.spec.flannel_vni}", "udp": "flannel0"}
        return devices.get(cluster.spec.flannel_backend, _link(cluster))
    return _link(cluster)
