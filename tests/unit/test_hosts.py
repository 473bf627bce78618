"""/etc/hosts is read as glibc reads it; tests/e2e/test_hosts_file.py asks glibc itself."""

from __future__ import annotations

import pytest

from pyinfra_kube.facts.hosts import HostsLine, hosts_lines


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("192.0.2.11 Other\n", ("other",)),
        ("192.0.2.11 other", ("other",)),
        ("  192.0.2.11 other\n", ("other",)),
        # What glibc leaves behind when it moves a line without end over its blanks.
        ("  192.0.2.11 other", ("otherer",)),
        (" 192.0.2.11 other\r", ("other",)),
        (" 192.0.2.11 first last", ("first", "lastt")),
    ],
)
def test_names_of_a_line(text: str, names: tuple[str, ...]) -> None:
    assert hosts_lines(text) == (HostsLine(1, "192.0.2.11", names),)
