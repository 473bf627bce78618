"""A path that was run on blank hosts, and what is known of it since."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from tests.e2e.paths import Run, eventually
from tests.e2e.promises import managed
from tests.e2e.promises.managed import Catalogue
from tests.e2e.promises.sampler import Sampler, Seen
from tests.e2e.promises.trial import Pair, Trial, Watched


@dataclass
class Settled:
    """
    + trial: whose hosts they are
    + planned: what a dry run on the blank hosts named
    + shown: what a dry run with ``--diff`` said there
    + run: the run that followed
    + seen: what was sampled on all machines meanwhile
    + untouched: whether the dry runs left the control machine as it was
    """

    trial: Trial
    planned: set[Pair]
    shown: Run
    run: Watched
    seen: Seen
    untouched: bool
    catalogue: Catalogue
    state: dict[str, list[str]]

    @classmethod
    def from_blank(cls, trial: Trial) -> Settled:
        trial.blank()
        before = _kept(trial)
        planned = trial.plan()
        shown = trial.dry("--diff", "-vvv")
        untouched = _kept(trial) == before
        with Sampler(trial) as sampler:
            run = trial.watched("-vvv", "--debug-all")
        catalogue = catalogue_of(trial)
        image = _image(catalogue, trial.path.master)
        trial.everywhere(managed.NEIGHBOURS.replace("{image}", image))
        state = managed.dump(trial, catalogue)
        return cls(trial, planned, shown, run, sampler.seen, untouched, catalogue, state)

    def differs(self, patience: float = 60) -> list[str]:
        """How the hosts differ from the settled state, once pods had time to come back."""

        found: list[str] = []

        def same() -> bool:
            now = managed.dump(self.trial, self.catalogue)
            found[:] = [
                f"{host}: {sign} {line}"
                for host in self.trial.hosts
                for sign, lines, others in (
                    ("-", self.state[host], now[host]),
                    ("+", now[host], self.state[host]),
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


def _image(catalogue: Catalogue, host: str) -> str:
    names = [n for r in catalogue.calls("images.images", host) for n in r.arguments["files"]]
    return next((name for name in names if "pause" in name), names[0])


def _kept(trial: Trial) -> dict[str, tuple[str, int, str]]:
    """What the control machine keeps, but for pyinfra's own home."""
    return {path: kept for path, kept in trial.contents().items() if not path.startswith("home")}
