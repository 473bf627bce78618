"""Who sends packets to whom, and what comes of it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.facts.reach import Place, PlaceOfPods, Reached, Target, Visit
from pyinfra_kube.operations import reach
from tests.unit import harness

TARGETS = [Target("the pods of one", "192.0.2.1", 7, inside=True), Target("two", "192.0.2.2", 80)]
UNKNOWN = "unknown: bash is missing, nothing was sent"


@given(st.integers(0, 200))
def test_each_sends_and_each_is_reached(count: int) -> None:
    hosts = [f"node-{number}" for number in range(count)]
    ways = reach.pairs(hosts)
    assert list(ways) == hosts
    assert all(one not in others and len(others) == len({*others}) for one, others in ways.items())
    if count <= reach.FULL:
        assert all(len(others) == count - 1 for others in ways.values())
    else:
        assert {other for others in ways.values() for other in others} == {*hosts}
        assert sum(map(len, ways.values())) == count * (1 + reach.SAMPLE)
        assert reach.pairs(hosts) == ways


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("place 10.10.1.254 4711 yes", Place("10.10.1.254", 4711, echoes=True)),
        ("place 10.10.1.254 4711 no", Place("10.10.1.254", 4711)),
        ("problem unshare is missing", Place(problem="unshare is missing")),
        ("problem ", Place(problem="the place did not come to be")),
    ],
)
def test_a_place(said: str, place: Place) -> None:
    assert PlaceOfPods().process([said]) == place


@pytest.mark.parametrize(
    ("said", "visit"),
    [
        (["yes 1", "yes 0"], Visit()),
        (["yes 1", "no 0 no answer", "left"], Visit({"the pods of one": "no answer"}, left=True)),
        (["yes 1"], Visit({"the pods of one": "no answer"})),
        (["unknown"], Visit(dict.fromkeys(["the pods of one", "two"], UNKNOWN))),
    ],
)
def test_a_visit(said: list[str], visit: Visit) -> None:
    fact = Reached()
    fact.command(TARGETS)
    assert fact.process(said) == visit


def test_a_place_is_taken_anew_by_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(reach, "ask_now", lambda *_, **__: taken.append(1) or Place("10.9.0.2", 9))
    places: dict[str, Place] = {}
    with harness.fake_host({"reach.PlaceOfPods": Place("10.9.0.2", 8)}) as (host, _, _):
        host.state.is_executing = True
        for expected in (8, 9):
            assert not list(reach.take_place._inner(places=places, bridge="cbr0"))
            assert places["host"].pid == expected
    assert taken == [1]


TOOLS = ("ip", "unshare", "nsenter", "setsid", "awk", "bash", "curl", "timeout", "iptables", "nft")


@pytest.mark.parametrize("broken", TOOLS)
@pytest.mark.parametrize(
    ("fact", "arguments"),
    [
        (PlaceOfPods, {"bridge": "no-such-bridge", "pod_cidr": "10.99.0.0/30"}),
        (Reached, {"targets": [Target("closed", "127.0.0.1", 1, answer="refused")]}),
    ],
)
@pytest.mark.parametrize("does", ["exit 1", "true", "echo garbage"])
def test_a_tool_that_fails(
    fact: Any, arguments: dict[str, Any], broken: str, does: str, tmp_path: Path
) -> None:
    """What cannot be tried is a problem, and never a good answer."""

    (tmp_path / broken).write_text(f"#!/bin/sh\n{does}\n")
    (tmp_path / broken).chmod(0o755)
    one = fact()
    text = one.command(**arguments).replace("sleep 1", "sleep 0")
    # In a namespace of its own, so that no link of the machine is touched.
    inside = f"export PATH={shlex.quote(str(tmp_path))}:$PATH\n{text}"
    sudo = ["unshare", "--net", "sh", "-c", inside] if os.geteuid() == 0 else []
    if not sudo:
        pytest.skip("makes network namespaces")
    done = subprocess.run(sudo, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = one.process(done.stdout.splitlines())
    if isinstance(found, Place):
        assert found.problem or found.address
        if found.pid:
            os.kill(found.pid, 15)
    elif broken in ("bash", "timeout"):
        assert found.missed
