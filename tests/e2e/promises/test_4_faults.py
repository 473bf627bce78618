"""A run may die anywhere: the next one ends in the same state as one that nothing disturbed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from tests.e2e import containers
from tests.e2e.promises import managed
from tests.e2e.promises.settled import Goal, Settled, State, differences
from tests.e2e.promises.trial import Trial

pytestmark = pytest.mark.lab

# Host and summary of each command; the number of one, and when it is struck.
Commands = Sequence[tuple[str, str]]
Strike = tuple[int, float]

# Kills between two states of a settled cluster, and on the way from blank hosts: 40 a path, each
# at another command or moment as far as there are so many.
_FULL, _FULL_BLANK, _SAMPLE = 24, 16, 2

# Seconds into a command that a kill comes; less than 0 is right after it.
_MOMENTS = (-1.0, 0.1)


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


def _strikes(commands: Commands, count: int) -> list[Strike]:
    """So many commands and moments, spread evenly over a run."""

    every = list(product(range(1, len(commands) + 1), _MOMENTS))
    return [every[round(turn * (len(every) - 1) / max(1, count - 1))] for turn in range(count)]


def _lost_restart(commands: Commands, path: str) -> Strike:
    """Right after the command by which a file is new, and who reads it was not restarted."""
    found = [n for n, (_, said) in enumerate(commands, 1) if path in said]
    assert found, f"{path} does not change: {commands}"
    return found[-1], _MOMENTS[0]


def test_killed_runs(settled: Settled, full: bool, figures: list[str]) -> None:
    """Kills on the way from one state to another and back, by turns."""

    trial = settled.trial
    home, other = settled.home, _other(settled)
    count = (int(os.environ.get("PROMISE_KILLS", _FULL if full else _SAMPLE)) + 1) // 2
    struck = {
        "out": [
            _lost_restart(other.commands, trial.path.read_late),
            *_strikes(other.commands, count - 1),
        ],
        "back": _strikes(home.commands, count),
    }
    problems: list[str] = []
    for out, back in zip(*struck.values(), strict=True):
        for start, goal, strike in ((home, other, out), (other, home, back)):
            problems += _killed(trial, start.state, goal, strike)
    trial.configure()
    trial.watched()
    moments = len({(way, strike) for way, strikes in struck.items() for strike in strikes})
    figures.append(
        f"faults, {trial.path.name}: {2 * count} runs between two states killed, at {moments} "
        f"moments of {len(other.commands)} and {len(home.commands)} commands, "
        f"{len(problems)} problems"
    )
    assert not problems, "\n".join(problems)
    assert not settled.differs()


def _killed(
    trial: Trial,
    before: State,
    goal: Goal,
    strike: Strike,
    told: Callable[[State], State] = lambda state: state,
) -> list[str]:
    """A run to a goal that dies, and the next one."""

    place, delay = strike
    what = f"killed {'in' if delay > 0 else 'after'} command {place} of {len(goal.commands)}"
    trial.configure(**goal.settings)
    process, _ = trial.start(at=place, delay=delay)
    process.communicate(timeout=900)
    assert process.returncode == -9, what
    torn = _torn(trial, before, goal, what)
    return _said(torn + _converges(trial, goal, what, told=told), what)


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


def _reboot(trial: Trial, host: str) -> None:
    trial.lab.reboot(host)
    trial.execute(host, managed.KERNEL_NEIGHBOURS)


@dataclass(frozen=True)
class Harm:
    """
    + do, undo: the harm, and its end once the run is over
    + patience: seconds for the run to end by itself; then somebody kills it
    + noticed: which of its runs must fail: a full disk is nothing to a host that only restarts
    """

    do: Callable[[Trial, str], None]
    undo: Callable[[Trial, str], None] = lambda trial, host: None
    patience: int = 300
    noticed: Callable[[Iterable[object]], bool] = all


_HARM = {
    "rebooted": Harm(_reboot),
    # pyinfra waits for a host whose network is gone.
    "network cut": Harm(lambda t, host: t.lab.cut(host), lambda t, host: t.lab.mend(host), 30),
    "disk full": Harm(
        lambda t, host: t.lab.fill_disk(host), lambda t, host: t.lab.free_disk(host), noticed=any
    ),
}


@pytest.mark.parametrize("harm", _HARM)
def test_host_is_harmed(settled: Settled, full: bool, figures: list[str], harm: str) -> None:
    """In the middle of a run that does a lot, something happens to a host."""

    if not full:
        pytest.skip("with --full only")
    trial = settled.trial
    _spoil_much(settled)
    commands = trial.watched().report.commands
    problems: list[str] = []
    codes = []
    for part in (1, 2):
        _spoil_much(settled)
        code, found = _harmed(settled, harm, part * len(commands) // 3, len(commands))
        codes.append(code)
        problems += found
    if not _HARM[harm].noticed(codes):
        problems.append(f"{harm}: runs took no notice, they ended with {codes}")
    figures.append(f"faults, {trial.path.name}: {harm} twice: {len(problems)} problems")
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
        # While there is a program that removes them.
        images = [n for r in calls("images.images", host) for n in r.arguments["files"]]
        if images:
            trial.execute(host, f"{containers.SHELL}remove_images {shlex.join(images)}")
        trial.execute(host, f"rm -f {shlex.join(gone)}")


def _harmed(settled: Settled, name: str, place: int, among: int) -> tuple[int, list[str]]:
    """How a run to which this happens ended, and what the next one leaves wrong."""

    trial, harm = settled.trial, _HARM[name]
    reached, go = (trial.folder / f"{name}-{time.monotonic_ns()}" for name in ("reached", "go"))
    process, _ = trial.start(at=place, what="hold", delay=0.0, reached=str(reached), go=str(go))
    while not reached.exists() and process.poll() is None:
        time.sleep(0.2)
    assert reached.exists(), process.communicate()[1]
    host = reached.read_text()
    what = f"{host} {name} at command {place} of {among}"
    harm.do(trial, host)
    go.touch()
    try:
        process.communicate(timeout=harm.patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
    harm.undo(trial, host)
    goal = settled.home
    torn = _torn(trial, _or_absent(settled), goal, what)
    return process.returncode, _said(torn + _converges(trial, goal, what), what)


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
    strikes = _strikes(goal.commands, count)
    problems: list[str] = []
    for strike in strikes:
        trial.blank()
        _restore(trial.store, kept)
        before = managed.dump(trial, goal.catalogue, api=False)
        problems += _killed(trial, before, goal, strike, told=_without_leases)
    figures.append(
        f"faults, {trial.path.name}: {count} runs on blank hosts killed, at {len({*strikes})} "
        f"moments of {len(goal.commands)} commands, {len(problems)} problems"
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
