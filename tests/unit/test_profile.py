"""Where the time of a run went, from the spans of its hosts."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import PyinfraError

from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.engine.profile import PLAN, READ, Span, picture, table
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import TWO_NODES, prepared

SPANS = [
    Span("kube-master", PLAN, "planned", 0.0, 4.0),
    Span("kube-node-1", PLAN, "planned", 0.0, 4.0),
    Span("kube-master", READ, "asked", 0.5, 2.0),
    Span("kube-master", "Node", "Run the node", 4.0, 9.0),
    Span("kube-node-1", "Node", "Run the node", 4.0, 6.0),
    Span("kube-master", "DNS", "Run <CoreDNS>", 9.0, 9.5),
]


def test_the_table() -> None:
    assert table(SPANS) == [
        "the run took 9.5 s",
        "",
        "SECONDS                kube-master  kube-node-1",
        "Plan                   4.0          4.0",
        "Facts                  1.5          -",
        "Node                   5.0          2.0",
        "DNS                    0.5          -",
        "waits for other hosts  -            3.5",
        "",
        "LONGEST",
        "5.0      kube-master  Node | Run the node",
        "0.5      kube-master  DNS | Run <CoreDNS>",
    ]


def test_of_many_hosts_the_busiest_are_shown() -> None:
    spans = [Span(f"node-{n}", "Node", "Run", 0.0, float(n)) for n in range(1, 9)]
    said = table(spans)
    assert said[1] == "the 5 busiest hosts of 8"
    assert said[3].split() == ["SECONDS", "node-8", "node-7", "node-6", "node-5", "node-4"]


TIMES = st.floats(0, 1e5, allow_nan=False)
HOSTS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1)


@given(
    st.lists(
        st.tuples(HOSTS, st.sampled_from([PLAN, READ, "Node", "a & b"]), TIMES, TIMES).map(
            lambda one: Span(one[0], one[1], "step", min(one[2:]), max(one[2:]))
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_span_is_a_bar_in_the_picture(spans: list[Span]) -> None:
    found = ElementTree.fromstring(picture(spans))
    _, _, width, height = map(float, found.attrib["viewBox"].split())
    bars = [one for one in found if one.tag.endswith("rect") and len(one)]
    assert len(bars) == len(spans)
    for bar in bars:
        x, y, wide, high = (float(bar.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
    assert table(spans)


@pytest.mark.parametrize("profile", ["", "none/run.svg"])
def test_a_picture_that_has_no_place_is_refused(tmp_path: Path, profile: str) -> None:
    data = {"credentials_dir": str(tmp_path), "profile": str(tmp_path / profile)}
    with pytest.raises(PyinfraError, match=r"profile = .*; allowed: a file in a folder"):
        prepared(prepare_host, TWO_NODES, data, PackageStates("apt", system="debian"))
