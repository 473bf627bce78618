"""What a boot unit runs is what was asked for."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import OperationValueError

from pyinfra_kube.operations.boot_units import plan_boot_unit
from pyinfra_kube.operations.routes import Route
from tests.unit.harness import fake_host

ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n"}


def unquoted(word: str) -> str:
    """A quoted word as systemd reads it (systemd.service(5), "Command lines")."""

    quote, inner = word[0], word[1:-1]
    assert word[-1] == quote
    text, rest = "", iter(inner)
    for character in rest:
        assert character not in (quote, "\n")
        if character == "\\":
            character = ESCAPES[next(rest)]
        elif character in "%$":
            assert next(rest) == character
        text += character
    return text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1))
def test_a_command_reaches_the_shell_as_it_is(command: str) -> None:
    with fake_host({}):
        script = plan_boot_unit("kube-test", "A test", [command])
    assert script
    content = re.search(r"put (\S+) .*<<'.'\n([^.]*)\n\.$", script.text, re.M)
    assert content
    lines = base64.b64decode(content[2]).decode().split("\n")
    prefix = "ExecStart=/bin/sh -c "
    words = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    assert list(map(unquoted, words)) == [command]
    link = "/etc/systemd/system/multi-user.target.wants/kube-test.service"
    assert f"point {link} {content[1]}\n" in script.text


@pytest.mark.parametrize(
    ("destination", "via"),
    [("10.10.2.1/24", "192.0.2.12"), ("10.10.2.0/24", "kube-node"), ("fd00::/64", "fd00::1")],
)
def test_no_route(destination: str, via: str) -> None:
    with pytest.raises(OperationValueError, match=destination):
        Route(destination, via=via)
