"""
What the rules of ufw do with the packets of a host or network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from netaddr import AddrFormatError, IPNetwork

Way = Literal["open", "open in part", "closed"]
Rule = re.Match[str]

DENIES = ("deny", "reject")

# As ufw notes it: what it does, protocol, port, to, its port, from, perhaps two applications,
# direction with a link.
_RULE = re.compile(
    r"(?P<does>allow|deny|reject|limit)\S* (?P<what>\S+ (?P<ports>\S+) \S+ \S+) "
    r"(?P<source>[\d./]+) (?:\S+ \S+ )?in(?P<link>_\S+)?(?: .*)?"
)
_ALL = "any any 0.0.0.0/0 any"


def parse(lines: Iterable[str]) -> list[Rule]:
    """
    Return the rules for packets that come in.

    + lines: as ufw notes them, such as ``allow any any 0.0.0.0/0 any 192.0.2.11 in``
    """

    return [found for line in lines if (found := _RULE.fullmatch(line))]


def lets_in(rules: Sequence[Rule], peer: str, ports: Iterable[int]) -> Way:
    """
    Return what happens to the packets of a host or network: the first rule for all of them decides.

    + rules: in their order
    + peer: an address or a network
    + ports: those that it needs; who opens none of them opens no part
    """

    in_part = False
    for rule in rules:
        if not _is_in(peer, rule["source"]):
            continue
        of_all = rule["what"] == _ALL and not rule["link"]
        if of_all and rule["does"] == "allow":
            return "open"
        if of_all and rule["does"] in DENIES:
            break
        if rule["does"] in ("allow", "limit"):
            in_part = in_part or any(_has(rule["ports"], port) for port in ports)
    return "open in part" if in_part else "closed"


def _is_in(peer: str, source: str) -> bool:
    try:
        return IPNetwork(peer) in IPNetwork(source)
    except AddrFormatError:
        return False


def _has(ports: str, port: int) -> bool:
    """Whether a port is one of ``any``, or of ports and ranges such as ``80,30000:32767``."""

    spans = re.findall(r"(?<![^,])(\d+)(?::(\d+))?(?![^,])", ports)
    return ports == "any" or any(int(a) <= port <= int(b or a) for a, b in spans)
