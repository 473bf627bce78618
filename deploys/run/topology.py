"""
Who has which address, and why: what hosts and the API tell, and a text of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.tables import lines_of
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.firewall import Chain
from pyinfra_kube.facts.iptables import Ruleset
from pyinfra_kube.facts.routes import Route
from pyinfra_kube.facts.ways import Chains, PeerStates
from pyinfra_kube.facts.workloads import Pod, Service

FORWARDING = "net.ipv4.ip_forward"
BRIDGED = "net.bridge.bridge-nf-call-iptables"
# Links that carry packets of pods from host to host.
OVERLAYS = ("vxlan", "tun", "ipip", "geneve", "wireguard")


@dataclass(frozen=True)
class HostView:
    """
    What is known of a host.

    + address: by which the others reach it
    + roles: for people
    + node: the name of its node; empty for none
    + pod_cidr: that of its node; empty for none
    + links, routes, sysctls, peers: as the facts of these names tell
    + proxy: kube-proxy's rules in nftables
    + rules: of iptables
    + chains: of all its firewalls
    + silent: why nothing of that is known; empty where it is
    """

    name: str
    address: str
    roles: str = ""
    node: str = ""
    pod_cidr: str = ""
    links: Mapping[str, Link] = field(default_factory=dict)
    routes: Sequence[Route] = ()
    sysctls: Mapping[str, str | None] = field(default_factory=dict)
    peers: PeerStates = field(default_factory=PeerStates)
    proxy: Chains = field(default_factory=dict)
    rules: Ruleset = field(default_factory=lambda: Ruleset({}, ()))
    chains: Sequence[Chain] = ()
    silent: str = ""

    @property
    def addresses(self) -> set[str]:
        """All of its own."""

        own = (one.partition("/")[0] for link in self.links.values() for one in link.addresses)
        return {self.address, *own}

    def link_of(self, address: str) -> Link | None:
        """
        The bridge that an address is on, or the link that has it.

        + address: a pod's, or the host's own
        """

        for link in self.links.values():
            for own in link.addresses:
                on_bridge = link.kind == "bridge" and IPAddress(address) in IPNetwork(own)
                if on_bridge or own.partition("/")[0] == address:
                    return link
        return None

    @property
    def bridge(self) -> Link | None:
        """The bridge of its pods."""

        if not self.pod_cidr:
            return None
        found = self.link_of(str(IPNetwork(self.pod_cidr)[2]))
        return found if found and found.kind == "bridge" else None

    def route_to(self, network: str) -> Route | None:
        """
        The route that leads to a network, other than the default.

        + network: such as ``10.10.1.0/24``
        """

        wanted = IPNetwork(network)
        found = [r for r in self.routes if wanted in IPNetwork(r.destination)]
        found = [r for r in found if r.destination != "0.0.0.0/0" and r.type == "unicast"]
        return max(found, key=lambda r: IPNetwork(r.destination).prefixlen, default=None)


@dataclass(frozen=True)
class Topology:
    """
    What is known of a cluster.

    + pods_by: what carries packets between pods of different hosts, for people
    + pods, services: by NAMESPACE/NAME
    """

    name: str
    cluster_cidr: str
    service_cidr: str
    service_ip: str
    dns: str
    pods_by: str
    hosts: Sequence[HostView]
    pods: Mapping[str, Pod] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)

    def owner(self, address: str) -> HostView | None:
        """
        The host that has an address itself.

        + address: of any host or pod
        """

        return next((host for host in self.hosts if address in host.addresses), None)

    def pod_at(self, address: str) -> tuple[str, Pod] | None:
        """
        The pod that the API says to have an address, not one on its host's network.

        + address: of a pod
        """

        own = (p for p in self.pods.items() if p[1].address == address and not p[1].on_host)
        return next(own, None)

    def host_of(self, pod: Pod) -> HostView | None:
        """
        The host whose node a pod is on.

        + pod: it
        """

        return next((host for host in self.hosts if host.node and host.node == pod.node), None)

    def in_pods(self, address: str) -> bool:
        """
        Whether an address is of the range of pods.

        + address: any
        """

        return IPAddress(address) in IPNetwork(self.cluster_cidr)

    @property
    def ranges(self) -> list[tuple[str, str, str]]:
        """What each range is, which it is, and what it is for."""

        special = f"addresses that kube-proxy's rules lead to pods; kubernetes is {self.service_ip}"
        hosts = ", ".join(sorted({net for host in self.hosts for net in _networks(host)}))
        return [
            ("hosts", hosts or "-", "the network between the hosts"),
            ("pods", self.cluster_cidr, f"each node has a part of it; {self.pods_by}"),
            ("services", self.service_cidr, f"{special}, DNS {self.dns}"),
        ]


def _networks(host: HostView) -> list[str]:
    link = host.link_of(host.address)
    own = link.addresses if link else ()
    return [str(IPNetwork(one).cidr) for one in own if one.partition("/")[0] == host.address]


def gaps(topology: Topology, host: HostView) -> list[str]:
    """
    Return what a host lacks for packets of pods.

    + topology: the cluster
    + host: it
    """

    if host.silent:
        return [host.silent]
    others = [one for one in topology.hosts if one.pod_cidr and one is not host]
    lacking = [one for one in others if not host.route_to(one.pod_cidr)]
    # A control plane that is no node need not reach pods, as on Fedora.
    if not host.pod_cidr and lacking == others:
        lacking = []
    missing = [f"no route to {one.pod_cidr} of {one.name}" for one in lacking]
    if host.pod_cidr and host.sysctls.get(FORWARDING) != "1":
        missing.append(f"{FORWARDING} is {host.sysctls.get(FORWARDING)}: nothing is forwarded")
    if host.pod_cidr and not host.bridge and any(_of_host(topology, host)):
        missing.append(f"no bridge has an address of {host.pod_cidr}")
    return missing


def _of_host(topology: Topology, host: HostView) -> list[str]:
    """The pods of a host that have addresses of their own."""

    return [
        name for name, pod in topology.pods.items() if pod.node == host.node and not pod.on_host
    ]


def facts_of(topology: Topology, host: HostView) -> list[tuple[str, str]]:
    """
    Return the addresses and routes of a host, each with what it is there for.

    + topology: the cluster
    + host: it
    """

    found = []
    for link in host.links.values():
        if address := ", ".join(link.addresses):
            found.append((f"{link.name} {address}", _purpose(host, link)))
    others = [other for other in topology.hosts if other.pod_cidr and other is not host]
    routed = [(other, route) for other in others if (route := host.route_to(other.pod_cidr))]
    if len(routed) > 4:
        found.append((f"{len(routed)} routes", f"to the pods of {len(routed)} other nodes"))
    else:
        found += [(_route(route), f"the pods of {other.name}") for other, route in routed]
    return found


def _purpose(host: HostView, link: Link) -> str:
    if link is host.bridge:
        return f"the bridge of its pods, MTU {link.mtu}: the first address of {host.pod_cidr}"
    if link is host.link_of(host.address):
        return f"the network between the hosts, MTU {link.mtu}"
    if link.kind in OVERLAYS:
        return f"the overlay that carries packets to pods of other hosts, MTU {link.mtu}"
    return "the host itself" if link.name == "lo" else "no part of the cluster"


def _route(route: Route) -> str:
    via = f" via {route.via}" if route.via else ""
    return f"route {route.destination}{via} dev {route.dev}"


def text_of(topology: Topology) -> list[str]:
    """
    Return the topology as lines of text.

    + topology: the cluster
    """

    rows = [("HOST", "ADDRESS", "ROLES", "POD CIDR", "BRIDGE", "PODS")]
    for host in topology.hosts:
        bridge = f"{host.bridge.name} {host.bridge.addresses[0]}" if host.bridge else "-"
        count = str(len(_of_host(topology, host))) if host.node else "-"
        own = (host.pod_cidr or "-", bridge, count)
        rows.append((host.name, host.address, host.roles, *own))
    lines = [*lines_of(topology.ranges), "", *lines_of(rows)]
    for host in topology.hosts:
        known = lines_of(facts_of(topology, host)) if not host.silent else []
        missing = [f"MISSING: {gap}" for gap in gaps(topology, host)]
        lines += ["", host.name, *(f"  {line}" for line in [*known, *missing])]
    return [safe(line) for line in lines]


def safe(text: str) -> str:
    """
    Return text without what a terminal or an XML parser would not take as text.

    + text: names of objects and what hosts said
    """

    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
