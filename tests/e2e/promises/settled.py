"""A path that was run on blank hosts, and what is known of it since."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.e2e import paths
from tests.e2e.paths import eventually
from tests.e2e.promises import managed
from tests.e2e.promises.managed import Catalogue
from tests.e2e.promises.sampler import Sampler, Seen
from tests.e2e.promises.trial import Pair, Trial, Watched

State = dict[str, list[str]]


@dataclass
class Goal:
    """
    Where a run shall end.

    + settings: of the inventory
    + catalogue: what is managed then
    + state: how it stands when nothing disturbed the run
    + commands: what an undisturbed run executes on its way there from the other, host and summary
    """

    settings: dict[str, Any]
    catalogue: Catalogue
    state: State
    commands: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Settled:
    """
    + trial: whose hosts they are
    + planned: what a dry run on the blank hosts named
    + shown: what a dry run with ``--diff`` said there
    + run: the run that followed
    + seen: what was sampled on all machines during these two
    + other: another state of the hosts, with every setting of the path's ``changes`` changed
    + before: what the blank hosts were
    + touched: what the dry runs changed, on hosts and in the control machine's folder
    + home: where it stands
    """

    trial: Trial
    planned: set[Pair]
    shown: Watched
    run: Watched
    seen: tuple[Seen, Seen]
    before: State
    touched: list[str]
    home: Goal
    other: Goal | None = None

    @classmethod
    def from_blank(cls, trial: Trial) -> Settled:

        trial.blank()
        before, kept = paths.state(trial.lab, trial.hosts), _kept(trial)
        planned = trial.plan()
        with Sampler(trial) as dry:
            shown = trial.watched("--dry", "--diff", "-vvv")
        after = paths.state(trial.lab, trial.hosts)
        touched = [
            f"{host}: {line}" for host in trial.hosts for line in {*before[host]} ^ {*after[host]}
        ]
        touched += [] if _kept(trial) == kept else ["the control machine"]
        with Sampler(trial, Catalogue.of(shown.report).secret_folders) as real:
            run = trial.watched("-vvv", "--debug-all")
        catalogue = catalogue_of(trial)
        image = _image(catalogue)
        trial.everywhere(managed.KERNEL_NEIGHBOURS + managed.NEIGHBOURS.replace("{image}", image))
        state = managed.dump(trial, catalogue)
        home = Goal({}, catalogue, state)
        seen = (dry.seen, real.seen)
        return cls(trial, planned, shown, run, seen, before, touched, home)

    @property
    def catalogue(self) -> Catalogue:
        return self.home.catalogue

    @property
    def state(self) -> dict[str, list[str]]:
        return self.home.state

    def reach_other(self, run: Watched, settings: dict[str, Any]) -> None:
        """Keep what an undisturbed run with other settings made of the hosts."""
        catalogue = catalogue_of(self.trial)
        state = managed.dump(self.trial, catalogue)
        self.other = Goal(settings, catalogue, state, run.report.commands)

    def reach_home(self, run: Watched) -> None:
        """Keep the commands that led back."""
        self.home.commands = run.report.commands

    def differs(self) -> list[str]:
        """How the hosts differ from the settled state."""
        return differences(self.trial, self.catalogue, self.state)


def differences(
    trial: Trial,
    catalogue: Catalogue,
    state: State,
    patience: float = 60,
    told: Callable[[State], State] = lambda state: state,
) -> list[str]:
    """
    How the hosts differ from a state, once pods had time to come back.

    + told: what of a state counts
    """

    found: list[str] = []
    state = told(state)

    def same() -> bool:
        now = told(managed.dump(trial, catalogue))
        found[:] = [
            f"{host}: {sign} {line}"
            for host in trial.hosts
            for sign, lines, others in (
                ("-", state[host], now[host]),
                ("+", now[host], state[host]),
            )
            for line in lines
            if line not in others
        ]
        return not found

    with suppress(AssertionError):
        eventually(same, patience)
    return found


def catalogue_of(trial: Trial) -> Catalogue:
    """Ask the deploy what it manages, on hosts where it has nothing to do."""

    run = trial.watched("--dry")
    return Catalogue.of(run.report)


def _image(catalogue: Catalogue) -> str:
    """An image that every docker of the path has."""
    names: list[str] = [n for r in catalogue.calls("images.images") for n in r.arguments["files"]]
    return next(name for name in names if "pause" in name)


def _kept(trial: Trial) -> dict[str, tuple[str, int, str]]:
    """What the control machine keeps, but for pyinfra's own home."""
    return {path: kept for path, kept in trial.contents().items() if not path.startswith("home")}
