"""A check that facts answer is not looked at, and one that fails says what its component said."""

from __future__ import annotations

from typing import Any

import pytest

from pyinfra_kube.engine.script import Script
from pyinfra_kube.operations import verify
from tests.unit.harness import FactRunner, answers, fake_host

CHECKS = [
    verify.Check("one holds", command="one", log="say one"),
    verify.Check("other holds", command="other", log="say other", hint="look"),
]


class Runner(FactRunner):
    """Notes which commands are looked at."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.looked: list[str] = []

    def __call__(self, fact: Any, **arguments: Any) -> Any:
        self.looked += arguments["commands"]
        return super().__call__(fact, **arguments)


def _run(said: list[str], **arguments: Any) -> tuple[list[str], list[Any], list[str]]:
    with fake_host({}) as (host, noops, _):
        runner = Runner({"checks.Checks": said})
        answers(host, runner)
        host.state.is_executing = True
        commands = list(verify.verified._inner(checks=CHECKS, timeout=0, **arguments))
    return runner.looked, commands, noops


def test_all_are_looked_at() -> None:
    looked, commands, noops = _run(["yes one holds", "yes other holds"])
    assert looked == ["one holds", "other holds"]
    assert (commands, noops) == ([], ["2 checks hold"])


def test_what_facts_show_is_not_looked_at() -> None:
    looked, commands, noops = _run(["yes other holds"], seen=lambda: ["one holds"])
    assert looked == ["other holds"]
    assert (commands, noops) == ([], ["2 checks hold"])


def test_nothing_is_looked_at_when_facts_show_all() -> None:
    looked, commands, noops = _run([], seen=lambda: ["one holds", "other holds"])
    assert (looked, commands, noops) == ([], [], ["2 checks hold"])


@pytest.mark.parametrize("seen", [None, lambda: ["one holds"]])
def test_what_fails_says_why(seen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_PAUSE", 0)
    _, (report,), noops = _run(["yes one holds", "no other holds"], seen=seen)
    assert isinstance(report, Script)
    assert "say other" in report.text
    assert "try: look" in report.text
    assert "say one" not in report.text
    assert noops == []
