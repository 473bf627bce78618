"""
Open firewalld for a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence

from pyinfra.api import OperationError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.firewalld import Firewalld, FirewalldState, Zone
from pyinfra_kube.facts.record import Record

TRUSTED = "trusted"
# The kind of what the record on the host has of it.
KIND = "firewalld"

# What is let in: "source" or "port", the zone, and the value.
_Entry = tuple[str, str, str]


@operation()
def opened(
    sources: Sequence[str] = (), ports: Sequence[str] = (), interface: str = ""
) -> Generator[StringCommand, None, None]:
    """
    Have firewalld trust sources, and open ports, now and after it starts anew. What an earlier call
    let in and this one does not name is taken back; what others set stays. It is not reloaded.
    Where it does not run there is nothing to do.

    + sources: addresses and ranges, such as that of the pods; none takes all back
    + ports: such as ``6443/tcp``
    + interface: the ports are those of its zone; by default of firewalld's default zone

    Fails for a source that is in another zone, unless that lets in every packet.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import firewalld

        firewalld.opened(
            name="Open firewalld for the cluster",
            sources=["10.10.0.0/16", "192.0.2.11"],
            ports=["6443/tcp"],
            interface="eth0",
        )
    """

    ours = [_entry(name) for name in read(Record).of(KIND)]
    state = read(Firewalld) if sources or ports or ours else None
    known = state or not (sources or ports or ours)
    reason = "firewalld is as wanted" if known else "firewalld does not run"
    script = _planned(state, ours, sources, ports, interface) if state else None
    yield from run_or_noop(script, reason)


def _planned(
    state: FirewalldState,
    ours: Sequence[_Entry],
    sources: Sequence[str],
    ports: Sequence[str],
    interface: str,
) -> Script | None:
    zone = next(
        (name for name, one in state.now.items() if interface and interface in one.interfaces),
        state.default,
    )
    wanted = [("source", TRUSTED, one) for one in sources if _to_trust(state, one)]
    wanted += [("port", zone, one) for one in ports]
    gone = [one for one in ours if one not in wanted]
    lines = []
    for one in wanted:
        if needed := [option for option, there in _places(state, one) if not there]:
            changes.show(f"{_shown(one)}: absent → let in")
        # What somebody set for good is not ours.
        if " --permanent" in needed and one not in ours:
            lines.append(f"note {KIND} '{' '.join(one)}' absent")
        lines += [_command(one, option, "add") for option in needed]
    for one in gone:
        changes.show(f"{_shown(one)}: let in → absent")
        lines += [_command(one, opt, "remove") for opt, there in _places(state, one) if there]
        name = " ".join(one).replace(".", r"\.")
        # sed -i writes the file anew.
        lines.append(f"sed -i '\\|^{KIND}\t{name}\t|d' \"$record/before\"")
    if not lines:
        return None
    text = "\n".join([RECORDER.rstrip("\n"), *lines])
    return Script(text, "open firewalld" if sources or ports else "close firewalld")


def _to_trust(state: FirewalldState, source: str) -> bool:
    """Whether a source is still to be trusted. One source is in one zone only."""

    for option, zones in ((" --permanent", state.kept), ("", state.now)):
        for name, zone in zones.items():
            if name == TRUSTED or source not in zone.sources:
                continue
            if zone.accepts:
                return False
            raise OperationError(
                f"{source}: firewalld has it in its zone {name}, where the cluster's packets are "
                f"not let in; run firewall-cmd{option} --zone={name} --remove-source={source}, or "
                f"firewall-cmd --permanent --zone={name} --set-target=ACCEPT and reload it"
            )
    return True


def _places(state: FirewalldState, one: _Entry) -> list[tuple[str, bool]]:
    """Where an entry can be: the option of firewall-cmd, and whether it is there."""

    what, name, value = one
    found = []
    for option, zones in (("", state.now), (" --permanent", state.kept)):
        zone = zones.get(name, Zone())
        there = value in zone.sources if what == "source" else _is_open(zone, value)
        found.append((option, there))
    return found


def _is_open(zone: Zone, port: str) -> bool:
    number, _, protocol = port.partition("/")
    ranges = (re.fullmatch(rf"(\d+)-(\d+)/{protocol}", one) for one in zone.ports)
    inside = any(one and int(one[1]) <= int(number) <= int(one[2]) for one in ranges)
    return port in zone.ports or inside


def _entry(name: str) -> _Entry:
    what, zone, value = name.split(" ")
    return what, zone, value


def _shown(one: _Entry) -> str:
    what, zone, value = one
    return f"firewalld, zone {zone}: {what} {value}"


def _command(one: _Entry, option: str, verb: str) -> str:
    what, zone, value = one
    return f"firewall-cmd --quiet{option} --zone={zone} --{verb}-{what}={value}"
