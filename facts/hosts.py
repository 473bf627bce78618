"""
Which addresses a host finds for names, and which addresses it reaches.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable


@dataclass(frozen=True)
class HostsFile(Printable):
    """
    The file /etc/hosts, and which addresses the host finds for names.

    + text: the file as it stands
    + resolved: IPv4 addresses from DNS, without the file, by name
    + answers: addresses that programs get from any source, by name
    + early: IPv4 addresses from sources that are asked before the file, by name
    + sources: the line ``hosts:`` of /etc/nsswitch.conf, for example ``files dns``; ``None`` where
      it was not read
    + multi: whether ``multi on`` in /etc/host.conf makes every line of a name count, not the first
    + own: the host's own IPv4 addresses
    + late: names that were not looked up, for the file comes first and DNS says nothing, or that a
      busy host did not look up in time
    """

    text: str = ""
    resolved: dict[str, tuple[str, ...]] = field(default_factory=dict)
    answers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    early: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sources: str | None = None
    multi: bool = False
    own: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)


class HostsLine(NamedTuple):
    """
    A line of /etc/hosts that has an address.

    + number: of the line, from 1 on
    + address: as IPv4 where it can be one
    + names: in lower case
    + is_ipv6: whether it is written as IPv6, such as ``::ffff:192.0.2.11``
    """

    number: int
    address: str
    names: tuple[str, ...]
    is_ipv6: bool = False


@lru_cache(maxsize=32)
def hosts_lines(text: str) -> tuple[HostsLine, ...]:
    """
    Read a text as glibc reads /etc/hosts. Lines without an address are passed over. Many hosts have
    the same text, which is read once.

    + text: the text, with surrogates for what is not UTF-8

    .. code:: python

        >>> hosts_lines("127.0.0.1 Localhost # all of it\n")
        (HostsLine(number=1, address="127.0.0.1", names=("localhost",), is_ipv6=False),)
    """

    found = []
    # Only ASCII's blanks part words there, a line ends with \n alone, and C's text at its NUL.
    *lines, last = text.encode(errors="surrogateescape").split(b"\n")
    # glibc moves a line over the blanks before it; what the move leaves follows a line without end.
    last = last.partition(b"\0")[0]
    moved = last.lstrip()
    for number, line in enumerate([*lines, moved + last[len(moved) :]], 1):
        if read := _read(line):
            found.append(HostsLine(number, *read))
    return tuple(found)


# Many hosts have the same lines.
@lru_cache(maxsize=65536)
def _read(line: bytes) -> tuple[str, tuple[str, ...], bool] | None:
    """The address, the names, and whether that is an IPv6 address."""

    words = re.split(rb"[#\0]", line, maxsplit=1)[0].split()
    address = plain_address(words[0].decode(errors="replace")) if words else None
    if not address:
        return None
    names = (word.decode(errors="surrogateescape") for word in words[1:])
    return address, tuple(map(_small, names)), b":" in words[0]


@lru_cache(maxsize=4096)
def plain_address(text: str) -> str | None:
    """
    Return an address as inet_pton(3) reads it, as IPv4 where possible; ``None`` for no address.

    + text: the address
    """

    try:
        address = ip_address(text if "%" not in text else "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


@lru_cache(maxsize=4096)
def _small(name: str) -> str:
    """A name in lower case; glibc does this for ASCII letters only."""

    return re.sub("[A-Z]+", lambda match: match[0].lower(), name)


# Sources that read the file too, or know only the host itself.
_HARMLESS = "resolve|mymachines|myhostname"


class Hosts(FactBase[HostsFile]):
    """
    Returns the text of /etc/hosts, what DNS answers for names, and what programs get for them.

    + names: names to look up, all at once, for two seconds at most
    + marker: marker of a block in the file. DNS, which may be slow, is not asked for its names, and
      nobody is where the file alone decides: it comes first, and nothing caches answers

    .. code:: python

        HostsFile(
            text="127.0.0.1 localhost\\n",
            resolved={"kube-master": ("192.0.2.11",)},
            answers={"kube-master": ("192.0.2.11",)},
            sources="files dns",
            multi=True,
            own={"127.0.0.1", "192.0.2.12"},
        )
    """

    default = HostsFile

    @override
    def command(self, names: Sequence[str] = (), marker: str = "") -> str:
        content = "if [ -e /etc/hosts ]; then base64 -w 0 /etc/hosts || exit 1; fi; echo;"
        if not names:
            return f"{content} true"
        block = shlex.quote(rf"/^# BEGIN {marker}\r*$/,/^# END {marker}\r*$/p")
        return rf"""{content}
