"""Networks and addresses are read as they are written, and compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPNetwork

from pyinfra_kube.cluster.errors import Wrong
from pyinfra_kube.cluster.networks import (
    first_address,
    free_private,
    overlap,
    parse_network,
    private,
)


@given(
    st.lists(st.integers(0, 256), min_size=3, max_size=5),
    st.sampled_from(["", "/", "/0", "/16", "/24", "/32", "/33", "/255.255.0.0", "/16 "]),
)
def test_a_network_is_read_as_it_is_written_or_not_at_all(octets: list[int], length: str) -> None:
    text = ".".join(map(str, octets)) + length
    fix = ""
    try:
        assert str(parse_network(text)) == text
    except Wrong as wrong:
        fix = wrong.fix or ""
    if '"' in fix:
        better = fix.split('"')[1]
        assert str(parse_network(better)) == better != text


@pytest.mark.parametrize(
    ("texts", "address"),
    [
        ((None, "m1", "192.168.10.4", "192.168.10.5"), "192.168.10.4"),
        (("127.0.0.1", "fd00::4", "192.168.10.256"), None),
        ((), None),
    ],
)
def test_the_first_text_that_is_an_address(texts: tuple[object, ...], address: str | None) -> None:
    assert first_address(*texts) == address


@given(
    st.integers(8, 30),
    st.lists(st.sampled_from(["10.0.0.0/9", "10.128.0.0/16", "172.16.0.0/12", "192.168.7.0/24"])),
)
def test_a_free_network_is_private_and_touches_no_other(length: int, taken: list[str]) -> None:
    others = [IPNetwork(text) for text in taken]
    if free := free_private(length, others):
        assert private(free)
        assert not any(overlap(free, other) for other in others)
