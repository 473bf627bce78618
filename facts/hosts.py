"""
Which addresses a host finds for names, and which it reaches (H3).
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from typing_extensions import override


@dataclass(frozen=True)
class HostsFile:
    """
    The file /etc/hosts, and what DNS says.

    + text: the file as it stands
    + resolved: IPv4 addresses by name that DNS gives, without the file
    """

    text: str = ""
    resolved: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Hosts(FactBase[HostsFile]):
    """
    Returns the text of /etc/hosts, and what DNS answers for names.

    + names: names to ask DNS for, all at once, two seconds at most
    + marker: of a block in the file whose names need no asking, where DNS may be slow

    .. code:: python

        HostsFile(
            text="127.0.0.1 localhost\\n",
            resolved={"kube-master": ("192.0.2.11",)},
        )
    """

    default = HostsFile

    @override
    def command(self, names: Sequence[str] = (), marker: str = "") -> str:
        content = "base64 -w 0 /etc/hosts 2>/dev/null; echo;"
        if not names:
            return f"{content} true"
        block = shlex.quote(f"/^# BEGIN {marker}$/,/^# END {marker}$/p")
        held = f"held=$(sed -n {block} /etc/hosts 2>/dev/null | tr -s ' \\t' '\\n\\n');"
        asking = " ".join(
            f"{{ printf '%s\\n' \"$held\" | grep -qxF -- {name} || "
            f"timeout 2 getent -s dns ahostsv4 {name} 2>/dev/null | sed 's/^/{name} /'; }} &"
            for name in map(shlex.quote, names)
        )
        return f"{content} {held} {asking} wait; true"

    @override
    def process(self, output: Iterable[str]) -> HostsFile:
        first, *answers = output
        resolved: dict[str, list[str]] = {}
        for line in answers:
            name, address = line.split()[:2]
            addresses = resolved.setdefault(name, [])
            addresses += [] if address in addresses else [address]
        return HostsFile(
            base64.b64decode(first).decode(errors="surrogateescape"),
            {name: tuple(addresses) for name, addresses in resolved.items()},
        )


_SIGN = """\
has() { command -v "$1" >/dev/null 2>&1; }
met() {
case "$way" in
bash) timeout 2 bash -c 'exec 3<>/dev/tcp/$0/$1 && echo Connected' "$1" "$2" ;;
curl) curl --silent --verbose --noproxy '*' --max-time 2 "http://$1:$2" ;;
esac 2>&1 </dev/null | grep -q 'Connected\\|refused'
}
sign() {
address=$1
shift
if has ping && ping -n -c 1 -w 1 "$address" >/dev/null 2>&1; then echo "$address yes"; return; fi
[ -n "$way" ] && [ $# -gt 0 ] || { echo "$address unknown"; return; }
for port; do
if met "$address" "$port"; then echo "$address yes"; return; fi
done
echo "$address no"
}
export LC_ALL=C
way=
if has bash; then way=bash; elif has curl; then way=curl; fi"""

SSH = 22


class Reachable(FactBase["dict[str, bool | None]"]):
    """
    Returns whether each address gives a sign of life: an answer to a ping, or at one of its ports,
    be it that the port is closed. Whoever answers no ping may still be reached; ``None`` is for a
    host that lacks what it takes to try a port. All are tried at once, each port for two seconds.

    + addresses: IPv4 addresses
    + ports: by address, those to try after a ping, over TCP; by default that of ssh

    .. code:: python

        {"192.0.2.11": True, "192.0.2.12": False}
    """

    default = dict

    @override
    def command(
        self, addresses: Sequence[str], ports: Mapping[str, Sequence[int]] | None = None
    ) -> str:
        tries = (
            " ".join(["sign", shlex.quote(address), *map(str, (ports or {}).get(address, [SSH]))])
            for address in addresses
        )
        return "\n".join([_SIGN, *(f"{one} &" for one in tries), "wait", "true"])

    @override
    def process(self, output: Iterable[str]) -> dict[str, bool | None]:
        meanings = {"yes": True, "no": False}
        return {address: meanings.get(answer) for address, answer in map(str.split, output)}