held=$(sed -n {block} /etc/hosts 2>/dev/null | tr -s ' \t\r' '\n\n\n')
grep -qiE '^[[:space:]]*multi[[:space:]]+on' /etc/host.conf 2>/dev/null && echo '=multi'
sources=$(sed -n 's/#.*//; s/^[[:space:]]*hosts:[[:space:]]*//p' /etc/nsswitch.conf 2>/dev/null)
command -v getent >/dev/null && printf '=sources %s\n' "$sources"
awk '/32 host LOCAL/ {{ print "=own", last }} {{ last = $2 }}' /proc/net/fib_trie 2>/dev/null
alone=
[ -S /run/nscd/socket ] || case "$sources " in 'files '[!\[]*|'files ') alone=1 ;; esac
early=${{sources%%files*}}
printf '%s' "$early" | sed 's/\[[^]]*]//g' | tr -s '[:space:]' '\n' |
grep -vxE '{_HARMLESS}' | grep -q . || early=
is_held() {{ case "
$held
" in *"
$1
"*) return 0 ;; esac; return 1; }}
ask() {{
if ! is_held "$1"; then
said=$(timeout 2 getent -s dns ahostsv4 "$1" 2>/dev/null)
tell '' "$1" "$said"
if [ "$alone" ] && [ -z "$said" ]; then echo "=late $1"; return; fi
fi
for way in ahostsv4 hosts; do
said=$(timeout 2 getent $way "$1" 2>/dev/null)
[ $? != 124 ] || [ -n "$early" ] || echo "=late $1"
tell '=answer ' "$1" "$said"
done
[ -z "$early" ] || tell '=early ' "$1" "$(timeout 2 getent -s "$early" ahostsv4 "$1" 2>/dev/null)"
}}
# Names are many: no process but getent for each.
tell() {{ for line in $3; do printf '%s%s %s\n' "$1" "$2" "$line"; done; }}
set -f
IFS='
'
for name in {shlex.join(names)}; do
if [ "$alone" ] && is_held "$name"; then echo "=file $name"; else ask "$name" & fi
done
wait; true"""

    @override
    def process(self, output: Iterable[str]) -> HostsFile:
        first, *rest = output
        found: dict[str, dict[str, list[str]]] = {"": {}, "=answer": {}, "=early": {}}
        words = [line.split() for line in rest if line.strip()]
        for word in words:
            # A name with an odd letter in it may end a line early.
            kind, name, address = [*([] if word[0][0] == "=" else [""]), *word, "", ""][:3]
            if kind in found and (read := plain_address(address)):
                addresses = found[kind].setdefault(name, [])
                addresses += [] if read in addresses else [read]
        resolved, answers, early = (
            {name: tuple(addresses) for name, addresses in by_name.items()}
            for by_name in found.values()
        )
        sources = next((" ".join(word[1:]) for word in words if word[0] == "=sources"), None)
        text = base64.b64decode(first).decode(errors="surrogateescape")
        own, late = (
            {word[1] for word in words if word[0] == kind and len(word) > 1}
            for kind in ("=own", "=late")
        )
        multi = ["=multi"] in words
        in_file: dict[str, list[str]] = {}
        for line in hosts_lines(text):
            for name in line.names:
                in_file.setdefault(name, []).append(line.address)
        for name in (word[1] for word in words if word[0] == "=file"):
            known = dict.fromkeys(in_file.get(_small(name), ()))
            answers[name] = tuple(known)[: None if multi else 1]
        return HostsFile(text, resolved, answers, early, sources, multi, own, late)


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
    Returns whether each address answers a ping, or a TCP connection to one of its ports, even if
    that port is closed. ``None`` means that this host lacks the tools to try a port. All are tried
    at once, each port for two seconds.

    + addresses: IPv4 addresses
    + ports: TCP ports to try after a ping, by address; by default that of ssh

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
        answers = dict(map(str.split, output))
        if "broken" in answers.values():
            raise FactProcessError("ping does not tell whether other hosts answer")
        return {address: meanings.get(answer) for address, answer in answers.items()}
