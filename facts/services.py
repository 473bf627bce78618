"""
systemd units: their state, since when they run, and how old their configuration is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word, understanding
from pyinfra_kube.facts.times import NOW, Clock, mtimes_command, parse_mtime

_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID,"
    "ActiveEnterTimestampMonotonic,FragmentPath,DropInPaths,Requires,Requisite,BindsTo"
)


@dataclass(frozen=True)
class UnitState:
    """
    One unit as systemd sees it.

    + load: ``loaded``, ``not-found``, ``masked`` …
    + active: ``active``, ``inactive``, ``failed``, ``activating`` …
    + sub: the finer state, for example ``running`` or ``exited``
    + enabled: ``enabled``, ``disabled``, ``static``, ``masked`` … (empty where there is no file)
    + reload_needed: whether its files changed since systemd read them
    + pid: its main process, 0 for none
    + started: seconds since the epoch, ``None`` while it does not run
    + files: its unit file and drop-ins
    + blocked_by: units that it requires and that are masked
    """

    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    reload_needed: bool = False
    pid: int = 0
    started: float | None = None
    files: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnitStates(Printable):
    """
    What :class:`Units` returns.

    + manager: ``systemd``, ``missing`` (no systemctl) or ``down`` (it does not answer)
    + now: the host's time, seconds since the epoch
    + units: state by the name asked for
    + mtimes: when each existing configuration file, unit file and drop-in last changed
    """

    manager: Literal["systemd", "missing", "down"] = "missing"
    now: float = 0.0
    units: dict[str, UnitState] = field(default_factory=dict)
    mtimes: dict[str, float] = field(default_factory=dict)

    def changed_since(self, started: float, paths: Iterable[str]) -> list[str]:
        """
        Give the files that changed after something had started, a second left out of account.

        + started: seconds since the epoch
        + paths: of the files
        """

        return [path for path in paths if self.mtimes.get(path, 0) > started + 1]


class Units(FactBase[UnitStates]):
    """
    Returns the state of units, any number of them in one round trip. A unit that is not installed
    has ``load="not-found"``.

    + units: full names, for example ``docker.service``
    + config: files or directories that the units read, to compare their age

    .. code:: python

        UnitStates(
            manager="systemd",
            now=1700000100.0,
            units={
                "docker.service": UnitState(
                    load="loaded", active="active", sub="running", enabled="enabled", pid=311,
                    started=1700000000.52, files=("/lib/systemd/system/docker.service",),
                ),
            },
            mtimes={"/lib/systemd/system/docker.service": 1690000000.0},
        )
    """

    default = UnitStates

    @staticmethod
    def join(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return {
            name: [*dict.fromkeys([*one.get(name, ()), *other.get(name, ())])]
            for name in ("units", "config")
        }

    @staticmethod
    def part(answer: UnitStates, arguments: dict[str, Any]) -> UnitStates | None:
        # systemctl may have failed for one of the others.
        if answer.manager == "down":
            return None
        asked = {unit: answer.units[unit] for unit in arguments["units"] if unit in answer.units}
        return replace(answer, units=asked)

    @override
    def command(self, units: Sequence[str], config: Sequence[str] = ()) -> str:
        self.units = list(units)
        # Only the age of its directory tells that a drop-in was removed.
        folders = [f"/etc/systemd/system/{unit}.d" for unit in units]
        fragments = "$(printf '%s\\n' \"$shown\" | sed -n 's/^FragmentPath=//p;s/^DropInPaths=//p')"
        return f"""\
{_MASKED}
if ! command -v systemctl >/dev/null 2>&1; then echo 'manager missing'
elif ! shown=$(systemctl show --all --property={_PROPERTIES} -- {shlex.join(units)} 2>/dev/null)
then echo 'manager down'
else
set -f
echo 'manager systemd'
printf '%s\\n' "$shown"
case $shown in *NeedDaemonReload=yes*)
echo "others $(systemctl show --property=NeedDaemonReload -- {_OF_NOBODY} 2>/dev/null)" ;; esac
for pid in $(printf '%s\\n' "$shown" | sed -n 's/^MainPID=//p'); do
[ "$pid" = 0 ] || echo "stat $(cat "/proc/$pid/stat" 2>/dev/null)"
done
masked "$shown" {shlex.join(units)}
{NOW}
{mtimes_command([*config, *folders], fragments)}
fi"""

    @override
    def process(self, output: Iterable[str]) -> UnitStates:
        manager, *lines = output
        if manager != "manager systemd":
            return UnitStates("missing" if manager == "manager missing" else "down")
        said = by_word(lines)
        with understanding("systemctl"):
            mtimes = dict(parse_mtime(line) for line in lines if line.startswith("mtime\t"))
            stats = {int(stat.split()[0]): stat for stat in said.get("stat", ()) if ")" in stat}
            requires = {unit: names for unit, *names in map(str.split, said.get("requires", ()))}
            others = pairwise(said.get("other", ()))
            masked = {one.removeprefix("Id=") for one, load in others if load == _IS_MASKED}
            blocks: list[dict[str, str]] = []
            for key, equals, value in (line.partition("=") for line in lines):
                if equals and key.isidentifier():
                    # Every unit has the same keys: a key that comes again begins the next unit.
                    if not blocks or key in blocks[-1]:
                        blocks.append({})
                    blocks[-1][key] = value
            known = all(block.get("LoadState") and block.get("ActiveState") for block in blocks)
            if "now" not in said or not known or len(blocks) != len(self.units):
                raise FactProcessError("systemctl does not tell the state of the units")
            clock = Clock.parse(f"now {said['now'][-1]}")
            units: dict[str, UnitState] = {}
            for name, block in zip(self.units, blocks, strict=True):
                needs = [*_required(block), *requires.get(name, ())]
                blocked_by = tuple(dict.fromkeys(other for other in needs if other in masked))
                outdated = "NeedDaemonReload=yes" in said.get("others", ())
                units[name] = _unit(block, stats, clock, blocked_by, outdated)
        return UnitStates("systemd", clock.now, units, mtimes)


_IS_MASKED = "LoadState=masked"

# From 255 on systemd says of every unit that it needs a reload, once any was enabled without one.
# No file is behind this one, so that it tells.
_OF_NOBODY = "-.slice"

# Which required units are masked. Only the file of a masked unit tells what it requires itself.
_MASKED = r"""
masked() {
  required=$(printf '%s\n' "$1" | sed -n 's/^\(Requires\|Requisite\|BindsTo\)=//p')
  shift
  for unit; do
    for folder in /run /usr/local/lib /usr/lib /lib; do
      file=$folder/systemd/system/$unit
      [ -f "$file" ] || continue
      own=$(sed -n 's/^\(Requires\|Requisite\|BindsTo\)=//p' "$file" | tr '\n' ' ')
      echo "requires $unit $own"
      required="$required $own"
      break
    done
  done
  [ -z "$required" ] ||
    systemctl show --property=Id,LoadState -- $required 2>/dev/null | sed 's/^/other /'
}"""


def _required(shown: dict[str, str]) -> list[str]:
    return " ".join(shown.get(key, "") for key in ("Requires", "Requisite", "BindsTo")).split()


def _unit(
    shown: dict[str, str],
    stats: dict[int, str],
    clock: Clock,
    blocked_by: tuple[str, ...],
    outdated: bool,
) -> UnitState:
    pid = int(shown.get("MainPID") or 0)
    active = shown.get("ActiveState", "inactive")
    entered = int(shown.get("ActiveEnterTimestampMonotonic") or 0) / 1_000_000
    started = clock.started(stats[pid]) if pid in stats else clock.at(entered)
    return UnitState(
        load=shown.get("LoadState", "not-found"),
        active=active,
        sub=shown.get("SubState", "dead"),
        enabled=shown.get("UnitFileState", ""),
        reload_needed=shown.get("NeedDaemonReload") == "yes" and not outdated,
        pid=pid,
        started=started if active == "active" else None,
        files=tuple((shown.get("FragmentPath", "") + " " + shown.get("DropInPaths", "")).split()),
        blocked_by=blocked_by,
    )


class CommandDropIns(FactBase[dict[str, tuple[str, ...]]]):
    """
    Returns the files that override the command line of a unit file in /etc, which need not exist:
    drop-ins, and unit files that take precedence. A unit without any is left out.

    + units: full names, for example ``kubelet.service``
    + root: root folder of another system, for example a mounted one

    .. code:: python

        {"kubelet.service": ("/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",)}
    """

    default = dict

    @override
    def command(self, units: Sequence[str], root: str = "") -> str:
        files = " ".join(f'"$root"{folder}/"$unit"' for folder in _ABOVE)
        looks = "\n".join(
            f"unit={shlex.quote(unit)} seen=\nfor file in {files} {_drop_ins(unit)}; do look; done"
            for unit in units
        )
        # A drop-in hides those of the same name in later folders.
        return f"""\
look() {{
[ -e "$file" ] || return 0
case "$seen" in *"|${{file##*/}}|"*) return 0 ;; esac
seen="$seen|${{file##*/}}|"
grep -qE '^[[:space:]]*ExecStart[[:space:]]*=' "$file" && printf '%s %s\\n' "$unit" "$file"
return 0
}}
root={shlex.quote(root)}
{looks}"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for line in output:
            unit, _, path = line.partition(" ")
            found[unit] = (*found.get(unit, ()), path)
        return found


def _drop_ins(unit: str) -> str:
    """Shell patterns of a unit's drop-ins: of its name, of its name's prefixes, of its type."""

    stem, _, kind = unit.rpartition(".")
    begins = [f"{stem[: at + 1]}.{kind}" for at in range(len(stem)) if stem[at] == "-"]
    own = [
        f'"$root"{folder}/{shlex.quote(name)}.d/*.conf'
        for folder in (*_ABOVE, *_FOLDERS)
        for name in (unit, *reversed(begins))
    ]
    return " ".join([*own, *(f'"$root"{folder}/{kind}.d/*.conf' for folder in _FOLDERS)])


# The folders that systemd searches before /etc, and /etc and those after it.
_ABOVE = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
)
_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
