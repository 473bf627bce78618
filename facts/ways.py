"""
Where a host sends packets: what its kernel decides, who is behind an overlay, kube-proxy's rules.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word, sound, understanding
from pyinfra_kube.facts.iproute import answers, if_there


@dataclass(frozen=True)
class Decision(Printable):
    """
    What a kernel does with a packet.

    + kind: ``unicast``, ``local`` for the host itself, empty where there is no way
    + via: the gateway's address; empty for a network on the link itself
    + dev: the link that the packet leaves by
    + said: the route, or the error, in the kernel's own words
    """

    kind: str = ""
    via: str = ""
    dev: str = ""
    said: str = ""


class Decisions(FactBase["Decision | None"]):
    """
    Returns what the kernel does with a packet; ``None`` where iproute2 is missing.

    + destination: its address
    + source: its address, with the link that it comes by
    + into: that link; empty for a packet of the host itself

    .. code:: python

        Decision("unicast", "192.0.2.12", "eth0", said="10.10.2.0/24 via 192.0.2.12 dev eth0")
    """

    @override
    def command(self, destination: str, source: str = "", into: str = "") -> str:
        asked = shlex.join([destination, *(["from", source, "iif", into] if into else [])])
        # The loopback shows that ip(8) works; without a way it fails, and says why.
        return if_there(f"""ip -j link show dev lo || exit 1
printf 'way %s\\n' "$(ip -4 -j route get {asked} 2>&1 | tr -d '\\n')"
printf 'route %s\\n' "$(ip -4 route get fibmatch {asked} 2>&1 | head -n 1)\"""")

    @override
    def process(self, output: Iterable[str]) -> Decision | None:
        lines = list(output)
        if not lines:
            return None
        with understanding("ip"):
            ((loopback,),) = answers(lines, 1)
            found = by_word(lines)
            (said,), (route,) = found["way"], found["route"]
            if loopback["ifname"] != "lo":
                raise ValueError("it knows no loopback")
            if why := re.match(r"(RTNETLINK answers|Error): (.+)", said):
                return Decision(said=why[2].strip())
            (way,) = json.loads(said)
            via, dev = way.get("gateway", ""), way["dev"]
            # An older one does not tell which of its routes it took.
            known = re.match(r"([a-z]+ )?[\d.]+|default", route)
            shown = route if known else f"{way['dst']}{f' via {via}' if via else ''} dev {dev}"
            return sound(Decision(way.get("type", "unicast"), via, dev, " ".join(shown.split())))


@dataclass(frozen=True)
class PeerStates(Printable):
    """
    What :class:`Peers` returns.

    + macs: link and address → MAC address that packets for it get
    + hosts: link and MAC address → address of the host that an overlay sends them to
    """

    macs: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)


class Peers(FactBase["PeerStates | None"]):
    """
    Returns who is behind the links of an overlay; ``None`` where iproute2 is missing.

    .. code:: python

        PeerStates(
            macs={"flannel.1 10.10.2.0": "3a:0b:cc:01:02:03"},
            hosts={"flannel.1 3a:0b:cc:01:02:03": "192.0.2.12"},
        )
    """

    @override
    def command(self) -> str:
        shown = "ip -j link show dev lo && ip -4 -j neigh show && bridge -j fdb show"
        return f"if command -v bridge >/dev/null 2>&1; then {if_there(shown)}; fi"

    @override
    def process(self, output: Iterable[str]) -> PeerStates | None:
        lines = list(output)
        if not lines:
            return None
        with understanding("ip, or bridge,"):
            _, macs, hosts = answers(lines, 3)
            found = PeerStates(
                {f"{one['dev']} {one['dst']}": one["lladdr"] for one in macs if "lladdr" in one},
                {f"{one['ifname']} {one['mac']}": one["dst"] for one in hosts if "dst" in one},
            )
            return sound(found)


Chains = dict[str, tuple[str, ...]]


class ProxyChains(FactBase["Chains | None"]):
    """
    Returns the rules of kube-proxy's chains in nftables, and the elements of its maps; ``None``
    where nft is missing, and nothing where kube-proxy has no table there.

    .. code:: python

        {"service-ips": ("10.254.0.1 . tcp . 443 : goto service-2QRHZV4L-…",)}
    """

    @override
    def command(self) -> str:
        return """\
if command -v nft >/dev/null 2>&1; then
case $(nft --version 2>&1 </dev/null) in nftables*) ;;
*) echo 'nft does not work' >&2; exit 1 ;; esac
tables=$(nft list tables </dev/null) || exit 1
printf '%s\\n' "$tables" 'its own:'
case $tables in *'table ip kube-proxy'*) nft list table ip kube-proxy </dev/null || exit 1 ;; esac
fi"""

    @override
    def process(self, output: Iterable[str]) -> Chains | None:
        lines = list(output)
        if not lines:
            return None
        with understanding("nft"):
            cut = lines.index("its own:")
            shown, own = lines[:cut], lines[cut + 1 :]
            if not all(line.startswith("table ") for line in shown if line):
                raise ValueError(f"{shown[0]!a} names no table")
            if own and own[0] != "table ip kube-proxy {":
                raise ValueError(f"{own[0]!a} is not kube-proxy's table")
            return _chains(own[1:])


# A comma that is not within quotes.
_split = partial(re.split, r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


def _chains(lines: Iterable[str]) -> Chains:
    found: dict[str, list[str]] = {}
    rules: list[str] = []
    elements = False
    for line in map(str.strip, lines):
        if opened := re.fullmatch(r"(?:chain|map|set) (\S+) \{", line):
            rules = found.setdefault(opened[1], [])
        elif line.startswith("elements = {") or elements:
            text = line.removeprefix("elements = {")
            elements = not text.endswith("}")
            rules += filter(None, (part.strip() for part in _split(text.rstrip("}"))))
        elif line not in ("", "}"):
            rules.append(line)
    return {name: tuple(rules) for name, rules in found.items()}
