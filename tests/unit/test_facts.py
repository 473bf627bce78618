"""Facts on the cases that lie beside this file as data, by pyinfra's own means of testing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyinfra_testing.facts import make_fact_tests

from tests.unit import harness

FOLDER = Path(__file__).parent / "facts"
NO_OUTPUT: dict[str, Any] = json.loads((FOLDER / "no_output.json").read_text())

# The cases say nothing of commands: what those do in a shell is tested there.
pytestmark = pytest.mark.filterwarnings("ignore:No command set for test")

for folder in sorted({path.parent for path in harness.cases("facts")}):
    globals()[folder.name] = make_fact_tests("pyinfra_kube.facts", folder.name, folder)


@pytest.mark.parametrize("name", NO_OUTPUT)
def test_no_output_is_a_blank_host(name: str) -> None:
    _, fact = harness.find(FOLDER / name / "case.json", "facts")
    assert harness.plain(fact().default()) == NO_OUTPUT[name]
