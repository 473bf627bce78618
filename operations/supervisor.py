"""
Have supervisord keep monitors running, which restart units that do not answer.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

from pyinfra.api import OperationValueError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.checks import Checks
from pyinfra_kube.operations.files import File, plan_files

GROUP = "kube-monitors"
CONFIG = f"/etc/supervisor/conf.d/{GROUP}.conf"
"""Where Debian's supervisord looks."""
FEDORA_CONFIG = f"/etc/supervisord.d/{GROUP}.ini"
MONITOR = "/usr/local/bin/kube-health-monitor"

_STATES = f"supervisorctl status '{GROUP}:*'"
# supervisord itself is never restarted: programs of others go on.
_STOP = f"""\
supervisorctl stop '{GROUP}:*' >/dev/null 2>&1 || :
supervisorctl remove {GROUP} >/dev/null 2>&1 || :
"""
# One that was just started does not answer at once.
_START = f"""\
for _ in $(seq 20); do
  if supervisorctl pid 2>/dev/null | grep -q '^[1-9]'; then break; fi
  sleep 1
done
said=$(supervisorctl update {GROUP} 2>&1) || :
sleep 2
states=$({_STATES} 2>&1) || :
if [ "$(printf '%s\\n' "$states" | grep -c ' RUNNING ')" != "$count" ]; then
  printf '%s\\n' "$said" "$states" "try: supervisorctl reread; supervisorctl status" >&2
  exit 1
fi
"""


@operation()
def monitors(
    units: Mapping[str, str], config: str = CONFIG
) -> Generator[StringCommand, None, None]:
    """
    Have supervisord run a monitor for each unit. It runs a command every ten seconds, and restarts
    the unit where that fails several times in a row, with more patience after a start. A unit that
    somebody stopped or disabled stays so. What it does is in the journal, as of
    ``kube-health-monitor``.

    supervisord has to run already, but for the removal. Its other programs are left alone.

    + units: unit → command that succeeds while the unit is well, without syntax of a shell; none
      removes the monitors
    + config: path of a file of our own that supervisord reads

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import supervisor

        supervisor.monitors(
            name="Restart a docker that does not answer",
            units={"docker.service": "timeout 20 docker ps"},
        )
    """

    names = {f"kube-monitor-{unit.removesuffix('.service')}": unit for unit in units}
    if wrong := [unit for unit, text in units.items() if "\n" in text or " ;" in text]:
        raise OperationValueError(f"units: {wrong[0]}: a command is one line without a comment")
    files = [File(MONITOR, kind="absent"), File(config, kind="absent")]
    stop, start = Script(_STOP, "stop the monitors"), None
    if names:
        commands = {name: f"{MONITOR} {unit} {units[unit]}" for name, unit in names.items()}
        text = render(f"{CONFIG[1:]}.j2", group=GROUP, monitors=commands)
        files = [File(MONITOR, render(f"{MONITOR[1:]}.j2"), mode="755"), File(config, text)]
        start = Script(f"count={len(names)}\n{_START}", f"run {', '.join(names)}")
    looks = {name: f"echo \"$states\" | grep '^{GROUP}:{name} .* RUNNING '" for name in names}
    runs = read(Checks, commands=looks, given={"states": _STATES}) if looks else {}
    script = plan_files(files)
    idle = [name for name in names if not runs.get(name)]
    for name in idle:
        changes.show(f"supervisord's program {GROUP}:{name}: does not run → runs")
    # Stopped before anything is written: a monitor that runs is as the files are.
    script = join([stop, script, start]) if script or idle else None
    yield from run_or_noop(script, f"{len(names)} monitors are as wanted")
