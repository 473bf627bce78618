"""
The network of pods: cbr0, the way out of the cluster, the way to other hosts' pods (N3–N6).
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra_kube.cluster.addressing import check_mtu
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.context import Cluster, cluster
from pyinfra_kube.deploys.observations import BRIDGE, DOCKER_BRIDGE, Observation
from pyinfra_kube.deploys.phase import phase
from pyinfra_kube.facts.snapshot import ask_now
from pyinfra_kube.operations import bridge, firewall, iptables, routes

# flannel's own, where the kernel or flanneld wraps packets into others.
PORTS = {"vxlan": 8472, "udp": 8285}


@phase("Pod network")
def set_up_pod_network() -> None:
    """Make the bridge before docker needs it, and let pods out and through."""

    it = cluster()
    if it.is_a("node"):
        # kubenet makes its bridge by itself; docker needs every other one to be there.
        if needs_bridge():
            bridge.bridge(
                name=f"Make the bridge {BRIDGE} of the pods",
                bridge=BRIDGE,
                address=it.plan.nodes[it.me.name].bridge_address,
                mtu=it.spec.bridge_mtu,
            )
        iptables.masquerade(
            name="Masquerade what leaves the cluster",
            cluster_subnet=it.plan.cluster_subnet,
            # A kubelet that sets up the bridge sets the same rule itself.
            present=it.spec.bridge_approach == "manual",
        )
        iptables.forward(name="Forward the packets of pods", cluster_subnet=it.plan.cluster_subnet)
    routes.routes(
        name="Route to the pods of the other nodes",
        routes=[routes.Route(pods, via=host) for pods, host in it.plan.routes(it.me.name)],
    )
    see_firewalls(it, BRIDGE, opened=it.spec.open_ports)


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


def bridge_of_pods(it: Cluster) -> str:
    """The bridge that the current host's docker gives to pods where it is docker's own."""

    return str(it.spec.docker_options.get("bridge", DOCKER_BRIDGE))


def check_mtus(spec: ClusterSpec, observed: Mapping[str, Observation]) -> None:
    """
    See that what the nodes' bridges send fits the links that it leaves by (P5).

    + spec: the cluster
    + observed: what each connected host told

    Raises ``InputError``.
    """

    mtus = {
        host.name: link.mtu
        for host in spec.nodes
        if host.name in observed and (link := observed[host.name].link_of(host.address))
    }
    if problems := check_mtu(spec, mtus):
        raise InputError(problems)


def needs_bridge() -> bool:
    """Whether the current host's docker runs on our bridge."""

    it = cluster()
    kubenet = it.spec.bridge_approach == "kubelet" and it.release.kubelet_bridge == "kubenet"
    return it.is_a("node") and not kubenet


if "__name__" not in globals():
    set_up_pod_network()
