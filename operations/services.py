"""
Manage systemd units, and restart those that are older than their configuration.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import pending
from pyinfra_kube.engine.recent_log import WORDS
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.services import CommandDropIns, Units, UnitState, UnitStates

__all__ = ["Unit", "services"]

# Shell that waits, up to 90 s each, for the units that require one that was started: systemd starts
# them again with it, by jobs of their own.
FOLLOW = """\
followed=
follow() {
  for other in $(systemctl show --property=RequiredBy --property=BoundBy -- "$1" |
    sed 's/^[^=]*=//'); do
    case " $followed " in *" $other "*) continue ;; esac
    followed="$followed $other"
    for _ in $(seq 300); do
      systemctl show --property=Job -- "$other" | grep -q '=[1-9]' || break
      sleep 0.3
    done
    follow "$other"
  done
}
"""

# A unit that systemd restarts again and again is "active" at most moments, but with a new process
# each time. State and process are read at once, because it may end in between.
_FUNCTIONS = f"""\
{FOLLOW}\
life() {{ systemctl show --property=ActiveState --property=MainPID -- "$1"; }}
last_words() {{
  journalctl --no-pager --quiet --output=cat --lines=2000 --unit="$1" |
    {WORDS} |
    tail --lines=10
}}
give_up() {{
  {{ echo "$1 $2"; last_words "$1"; echo "try: systemctl status $1"; }} >&2 || true
  exit 1
}}
start() {{
  systemctl reset-failed -- "$2" 2>/dev/null || true
  systemctl "$1" -- "$2" || give_up "$2" "does not start"
}}
# One that says itself when it is ready has not ended at once.
says_when_ready() {{
  for unit; do
    case "$(systemctl show --property=Type -- "$unit")" in *=notify*) ;; *) return 1 ;; esac
  done
}}
stays() {{
  life=$(life "$1")
  case "$life" in *ActiveState=active*) ;; *) give_up "$1" "did not stay up" ;; esac
  [ "$life" = "$2" ] || give_up "$1" "starts again and again"
}}
"""


@dataclass(frozen=True)
class Unit:
    """
    One wanted unit.

    + name: full name, such as ``docker.service``
    + running: whether it runs; ``None`` leaves it
    + enabled: whether it starts at boot; ``None`` leaves it
    + masked: whether it can be started at all; ``None`` leaves it
    + config: files that it reads when it starts (options, kubeconfig, its binary), or directories,
      whose age shows a removed file; its unit file and drop-ins always count
    + restart: restart it in any case
    + own: whether only its unit file may set its command line; a drop-in of others that sets
      another one is named and refused
    + take_over: rename such drop-ins to ``NAME.conf.before-pyinfra-kube`` instead
    """

    name: str
    running: bool | None = True
    enabled: bool | None = True
    masked: bool | None = False
    config: Sequence[str] = ()
    restart: bool = False
    own: bool = False
    take_over: bool = False

    def __post_init__(self) -> None:
        if "." not in self.name:
            raise ValueError(f"name: {self.name!r} is not a unit's full name: {self.name}.service?")
        if self.masked and (self.running or self.enabled):
            raise ValueError(f"masked: {self.name} cannot run or start at boot while it is masked")


@operation()
def services(units: Sequence[Unit]) -> Generator[StringCommand, None, None]:
    """
    Set the state of any number of units, stops first, then starts in the order given.

    A unit is restarted if an operation of this run gives one of its files another content, or if it
    started before one of them last changed. So a restart that a killed run left out is made by the
    next run. A unit that is not installed counts as stopped, disabled and unmasked. A masked unit
    that another one requires is unmasked with it.

    Fails with the last lines of its journal when a unit does not stay up.

    + units: list of ``Unit``

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import services

        services.services(
            name="Run docker and kubelet",
            units=[
                services.Unit("firewalld.service", running=False, enabled=False),
                services.Unit("docker.service", config=["/etc/docker/daemon.json"]),
                services.Unit("kubelet.service", config=["/usr/local/bin/kubelet"]),
            ],
        )
    """

    config = list(dict.fromkeys(path for unit in units for path in unit.config))
    states = read(Units, units=[unit.name for unit in units], config=config)
    own = [unit.name for unit in units if unit.own]
    drop_ins = read(CommandDropIns, units=own) if own else {}
    plans = [_plan(unit, states, drop_ins.get(unit.name, ())) for unit in units]
    acting = [plan for plan in plans if plan.steps]
    if not acting:
        ctx_host.get().noop(f"{len(units)} units are as wanted")
        return
    if states.manager != "systemd":
        raise OperationError(f"systemd is {states.manager}: it does not manage this host's units")
    for plan in acting:
        changes.show("\n".join(f"{plan.unit.name}: {reason}" for reason in plan.reasons))
    yield _script(acting)


@dataclass(frozen=True)
class _Plan:
    """
    What to do about one unit: the verbs, the reasons, the files that get today's date, the masked
    units that it requires, the drop-ins to put aside, and how the unit is: enabled, active.
    """

    unit: Unit
    steps: tuple[str, ...]
    reasons: tuple[str, ...]
    touch: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    was: str = "absent"


def _plan(unit: Unit, states: UnitStates, drop_ins: Sequence[str]) -> _Plan:
    state = states.units.get(unit.name, UnitState())
    if drop_ins and not unit.take_over:
        raise OperationError(_shadowed(unit, drop_ins))
    found = [*_installation(unit, state)]
    stale = _staleness(unit, state, states.mtimes)
    if drop_ins:
        stale = f"{', '.join(drop_ins)} gives it another command line, and is put aside"
    touch: tuple[str, ...] = ()
    if unit.running is False and state.active not in ("inactive", "failed"):
        found.insert(0, ("stop", f"{state.active} → stopped"))
    elif unit.running and state.active != "active":
        found.append(("start", f"{state.active} → running"))
    elif unit.running and stale:
        found.append(("restart", f"restarted: {stale}"))
    if found and found[-1][0] in ("start", "restart"):
        touch = _future(unit, state, states)
        if state.reload_needed:
            touch += tuple(path for path in state.files if path not in touch)
    unmask = state.blocked_by if unit.running else ()
    reasons = [f"{other}: masked → unmasked, it is required" for other in unmask]
    return _Plan(
        unit,
        tuple(step for step, _ in found),
        (*(reason for _, reason in found), *reasons),
        touch,
        unmask if found else (),
        tuple(drop_ins),
        f"{state.enabled} {state.active}" if state.enabled else "absent",
    )


def _shadowed(unit: Unit, drop_ins: Sequence[str]) -> str:
    return (
        f"{unit.name}: {', '.join(drop_ins)} gives it another command line (ExecStart=), which "
        "wins over ours; remove that file, or have it put aside as "
        "NAME.before-pyinfra-kube: take_over_units = True (of the operation alone take_over)"
    )


def _installation(unit: Unit, state: UnitState) -> Generator[tuple[str, str], None, None]:
    """The steps that mask, unmask, enable or disable the unit."""

    masked = _masked(state)
    if unit.masked is False and masked and (unit.running or unit.enabled):
        yield "unmask", "masked → unmasked"
    if unit.masked and not masked:
        yield "mask", "unmasked → masked"
    elif unit.enabled and (not state.enabled or masked or state.enabled in _DISABLED):
        comes = "disabled" if f"/etc/systemd/system/{unit.name}" in pending() else "not installed"
        yield "enable", f"{state.enabled or comes} → enabled"
    elif unit.enabled is False and state.enabled in ("enabled", "enabled-runtime"):
        yield "disable", f"{state.enabled} → disabled"


def _masked(state: UnitState) -> bool:
    return state.enabled.startswith("masked") or state.load == "masked"


_DISABLED = ("disabled", "enabled-runtime", "linked", "linked-runtime", "bad")


def _staleness(unit: Unit, state: UnitState, mtimes: dict[str, float]) -> str:
    """Why a running unit must be restarted; empty if it need not be."""

    if unit.restart or any(_is_read(path, unit, state) for path in pending()):
        return "its configuration changes"
    # A mask hides the unit file that it started with; without the mask the file counts again.
    if state.reload_needed and not _masked(state):
        return "its unit file changed"
    if state.started is None:
        return ""
    newer = [path for path in _reads(unit, state) if mtimes.get(path, 0.0) > state.started]
    return f"{', '.join(newer)} changed after it started" if newer else ""


def _is_read(path: str, unit: Unit, state: UnitState) -> bool:
    own = f"/etc/systemd/system/{unit.name}"
    return path in (own, *_reads(unit, state)) or path.startswith(f"{own}.d/")


def _reads(unit: Unit, state: UnitState) -> list[str]:
    return [*unit.config, *state.files, f"/etc/systemd/system/{unit.name}.d"]


def _future(unit: Unit, state: UnitState, states: UnitStates) -> tuple[str, ...]:
    """Files dated after now: they would make the unit look stale forever."""

    return tuple(path for path in _reads(unit, state) if states.mtimes.get(path, 0.0) > states.now)


def _script(plans: Sequence[_Plan]) -> Script:
    touch = dict.fromkeys(path for plan in plans for path in plan.touch)
    started = [plan for plan in plans if plan.steps[-1] in ("start", "restart")]
    lines = [RECORDER.rstrip("\n")]
    lines += [shlex.join(["note", "unit", plan.unit.name, plan.was]) for plan in plans]
    lines += [_FUNCTIONS.rstrip("\n")] if started else []
    lines += _touches(touch)
    lines += [line for plan in plans for path in plan.aside for line in _put_aside(plan.unit, path)]
    lines += _systemctl(plans, "stop")
    # A mask until the next reboot has a place of its own.
    unmask = [plan.unit.name for plan in plans if "unmask" in plan.steps]
    unmask += [other for plan in plans for other in plan.unmask]
    lines += [f"systemctl unmask --quiet{r} -- {shlex.join(unmask)}" for r in _BOTH if unmask]
    lines += _systemctl(plans, "mask")
    for verb in ("disable --no-reload", "enable --no-reload"):
        lines += _systemctl(plans, verb)
    # Once for all units, last: from 255 on systemd says of every unit that it needs a reload until
    # one follows what enables or disables another.
    lines += ["systemctl daemon-reload"]
    lines += [f"start {plan.steps[-1]} {shlex.quote(plan.unit.name)}" for plan in started]
    names = [shlex.quote(plan.unit.name) for plan in started]
    lines += [f"follow {name}" for name in names]
    lines += [f"life{index}=$(life {name})" for index, name in enumerate(names)]
    lines += [f"says_when_ready {' '.join(names)} || sleep 2"] if started else []
    lines += [f'stays {name} "$life{index}"' for index, name in enumerate(names)]
    summary = ", ".join(f"{' and '.join(plan.steps)} {plan.unit.name}" for plan in plans)
    return Script("\n".join(lines), summary)


_BOTH = ("", " --runtime")
_DISTRIBUTION = ("/usr/", "/lib/")


def _touches(paths: Iterable[str]) -> list[str]:
    """
    Give files today's date. The distribution's own may be on a read-only disk; those change only
    with the system, and with a reboot.
    """

    own = [path for path in paths if not path.startswith(_DISTRIBUTION)]
    theirs = [path for path in paths if path.startswith(_DISTRIBUTION)]
    lines = [f"touch -c -- {shlex.join(own)}"] if own else []
    return lines + ([f"touch -c -- {shlex.join(theirs)} 2>/dev/null || :"] if theirs else [])


def _put_aside(unit: Unit, path: str) -> list[str]:
    """
    Have systemd ignore a drop-in. One of the distribution's, or of several units, stays and is
    hidden.
    """

    shared = path.endswith(".conf") and f"/{unit.name}.d/" not in path
    if not shared and not path.startswith(_DISTRIBUTION):
        aside = f"{path}.before-pyinfra-kube"
        kept = [shlex.join(["keep", one]) for one in (path, aside)]
        return [*kept, shlex.join(["mv", "-f", path, aside])]
    folder = f"/etc/systemd/system/{unit.name}.d"
    hiding = f"{folder}/{path.rpartition('/')[2]}"
    make = [shlex.join(["keep", hiding]), shlex.join(["mkdir", "-p", folder])]
    return [*make, shlex.join(["ln", "-sfn", "/dev/null", hiding])]


def _systemctl(plans: Sequence[_Plan], verb: str) -> list[str]:
    names = [plan.unit.name for plan in plans if verb.partition(" ")[0] in plan.steps]
    return [f"systemctl {verb} --quiet -- {shlex.join(names)}"] if names else []
