"""
Where a host sends packets: what its kernel decides, behind which host an overlay has an address,
and kube-proxy's rules.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word, sound, understanding


@dataclass(frozen=True)
class Decision(Printable):
    """
    What a kernel does with a packet.

    + kind: ``unicast``, ``local`` for the host itself, empty where there is no way
    + via: the gateway's address; empty for a network on the link itself
    + dev: the link that the packet leaves by
    + source: the address that the host itself would use
    + said: the route, or the error, in the kernel's own words
    """

    kind: str = ""
    via: str = ""
    dev: str = ""
    source: str = ""
    said: str = "iproute2 is not installed"


class Decisions(FactBase[Decision]):
    """
    Returns what the kernel does with a packet.

    + destination: its address
    + source: its address; empty for a packet of the host itself
    + into: the link that it comes by

    .. code:: python

        Decision("unicast", "192.0.2.12", "eth0", said="10.10.2.0/24 via 192.0.2.12 dev eth0")
    """

    default = Decision

    @override
    def command(self, destination: str, source: str = "", into: str = "") -> str:
        words = [destination, *(["from", source, "iif", into] if into else [])]
        asked = shlex.join(words)
        return f"""\
if command -v ip >/dev/null 2>&1; then
ip -j link show dev lo | sed 's/^/link /'
ip -4 -j route get {asked} 2>&1 | tr -d '\\n' | sed 's/^/decision /'; echo
ip -4 route get fibmatch {asked} 2>&1 | head -n 1 | sed 's/^/route /'
fi"""

    @override
    def process(self, output: Iterable[str]) -> Decision:
        lines = by_word(output)
        if not lines:
            return Decision()
        with understanding("ip"):
            (link,) = json.loads(lines["link"][0])
            said, route = lines["decision"][0].strip(), lines.get("route", [""])[0].strip()
            if link["ifname"] != "lo":
                raise ValueError("it knows no loopback")
            # Without a way the kernel says why.
            if found := re.match(r"(RTNETLINK answers|Error): ([ -~]+)", said):
                return Decision(said=found[2])
            (way,) = json.loads(said)
            via, dev, source = (way.get(key, "") for key in ("gateway", "dev", "prefsrc"))
            # An older one does not tell which of its routes it took.
            shown = f"{way['dst']}{f' via {via}' if via else ''} dev {dev}"
            text = route if re.match(r"[a-z ]*[\d.]+|default", route) else shown
            return sound(Decision(way.get("type", "unicast"), via, dev, source, text))


@dataclass(frozen=True)
class TableStates(Printable):
    """
    What :class:`Tables` returns.

    + macs: link and address → MAC address that packets for it get
    + peers: link and MAC address → the host that an overlay sends them to
    + proxy: chain or map of kube-proxy's table in nftables → its rules
    """

    macs: dict[str, str] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    proxy: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Tables(FactBase[TableStates]):
    """
    Returns who is behind the links of an overlay, and kube-proxy's rules in nftables.

    .. code:: python

        TableStates(
            macs={"flannel.1 10.10.2.0": "3a:0b:cc:01:02:03"},
            peers={"flannel.1 3a:0b:cc:01:02:03": "192.0.2.12"},
            proxy={"service-ips": ("10.254.0.1 . tcp . 443 : goto service-2QRHZV4L-…",)},
        )
    """

    default = TableStates

    @override
    def command(self) -> str:
        return """\
if command -v ip >/dev/null 2>&1; then
ip -4 -j neigh show 2>&1 | tr -d '\\n' | sed 's/^/macs /'; echo
if command -v bridge >/dev/null 2>&1; then
bridge -j fdb show 2>&1 | tr -d '\\n' | sed 's/^/peers /'; echo
fi
fi
if command -v nft >/dev/null 2>&1; then
nft list table ip kube-proxy 2>&1 </dev/null | sed 's/^/proxy /'
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> TableStates:
        lines = by_word(output)
        with understanding("ip, or bridge,"):
            macs, peers = (json.loads(lines.get(key, ["[]"])[0]) for key in ("macs", "peers"))
            found = TableStates(
                {f"{one['dev']} {one['dst']}": one["lladdr"] for one in macs if "lladdr" in one},
                {f"{one['ifname']} {one['mac']}": one["dst"] for one in peers if "dst" in one},
                _chains(lines.get("proxy", [])),
            )
        return sound(found)


_ABSENT = re.compile(r"No such file or directory")
# A comma that is not within quotes.
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


def _chains(lines: list[str]) -> dict[str, tuple[str, ...]]:
    """The rules of each chain and the elements of each map, as nft shows them."""

    if not lines or any(map(_ABSENT.search, lines)):
        return {}
    if not lines[0].startswith("table ip kube-proxy"):
        raise FactProcessError(f"nft does not show kube-proxy's table: {lines[0][:200]!a}")
    chains: dict[str, tuple[str, ...]] = {}
    name = ""
    for line in map(str.strip, lines[1:]):
        if opened := re.fullmatch(r"(?:chain|map|set) (\S+) \{", line):
            name = opened[1]
            chains[name] = ()
        elif name and line not in ("", "}"):
            text = re.sub(r"^elements = \{|\}$", "", line) if "elements" in line else line
            parts = [line]
            if " : " in line and "vmap" not in line:
                parts = [part.strip(" }") for part in _COMMA.split(text)]
            chains[name] += tuple(part for part in parts if part)
    return chains
