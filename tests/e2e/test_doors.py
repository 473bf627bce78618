"""
What is open on the hosts of a cluster whose etcd and apiservers are reached from other hosts, with
flannel, and what their files and processes are like. `test_today.py` has the same of a cluster with
the defaults, `test_scratch.py` and `test_fedora.py` the doors of earlier releases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e import cis, doors
from tests.e2e.paths import Run, Site, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, go_build
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"
GROUPS = {"control_plane": list(HOSTS[:2]), "etcd": [HOSTS[0]], "nodes": [HOSTS[2]]}
NODE = HOSTS[2]


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    settings: dict[str, Any] = {
        "network": "flannel",
        "flannel_source": str(go_build.built("flannel")),
        "credential_kind": "certificate",
    }
    return Site(tmp_path_factory.mktemp("site") / "cluster", settings, GROUPS)


@pytest.fixture(scope="module")
def built(site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


def test_nothing_is_open_without_a_reason(
    built: Run, lab: Lab, site: Site, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl.run_web([NODE])
    pod = doors.process_of_pod(lab, NODE, "httpd")
    doors.see_all(lab, site, pod, tmp_path)
    doors.see_only_doors_of_dns(lab, site, pod, kubectl)


def test_files_have_their_modes(built: Run, lab: Lab) -> None:
    cis.see_modes(lab)


def test_the_benchmark(built: Run, lab: Lab) -> None:
    """With certificates no item about tokens is left."""
    assert cis.other_than_said(lab) == ["1.2.2"]


@pytest.mark.parametrize("part", ["kube-proxy", "flanneld"])
def test_units_may_do_what_they_need(built: Run, lab: Lab, part: str) -> None:
    cis.see_unit(lab, part)
