"""What a boot unit runs is what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import OperationValueError

from pyinfra_kube.operations.boot_units import boot_unit
from pyinfra_kube.operations.routes import Route

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
    unit, link = boot_unit("kube-test", "A test", [command])
    lines = str(unit.content).split("\n")
    prefix = "ExecStart=/bin/sh -c "
    words = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    assert list(map(unquoted, words)) == [command]
    assert link.target == unit.path


@pytest.mark.parametrize(
    ("destination", "via"),
    [("10.10.2.1/24", "192.0.2.12"), ("10.10.2.0/24", "kube-node"), ("fd00::/64", "fd00::1")],
)
def test_no_route(destination: str, via: str) -> None:
    with pytest.raises(OperationValueError, match=destination):
        Route(destination, via=via)
