"""
firewalld: what its zones let in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

# The exit status of firewall-cmd where firewalld does not run.
_NOT_RUNNING = 252


@dataclass(frozen=True)
class Zone(Printable):
    """
    One zone.

    + accepts: whether it lets in every packet
    + interfaces: whose packets come into it
    + sources: ranges whose packets come into it
    + ports: that it lets in, such as ``6443/tcp`` or ``7000-7010/udp``
    """

    accepts: bool = False
    interfaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class FirewalldState(Printable):
    """
    What :class:`Firewalld` returns.

    + default: the zone of what no other one names
    + now: the zones that hold now, by name
    + kept: those that hold after it starts anew
    """

    default: str
    now: Mapping[str, Zone] = field(default_factory=dict)
    kept: Mapping[str, Zone] = field(default_factory=dict)


class Firewalld(FactBase["FirewalldState | None"]):
    """
    Returns what firewalld lets in; ``None`` where it does not run.

    .. code:: python

        FirewalldState(
            default="public",
            now={"public": Zone(interfaces=("eth0",), ports=("6443/tcp",))},
            kept={"public": Zone(ports=("6443/tcp",))},
        )
    """

    @override
    def command(self) -> str:
        return f"""\
if command -v firewall-cmd >/dev/null 2>&1; then
  said=$(firewall-cmd --state 2>&1) && state=0 || state=$?
  case "$state $said" in
  '0 running')
    default=$(firewall-cmd --get-default-zone) && [ -n "$default" ] || exit 1
    echo "$default"
    for kept in '' --permanent; do
      zones=$(firewall-cmd $kept --list-all-zones) || exit 1
      case $zones in *'  sources:'*) ;; *)
      echo 'firewall-cmd does not tell its zones' >&2
      exit 1 ;; esac
      printf 'zones\\n%s\\n' "$zones"
    done
    ;;
  '{_NOT_RUNNING} '*) ;;
  *) echo "firewall-cmd does not work: $said" >&2; exit 1 ;;
  esac
fi"""

    @override
    def process(self, output: Iterable[str]) -> FirewalldState | None:
        lines = list(output)
        if not lines:
            return None
        first, second = (number for number, line in enumerate(lines) if line == "zones")
        now, kept = lines[first + 1 : second], lines[second + 1 :]
        return FirewalldState(lines[0].strip(), _zones(now), _zones(kept))


def _zones(lines: Iterable[str]) -> dict[str, Zone]:
    found: dict[str, dict[str, list[str]]] = {}
    name = ""
    for line in lines:
        if line and not line[0].isspace():
            # What it is follows in brackets.
            name = line.split()[0]
            found[name] = {}
        elif name and ":" in line:
            key, _, value = line.strip().partition(":")
            found[name].setdefault(key, value.split())
    parts = ("interfaces", "sources", "ports")
    return {
        name: Zone(said.get("target") == ["ACCEPT"], *(tuple(said.get(p, ())) for p in parts))
        for name, said in found.items()
    }
