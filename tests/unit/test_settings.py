"""The pages that are made from tables are what these say: settings, hosts, ports, the benchmark."""

from __future__ import annotations

from typing import Any

import pytest

from pyinfra_kube.cluster.spec.inventory import CLUSTER_KEYS, HOST_KEYS
from tests import cis, hosts_page, ports_page
from tests.settings import PAGE, page


def test_the_stored_page_is_made_from_the_fields() -> None:
    assert PAGE.read_text() == page(), "run: make settings"


@pytest.mark.parametrize("made", [hosts_page, ports_page, cis])
def test_other_pages_are_made_from_their_tables(made: Any) -> None:
    assert made.PAGE.read_text() == made.page(), "run: make settings"


def test_the_benchmark_has_each_number_once() -> None:
    numbers = [tuple(map(int, item.number.split("."))) for item in cis.ITEMS]
    assert numbers == sorted(set(numbers))
    for item in cis.ITEMS:
        assert bool(item.reason) == (item.verdict != "held"), item.number
        assert bool(item.checks) == (item.verdict != "not applicable"), item.number


def test_each_setting_has_a_row_that_says_all() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    settings = {row[0].removeprefix("| ").strip("`"): row for row in rows if len(row) == 4}
    assert settings.keys() == CLUSTER_KEYS | HOST_KEYS
    for key, (_, _, allowed, what) in settings.items():
        assert allowed, key
        assert what.removesuffix(" |").endswith("."), key
