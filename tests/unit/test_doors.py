"""The table of doors: each port has one row in each release, and so has each that is asked."""

from __future__ import annotations

from typing import Any

import pytest

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.components import components_on
from pyinfra_kube.cluster.components.rendering import ports, probe
from pyinfra_kube.cluster.components.row_settings import settings
from pyinfra_kube.cluster.doors import DOORS, Door, doors
from pyinfra_kube.cluster.releases import Release, known_releases, newest_patch
from pyinfra_kube.cluster.spec import ClusterSpec


def _context(version: str, host: str, **data: Any) -> tuple[ClusterSpec, dict[str, object]]:
    """A cluster of two hosts, and the settings of one."""
    of_hosts = {
        name: {"kubernetes_version": version, "address": address, **data}
        for name, address in (("first", "192.0.2.1"), ("second", "192.0.2.2"))
    }
    groups = {"control_plane": ["first"], "nodes": ["second"]}
    spec = ClusterSpec.from_inventory(groups, of_hosts)
    return spec, settings(spec, make_plan(spec), host)


@pytest.mark.parametrize("host", ["first", "second"])
@pytest.mark.parametrize("line", known_releases())
def test_each_port_has_one_row(line: str, host: str) -> None:
    release = Release.of(newest_patch(line) or "")
    spec, context = _context(release.version, host)
    roles = spec.host(host).roles
    found = list(doors({"host", *roles}, release, context))
    rows = [(door.program, door.port, door.where, door.protocol) for door in found]
    assert len(rows) == len(set(rows))
    for component in components_on(roles):
        known = {door.port for door in found if door.program == component}
        asked = probe(component, release, context).port
        assert {asked, *map(str, ports(component, release).values())} <= known, component


@pytest.mark.parametrize(
    ("data", "open_to_hosts"),
    [
        ({}, {("kube-apiserver", "6443"), ("kubelet", "10250")}),
        ({"secure_port": 443}, {("kube-apiserver", "443"), ("kubelet", "10250")}),
    ],
)
def test_what_is_open_on_a_control_plane_of_today(
    data: dict[str, Any], open_to_hosts: set[tuple[str, str]]
) -> None:
    spec, context = _context("1.37.2", "first", **data)
    found = doors({"host", *spec.host("first").roles}, Release.of("1.37.2"), context)
    assert {(door.program, door.port) for door in found if door.where == "hosts"} == open_to_hosts


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.program} {door.port}")
def test_what_tells_all_to_others_says_what_closes_it(door: Door) -> None:
    assert not (door.answers == "all" and door.where != "loopback" and not door.closes)
