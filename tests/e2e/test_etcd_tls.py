"""
A running etcd comes from HTTP to TLS while somebody writes: nothing acknowledged is lost, wherever
runs are killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from tests.e2e.paths import REPOSITORY, Run, Site, eventually, execute, starts, succeeded
from tests.e2e.promises.driver import ENVIRONMENT
from tests.e2e.writer import Writer
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]


class Way(NamedTuple):
    """
    A cluster that goes it.

    + release: of Kubernetes
    + members: hosts with etcd and an apiserver each
    + nodes: the others
    """

    release: str
    members: list[str]
    nodes: list[str]

    @property
    def groups(self) -> Mapping[str, list[str]]:
        return {"control_plane": self.members, "etcd": self.members, "nodes": self.nodes}

    @property
    def steps(self) -> int:
        """Four of each member, one of each apiserver."""
        return 5 * len(self.members)

    def address(self, lab: Lab, member: str) -> str:
        """Where clients reach a member; one alone listens on the loopback only."""
        return lab.hosts[member].ip if len(self.members) > 1 else "127.0.0.1"


WAYS = {
    "three members": Way("1.37", list(HOSTS), list(HOSTS)),
    "one member": Way("1.37", [*HOSTS[:1]], [*HOSTS[1:]]),
    "one member of 1.20": Way("1.20", [*HOSTS[:1]], [*HOSTS[1:]]),
}
_DRIVER = "tests.e2e.promises.driver"
_MANIFESTS = "/etc/kubernetes/manifests"


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest, way: Way) -> str:
    return str(request.config.getoption("--release") or way.release)


@pytest.fixture(scope="module")
def site(lab: Lab, way: Way, tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site") / "cluster"
    return Site(folder, {"etcd_tls": False}, groups=way.groups)


@pytest.fixture(scope="module")
def plain(lab: Lab, site: Site) -> Run:
    """A cluster whose etcd speaks HTTP."""
    return succeeded(site.run("-y", "--json", timeout=900))


@pytest.fixture(scope="module")
def writer(plain: Run, lab: Lab, way: Way, site: Site) -> Writer:
    return Writer(lab, way.members, site.folder)


def _killed(site: Site, at: int, delay: float) -> bool:
    """A run that dies at one of its commands; whether it had that many."""
    orders = {"at": at, "delay": delay}
    done = subprocess.run(
        [sys.executable, "-m", _DRIVER, site.inventory, REPOSITORY / "deploys/scratch.py"],
        cwd=site.folder,
        env={
            **site.environment,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            ENVIRONMENT: json.dumps(orders),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        start_new_session=True,
    )
    assert done.returncode in (0, -9), done.stderr[-6000:]
    return done.returncode == -9


def _codes(lab: Lab, way: Way, scheme: str) -> set[str]:
    """What somebody without a credential gets from etcd, with a scheme."""
    ask = "curl --silent --max-time 5 --insecure --output /dev/null --write-out '%{http_code}\\n'"
    return {
        code
        for name in way.members
        for port, path in ((2379, "version"), (2380, "members"))
        for code in execute(
            lab, name, f"{ask} {scheme}://{way.address(lab, name)}:{port}/{path} || :"
        )
    }


def _registered(lab: Lab, way: Way) -> set[str]:
    files = "--cacert /srv/kubernetes/etcd-ca.crt --cert /srv/kubernetes/etcd-server.crt"
    ask = f"curl --silent {files} --key /srv/kubernetes/etcd-server.key --data '{{}}'"
    url = f"https://{way.address(lab, way.members[0])}:2379/v3/cluster/member/list"
    [text] = execute(lab, way.members[0], f"{ask} {url}")
    return {url for member in json.loads(text)["members"] for url in member["peerURLs"]}


def test_http_is_said_in_every_plan(plain: Run, way: Way, site: Site, lab: Lab) -> None:
    assert "for etcd_tls is False" in plain.said
    again = succeeded(site.run("--dry", "--json"))
    assert (again.planned, again.conditional) == (set(), set())
    assert "for etcd_tls is False" in again.said
    assert "200" in _codes(lab, way, "http")


def test_it_comes_to_tls_though_every_step_is_killed(writer: Writer, way: Way, site: Site) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write("_data['etcd_tls'] = True\n")
    dry = succeeded(site.run("--dry", "--json"))
    steps = {name for name, _ in dry.planned if name.startswith("etcd | ")}
    assert len(steps) == way.steps, steps
    killed = 0
    with writer:
        time.sleep(5)
        # By turns in the middle of a run's first command and right after it.
        while _killed(site, at=1, delay=-1.0 if killed % 2 else 0.3):
            killed += 1
            print(f"killed {killed} times", flush=True)
            assert killed < 4 * way.steps
        time.sleep(5)
    print(f"\n{killed} runs killed; {writer}")
    assert killed >= way.steps
    lost = eventually(lambda: [writer.lost()])[0]
    assert len(writer.acknowledged) > 100
    assert lost == set()


def test_nothing_answers_without_a_credential(writer: Writer, lab: Lab, way: Way) -> None:
    assert _codes(lab, way, "http") == {"000"}
    assert _codes(lab, way, "https") == {"000"}
    urls = {f"https://{way.address(lab, name)}:2380" for name in way.members}
    assert _registered(lab, way) == urls


def test_the_next_run_changes_nothing(writer: Writer, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


def test_nobody_goes_back(writer: Writer, site: Site) -> None:
    text = site.inventory.read_text()
    with site.inventory.open("a") as inventory:
        inventory.write("_data['etcd_tls'] = False\n")
    run = site.run("--dry", "--json")
    site.inventory.write_text(text)
    assert run.code != 0
    assert "etcd_tls = False; allowed: True, for etcd has TLS there" in run.said


def test_a_lost_manifest_comes_back(writer: Writer, lab: Lab, way: Way, site: Site) -> None:
    host = way.members[-1]
    before = execute(lab, host, f"cat {_MANIFESTS}/etcd.yaml")
    execute(lab, host, f"rm {_MANIFESTS}/etcd.yaml")
    succeeded(site.run("-y", "--json"))
    assert execute(lab, host, f"cat {_MANIFESTS}/etcd.yaml") == before
