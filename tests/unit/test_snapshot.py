"""No fact is read twice while nothing has changed, and none is trusted that may have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.exceptions import FactError
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import snapshot
from pyinfra_kube.engine.prefetch import discovery_pass
from pyinfra_kube.engine.snapshot import (
    expect,
    expect_at_execution,
    read,
    read_asked,
)
from pyinfra_kube.engine.subject import Failure, Subject
from pyinfra_kube.facts.bridge import Links
from pyinfra_kube.facts.checks import Checks
from pyinfra_kube.facts.etcd import EtcdKeys, Keys
from pyinfra_kube.facts.files import Files, Obstacles
from tests.unit.harness import FactRunner


class Two:
    """Two hosts of a run that is under way; the first one reads, from a runner that counts."""

    def __init__(self, status: str) -> None:
        self.state = State(Inventory((["one", "other"], {})), Config())
        self.state.is_executing = True
        self.runner = FactRunner({"etcd.EtcdKeys": Keys(status=status)})  # type: ignore[arg-type]
        self.one, self.other = (self.state.inventory.get_host(name) for name in ("one", "other"))
        self.trips = 0

    def ask_host(self, host: Any, subjects: Any) -> dict[str, Any]:
        self.trips += 1
        return {s.key: self.runner(s.fact, **s.arguments) for s in subjects}

    def changes(self, host: Any) -> None:
        done = SimpleNamespace(operation_meta=SimpleNamespace(executed=True))
        self.state.ops[host][str(len(self.state.ops[host]))] = done  # type: ignore[assignment]

    def ask(self) -> list[str]:
        """Read both kinds of fact; return which were asked for."""
        self.runner.asked.clear()
        read(Links)
        read(EtcdKeys, endpoints=["http://192.0.2.1:2379"], paths=["/key"])
        return sorted(self.runner.asked)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Two]]:
    with ctx_state.use(None), ctx_host.use(None):  # type: ignore[arg-type]

        def make(status: str) -> Two:
            made = Two(status)
            monkeypatch.setattr(snapshot, "ask", made.ask_host)
            ctx_state.set(made.state)
            ctx_host.set(made.one)
            return made

        yield make


def test_nothing_is_asked_twice(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    assert hosts.ask() == ["bridge.Links", "etcd.EtcdKeys"]
    assert hosts.ask() == []


def test_a_change_here_is_seen(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    hosts.ask()
    hosts.changes(hosts.one)
    assert hosts.ask() == ["bridge.Links", "etcd.EtcdKeys"]
    assert hosts.ask() == []


def test_a_change_elsewhere_is_seen_in_what_is_shared(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    hosts.ask()
    hosts.changes(hosts.other)
    assert hosts.ask() == ["etcd.EtcdKeys"]
    assert hosts.ask() == []


def test_a_service_that_is_down_is_asked_again(two: Callable[[str], Two]) -> None:
    hosts = two("down")
    hosts.ask()
    assert hosts.ask() == ["etcd.EtcdKeys"]


@pytest.mark.parametrize(
    ("seconds", "asked"),
    [(14, []), (16, ["bridge.Links", "etcd.EtcdKeys"])],
    ids=["at once", "after a person's thought"],
)
def test_an_execution_goes_on_with_what_was_read_just_now(
    two: Callable[[str], Two], monkeypatch: pytest.MonkeyPatch, seconds: int, asked: list[str]
) -> None:
    hosts = two("ok")
    hosts.state.is_executing = False
    hosts.ask()
    begun = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: begun + seconds)
    hosts.state.is_executing = True
    assert hosts.ask() == asked


def test_a_change_right_after_the_preparation_is_seen(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    hosts.state.is_executing = False
    hosts.ask()
    hosts.state.is_executing = True
    hosts.changes(hosts.one)
    assert hosts.ask() == ["bridge.Links", "etcd.EtcdKeys"]


def test_an_operation_asks_at_once_what_it_asked_when_it_was_planned(
    two: Callable[[str], Two],
) -> None:
    hosts = two("ok")
    hosts.state.is_executing = False
    hosts.one.current_op_hash = "first"
    hosts.ask()
    hosts.one.current_op_hash = "second"
    read(Files, paths=["/file"])
    hosts.one.current_op_hash = None
    hosts.state.is_executing = True
    hosts.changes(hosts.one)
    hosts.one.executing_op_hash = "first"
    before = hosts.trips
    assert hosts.ask() == ["bridge.Links", "etcd.EtcdKeys"]
    assert hosts.trips - before == 1
    hosts.one.executing_op_hash = "second"
    assert hosts.ask() == []
    read(Files, paths=["/file"])
    assert hosts.trips - before == 2


def test_what_only_the_execution_needs_is_read_by_it_at_once(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    hosts.state.is_executing = False
    hosts.ask()
    questions = [{"commands": {name: f"test -e /{name}"}} for name in ("first", "second")]
    for expected in (questions[:1], questions[1:], questions):
        with discovery_pass():
            for question in expected:
                expect_at_execution(Checks, **question)
        assert not read_asked()
    hosts.state.is_executing = True
    before = hosts.trips
    for question in questions:
        read(Checks, **question)
    assert hosts.trips - before == 1
    hosts.changes(hosts.other)
    for question in questions:
        read(Checks, **question)
    assert hosts.trips - before == 3


def test_what_others_change_during_a_read_is_asked_again(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    answer = hosts.runner
    hosts.runner = lambda *a, **k: (hosts.changes(hosts.other), answer(*a, **k))[1]  # type: ignore[assignment]
    read(EtcdKeys, endpoints=["http://192.0.2.1:2379"], paths=["/key"])
    hosts.runner = answer
    before = hosts.trips
    read(EtcdKeys, endpoints=["http://192.0.2.1:2379"], paths=["/key"])
    assert hosts.trips - before == 1


def test_what_is_too_long_for_one_command_takes_more(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    paths = [[f"/{folder}/{number:04}" for number in range(9000)] for folder in "abc"]
    before = hosts.trips
    expect(Subject(Files, {"paths": some}) for some in paths)
    assert hosts.trips - before == 3
    expect(Subject(Files, {"paths": some[:100]}) for some in paths)
    assert hosts.trips - before == 4


def test_what_commands_begin_with_is_sent_once(two: Callable[[str], Two]) -> None:
    hosts = two("ok")
    before = hosts.trips
    expect(Subject(Obstacles, {"paths": [f"/{number}"]}) for number in range(90))
    assert hosts.trips - before == 1


def test_what_fails_together_is_asked_one_by_one(
    two: Callable[[str], Two], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = two("ok")
    trips: list[list[list[str]]] = []

    def ask_host(host: Any, subjects: list[Subject]) -> dict[str, Any]:
        trips.append([one.arguments["paths"] for one in subjects])
        return {
            one.key: Failure("/b cannot be read") if "/b" in one.arguments["paths"] else {}
            for one in subjects
        }

    monkeypatch.setattr(snapshot, "ask", ask_host)
    expect([Subject(Files, {"paths": ["/a"]}), Subject(Files, {"paths": ["/b"]})])
    assert trips == [[["/a", "/b"]], [["/a"], ["/b"]]]
    assert read(Files, paths=["/a"]) == {}
    with pytest.raises(FactError, match="/b cannot be read"):
        read(Files, paths=["/b"])
    assert len(trips) == 2
    assert not hosts.trips
