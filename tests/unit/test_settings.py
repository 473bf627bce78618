"""docs/settings.md is what the fields say, and docs/hosts.md what the table of findings says."""

from __future__ import annotations

from pyinfra_kube.cluster.spec.inventory import CLUSTER_KEYS, HOST_KEYS
from tests import hosts_page
from tests.settings import PAGE, page


def test_the_stored_page_is_made_from_the_fields() -> None:
    assert PAGE.read_text() == page(), "run: make settings"


def test_the_page_of_hosts_is_made_from_the_table() -> None:
    assert hosts_page.PAGE.read_text() == hosts_page.page(), "run: make settings"


def test_each_setting_has_a_row_that_says_all() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    settings = {row[0].removeprefix("| ").strip("`"): row for row in rows if len(row) == 4}
    assert settings.keys() == CLUSTER_KEYS | HOST_KEYS
    for key, (_, _, allowed, what) in settings.items():
        assert allowed, key
        assert what.removesuffix(" |").endswith("."), key
