"""
Debian 13 with today's release: hosts that have containerd, runc, CNI plugins and tools from their
distribution, and a node of Debian 12 among them.

One cluster for all: each test is a step of its life, made from the one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinfra_kube.cluster.containerd_versions import of_distribution
from pyinfra_kube.cluster.packages import packages_for
from tests.e2e.paths import Run, Site, each, execute, ssh, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, down, held, roots
from tests.lab.lab import HOSTS
from tests.lab.machine import run

RELEASE = "1.37"
CONTROL_PLANE, *NODES = HOSTS
NEW, OLD = [CONTROL_PLANE, NODES[0]], NODES[1]

# What each has, as its node says it.
SYSTEMS = {
    **dict.fromkeys(NEW, ("Debian GNU/Linux 13 (trixie)", "containerd://1.7")),
    OLD: ("Debian GNU/Linux 12 (bookworm)", "containerd://1.6"),
}

# What each part of the table of packages must bring.
PROGRAMS = {
    "etcd": "bin/etcd bin/etcdctl",
    "docker": "sbin/dockerd bin/docker",
    "containerd": "bin/containerd bin/containerd-shim-runc-v2 bin/ctr",
    "runc": "sbin/runc",
    "cni": "lib/cni/bridge lib/cni/host-local lib/cni/loopback lib/cni/portmap",
    "bridge-tools": "sbin/brctl",
    "network-tools": "sbin/iptables-nft sbin/nft sbin/conntrack bin/socat bin/curl sbin/ethtool",
}

# What is done to a host → the operations that mend it.
DRIFT = {
    "sed -i 's/SystemdCgroup = true/SystemdCgroup = false/' /etc/containerd/config.toml": {
        "Container runtime | Configure containerd",
        "Container runtime | Run containerd",
    },
    "dpkg --purge --force-depends conntrack": {"Host preparation | Install the tools of a node"},
    "rm /etc/cni/net.d/10-pods.conflist": {"Container runtime | Describe the pod network"},
}


# The tables, and Debian's own lists


@pytest.fixture(scope="module", params=[("debian", "12"), ("debian-13", "13")])
def debian(request: pytest.FixtureRequest) -> tuple[Path, str]:
    """The packages of a release of Debian that a host may be given, and its number."""
    family, number = request.param
    return roots.blank(family), number


@pytest.mark.parametrize("part", PROGRAMS)
def test_packages_bring_the_programs(debian: tuple[Path, str], part: str) -> None:
    server, number = debian
    found = ""
    for name in packages_for([part], "debian", number, "1.37.2"):
        for archive in (server / "apt").glob(f"{name}_*.deb"):
            found += run("dpkg-deb", "--contents", archive).stdout
        listed = server / f"root/var/lib/dpkg/info/{name}.list"
        found += listed.read_text() if listed.exists() else ""
    for program in PROGRAMS[part].split():
        assert re.search(rf"/{program}$|/{program} -> ", found, re.M), program


def test_containerd_is_of_the_line_that_is_expected(debian: tuple[Path, str]) -> None:
    server, number = debian
    (archive,) = (server / "apt").glob("containerd_*.deb")
    assert archive.name.startswith(f"containerd_{of_distribution('debian', number)}.")


# Hosts


@pytest.fixture(scope="module")
def lab(release: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with held():
        down()
        lab = Lab.up(NEW, family="debian-13", release=release)
        lab.add(OLD)
        yield lab
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """An inventory that takes containerd from the distribution."""
    assert lab.kubernetes
    # Debian has no crictl.
    crictl = (lab.kubernetes / "crictl").read_bytes()
    put = "install /dev/stdin /usr/bin/crictl"
    each(lambda name: ssh(lab, name, put, crictl), HOSTS)
    own = {"runtime_source": None, "containerd_version": None}
    return Site(tmp_path_factory.mktemp("site") / "cluster", own)


@pytest.fixture(scope="module")
def dry(site: Site) -> Run:
    return succeeded(site.run("--dry", "--json"))


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


@pytest.mark.lab
def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert built.changed == dry.planned
    assert dry.conditional == set()


@pytest.mark.lab
def test_nodes_have_what_their_distribution_has(built: Run, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(HOSTS)
    found = {
        node["metadata"]["name"]: (info["osImage"], info["containerRuntimeVersion"])
        for node in kubectl.get("nodes")
        if (info := node["status"]["nodeInfo"])
    }
    for name, (system, runtime) in SYSTEMS.items():
        assert found[name][0] == system
        assert found[name][1].startswith(f"{runtime}.")


@pytest.mark.lab
def test_pods_reach_each_other_and_have_dns(built: Run, kubectl: Kubectl) -> None:
    web = kubectl.run_web(NODES)
    kubectl.see_pods_reach_pods(web)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()
    for pod in web:
        assert kubectl.fetch(pod, "http://web.default.svc.cluster.local/") in web


@pytest.mark.lab
def test_the_second_run_changes_and_restarts_nothing(built: Run, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


@pytest.mark.lab
def test_drift_is_healed(built: Run, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    host = NEW[1]
    for damage in DRIFT:
        execute(lab, host, damage)
    run = succeeded(site.run("-y", "--json"))
    assert run.changed == {(name, host) for names in DRIFT.values() for name in names}
    assert succeeded(site.run("--dry", "--json")).planned == set()
    kubectl.see_pods_reach_pods(kubectl.web(len(NODES)))
