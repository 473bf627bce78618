"""
The way of a packet from a pod, hop by hop, each with the rule or the route that sends it on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.deploys.run.topology import BRIDGED, FORWARDING, HostView, Topology, safe
from pyinfra_kube.facts import firewall
from pyinfra_kube.facts.iptables import BUILTIN_CHAINS, Rule, Ruleset
from pyinfra_kube.facts.ways import Decision
from pyinfra_kube.facts.workloads import ServicePort

Ask = Callable[[str, str, str, str], Decision]
"""What the kernel of a host decides: its name, destination, source, and the link it comes by."""

# A service may have hundreds of endpoints.
_WAYS = 8


@dataclass(frozen=True)
class Hop:
    """
    What happens to a packet at a place.

    + host: where
    + text: what
    + rules: what sends it there, in the kernel's own words
    + missing: whether it goes no further
    """

    host: str
    text: str
    rules: tuple[str, ...] = ()
    missing: bool = False


@dataclass(frozen=True)
class Way:
    """
    The way of a packet.

    + title: from where to where
    + hops: in order
    """

    title: str
    hops: tuple[Hop, ...]

    @property
    def ends(self) -> Hop | None:
        """The hop where it ends before it should."""

        return next((hop for hop in self.hops if hop.missing), None)


@dataclass(frozen=True)
class Target:
    """
    Where packets are to go.

    + port: 0 for any
    + endpoints: of a service; ``None`` for what is none
    """

    name: str
    address: str
    protocol: str = ""
    port: int = 0
    endpoints: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Packet:
    source: str
    destination: str
    protocol: str
    port: int
    # Where kube-proxy is to lead it, and whether it was led there and is to be masqueraded.
    end: str = ""
    led: bool = False
    marked: bool = False
    reply: bool = False


def target_of(topology: Topology, text: str) -> Target:
    """
    Return what a person means.

    + topology: the cluster
    + text: NAMESPACE/POD, NAMESPACE/SERVICE or an address, with :PORT or without

    Raises ``InputError``.
    """

    name, _, port = text.partition(":")
    if "/" not in name:
        for service, one in _ports(topology):
            if str(one.node_port) == port and topology.owner(name):
                known = f"{service} at the node port {text}"
                return Target(known, name, one.protocol, one.node_port, one.endpoints)
        return Target(text, name, "tcp" if port else "", int(port or 0))
    ports = [one for service, one in _ports(topology) if service == name]
    for one in ports:
        if port in ("", str(one.port), one.name):
            address = topology.services[name].address
            known = f"service {name} {address}:{one.port}"
            return Target(known, address, one.protocol, one.port, one.endpoints)
    pod = topology.pods.get(name)
    if pod and pod.address and not ports and (not port or port.isdigit()):
        return Target(f"{name} {pod.address}", pod.address, "tcp" if port else "", int(port or 0))
    allowed = "a pod with an address, or a service and one of its ports"
    raise InputError([Problem("packet_to", text, None, allowed)])


def _ports(topology: Topology) -> Iterator[tuple[str, ServicePort]]:
    return ((name, one) for name, found in topology.services.items() for one in found.ports)


def ways(topology: Topology, start: str, to: str, ask: Ask) -> list[Way]:
    """
    Return the way from a pod to a target, one for each endpoint of a service.

    + topology: the cluster
    + start: NAMESPACE/POD
    + to: as of :func:`target_of`
    + ask: asks the kernels

    Raises ``InputError``.
    """

    target, pod = target_of(topology, to), topology.pods.get(start)
    host = topology.host_of(pod) if pod else None
    if not pod or not pod.address or not host:
        allowed = "a pod with an address, on a host of the inventory"
        raise InputError([Problem("packet_from", start, None, allowed)])
    title = f"{start} {pod.address} → {target.name}"
    into = "" if pod.on_host else getattr(host.link_of(pod.address), "name", "")
    packet = _Packet(pod.address, target.address, target.protocol, target.port)
    leaves = Hop(host.name, f"leaves the pod by {into or 'the network of its host'}")
    if target.endpoints == ():
        text = "no endpoint: no pod of the service is ready"
        return [Way(title, (leaves, Hop(host.name, text, _refusals(host, packet), True)))]
    found = []
    for end in (target.endpoints or ("",))[:_WAYS]:
        one = replace(packet, end=end)
        if end and not target.address:
            one = _led(one)
        hops = (leaves, *_follow(topology, ask, one, host, into))
        found.append(Way(f"{title}{f' → {end}' if end else ''}", hops))
    return found


def _led(packet: _Packet, marked: bool = False) -> _Packet:
    address, _, port = packet.end.partition(":")
    return replace(packet, destination=address, port=int(port), led=True, marked=marked)


def _follow(
    topology: Topology, ask: Ask, packet: _Packet, host: HostView, into: str
) -> Iterator[Hop]:
    for _ in range(len(topology.hosts) + 1):
        if host.silent:
            yield Hop(host.name, f"what is here is not known: {host.silent}", missing=True)
            return
        if packet.end and not packet.led and not _passes_on(topology, host, packet):
            hop, packet = _translate(host, packet)
            yield hop
            if hop.missing:
                return
        decision = ask(host.name, packet.destination, packet.source if into else "", into)
        hops, arrived, step = _decide(topology, host, packet, into, decision)
        yield from hops
        if arrived and not packet.reply:
            back = _Packet(_source(host, packet, decision), "", packet.protocol, 0, reply=True)
            back = replace(back, source=packet.destination, destination=back.source)
            out = "" if decision.kind == "local" else decision.dev
            yield from _follow(topology, ask, back, host, out)
        if not step:
            return
        packet, host, into = step
    yield Hop(host.name, "a loop: hosts send it to each other", missing=True)


def _passes_on(topology: Topology, host: HostView, packet: _Packet) -> bool:
    """Whether it is for a node port of another host."""

    return topology.owner(packet.destination) not in (None, host)


Step = tuple[_Packet, HostView, str]


def _decide(
    topology: Topology, host: HostView, packet: _Packet, into: str, decision: Decision
) -> tuple[list[Hop], bool, Step | None]:
    """What a host does with a packet, whether that arrives, and where it goes on."""

    back = "back: " if packet.reply else ""
    hops: list[Hop] = []

    def end(text: str, *rules: str) -> tuple[list[Hop], bool, None]:
        return [*hops, Hop(host.name, back + text, rules, True)], False, None

    if into and host.sysctls.get(FORWARDING) != "1" and decision.kind != "local":
        return end(f"{FORWARDING} is {host.sysctls.get(FORWARDING)}: nothing is forwarded")
    if not decision.kind:
        return end(f"no route to {packet.destination}", decision.said)
    stopped = _stopped(host, packet, into, decision)
    if stopped and stopped.certain:
        return end(f"dropped by {_place(stopped)}", stopped.text)
    if stopped:
        hops.append(Hop(host.name, f"may be dropped by {_place(stopped)}", (stopped.text,)))
    if decision.kind == "local":
        text = "arrives at the host itself"
        text += ", which gives back the addresses that it replaced" if packet.reply else ""
        return [*hops, Hop(host.name, back + text, (decision.said,))], True, None

    dev, pod = decision.dev, topology.pod_at(packet.destination)
    if pod and topology.host_of(pod[1]) is host:
        link = host.link_of(packet.destination)
        if link and link.kind == "bridge" and link.name != dev:
            return end(f"leaves by {dev}, but {pod[0]} is on {link.name}", decision.said)
        if into == dev and packet.led and not packet.marked and host.sysctls.get(BRIDGED) != "1":
            return end(
                f"{BRIDGED} is {host.sysctls.get(BRIDGED)}: the answer keeps the pod's address"
            )
        done = Hop(host.name, f"{back}arrives at {pod[0]} by {dev}", (decision.said,))
        return [*hops, done], True, None
    if host.bridge and dev == host.bridge.name:
        where = f"; {pod[0]} is on {pod[1].node}" if pod else ""
        return end(f"no pod on {dev} has {packet.destination}{where}", decision.said)

    masquerade = "" if packet.reply else _masquerade(host, packet, dev)
    if masquerade or packet.marked:
        source = _address(host, dev)
        rule = masquerade or "marked by kube-proxy's rules, see above"
        if source != packet.source:
            hops.append(Hop(host.name, f"masqueraded as {source}", (rule,)))
        packet = replace(packet, source=source, marked=False)
    peer, why = _peer(topology, host, packet, decision)
    if why:
        return end(why, decision.said)
    if peer:
        hops.append(Hop(host.name, f"{back}goes to {peer[0].name} by {dev}", (decision.said,)))
        return hops, False, (packet, *peer)
    via = f"{decision.via or packet.destination} by {dev}"
    if topology.in_pods(packet.destination):
        whose = f"the pods of {pod[1].node}" if pod else "any pods"
        return end(f"no route to {whose}: it leaves the cluster to {via}", decision.said)
    if topology.in_pods(packet.source):
        return end(f"no masquerade: {packet.source} is not known to {via}", decision.said)
    return [*hops, Hop(host.name, f"leaves the cluster to {via}", (decision.said,))], False, None


def _peer(
    topology: Topology, host: HostView, packet: _Packet, decision: Decision
) -> tuple[tuple[HostView, str] | None, str]:
    """The host that is next, and the link by which the packet comes there; or why there is none."""

    dev, via = decision.dev, decision.via or packet.destination
    link = host.links.get(dev)
    if link and link.kind == "vxlan":
        mac = host.peers.macs.get(f"{dev} {via}", "")
        via = host.peers.hosts.get(f"{dev} {mac}", "")
        if not via:
            what = f"host behind {mac}" if mac else f"MAC address for {decision.via}"
            return None, f"{dev} knows no {what}"
        other = topology.owner(via)
        return ((other, dev), "") if other else (None, f"{dev} sends it to {via}, no host of ours")
    if link and link.kind == "tun":
        pod = topology.pod_at(packet.destination)
        other = topology.host_of(pod[1]) if pod else None
        return ((other, dev), "") if other else (None, f"no host has {packet.destination}")
    other = topology.owner(via)
    return ((other, getattr(other.link_of(via), "name", "")) if other else None), ""


def _address(host: HostView, dev: str) -> str:
    link = host.links.get(dev)
    return link.addresses[0].partition("/")[0] if link and link.addresses else host.address


def _source(host: HostView, packet: _Packet, decision: Decision) -> str:
    """Who the receiver thinks sent it."""

    return _address(host, decision.dev) if packet.marked else packet.source


# -- Firewalls -----------------------------------------------------------------------------------


def _place(one: firewall.Obstacle) -> str:
    chain = one.chain
    return f"{chain.name}, table {chain.table} of {chain.flavour}"


def _stopped(
    host: HostView, packet: _Packet, into: str, decision: Decision
) -> firewall.Obstacle | None:
    """What stops the first packet of a connection; answers to it are let through."""

    if packet.reply or not into:
        return None
    found = firewall.obstacles(host.chains, [_asked(packet, into, decision)])
    return next((one for one in found if one.certain), next(iter(found), None))


def _asked(packet: _Packet, into: str, decision: Decision) -> firewall.Packet:
    way, out = ("input", "") if decision.kind == "local" else ("forward", decision.dev)
    rest = packet.source, packet.destination, packet.protocol, packet.port
    return firewall.Packet(way, into, out, *rest)


def _masquerade(host: HostView, packet: _Packet, out: str) -> str:
    """The rule that gives a packet the host's address; empty for none."""

    # What decides whether a packet is dropped tells as well whether it is masqueraded.
    shown: dict[str, str] = {}
    rules = []
    for rule in host.rules.rules:
        if rule.table == "nat" and rule.chain not in set(BUILTIN_CHAINS) - {"POSTROUTING"}:
            swapped = (
                "DROP" if word in ("MASQUERADE", "SNAT") else word for word in rule.arguments
            )
            rules.append(Rule("filter", rule.chain, tuple(swapped)))
            shown[str(rules[-1])] = str(rule)
    chains = {"filter": host.rules.chains.get("nat", {})}
    rest = packet.source, packet.destination, packet.protocol, packet.port
    asked = firewall.Packet("forward", "", out, *rest)
    found = firewall.obstacles(firewall.of_iptables(Ruleset(chains, tuple(rules))), [asked])
    return next((shown.get(one.text, "") for one in found if one.certain), "")


