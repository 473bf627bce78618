"""
What firewalls on a host do with the packets that the cluster needs (N6, H2).
"""

from __future__ import annotations

from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.engine.snapshot import ask_now
from pyinfra_kube.operations import firewall, iptables

# flannel's own, where the kernel or flanneld wraps packets into others.
PORTS = {"vxlan": 8472, "udp": 8285}


def see_firewalls(it: Cluster, pods: str, opened: bool = False) -> None:
    """
    Say what of the current host's firewalls would stop the cluster's packets.

    + it: the cluster
    + pods: the bridge of the pods
    + opened: whether the run opens the apiserver's port
    """

    firewall.seen(
        name="See what of the firewalls stops the cluster's packets",
        packets=packets(it, pods),
        network=it.plan.cluster_subnet,
        coming=_coming(it, opened),
        note=lambda lines: it.notes("firewalls").update({it.me.name: lines}),
    )


def look_at_firewalls(it: Cluster, pods: str) -> None:
    """
    Note anew what of the current host's firewalls stops the cluster's packets.

    + it: the cluster
    + pods: the bridge of the pods
    """

    found = firewall.lines(packets(it, pods), it.plan.cluster_subnet, ask=ask_now)
    it.notes("firewalls")[it.me.name] = found


def packets(it: Cluster, pods: str) -> list[firewall.Packet]:
    """
    The packets that must pass the current host: of pods, and to what others reach there.

    + it: the cluster
    + pods: the bridge of the pods
    """

    found = []
    if it.is_a("node"):
        way, all_pods = _way(it), it.plan.cluster_subnet
        own = it.plan.nodes[it.me.name].pod_cidr if it.spec.network == "routes" else all_pods
        found += [
            firewall.Packet("forward", pods, way, own, all_pods),
            firewall.Packet("forward", way, pods, all_pods, own),
        ]
        if it.spec.network == "flannel" and it.spec.flannel_backend in PORTS:
            port = it.spec.flannel_port or PORTS[it.spec.flannel_backend]
            found.append(_arriving(it, "udp", port))
        master = it.plan.addresses[it.spec.masters[0].name] or ""
        found.append(_arriving(it, "tcp", kubelet_port(it), master))
    if it.is_a("master"):
        found.append(_arriving(it, "tcp", it.spec.apiserver_port))
    return found


def _arriving(it: Cluster, protocol: str, port: int, source: str = "") -> firewall.Packet:
    own = it.plan.addresses[it.me.name] or ""
    return firewall.Packet("input", _link(it), "", source, own, protocol, port)


def kubelet_port(it: Cluster) -> int:
    """The port that the apiserver reaches kubelets at."""

    return int(str(it.spec.kubelet_flags.get("port", it.release.ports["kubelet"])))


def _coming(it: Cluster, opened: bool) -> list[str]:
    found = iptables.forward_rules(it.plan.cluster_subnet) if it.is_a("node") else []
    return [*found, *([api_rule(it)] if opened and it.is_a("master") else [])]


def api_rule(it: Cluster) -> str:
    """The rule that opens the apiserver's port."""

    return f"-I INPUT -p tcp --dport {it.spec.apiserver_port} -j ACCEPT"


def _link(it: Cluster) -> str:
    """The device that other hosts reach the current one by, empty where that is not known."""

    link = it.observed[it.me.name].link_of(it.plan.addresses[it.me.name])
    return link.name if link else ""


def _way(it: Cluster) -> str:
    """The device that pods of other nodes are reached by."""

    if it.spec.network == "flannel":
        devices = {"vxlan": f"flannel.{it.spec.flannel_vni}", "udp": "flannel0"}
        return devices.get(it.spec.flannel_backend, _link(it))
    return _link(it)
