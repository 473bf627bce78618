"""The plan is the run: what ``--dry`` names is what changes, and ``--diff`` shows it whole."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable

import pytest

from pyinfra_kube.operations.files import _readable
from tests.e2e.promises import drift
from tests.e2e.promises.driver import Record
from tests.e2e.promises.managed import Catalogue
from tests.e2e.promises.settled import Settled
from tests.e2e.promises.trial import Pair, Watched

pytestmark = pytest.mark.lab


class Score:
    """How well a plan told a run."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.wrong: list[str] = []

    def add(self, case: str, planned: set[Pair], made: set[Pair]) -> None:
        right = len(planned & made)
        precision = right / len(planned) if planned else 1.0
        recall = right / len(made) if made else 1.0
        self.parts.append(f"{case} {precision:.0%}/{recall:.0%} of {len(made)}")
        self.wrong += [f"{case}: planned, not made: {pair}" for pair in sorted(planned - made)]
        self.wrong += [f"{case}: made, not planned: {pair}" for pair in sorted(made - planned)]

    def line(self, path: str) -> str:
        return f"fidelity, {path} (precision/recall of changes): {', '.join(self.parts)}"


def _try(settled: Settled, score: Score, case: str) -> Watched:
    """Plan, run, compare; and nothing is left to do then."""

    planned = settled.trial.plan()
    run = settled.trial.watched()
    assert not run.maybe, run.maybe
    score.add(case, planned, run.made)
    left = settled.trial.plan()
    score.wrong += [f"{case}: left after the run: {pair}" for pair in sorted(left)]
    return run


def test_plan_is_the_run(settled: Settled, full: bool, figures: list[str]) -> None:
    trial, score = settled.trial, Score()
    score.add("blank", settled.planned, settled.run.made)
    _try(settled, score, "after a run")
    changes = trial.path.changes if full else {}
    for name, settings in changes.items():
        trial.configure(**settings)
        _try(settled, score, name)
    every = trial.path.every_change
    trial.configure(**every)
    settled.reach_other(_try(settled, score, "settings changed"), every)
    trial.configure()
    settled.reach_home(_try(settled, score, "and back"))
    seed = int(os.environ.get("PROMISE_SEED", "2016"))
    found = [
        s for s in drift.spoils(trial, settled.catalogue) if s.changes and not (s.heavy or s.hides)
    ]
    for number in range(3 if full else 0):
        together = drift.rounds(drift.draw(found, 6, seed + number), 6)[0]
        for spoil in together:
            trial.execute(spoil.host, spoil.command)
        print(f"\ndrift {seed + number}: {drift.describe(together)}", flush=True)
        _try(settled, score, f"drift {seed + number}")
        drift.undo(trial, together)
    figures.append(score.line(trial.path.name))
    assert not score.wrong, "\n".join(score.wrong)
    assert not settled.differs()


def test_host_added(settled: Settled, full: bool, figures: list[str]) -> None:
    if not full or not settled.trial.path.added:
        pytest.skip("with --full only")
    trial, score = settled.trial, Score()
    name = trial.path.added
    trial.lab.add(name, family=trial.path.family, runtime=trial.path.runtime)
    try:
        trial.groups["nodes"].append(name)
        trial.configure()
        # On docker's paths docker, and so the control plane, starts anew in the run that gives it
        # new tokens.
        trial.configure(**trial.path.with_added)
        _try(settled, score, "host added, settings changed")
        trial.groups["nodes"].remove(name)
        trial.configure()
        _try(settled, score, "host left out")
        trial.groups["nodes"].append(name)
        trial.configure()
        _try(settled, score, "host back")
        options = ("--json", "--data", f'remove_nodes=["{name}"]')
        planned = trial.run("--dry", *options, deploy="remove_node")
        removed = trial.run("-y", *options, deploy="remove_node")
        assert removed.code == 0, removed.said[-3000:]
        assert not planned.conditional, planned.conditional
        score.add("host removed", planned.planned, removed.changed)
    finally:
        trial.groups = {group: list(names) for group, names in trial.path.groups.items()}
        trial.configure()
        trial.lab.remove(name)
    _try(settled, score, "host out of the inventory")
    figures.append(score.line(trial.path.name))
    assert not score.wrong, "\n".join(score.wrong)
    assert not settled.differs()


