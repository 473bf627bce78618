"""
Report what stops a cluster's packets, in any flavour of firewall.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from pyinfra import logger
from pyinfra.api import StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.snapshot import discovering, read
from pyinfra_kube.facts.firewall import (
    Obstacle,
    OtherFirewalls,
    Packet,
    obstacles,
    of_iptables,
)
from pyinfra_kube.facts.iptables import Rule, Rules, Ruleset

__all__ = ["Packet", "lines", "seen"]

# What kube-router's chains for single pods stop, NetworkPolicies are to stop.
_POLICIES = "KUBE-POD-FW-"

_FIREWALLD = "inet firewalld"

# Up to this many obstacles are reported one by one.
_SAID = 10


@operation()
def seen(
    packets: Sequence[Packet],
    network: str,
    pending: Sequence[str] = (),
    note: Callable[[list[str]], object] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Report what would stop packets: rules and policies of both flavours of iptables, and of
    nftables' own tables. It changes nothing: their owner has to allow the packets.

    + packets: what must pass
    + network: of the pods, for the suggested fix
    + pending: rules that the run puts at the top of their chains in the default flavour
    + note: is called with the reported lines

    **Example:**

    .. code:: python

        firewall_report.seen(
            name="See what stops the packets of pods",
            packets=[
                firewall_report.Packet("forward", "cbr0", "eth0", "10.10.0.0/24", "10.10.0.0/16")
            ],
            network="10.10.0.0/16",
        )
    """

    found = lines(packets, network, pending)
    if note:
        note(found)
    host = ctx_host.get()
    if not (ctx_state.get().is_executing or discovering()):
        for line in found[:_SAID]:
            host.log(line, logger.warning)
        if len(found) > _SAID:
            host.log(f"firewall: and {len(found) - _SAID} more of this kind", logger.warning)
    host.noop(f"{len(found)} things are said of its firewalls" if found else "nothing stops them")
    yield from ()


def lines(
    packets: Sequence[Packet],
    network: str,
    pending: Sequence[str] = (),
    ask: Callable[..., Any] = read,
) -> list[str]:
    """
    Return what stops packets on the current host, for people.

    + packets, network, pending: as of :func:`seen`
    + ask: how facts are read
    """

    ruleset, others = ask(Rules) or Ruleset({}, ()), ask(OtherFirewalls)
    chains = [*of_iptables(_with(ruleset, pending)), *others.chains]
    found = [
        _line(one, network)
        for one in obstacles(chains, packets)
        if not one.chain.name.startswith(_POLICIES)
    ]
    return [*found, *(f"firewall: {unknown}" for unknown in others.unknown)]


def _with(ruleset: Ruleset, pending: Iterable[str]) -> Ruleset:
    """The rules with the pending ones in place."""

    wanted = [Rule.parse(text) for text in pending]
    missing = [r for r in wanted if not any(r.effect == found.effect for found in ruleset.rules)]
    blank: dict[str, dict[str, str | None]] = {"filter": {"FORWARD": "ACCEPT", "INPUT": "ACCEPT"}}
    chains = {**blank, **ruleset.chains} if missing else ruleset.chains
    return Ruleset(chains, (*missing, *ruleset.rules))


def _line(one: Obstacle, network: str) -> str:
    chain = one.chain
    where = f"{chain.flavour}, table {chain.table}, chain {chain.name}: {one.text}"
    what = "stops packets of the cluster" if one.certain else "may stop packets of the cluster"
    return f"firewall: {where} {what}; {_fix(one, network)}"


def _fix(one: Obstacle, network: str) -> str:
    chain = one.chain
    # What it has is written by firewalld alone.
    if chain.table == _FIREWALLD:
        return "set open_firewalld = True, or stop firewalld where nobody needs it"
    if chain.hook in ("input", "prerouting", "ingress") or not chain.hook:
        return "let them through there"
    if chain.flavour == "nft":
        rules = (f"ip {side} {network} accept" for side in ("saddr", "daddr"))
        return "; ".join(f"nft insert rule {chain.table} {chain.name} '{rule}'" for rule in rules)
    table = "" if chain.table == "filter" else f"-t {chain.table} "
    both = (f"{chain.flavour} {table}-I {chain.name} -{side} {network} -j ACCEPT" for side in "sd")
    return "; ".join(both)
