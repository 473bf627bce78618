"""Operations on the cases that lie beside this file as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit import harness


def _name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@pytest.mark.parametrize("path", harness.cases("operations"), ids=_name)
def test_operation(path: Path) -> None:
    case = harness.load(path)
    module, operation = harness.find(path, "operations")
    if "error" in case:
        with pytest.raises(Exception, match=r".") as failure:
            harness.run(
                operation, harness.build(module, case.get("args", {})), case.get("facts", {})
            )
        assert case["error"] in str(failure.value)
        return

    arguments = harness.build(module, case.get("args", {}))
    outcome = harness.run(operation, arguments, case.get("facts", {}))
    assert outcome.commands == case["commands"]
    for line in case.get("shows", []):
        assert any(line in shown for shown in outcome.shown), outcome.shown

    if case["commands"]:
        assert outcome.shown, "a change that --diff does not show"
        assert "after" in case, "a changing case needs the facts as its commands leave them"
        outcome = harness.run(operation, arguments, case.get("facts", {}) | case["after"])
        assert outcome.commands == [], "the second call changes again"
    assert outcome.noops, "nothing to do, and no reason given"
    if "noop" in case:
        assert any(case["noop"] in reason for reason in outcome.noops), outcome.noops
