"""
What comes after the build, on the paths that no other test of these deploys takes: verification,
topology, an archive of support, reset twice, and a build after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.e2e import archive, faults
from tests.e2e.paths import Run, Site, execute, succeeded
from tests.e2e.pods import Kubectl
from tests.e2e.test_reset import YES, differs, dump
from tests.lab import Lab, down, held

pytestmark = [pytest.mark.lab, pytest.mark.slow]


class Path(NamedTuple):
    """
    + deploy: that builds the cluster
    + release: of Kubernetes
    + hosts: the control plane first
    + family: of the hosts
    + settings: of the inventory
    """

    deploy: str
    release: str
    hosts: tuple[str, ...]
    family: str = "debian"
    settings: Mapping[str, Any] = MappingProxyType({})


_THREE = ("kube-master", "kube-node-1", "kube-node-2")
_FEDORA = ("fed-master", "fed-node-1", "fed-node-2")
PATHS = {
    "scratch 1.20": Path("scratch", "1.20", _THREE, settings={"dns": True}),
    "fedora_single_node 1.20": Path("fedora_single_node", "1.20", _FEDORA[:2], "fedora"),
    "multinode 1.20": Path("multinode", "1.20", _FEDORA, "fedora", {"network": "flannel"}),
}


_PACKAGE = re.compile(r"package (\S+): absent → installed")
# What docs/reset.md lists of docker and its containerd, where a package starts neither.
_STAYS = re.compile(
    r"\+ (file /etc/docker/key\.json|folder /etc/(docker|cni|cni/net\.d)|"
    r"unit containerd\.service)\b"
)
_INSTALL = {
    "debian": "apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install",
    "fedora": "dnf --assumeyes --quiet install",
}


@pytest.fixture(scope="module", params=PATHS)
def path(request: pytest.FixtureRequest) -> Path:
    return PATHS[request.param]


@pytest.fixture(scope="module")
def lab(path: Path) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up(path.hosts, family=path.family, release=path.release)
        down()


@pytest.fixture(scope="module")
def site(path: Path, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("after") / "cluster", path.settings)


@pytest.fixture(scope="module")
def kubectl(path: Path, lab: Lab) -> Kubectl:
    return Kubectl(lab, path.hosts[0])


@pytest.fixture(scope="module")
def before(path: Path, lab: Lab, site: Site) -> dict[str, list[str]]:
    """What hosts are like with the packages that the plan names, which stay."""
    shown = succeeded(site.run("--dry", "--diff", deploy=path.deploy)).lines
    for name in path.hosts:
        found = [_PACKAGE.fullmatch(text) for host, text in shown if host == name]
        packages = " ".join(one[1] for one in found if one)
        if packages:
            execute(lab, name, f"{_INSTALL[path.family]} {packages}")
    return {name: dump(lab, name) for name in path.hosts}


@pytest.fixture(scope="module")
def built(path: Path, before: object, site: Site) -> Run:
    return succeeded(site.run("-y", "--json", deploy=path.deploy))


def test_all_is_well(built: Run, site: Site) -> None:
    faults.until_well(site)
    assert "unknown" not in site.run("-y", deploy="verify").said


def test_the_topology(built: Run, path: Path, site: Site, kubectl: Kubectl) -> None:
    nodes = list(path.hosts[1:])
    pods = kubectl.run_web(nodes)
    said = succeeded(site.run("-y", "--json", deploy="topology")).said
    assert [line for line in said.splitlines() if "MISSING" in line] == []
    assert succeeded(site.run("-y", "--json", deploy="topology")).changed == set()
    picture = next(site.folder.glob("*-topology.svg")).read_text()
    assert all(f">{name}</text>" in picture for name in path.hosts)
    start, to = f"default/{next(iter(pods))}", "default/web"
    asked = ("--data", f"packet_from={start}", "--data", f"packet_to={to}")
    said = succeeded(site.run("--dry", *asked, deploy="topology")).said
    assert f"{start} " in said
    assert "MISSING" not in said
    kubectl("delete replicationcontrollers --all")
    kubectl("delete service web")


def test_an_archive(built: Run, path: Path, site: Site, lab: Lab) -> None:
    files = archive.made(site)
    assert archive.secrets_in(files, site) == []
    assert {f"{host}/{name}" for host in path.hosts for name in archive.SOME} <= files.keys()
    assert all(f">{name}</text>" in files["index.html"] for name in path.hosts)


def test_hosts_are_as_before(
    built: Run, path: Path, before: dict[str, list[str]], lab: Lab, site: Site
) -> None:
    dry = succeeded(site.run("--dry", "--json", *YES[2:], deploy="reset"))
    run = succeeded(site.run(*YES, deploy="reset"))
    assert (dry.planned, dry.conditional) == (run.changed, set())
    assert succeeded(site.run(*YES, deploy="reset")).changed == set()
    changed = {
        name: [line for line in differs(before[name], dump(lab, name)) if not _STAYS.match(line)]
        for name in path.hosts
    }
    assert {name: lines for name, lines in changed.items() if lines} == {}


def test_a_cluster_is_built_again(built: Run, path: Path, site: Site) -> None:
    succeeded(site.run("-y", "--json", deploy=path.deploy))
    faults.until_well(site)
    assert succeeded(site.run("-y", "--json", deploy=path.deploy)).changed == set()
