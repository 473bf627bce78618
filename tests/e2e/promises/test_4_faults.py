"""A run may die anywhere: the next one ends in the same state as one that nothing disturbed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.promises import managed
from tests.e2e.promises.settled import Goal, Settled, State, differences
from tests.e2e.promises.trial import Trial

pytestmark = pytest.mark.lab

# Kills between two states of a settled cluster, and on the way from blank hosts: 40 a path.
_FULL, _FULL_BLANK, _SAMPLE = 35, 6, 2


def _other(settled: Settled) -> Goal:
    """Another state of the hosts, reached by an undisturbed run; the hosts are settled again."""

    if not settled.other:
        trial = settled.trial
        every = trial.path.every_change
        trial.configure(**every)
        settled.reach_other(trial.watched(), every)
        trial.configure()
        settled.reach_home(trial.watched())
    assert settled.other
    return settled.other


def _place(turn: int, count: int, among: int) -> int:
    """The command to strike at in one of so many turns, spread evenly over a run's commands."""
    return 1 + round(turn * (among - 1) / max(1, count - 1))


def _lost_restart(commands: list[tuple[str, str]]) -> int:
    """The command after which docker has a new configuration and was not restarted."""
    numbers = [
        n for n, (_, summary) in enumerate(commands, 1) if "/etc/systemd/system/docker" in summary
    ]
    return numbers[-1] if numbers else 1


def test_killed_runs(settled: Settled, full: bool, figures: list[str]) -> None:
    """Kills on the way from one state to another and back."""

    trial = settled.trial
    home, other = settled.home, _other(settled)
    count = int(os.environ.get("PROMISE_KILLS", _FULL if full else _SAMPLE))
    problems: list[str] = []
    start, goal = home, other
    for turn in range(1 + count):
        among = len(goal.commands)
        place = _place(turn - 1, count, among) if turn else _lost_restart(goal.commands)
        # Half of them strike in the middle of a command.
        delay = 0.1 if turn % 2 else -1.0
        trial.configure(**goal.settings)
        process, _ = trial.start(at=place, delay=delay)
        process.communicate(timeout=900)
        what = f"killed {'in' if delay > 0 else 'after'} command {place} of {among}"
        assert process.returncode == -9, what
        problems += _said(
            _torn(trial, start.state, goal, what) + _converges(trial, goal, what), what
        )
        start, goal = goal, start
    trial.configure()
    trial.watched()
    figures.append(
        f"faults, {trial.path.name}: {1 + count} runs between two states killed, "
        f"of {len(other.commands)} and {len(home.commands)} commands, {len(problems)} problems"
    )
    assert not problems, "\n".join(problems)
    assert not settled.differs()


def _torn(trial: Trial, before: State, goal: Goal, what: str) -> list[str]:
    """Files that are neither as they were nor as they shall be."""

    time.sleep(3)
    now = managed.dump(trial, goal.catalogue, api=False)
    return [
        f"{what}: half-written on {host}: {line}"
        for host, lines in now.items()
        for line in lines
        if _has_content(line) and line not in before[host] and line not in goal.state[host]
        if not _is_packaged(trial, host, line.split()[1])
    ]


def _has_content(line: str) -> bool:
    """Whether a line is of a file, and not of a folder, which has no half."""
    return line.startswith("file ") and line.split(maxsplit=2)[2].split()[0] != "directory"


def _is_packaged(trial: Trial, host: str, path: str) -> bool:
    """Whether a file is just as a package has brought it, which only blank hosts still show."""

    name = shlex.quote(path)
    differs = f"rpm --verify --nodeps --file {name} | grep -qF -- ' '{name}"
    asked = f"command -v rpm && rpm --query --file {name} && ! {differs}"
    return trial.lab.exec(host, asked).returncode == 0


def _converges(
    trial: Trial, goal: Goal, what: str, told: Callable[[State], State] = lambda state: state
) -> list[str]:
    """Run again: the state, every restart, and nothing left to do."""

    run = trial.watched(fine=False)
    if run.code:
        return [f"{what}: the next run failed: {sorted(run.failed)}: {run.said[-3000:]}"]
    found = differences(trial, goal.catalogue, goal.state, told=told)
    problems = [f"{what}: {line}" for line in found]
    problems += [f"{what}: stale: {line}" for line in managed.stale(trial, goal.catalogue)]
    problems += [f"{what}: left to do: {pair}" for pair in trial.plan()]
    return problems


def _said(problems: list[str], what: str) -> list[str]:
    """The problems, said at once to whoever waits."""

    print(f"\n{what}: {problems or 'converged'}", flush=True)
    return problems


# -- What happens to hosts -----------------------------------------------------------------------


def _cut(trial: Trial, host: str) -> None:
    trial.lab.cut(host)
    time.sleep(5)
    trial.lab.mend(host)


def _reboot(trial: Trial, host: str) -> None:
    trial.lab.reboot(host)
    trial.execute(host, managed.KERNEL_NEIGHBOURS)


_HARM: dict[str, Callable[[Trial, str], None]] = {
    "rebooted": _reboot,
    "network cut": _cut,
    "disk full": lambda trial, host: trial.lab.fill_disk(host),
}


