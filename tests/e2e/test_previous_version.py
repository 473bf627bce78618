"""
A cluster that the previous version built becomes what this version wants in one run, by the same
inventory in the words of then.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from tests.e2e.paths import REPOSITORY, Site, each, starts, succeeded
from tests.e2e.promises.trial import PATHS, Path_
from tests.lab import Lab, down, held

pytestmark = [pytest.mark.lab, pytest.mark.slow]

# Before groups and keys got the names that Kubernetes has for them.
PREVIOUS = os.environ.get("PREVIOUS_VERSION", "2031318b7a7f")
OLD_WORDS = {
    "cluster_cidr": "cluster_subnet",
    "service_cidr": "service_cluster_ip_range",
    "control_plane_endpoint": "master_ip",
}
OLD_GROUPS = {"control_plane": "masters", "nodes": "nodes"}


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of then, as they are imported."""
    folder = tmp_path_factory.mktemp("previous")
    archive = subprocess.run(["git", "archive", PREVIOUS], cwd=REPOSITORY, capture_output=True)
    if archive.returncode:
        pytest.skip(f"the history does not reach back to {PREVIOUS}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    subprocess.run(["make", "-s", ".links"], cwd=folder, check=True)
    return folder


@pytest.fixture(
    params=[path for path in PATHS if path.name in ("scratch_docker", "multinode")],
    ids=lambda one: one.name,
)
def path(request: pytest.FixtureRequest) -> Path_:
    wanted: Path_ = request.param
    return wanted


@pytest.fixture
def lab(path: Path_, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up(path.hosts, family=path.family, release=path.release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture
def site(lab: Lab, path: Path_, tmp_path: Path) -> Site:
    site = Site(tmp_path / "cluster", groups=path.groups)
    site.inventory.write_text(_inventory_of_then(path))
    return site


def _inventory_of_then(path: Path_) -> str:
    ours = run_path(str(REPOSITORY / "inventories/lab.py"))
    groups = [ours["control_plane"], ours["nodes"]]
    hosts: dict[str, Any] = {name: data for members, _ in groups for name, data in members}
    data = {**groups[0][1], **path.settings, "credentials_dir": None}
    of_then = {OLD_WORDS.get(key, key): value for key, value in data.items()}
    lines = [f"_data = {of_then!r}"]
    for group, names in path.groups.items():
        members = [(name, hosts[name]) for name in names]
        lines.append(f"{OLD_GROUPS[group]} = ({members!r}, _data)")
    return "\n".join(lines) + "\n"


def test_one_run_is_enough(path: Path_, lab: Lab, site: Site, previous: Path) -> None:
    then = {"PYTHONPATH": str(previous / ".links")}
    deploy = previous / f"deploys/{path.deploy}.py"
    succeeded(site.pyinfra(site.inventory, deploy, "-y", more=then))
    dry = succeeded(site.run("--dry", "--json", deploy=path.deploy))
    assert dry.conditional == set()
    assert succeeded(site.run("-y", "--json", deploy=path.deploy)).changed == dry.planned

    before = each(lambda name: starts(lab, name), path.hosts)
    dry = succeeded(site.run("--dry", "--json", deploy=path.deploy))
    assert (dry.planned, dry.conditional) == (set(), set()), dry.said
    run = succeeded(site.run("-y", "--json", deploy=path.deploy))
    assert run.changed == set(), run.said
    assert each(lambda name: starts(lab, name), path.hosts) == before