def _of_bridge(_: Settled, record: Record) -> list[str]:
    bridge, address, mtu = (record.arguments[key] for key in ("bridge", "address", "mtu"))
    if not record.arguments["present"]:
        return []
    said = ("absent → present", f"mtu default → {mtu}", f"address none → {address}", "down → up")
    return [re.escape(f"bridge {bridge}: {line}") for line in said]


def _of_sysctls(settled: Settled, record: Record) -> list[str]:
    """But for those that a blank host has already."""

    return [
        rf"sysctl {re.escape(key)}: \S+ → {value}"
        for key, value in record.arguments["settings"].items()
        if f"sysctl {key} = {value}" not in settled.before[record.host]
    ]


def _of_rules(_: Settled, record: Record) -> list[str]:
    table, owner = record.arguments["table"], record.arguments["owner"]
    places = [" ".join(rule.split()[:2]) for rule in record.arguments["rules"]]
    return [rf"iptables {table}: absent → {place} .*--comment {owner}\b.*" for place in places]


def _of_routes(_: Settled, record: Record) -> list[str]:
    protocol = record.arguments["protocol"]
    return [
        re.escape(f"route {route.destination}: absent → via {route.via} proto {protocol}")
        for route in record.arguments["routes"]
    ]


# A line for each thing of the kernel, before and after.
_KERNEL: dict[str, Callable[[Settled, Record], list[str]]] = {
    "bridge.bridge": _of_bridge,
    "sysctl.sysctls": _of_sysctls,
    "iptables.rules": _of_rules,
    "routes.routes": _of_routes,
}


def test_diffs(settled: Settled, figures: list[str]) -> None:
    """``--dry --diff`` on blank hosts shows every file to come, whole."""

    trial, shown = settled.trial, settled.shown
    assert not settled.touched, settled.touched
    files = hidden = 0
    wrong = []
    for host, wanted in settled.catalogue.files.items():
        new = shown.new_files(host)
        said = [text for name, text in shown.lines if name == host]
        for path, item in wanted.items():
            if item.file.kind != "file":
                continue
            if item.file.secret:
                hidden += 1
                if f"{path}: absent → file (content hidden)" not in said:
                    wrong.append(f"{host}: {path}: not listed as hidden")
                continue
            files += 1
            stands = trial.execute(host, f"cat {path}")
            if _comparable(new.get(path, "")) != _comparable(stands):
                wrong.append(f"{host}: {path}: shown was {new.get(path)!r}, stands {stands!r}")
    lines = 0
    for operation, lines_of in _KERNEL.items():
        for record in settled.catalogue.calls(operation):
            said = [t for name, t in shown.lines if name == record.host]
            for text, count in Counter(lines_of(settled, record)).items():
                found = sum(re.fullmatch(text, line) is not None for line in said)
                lines += found
                if found != count:
                    wrong.append(f"{record.host}: {found} lines like {text}, not {count}")
    figures.append(
        f"diffs, {trial.path.name}: {files} files shown whole, {hidden} secret ones hidden, "
        f"{lines} lines of the kernel's state"
    )
    assert not wrong, "\n".join(wrong)


def _comparable(text: str) -> list[str]:
    """A file's lines; of a certificate what it says; of a public key, made anew, its shape."""

    lines = [line.rstrip() for line in _readable(text).splitlines()]
    if lines and lines[0].startswith("-----BEGIN"):
        return [line if "-----" in line else "…" for line in lines]
    return lines


def test_catalogue_is_whole(settled: Settled) -> None:
    """What the blank run wrote is what the settled deploy says that it manages."""

    written = Catalogue.of(settled.run.report).files
    assert written.keys() == set(settled.trial.hosts)
    for host, files in written.items():
        # Of /etc/hosts only a block is managed, which is written when it differs.
        assert settled.catalogue.files[host].keys() == files.keys() - {"/etc/hosts"}, host