@pytest.mark.parametrize("harm", _HARM)
def test_host_is_harmed(settled: Settled, full: bool, figures: list[str], harm: str) -> None:
    """In the middle of a run that does a lot, something happens to a host."""

    if not full:
        pytest.skip("with --full only")
    trial = settled.trial
    problems = []
    for turn in range(2):
        _spoil_much(settled)
        problems += _harmed(settled, harm, 4 + _place(turn, 2, 25))
    figures.append(f"faults, {trial.path.name}: {harm}: {len(problems)} problems")
    assert not problems, "\n".join(problems)


def _spoil_much(settled: Settled) -> None:
    """Have a run write files, upload, and restart."""

    trial, calls = settled.trial, settled.catalogue.calls
    for host, files in settled.catalogue.files.items():
        gone = [
            path
            for path, wanted in files.items()
            if ("kubelet" in path or "/etc/sysctl.d" in path) and wanted.file.kind == "file"
        ]
        for record in calls("binaries.binaries", host):
            gone += [binary.path for binary in record.arguments["binaries"]]
        trial.execute(host, f"rm -f {shlex.join(gone)}")
        images = [n for r in calls("images.images", host) for n in r.arguments["files"]]
        if images:
            trial.execute(host, f"docker rmi --force {shlex.join(images)} >/dev/null")


def _harmed(settled: Settled, harm: str, place: int) -> list[str]:
    trial = settled.trial
    reached, go = (trial.folder / f"{name}-{time.monotonic_ns()}" for name in ("reached", "go"))
    process, _ = trial.start(at=place, what="hold", delay=0.0, reached=str(reached), go=str(go))
    while not reached.exists() and process.poll() is None:
        time.sleep(0.2)
    host = reached.read_text() if reached.exists() else trial.path.master
    what = f"{host} {harm} at command {place}"
    _HARM[harm](trial, host)
    go.touch()
    try:
        process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
    if harm == "disk full":
        trial.lab.free_disk(host)
    goal = settled.home
    return _said(
        _torn(trial, _or_absent(settled), goal, what) + _converges(trial, goal, what), what
    )


def _or_absent(settled: Settled) -> State:
    """Each file as it stands, or not there."""

    found = {}
    for host, lines in settled.state.items():
        paths = [line.split()[1] for line in lines if line.startswith("file ")]
        found[host] = [*lines, *(f"file {path} absent" for path in paths)]
    return found


def test_upload_is_cut_off(settled: Settled, full: bool, figures: list[str]) -> None:
    """The control machine dies while it uploads a program."""

    trial = settled.trial
    goal = settled.home
    problems: list[str] = []
    delays = (0.05, 0.3, 1.0) if full else (0.3,)
    for delay in delays:
        _spoil_much(settled)
        process, _ = trial.start(at=1, kind="upload", delay=delay)
        process.communicate(timeout=900)
        assert process.returncode == -9
        what = f"killed {delay} s after an upload began"
        problems += _torn(trial, _or_absent(settled), goal, what) + _converges(trial, goal, what)
    figures.append(
        f"faults, {trial.path.name}: {len(delays)} uploads cut off, {len(problems)} problems"
    )
    assert not problems, "\n".join(problems)


# -- From blank hosts ----------------------------------------------------------------------------


def test_killed_on_blank_hosts(settled: Settled, full: bool, figures: list[str]) -> None:
    """The same from the start, with the credentials kept so that states can be compared."""

    if not full:
        pytest.skip("with --full only")
    trial = settled.trial
    kept = trial.folder / "kept"
    shutil.copytree(trial.store, kept)
    trial.blank()
    first = trial.watched()
    state = managed.dump(trial, settled.catalogue)
    goal = Goal({}, settled.catalogue, state, first.report.commands)
    count = int(os.environ.get("PROMISE_BLANK_KILLS", _FULL_BLANK))
    problems: list[str] = []
    for turn in range(count):
        place = _place(turn, count, len(goal.commands))
        trial.blank()
        _restore(trial.store, kept)
        before = managed.dump(trial, goal.catalogue, api=False)
        process, _ = trial.start(at=place, delay=0.1 if turn % 2 else -1.0)
        process.communicate(timeout=900)
        what = f"blank hosts, killed at command {place} of {len(goal.commands)}"
        torn = _torn(trial, before, goal, what)
        problems += _said(torn + _converges(trial, goal, what, told=_without_leases), what)
    figures.append(
        f"faults, {trial.path.name}: {count} runs on blank hosts killed, of "
        f"{len(goal.commands)} commands each, {len(problems)} problems"
    )
    assert not problems, "\n".join(problems)


def _without_leases(state: State) -> State:
    """The same with each host's lease of flannel's under the host's name: they are drawn by lot."""

    text = {host: "\n".join(lines) for host, lines in state.items()}
    leases = {
        host: found[1]
        for host, lines in text.items()
        if (found := re.search(r"^link docker0 .* (\d+\.\d+\.\d+\.)1/24$", lines, re.MULTILINE))
    }
    for host, lease in leases.items():
        text = {at: lines.replace(lease, f"<{host}>.") for at, lines in text.items()}
    return {host: sorted(lines.splitlines()) for host, lines in text.items()}


def _restore(store: Path, kept: Path) -> None:
    shutil.rmtree(store)
    shutil.copytree(kept, store)