# -- kube-proxy ----------------------------------------------------------------------------------

_SERVICE_CHAINS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES")
_MARKS = ("mark-for-masquerade", "KUBE-MARK-MASQ")
_TO = re.compile(r"(?:goto|jump|-j|-g) ([^\s,}]+)")
_DNAT = re.compile(r"(?:dnat to|--to-destination) (\d[\d.]*:\d+)")
_FROM = re.compile(r"(?:saddr (!= )?|(! )?-s )(\d[\d./]*)")


def _translate(host: HostView, packet: _Packet) -> tuple[Hop, _Packet]:
    """What kube-proxy's rules make of a packet to a service."""

    known = f"{packet.destination}:{packet.port}"
    graph = {**host.proxy, **_chains(host.rules, "nat")}
    entries = _entries(host, packet, ("service-ips", "service-nodeports"), "nat")
    leads = dict(_leads(graph, entries, ()))
    if not entries:
        text = f"kube-proxy has no rule for {known}"
        return Hop(host.name, text, _refusals(host, packet), True), packet
    if packet.end not in leads:
        text = f"kube-proxy's rules lead to {', '.join(leads) or 'no pod'}, not to {packet.end}"
        return Hop(host.name, text, entries, True), packet
    path = leads[packet.end]
    others = f", one of {len(leads)}" if len(leads) > 1 else ""
    rules = (entries[-1], *(text for text in path if packet.end in text and _DNAT.search(text)))
    marked = any(_marks(text, packet.source) for text in path)
    return Hop(host.name, f"kube-proxy leads it to {packet.end}{others}", rules), _led(
        packet, marked
    )


