"""
Where kube-proxy's rules lead a packet to a service, in nftables and iptables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.deploys.run.topology import HostView

# Of nftables: maps of addresses and of node ports. Of iptables: chains with the same.
_LEAD = ("service-ips", "service-nodeports")
_REFUSE = ("no-endpoint-services", "no-endpoint-nodeports")
_HAIRPIN = "hairpin-connections"
_IPTABLES = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES")

_MARK = re.compile(r"mark-for-masquerade|KUBE-MARK-MASQ|meta mark set meta mark \| 0x")
_TO = re.compile(r"(?:goto|jump|-j|-g) ([^\s,}]+)")
_DNAT = re.compile(r"\bdnat\b|--to-destination")
_END = re.compile(r"(\d+(?:\.\d+){3})(?::| \. )(\d+)")
_FROM = re.compile(r"(?:saddr (!= )?|(! )?-s )(\d[\d./]*)")

Graph = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Lead:
    """
    Where a packet is led.

    + rules: that lead it there, or keep it from there, as the kernel has them
    + count: how many endpoints they choose from
    + marked: whether it is masqueraded for that
    + why: why it is not led there; empty where it is
    """

    rules: tuple[str, ...]
    count: int = 0
    marked: bool = False
    why: str = ""


def lead(host: HostView, source: str, to: tuple[str, str, int], end: str) -> Lead:
    """
    Return whether a host's rules lead a packet to an endpoint.

    + host: it
    + source: the packet's address
    + to: address, protocol and port of the service or node port
    + end: the endpoint, such as ``10.10.1.2:8080``
    """

    address, protocol, port = to
    entries, graph = _entries(host, to, _LEAD, "nat"), {**host.proxy, **_nat(host)}
    leads = dict(_leads(graph, entries, ()))
    if not entries:
        return Lead(refusals(host, to), why=f"kube-proxy has no rule for {address}:{port}")
    if end not in leads:
        why = f"kube-proxy's rules lead to {', '.join(leads) or 'no pod'}, not to {end}"
        return Lead(entries, why=why)
    pod, _, pod_port = end.partition(":")
    own = f"{pod} . {pod} . {protocol} . {pod_port}" in host.proxy.get(_HAIRPIN, ())
    general = () if address in host.addresses else host.proxy.get("services", ())
    marked = any(_marks(text, source) for text in (*general, *leads[end]))
    ends = [text for text in leads[end] if end in _ends(text)]
    return Lead((entries[-1], *ends), len(leads), marked or (own and pod == source))


def refusals(host: HostView, to: tuple[str, str, int]) -> tuple[str, ...]:
    """
    Return the rules of a host that refuse packets to a service without endpoints.

    + host, to: as of :func:`lead`
    """

    return _entries(host, to, _REFUSE, "filter")


def _entries(
    host: HostView, to: tuple[str, str, int], maps: tuple[str, str], table: str
) -> tuple[str, ...]:
    address, protocol, port = to
    own = address in host.addresses
    key = f"{protocol} . {port} " if own else f"{address} . {protocol} . {port} "
    chosen = host.proxy.get(maps[own], ())
    networks = ("", f"{address}/32") if own else (f"{address}/32",)
    rules = [
        one for one in host.rules.rules if (one.table, one.chain in _IPTABLES) == (table, True)
    ]
    return (
        *(text for text in chosen if text.startswith(key)),
        *(
            str(rule)
            for rule in rules
            if rule.value("-d") in networks and rule.value("--dport", protocol) == str(port)
        ),
    )


def _nat(host: HostView) -> Graph:
    found: dict[str, tuple[str, ...]] = {}
    for rule in host.rules.rules:
        if rule.table == "nat":
            found[rule.chain] = (*found.get(rule.chain, ()), str(rule))
    return found


def _leads(
    graph: Graph, texts: tuple[str, ...], above: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each endpoint that rules lead to, with all rules on the way."""

    path = (*above, *texts)
    for text in texts:
        yield from ((end, path) for end in _ends(text))
        for chain in _TO.findall(text):
            if chain in graph and not _MARK.search(chain) and not set(graph[chain]) & set(path):
                yield from _leads(graph, graph[chain], path)


def _ends(text: str) -> list[str]:
    found = _END.findall(text) if _DNAT.search(text) else []
    return [f"{address}:{port}" for address, port in found]


def _marks(text: str, source: str) -> bool:
    """Whether a rule marks packets of a source to be masqueraded."""

    found = _FROM.search(text)
    inside = not found or IPAddress(source) in IPNetwork(found[3])
    return bool(_MARK.search(text)) and inside != bool(found and (found[1] or found[2]))
