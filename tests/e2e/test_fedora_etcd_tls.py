"""
A running etcd on Fedora comes from HTTP to TLS, all members at once: the API stops for a while,
nothing acknowledged is lost, and pods and their subnets stay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.closed import killed
from tests.e2e.paths import Run, Site, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.e2e.writer import Writer
from tests.lab import Lab, down, held

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.20"
CONTROL_PLANE, *NODES = HOSTS = ("fed-master", "fed-node-1", "fed-node-2")
SETTINGS = {
    "network": "flannel",
    "cluster_cidr": "10.20.0.0/16",
    "flannel_subnet_len": 24,
    "etcd_tls": False,
}
MEMBERS = {"one member": [CONTROL_PLANE], "three members": list(HOSTS)}
_SUBNET = "grep FLANNEL_SUBNET /run/flannel/subnet.env"
_FILES = "--cacert /srv/kubernetes/etcd-ca.crt --cert /srv/kubernetes/etcd-server.crt"


@pytest.fixture(scope="module", params=MEMBERS)
def members(request: pytest.FixtureRequest) -> list[str]:
    return MEMBERS[request.param]


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, members: list[str], release: str) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up(HOSTS, family="fedora", release=release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(lab: Lab, members: list[str], tmp_path_factory: pytest.TempPathFactory) -> Site:
    groups = {"control_plane": [CONTROL_PLANE], "etcd": members, "nodes": NODES}
    return Site(tmp_path_factory.mktemp("site") / "cluster", SETTINGS, groups)


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    return Kubectl(lab, CONTROL_PLANE)


@pytest.fixture(scope="module")
def plain(site: Site) -> Run:
    """A cluster whose etcd speaks HTTP."""
    return succeeded(site.run("-y", "--json", deploy="multinode"))


@pytest.fixture(scope="module")
def moved(plain: Run, lab: Lab, site: Site, kubectl: Kubectl) -> Writer:
    """It has come to TLS while somebody wrote, by a run that was killed and one that went on."""
    kubectl.run_web(NODES)
    writer = Writer(lab, [CONTROL_PLANE], site.folder)
    with site.inventory.open("a") as inventory:
        inventory.write("_data['etcd_tls'] = True\n")
    with writer:
        time.sleep(5)
        killed(site, "Run etcd", "multinode")
        succeeded(site.run("-y", "--json", deploy="multinode"))
        time.sleep(5)
    print(f"\n{writer}")
    return writer


def _codes(lab: Lab, members: list[str], scheme: str) -> set[str]:
    """What somebody without a credential gets from etcd, with a scheme."""
    ask = "curl --silent --max-time 5 --insecure --output /dev/null --write-out '%{http_code}\\n'"
    return {
        code
        for name in members
        for port, path in ((2379, "version"), (2380, "members"))
        for code in execute(lab, name, f"{ask} {scheme}://{lab.hosts[name].ip}:{port}/{path} || :")
    }


def test_before_anybody_is_answered(plain: Run, lab: Lab, members: list[str]) -> None:
    assert "200" in _codes(lab, members, "http")


@pytest.fixture(scope="module")
def subnets(plain: Run, lab: Lab) -> list[list[str]]:
    return [execute(lab, name, _SUBNET) for name in NODES]


def test_nothing_is_lost(subnets: object, moved: Writer) -> None:
    assert len(moved.acknowledged) > 100
    assert eventually(lambda: [moved.lost()])[0] == set()


def test_pods_keep_their_network(
    subnets: list[list[str]], moved: Writer, lab: Lab, kubectl: Kubectl
) -> None:
    assert [execute(lab, name, _SUBNET) for name in NODES] == subnets
    pods = kubectl.web(len(NODES))
    for pod in pods:
        for other, address in pods.items():
            assert (
                eventually(
                    lambda pod=pod, address=address: kubectl.fetch(pod, f"http://{address}:8080/")
                )
                == other
            )


def test_nothing_answers_without_a_credential(moved: Writer, lab: Lab, members: list[str]) -> None:
    assert _codes(lab, members, "http") == {"000"}
    assert _codes(lab, members, "https") == {"000"}


def test_members_know_each_other_with_tls_only(moved: Writer, lab: Lab, members: list[str]) -> None:
    ask = f"curl --silent {_FILES} --key /srv/kubernetes/etcd-server.key --data '{{}}'"
    url = "https://127.0.0.1:2379/v3/cluster/member/list"
    text = "".join(execute(lab, CONTROL_PLANE, f"{ask} {url}"))
    assert text.count("https://") == 2 * len(members)
    assert "http://" not in text


def test_the_next_run_changes_nothing(moved: Writer, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    dry = succeeded(site.run("--dry", "--json", deploy="multinode"))
    assert (dry.planned, dry.conditional) == (set(), set())
    assert succeeded(site.run("-y", "--json", deploy="multinode")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before
