"""Users of the apiserver: others' rows stay, ours come and go, and nobody sees a secret."""

from __future__ import annotations

import base64
import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from pyinfra_kube.cluster.identities import is_own_user
from pyinfra_kube.facts.users import UserTables, rows
from pyinfra_kube.operations import users
from tests.unit.harness import fake_host

PATH = "/srv/kubernetes/known_tokens.csv"
OURS = "T1,admin,admin,system:masters\nT3,system:node:new,kubelet-new,system:nodes\n"
GONE = "T2,system:node:gone,kubelet-gone,system:nodes\n"


def set_users(there: str) -> tuple[str, list[str]]:
    """What the file becomes, and what was shown."""

    output = f"{base64.b64encode(there.encode()).decode()} {PATH}"
    with fake_host({"users.UserTables": [output]}) as (_, _, shown):
        (command,) = users.user_tables._inner(
            tables={PATH: OURS}, ours=lambda row: is_own_user(row.user, row.uid, row.groups)
        )
    content = re.search(r"<<'.'\n(.*)\n\.$", command.text, re.DOTALL | re.MULTILINE)
    assert content
    return base64.b64decode(content[1]).decode(), shown


def test_others_stay_and_whoever_goes_is_named() -> None:
    alice = 'token,alice,alice-uid,"developers,viewers"\n'
    text, shown = set_users(f"T1,admin,admin,system:masters\n{GONE}{alice}")
    assert text == OURS + alice
    assert shown == [
        f"{PATH}: system:node:new (kubelet-new) comes",
        f"{PATH}: system:node:gone (kubelet-gone) goes",
        f"{PATH}: alice (alice-uid) of others: kept",
        f"{PATH}: absent → file (content hidden)",
    ]


VALUE = st.text(st.characters(codec="ascii", exclude_characters="\0\r"), min_size=1, max_size=8)


@given(st.lists(st.lists(VALUE, min_size=3, max_size=5), max_size=5))
def test_any_row_of_others_stays_as_it_is(others: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(others)
    foreign = [r for r in rows(text.getvalue()) if not is_own_user(r.user, r.uid, r.groups)]
    after, _ = set_users(GONE + text.getvalue())
    assert rows(after) == rows(OURS) + tuple(foreign)


@pytest.mark.parametrize("text", ["secret,alice\n", 'secret,"alice,1\n', "\xff\n"])
def test_what_the_apiserver_cannot_read_is_said_without_secrets(text: str) -> None:
    output = f"{base64.b64encode(text.encode('latin1')).decode()} {PATH}"
    with pytest.raises(FactProcessError, match=f"^{PATH}: .* no API server starts") as error:
        UserTables().process([output])
    assert "secret" not in str(error.value)
