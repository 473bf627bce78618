"""
firewalld: what its zone of trust and its default zone let in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

TRUSTED = "trusted"

# The exit status of firewall-cmd where firewalld does not run.
_NOT_RUNNING = 252


@dataclass(frozen=True)
class FirewalldState(Printable):
    """
    What :class:`Firewalld` returns; of each, what holds now and what holds after it starts anew.

    + default: the zone of what no other one names
    + sources: ranges whose packets the zone ``trusted`` lets in
    + ports: open ports of the default zone, such as ``6443/tcp``
    """

    default: str
    sources: tuple[tuple[str, ...], tuple[str, ...]]
    ports: tuple[tuple[str, ...], tuple[str, ...]]


class Firewalld(FactBase["FirewalldState | None"]):
    """
    Returns what firewalld lets in; ``None`` where it does not run.

    .. code:: python

        FirewalldState(
            default="public",
            sources=(("10.10.0.0/16",), ("10.10.0.0/16",)),
            ports=(("6443/tcp",), ("6443/tcp",)),
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
      firewall-cmd $kept --zone={TRUSTED} --list-sources || exit 1
      firewall-cmd $kept --zone="$default" --list-ports || exit 1
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
        sources, ports, kept_sources, kept_ports = (tuple(line.split()) for line in lines[1:])
        return FirewalldState(lines[0].strip(), (sources, kept_sources), (ports, kept_ports))
