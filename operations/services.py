"""
Manage systemd units that are fresh: never older than what they were configured with.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.facts.services import Units, UnitState, UnitStates
from pyinfra_kube.facts.snapshot import read
from pyinfra_kube.operations.util import changes
from pyinfra_kube.operations.util.coming import coming
from pyinfra_kube.operations.util.last_words import WORDS
from pyinfra_kube.operations.util.operation import operation
from pyinfra_kube.operations.util.script import Script

__all__ = ["Unit", "services"]

# A unit that systemd starts again and again is "active" at most moments, but never with the
# process that it had before: both are asked for at once, for in between it may end.
_FUNCTIONS = f"""\
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
stays() {{
  life=$(life "$1")
  case "$life" in *ActiveState=active*) ;; *) give_up "$1" "did not stay up" ;; esac
  [ "$life" = "$2" ] || give_up "$1" "starts again and again"
}}
"""


@dataclass(frozen=True)
class Unit:
    """
    How one unit is wanted.

    + name: full name, as ``docker.service``
    + running: whether it runs; ``None`` leaves it
    + enabled: whether it starts at boot; ``None`` leaves it
    + masked: whether it can be started at all; ``None`` leaves it
    + config: files that it reads when it starts (options, kubeconfig, its binary), or
      directories, whose age tells of a removed file; its unit file and drop-ins count anyway
    + restart: restart it whatever the ages say
    """

    name: str
    running: bool | None = True
    enabled: bool | None = True
    masked: bool | None = False
    config: Sequence[str] = ()
    restart: bool = False

    def __post_init__(self) -> None:
        if "." not in self.name:
            raise ValueError(f"name: {self.name!r} is not a unit's full name: {self.name}.service?")
        if self.masked and (self.running or self.enabled):
            raise ValueError(f"masked: {self.name} cannot run or start at boot while it is masked")


@operation()
def services(units: Sequence[Unit]) -> Generator[StringCommand, None, None]:
    """
    Set the state of any number of units, stops first, then starts in the order given (N7, H4).

    A unit is restarted when an operation of this run gives one of its files another content, or
    when it started before one of them last changed, so that a restart that an earlier run did not
    live to make is made by the next one. What is already fresh is not touched. A unit that is not
    installed is as good as stopped, disabled and unmasked.

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
    plans = [_plan(unit, states) for unit in units]
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
    """What to do about one unit: the verbs, why, and the files to give today's date."""

    unit: Unit
    steps: tuple[str, ...]
    reasons: tuple[str, ...]
    touch: tuple[str, ...] = ()
    reload: bool = False


def _plan(unit: Unit, states: UnitStates) -> _Plan:
    state = states.units.get(unit.name, UnitState())
    found = [*_installation(unit, state)]
    stale = _staleness(unit, state, states.mtimes)
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
    return _Plan(
        unit,
        tuple(step for step, _ in found),
        tuple(reason for _, reason in found),
        touch,
        state.reload_needed,
    )


def _installation(unit: Unit, state: UnitState) -> Generator[tuple[str, str], None, None]:
    """The steps about the unit file's state: masked, enabled."""

    masked = _masked(state)
    if unit.masked is False and masked and (unit.running or unit.enabled):
        yield "unmask", "masked → unmasked"
    if unit.masked and not masked:
        yield "mask", "unmasked → masked"
    elif unit.enabled and (not state.enabled or masked or state.enabled in _DISABLED):
        comes = "disabled" if f"/etc/systemd/system/{unit.name}" in coming() else "not installed"
        yield "enable", f"{state.enabled or comes} → enabled"
    elif unit.enabled is False and state.enabled in ("enabled", "enabled-runtime"):
        yield "disable", f"{state.enabled} → disabled"


def _masked(state: UnitState) -> bool:
    return state.enabled.startswith("masked") or state.load == "masked"


_DISABLED = ("disabled", "enabled-runtime", "linked", "linked-runtime", "bad")


def _staleness(unit: Unit, state: UnitState, mtimes: dict[str, float]) -> str:
    """Why a running unit must be restarted; empty when it need not."""

    if unit.restart or any(_is_read(path, unit, state) for path in coming()):
        return "its configuration changes"
    # A mask hides the unit file that it started with, which is there again without the mask.
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
    """Files dated after now: they would make the unit look stale for ever."""

    return tuple(path for path in _reads(unit, state) if states.mtimes.get(path, 0.0) > states.now)


def _script(plans: Sequence[_Plan]) -> Script:
    touch = dict.fromkeys(path for plan in plans for path in plan.touch)
    started = [plan for plan in plans if plan.steps[-1] in ("start", "restart")]
    lines = [_FUNCTIONS.rstrip("\n")] if started else []
    lines += [f"touch -c -- {shlex.join(touch)}"] if touch else []
    lines += _systemctl(plans, "stop")
    for verb in ("unmask", "mask"):
        lines += _systemctl(plans, verb)
    # Once for all: systemctl would reload for each unit, and one that was just written is not
    # known before.
    lines += ["systemctl daemon-reload"]
    for verb in ("disable", "enable"):
        lines += _systemctl(plans, verb)
    lines += [f"start {plan.steps[-1]} {shlex.quote(plan.unit.name)}" for plan in started]
    names = [shlex.quote(plan.unit.name) for plan in started]
    lines += [f"life{index}=$(life {name})" for index, name in enumerate(names)]
    lines += ["sleep 2"] if started else []
    lines += [f'stays {name} "$life{index}"' for index, name in enumerate(names)]
    summary = ", ".join(f"{' and '.join(plan.steps)} {plan.unit.name}" for plan in plans)
    return Script("\n".join(lines), summary)


def _systemctl(plans: Sequence[_Plan], verb: str) -> list[str]:
    names = [plan.unit.name for plan in plans if verb in plan.steps]
    return [f"systemctl {verb} --quiet -- {shlex.join(names)}"] if names else []