def _entries(host: HostView, packet: _Packet, maps: Sequence[str], table: str) -> tuple[str, ...]:
    """The rules about a service's address and port, or a node port, of nftables or iptables."""

    port = f"{packet.protocol} . {packet.port} "
    own = packet.destination in host.addresses
    key = port if own else f"{packet.destination} . {port}"
    found = [text for name in maps for text in host.proxy.get(name, ())]
    networks = ("", f"{packet.destination}/32") if own else (f"{packet.destination}/32",)
    return (
        *(text for text in found if text.startswith(key)),
        *(
            str(rule)
            for rule in host.rules.rules
            if (rule.table == table and rule.chain in _SERVICE_CHAINS)
            and rule.value("-d") in networks
            and rule.value("--dport", packet.protocol) == str(packet.port)
        ),
    )


def _refusals(host: HostView, packet: _Packet) -> tuple[str, ...]:
    return _entries(host, packet, ("no-endpoint-services", "no-endpoint-nodeports"), "filter")


def _chains(ruleset: Ruleset, table: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for rule in ruleset.rules:
        if rule.table == table:
            found[rule.chain] = (*found.get(rule.chain, ()), str(rule))
    return found


def _leads(
    graph: Mapping[str, tuple[str, ...]], texts: tuple[str, ...], above: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each endpoint that rules lead to, with all rules on the way."""

    path = (*above, *texts)
    for text in texts:
        if found := _DNAT.search(text):
            yield found[1], path
        for chain in _TO.findall(text):
            if chain in graph and chain not in _MARKS and not set(graph[chain]) & set(path):
                yield from _leads(graph, graph[chain], path)


def _marks(text: str, source: str) -> bool:
    """Whether a rule marks packets of a source to be masqueraded."""

    if not any(mark in text for mark in _MARKS):
        return False
    found = _FROM.search(text)
    inside = not found or IPAddress(source) in IPNetwork(found[3])
    return inside != bool(found and (found[1] or found[2]))


def text_of_way(way: Way) -> list[str]:
    """
    Return a way as lines of text.

    + way: it
    """

    width = max(len(hop.host) for hop in way.hops)
    lines = [way.title]
    for number, hop in enumerate(way.hops, 1):
        word = "MISSING: " if hop.missing else ""
        lines.append(f"  {number:2} {hop.host:{width}}  {word}{hop.text}")
        lines += [f"     {'':{width}}    {rule}" for rule in hop.rules]
    return [safe(line) for line in lines]
