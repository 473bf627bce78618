"""
The way of a packet from a pod, hop by hop, each with the rule or the route that sends it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.deploys.run.packet import Packet, target_of
from pyinfra_kube.deploys.run.service_rules import lead, refusals
from pyinfra_kube.deploys.run.topology import BRIDGED, FORWARDING, HostView, Topology, safe
from pyinfra_kube.facts import firewall
from pyinfra_kube.facts.iptables import BUILTIN_CHAINS, Rule, Ruleset
from pyinfra_kube.facts.ways import Decision

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
    link = None if pod.on_host else host.link_of(pod.address)
    packet = Packet(pod.address, target.address, target.protocol, target.port)
    leaves = Hop(host.name, f"leaves the pod by {link.name if link else 'its host itself'}")
    if target.endpoints == ():
        rules = refusals(host, packet.to)
        return [Way(title, (leaves, Hop(host.name, "no endpoint: no pod is ready", rules, True)))]
    found = []
    for end in (target.endpoints or ("",))[:_WAYS]:
        one = replace(packet, end=end)
        # A service without an address of its own has those of its pods.
        one = one if target.address else one.led()
        hops = _follow(topology, ask, one, host, link.name if link else "")
        found.append(Way(f"{title}{f' → {end}' if end else ''}", (leaves, *hops)))
    return found


def _follow(
    topology: Topology, ask: Ask, packet: Packet, host: HostView, into: str
) -> Iterator[Hop]:
    for _ in range(len(topology.hosts) + 1):
        if host.silent:
            yield Hop(host.name, f"what is here is not known: {host.silent}", missing=True)
            return
        # Another host's node port is led there.
        if packet.end and topology.owner(packet.destination) in (None, host):
            found = lead(host, packet.source, packet.to, packet.end)
            others = f", one of {found.count}" if found.count > 1 else ""
            text = found.why or f"kube-proxy leads it to {packet.end}{others}"
            yield Hop(host.name, text, found.rules, bool(found.why))
            if found.why:
                return
            packet = packet.led(found.marked)
        decision = ask(host.name, packet.destination, packet.source if into else "", into)
        place = _Place(topology, host, packet, into, decision)
        yield from place.hops()
        if place.arrived and not packet.reply:
            sent = place.packet
            back = Packet(sent.destination, sent.source, sent.protocol, reply=True)
            link = "" if decision.kind == "local" else decision.dev
            yield from _follow(topology, ask, back, host, link)
        if not place.next:
            return
        packet, (host, into) = place.packet, place.next
    yield Hop(host.name, "a loop: hosts send it to each other", missing=True)


@dataclass
class _Place:
    """A packet on a host: what happens to it, whether that is its end, and where it goes on."""

    topology: Topology
    host: HostView
    packet: Packet
    into: str
    decision: Decision
    arrived: bool = False
    next: tuple[HostView, str] | None = None

    def hops(self) -> Iterator[Hop]:
        """What happens to it."""

        for step in (self._routed, self._filtered, self._masqueraded, self._delivered, self._sent):
            for hop in step():
                yield hop
                if hop.missing or self.arrived:
                    return

    def _hop(self, text: str, *rules: str, missing: bool = False) -> Hop:
        text = f"back: {text}" if self.packet.reply else text
        return Hop(self.host.name, text, rules, missing)

    def _end(self, text: str, *rules: str) -> Hop:
        return self._hop(text, *(rules or (self.decision.said,)), missing=True)

    def _routed(self) -> Iterator[Hop]:
        forwards = self.host.sysctls.get(FORWARDING)
        if self.into and forwards != "1" and self.decision.kind != "local":
            yield self._end(f"{FORWARDING} is {forwards}: nothing is forwarded")
        elif not self.decision.kind:
            yield self._end(f"no route to {self.packet.destination}")

    def _filtered(self) -> Iterator[Hop]:
        # Answers of a connection are let through.
        if self.packet.reply or not self.into:
            return
        local = self.decision.kind == "local"
        way, out = ("input", "") if local else ("forward", self.decision.dev)
        asked = firewall.Packet(way, self.into, out, *self.packet.ends)
        found = firewall.obstacles(self.host.chains, [asked])
        for one in sorted(found, key=lambda one: not one.certain)[:1]:
            chain = f"{one.chain.name}, table {one.chain.table} of {one.chain.flavour}"
            word = "dropped" if one.certain else "may be dropped"
            yield self._hop(f"{word} by {chain}", one.text, missing=one.certain)

    def _masqueraded(self) -> Iterator[Hop]:
        if self.packet.reply or self.decision.kind == "local":
            return
        rule = _masquerade(self.host, self.packet, self.decision.dev)
        if rule or self.packet.marked:
            address = _address(self.host, self.decision.dev)
            rule = rule or "kube-proxy's rules mark it for that"
            if address != self.packet.source:
                yield self._hop(f"masqueraded as {address}", rule)
            self.packet = replace(self.packet, source=address, marked=False, masked=True)

    def _delivered(self) -> Iterator[Hop]:
        dev, said, packet = self.decision.dev, self.decision.said, self.packet
        found, bridge = self.topology.pod_at(packet.destination), self.host.bridge
        if self.decision.kind == "local":
            self.arrived = True
            given = ", which gives back the addresses that it replaced" if packet.reply else ""
            yield self._hop(f"arrives at the host itself{given}", said)
        elif found and self.topology.host_of(found[1]) is self.host:
            link, bridged = self.host.link_of(packet.destination), self.host.sysctls.get(BRIDGED)
            if link and link.kind == "bridge" and link.name != dev:
                yield self._end(f"leaves by {dev}, but {found[0]} is on {link.name}")
            elif self.into == dev and packet.is_led and not packet.masked and bridged != "1":
                yield self._end(f"{BRIDGED} is {bridged}: the answer keeps the pod's address")
            else:
                self.arrived = True
                yield self._hop(f"arrives at {found[0]} by {dev}", said)
        elif bridge and dev == bridge.name:
            where = f"; {found[0]} is on {found[1].node}" if found else ""
            yield self._end(f"no pod on {dev} has {packet.destination}{where}")

    def _sent(self) -> Iterator[Hop]:
        packet, decision = self.packet, self.decision
        via = f"{decision.via or packet.destination} by {decision.dev}"
        peer = _peer(self.topology, self.host, packet, decision)
        if isinstance(peer, str):
            yield self._end(peer)
        elif peer:
            self.next = peer
            yield self._hop(f"goes to {peer[0].name} by {decision.dev}", decision.said)
        elif self.topology.in_pods(packet.destination):
            pod = self.topology.pod_at(packet.destination)
            whose = f"the pods of {pod[1].node}" if pod else "any pods"
            yield self._end(f"no route to {whose}: it leaves the cluster to {via}")
        elif self.topology.in_pods(packet.source):
            yield self._end(f"no masquerade: {packet.source} is not known to {via}")
        else:
            yield self._hop(f"leaves the cluster to {via}", decision.said)


def _peer(
    topology: Topology, host: HostView, packet: Packet, decision: Decision
) -> tuple[HostView, str] | str | None:
    """The host that is next, and the link by which the packet comes there; or why there is none."""

    dev, via = decision.dev, decision.via or packet.destination
    kind = host.links[dev].kind if dev in host.links else ""
    if kind == "vxlan":
        mac = host.peers.macs.get(f"{dev} {via}", "")
        peer = host.peers.hosts.get(f"{dev} {mac}", "")
        if not peer:
            return f"{dev} knows no {f'host behind {mac}' if mac else f'MAC address for {via}'}"
        other = topology.owner(peer)
        return (other, dev) if other else f"{dev} sends it to {peer}, no host of ours"
    if kind == "tun":
        pod = topology.pod_at(packet.destination)
        other = topology.host_of(pod[1]) if pod else None
        return (other, dev) if other else f"no host has {packet.destination}"
    other = topology.owner(via)
    link = other.link_of(via) if other else None
    return (other, link.name if link else "") if other else None


def _address(host: HostView, dev: str) -> str:
    link = host.links.get(dev)
    return link.addresses[0].partition("/")[0] if link and link.addresses else host.address


def _masquerade(host: HostView, packet: Packet, out: str) -> str:
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
    asked = firewall.Packet("forward", "", out, *packet.ends)
    found = firewall.obstacles(firewall.of_iptables(Ruleset(chains, tuple(rules))), [asked])
    return next((shown.get(one.text, "") for one in found if one.certain), "")


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
