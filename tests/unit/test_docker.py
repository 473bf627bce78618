"""A docker that works is said to be untried where it is, in a real run only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyinfra.context import ctx_state

from pyinfra_kube.operations import docker
from tests.unit import harness

RUNNING = Path(__file__).parent / "facts/docker.Docker/running.json"


@pytest.mark.parametrize(
    ("tried", "executing", "warns"),
    [
        (["19.03", "20.10"], True, False),
        (["20.1", "1.13"], True, True),
        ([], True, False),
        (["1.13"], False, False),
    ],
)
def test_versions(tried: list[str], executing: bool, warns: bool) -> None:
    facts = {"docker.Docker": json.loads(RUNNING.read_text())["output"]}
    with harness.fake_host(facts) as (_, _, shown):
        ctx_state.get().is_executing = executing
        assert list(docker.working._inner(tried=tried)) == []
    assert any("tried with" in line for line in shown) == warns
