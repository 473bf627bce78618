"""Drift is healed, and only drift."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tests.e2e.promises import drift, managed
from tests.e2e.promises.drift import Spoil
from tests.e2e.promises.managed import pair
from tests.e2e.promises.settled import Settled, State, differences
from tests.e2e.promises.trial import Trial

pytestmark = pytest.mark.lab

# Cases of a full run, 216 over the paths, and of a sample; how many are healed by one run.
_FULL, _SAMPLE, _TOGETHER = 72, 14, 8


def test_drift_is_healed(settled: Settled, full: bool, figures: list[str]) -> None:
    trial = settled.trial
    seed = int(os.environ.get("PROMISE_SEED", "2016"))
    count = int(os.environ.get("PROMISE_CASES", _FULL if full else _SAMPLE))
    found = drift.spoils(trial, settled.catalogue)
    chosen = found if full else [spoil for spoil in found if not spoil.heavy]
    drawn = drift.draw(chosen, count, seed)
    made = drift.rounds(drawn, _TOGETHER)
    wrong: list[str] = []
    for number, together in enumerate(made, 1):
        problems = _heal(settled, together)
        print(
            f"\nround {number}/{len(made)}: {drift.describe(together)}: {problems or 'healed'}",
            flush=True,
        )
        wrong += [f"{drift.describe(together)}\n    {problem}" for problem in problems]
    kinds = Counter(spoil.kind for spoil in drawn)
    figures.append(
        f"drift, {trial.path.name}: seed {seed}, {len(drawn)} cases of {len(found)} possible, "
        f"{len(kinds)} kinds, {len(made)} runs, {len(wrong)} problems"
    )
    assert not wrong, "\n".join(wrong)


def test_old_certificates_are_issued_anew(settled: Settled, figures: list[str]) -> None:
    """They are old in the control machine's store and on the hosts; later both are as before."""

    trial, catalogue = settled.trial, settled.catalogue
    kept = {
        str(path.relative_to(trial.store)): path.read_text()
        for path in trial.store.rglob("*.*")
        if path.suffix in (".crt", ".key")
    }
    old = drift.aged(kept)
    held = drift.exchanged(trial, catalogue, kept, old)
    # The host on which they were kept first is the one on which that step runs.
    saves = {pair(record) for record in catalogue.calls("control_machine.save")}
    (saving,) = {one for one in settled.run.made & saves if "redentials" in one[0]}
    stored = Spoil(saving[1], "of old certificates", "store", ":", frozenset({saving}))
    paths = tuple(f"file {spoil.what} " for spoil in held)

    def others(state: State) -> State:
        return {
            host: [line for line in lines if not line.startswith(paths)]
            for host, lines in state.items()
        }

    _store(trial, old)
    problems = _heal(settled, [*held, stored], others)
    _store(trial, kept)
    problems += _heal(settled, [replace(spoil, command=":") for spoil in held])
    certificates = sum(name.endswith(".crt") and kept[name] != old[name] for name in kept)
    figures.append(
        f"drift, {trial.path.name}: {certificates} old certificates, in {len(held)} files of "
        f"hosts, {len(problems)} problems"
    )
    assert held, "no host holds a certificate of the store"
    assert not problems, "\n".join(problems)


def _store(trial: Trial, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (trial.store / name).write_text(text)


def _heal(
    settled: Settled, together: list[Spoil], told: Callable[[State], State] = lambda state: state
) -> list[str]:
    """
    Spoil, run, and say what is not as it should be.

    + told: what must then stand as before
    """

    trial = settled.trial
    before = managed.starts(trial)
    problems = []
    for spoil in together:
        done = trial.lab.exec(spoil.host, spoil.command)
        if done.returncode:
            problems.append(f"could not spoil {spoil}: {done.stdout}{done.stderr}")
    run = trial.watched(fine=False)
    if run.code:
        problems.append(f"the run failed: {sorted(run.failed)}: {run.said[-3000:]}")
    wanted = drift.expected(together)
    problems += [f"changed, though nothing was wrong: {pair}" for pair in run.made - wanted]
    problems += [f"did not change: {pair}" for pair in wanted - run.made]
    hidden = {pair for spoil in together for pair in spoil.hides}
    problems += [f"planned, not made: {pair}" for pair in run.ahead - run.made - hidden]
    problems += [f"made, not planned: {pair}" for pair in run.made - run.ahead - hidden]
    problems += [f"conditional: {pair}" for pair in run.maybe]
    drift.undo(trial, together)
    problems += [
        f"after the run: {line}"
        for line in differences(trial, settled.catalogue, settled.state, told=told)
    ]
    problems += _restarts(before, managed.starts(trial), together)
    left = trial.dry("--json")
    if left.code:
        return [*problems, f"the dry run after it failed: {left.said[-3000:]}"]
    problems += [f"left to do: {pair}" for pair in left.planned | left.conditional]
    if left.planned:
        trial.watched(fine=False)
    return problems


def _restarts(
    before: dict[tuple[str, str], str], after: dict[tuple[str, str], str], together: list[Spoil]
) -> list[str]:
    anew = {key for key, identity in after.items() if before.get(key) != identity}
    must = {(spoil.host, key) for spoil in together for key in spoil.restarts}
    may = {key for spoil in together for key in spoil.may_restart(after)}
    return [
        *(f"was not restarted: {key}" for key in must - anew),
        *(f"was restarted for nothing: {key}" for key in anew - may),
        *(f"does not run any more: {key}" for key in before.keys() - after.keys()),
    ]
