"""The labs and the paths that promises are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.promises.settled import Settled
from tests.e2e.promises.trial import PATHS, Path_, Trial, hosts_for
from tests.lab import Lab, down, held

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="package")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to try everything, whatever it takes."""
    return bool(request.config.getoption("--full", default=False))


@pytest.fixture(scope="package")
def figures(request: pytest.FixtureRequest) -> list[str]:
    """Lines that are printed at the end, past pytest's capture."""
    return request.config.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("figures of the promises")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="package")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Without hosts at first: each path brings its own, and its release."""
    with held():
        down()
        yield Lab.up([], release=PATHS[0].release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="package", params=PATHS, ids=lambda path: path.name)
def trial(
    request: pytest.FixtureRequest,
    lab: Lab,
    full: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trial:
    """A path whose hosts are there, in whatever state."""
    path: Path_ = request.param
    if not (path.sampled or full):
        pytest.skip("with --full only: other paths have its parts")
    hosts_for(path, lab)
    return Trial(path, lab, tmp_path_factory.mktemp(path.name) / "site")


@pytest.fixture(scope="package")
def settled(trial: Trial) -> Settled:
    """The path, run once on blank hosts; whoever changes it settles it again."""
    return Settled.from_blank(trial)
