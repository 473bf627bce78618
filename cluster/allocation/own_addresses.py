"""Which of a host's addresses is its own: the one that other hosts reach it at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.networks import special
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.ranges import ranges_of


@dataclass(frozen=True)
class SeenAddresses:
    """
    What a host told of its addresses.

    + links: its link by address, with the address's length
    + connected: the address that the control machine connected to
    + default: the address that its default route leaves by
    """

    links: Mapping[str, str]
    connected: str = ""
    default: str = ""


def choose_addresses(
    spec: ClusterSpec, seen: Mapping[str, SeenAddresses], written: Iterable[str] = ()
) -> dict[str, str]:
    """
    Give hosts that their data gives no address, or one that they do not have, one of their own.

    An address that another host has too, as each of Vagrant's has 10.0.2.15, is none of its own.
    Of several it is the one that the control machine connected to, else that in the network of
    the control plane's endpoint, else that of the default route. A single host of the control plane
    that has the endpoint's address uses that.

    + spec: the cluster
    + seen: host → what it told
    + written: the hosts whose data says `address`: no other will do

    Raises ``InputError`` for a host whose addresses leave a choice, or none.
    """
    problems: list[Problem] = []
    chosen: dict[str, str] = {}
    known = {host.name: host.address for host in spec.hosts if host.address}
    everywhere = [_ip(text) for one in seen.values() for text in {*one.links}]
    for host in spec.hosts:
        one = seen.get(host.name, SeenAddresses({}))
        own = [_ip(text) for text in one.links]
        if host.name in written or not own:
            continue
        others = {address for name, address in known.items() if name != host.name}
        candidates = [
            text
            for text in one.links
            if everywhere.count(_ip(text)) == 1
            and _ip(text) not in others
            and not special(IPNetwork(_ip(text)))
        ]
        endpoint = spec.endpoint_address if spec.control_plane == (host,) else None
        if endpoint and endpoint in [_ip(text) for text in candidates]:
            best: str | None = endpoint
        elif known.get(host.name) in own:
            continue
        else:
            center = spec.endpoint_address or next(iter(chosen.values()), None)
            best = _best(spec, one, candidates, center)
        if best:
            chosen[host.name] = best
        else:
            problems.append(_no_choice(host.name, one, candidates))
    refuse(problems)
    return chosen


def _best(
    spec: ClusterSpec, one: SeenAddresses, candidates: list[str], center: str | None
) -> str | None:
    """The address that a host is best reached at; ``None`` where nothing tells."""
    ranges = ranges_of(spec).values()
    outside = [text for text in candidates if not any(_ip(text) in one for one in ranges)]
    candidates = outside or candidates
    addresses = [_ip(text) for text in candidates]
    near = [_ip(text) for text in candidates if center and IPAddress(center) in IPNetwork(text)]
    if one.connected in addresses:
        return one.connected
    for few in (addresses, near):
        if len(few) == 1:
            return few[0]
    return one.default if one.default in addresses else None


def _no_choice(name: str, one: SeenAddresses, candidates: list[str]) -> Problem:
    links = ", ".join(f"{_ip(text)} ({link})" for text, link in one.links.items())
    if not candidates:
        allowed = f"an address of its own: it has {links}, and others have the same"
        fix = f'give {name} an address that no other host has, and set address = "…" for it'
        return Problem("address", None, name, allowed, fix)
    fix = f'set address = "{_ip(candidates[0])}", or another of these, for it'
    return Problem("address", None, name, f"one of its addresses: {links}", fix)


def _ip(text: str) -> str:
    return text.partition("/")[0]
