"""
Which addresses a host finds for names, and which it reaches (H3).
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
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
        content = "if [ -e /etc/hosts ]; then base64 -w 0 /etc/hosts || exit 1; fi; echo;"
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


class Reachable(FactBase["dict[str, bool | None]"]):
    """
    Returns whether each address answers a ping, two seconds at most for all of them; ``None``
    where the host has no ping.

    + addresses: IPv4 addresses

    .. code:: python

        {"192.0.2.11": True, "192.0.2.12": False}
    """

    default = dict

    @override
    def command(self, addresses: Sequence[str]) -> str:
        probes = " ".join(
            f"{{ if ! command -v ping >/dev/null 2>&1; then echo {address} unknown; "
            f"else case $(ping -n -c 1 -w 2 {address} 2>&1) in *' 0% packet loss'*) "
            f"echo {address} yes ;; *' packet loss'*) echo {address} no ;; "
            f"*) echo {address} broken ;; esac; fi; }} &"
            for address in map(shlex.quote, addresses)
        )
        return f"{probes} wait; true"

    @override
    def process(self, output: Iterable[str]) -> dict[str, bool | None]:
        meanings = {"yes": True, "no": False}
        answers = dict(map(str.split, output))
        if "broken" in answers.values():
            raise FactProcessError("ping does not tell whether other hosts answer")
        return {address: meanings.get(answer) for address, answer in answers.items()}
