"""What the tests on real hosts share."""

from __future__ import annotations

import os

# A lab of the tests' own, beside the one that a person may have up. Read when the lab is imported.
os.environ.setdefault("PYINFRA_KUBE_LAB", "test")

from collections.abc import Iterator

import pytest

from tests.conformance.images import Programs
from tests.e2e.paths import Site
from tests.e2e.pods import Kubectl
from tests.lab import Lab, down, held
from tests.lab.lab import HOSTS
from tests.lab.places import NAME, STATE


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run what takes minutes")
    parser.addoption("--keep", action="store_true", help="leave the lab up, to look at it")
    parser.addoption("--release", default="", help="another than a module names")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with --full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --full"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """The tests make their lab anew: one that somebody named may be of use to him."""

    if (
        NAME != "test"
        and STATE.exists()
        and any(i.get_closest_marker("lab") for i in session.items)
    ):
        pytest.exit(
            f"lab {NAME} is up, and the tests would take it away: let them have another with "
            "`unset PYINFRA_KUBE_LAB`, or end it with `make lab-down`",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


@pytest.fixture(scope="session", autouse=True)
def suite(request: pytest.FixtureRequest) -> None:
    """Kubernetes' own suite is built before any lab is up, with the release, whose code it has."""
    asked = request.config.getoption("--release")
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "judged" in item.fixturenames:
            Programs.built(str(asked or item.module.RELEASE))
            break


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest) -> str:
    """The Kubernetes that a module names as its `RELEASE`."""
    return str(request.config.getoption("--release") or request.module.RELEASE)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, release: str) -> Iterator[Lab]:
    """Three blank hosts, and the release to install."""
    with held():
        # What --keep left.
        down()
        yield Lab.up(release=release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Somebody's folder, with an inventory of the lab's hosts as it is."""
    return Site(tmp_path_factory.mktemp("site") / "cluster")


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    """kubectl of the first control-plane host."""
    return Kubectl(lab, HOSTS[0])
