"""
A cluster of Fedora's packages comes from one minor release to the next by one line of its
inventory, on hosts like Fedora 44: packages of one minor release conflict with those of another,
and stop their units when they are removed.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.paths import Run, Site, eventually, execute, load_test_image, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.e2e.test_upgrade import cordoned, kill_when_drained, kubelets, serve
from tests.lab import Lab, down, held

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS = ("fed-master", "fed-node-1", "fed-node-2")
RELEASE, NEXT = "1.36", "1.37"
PATH = "fedora_single_node"
# What no release changes, and no package may.
OURS = (
    "find /srv/kubernetes /etc/cni/net.d/10-pods.conflist /etc/systemd/system/etcd.service "
    "/var/lib/kubelet/kubeconfig /var/lib/kube-proxy/kubeconfig -type f ! -name '*.yaml' "
    "2>/dev/null | sort | xargs sha256sum"
)
# On a node that waits, pods of others may start.
UNITS = ("kubelet.service", "kube-proxy.service", "crio.service")


@dataclass(frozen=True)
class Upgraded:
    """
    + dry: what the plan of it said
    + before, midway: of each host, what it had before, and when the run was killed
    + rest: the plan of what was left
    + run: the run that went on
    """

    dry: Run
    before: dict[str, list[object]]
    midway: dict[str, list[object]]
    rest: Run
    run: Run


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up(HOSTS, family="fedora-44", release=RELEASE, more=[NEXT])
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    settings = {"runtime_source": None, "containerd_version": None}
    return Site(tmp_path_factory.mktemp("site") / "cluster", settings)


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    # Fedora's CRI-O does not guess the registry of an image.
    return Kubectl(lab, CONTROL_PLANE, "docker.io/")


def deploy(site: Site, *options: str) -> Run:
    return succeeded(site.run(*options, "--json", deploy=PATH, timeout=1200))


def packages(lab: Lab, host: str) -> list[str]:
    return execute(lab, host, "rpm --query --all | sort")


def state(lab: Lab) -> dict[str, list[object]]:
    found = {name: starts(lab, name) for name in HOSTS}
    return {
        name: [packages(lab, name), [found[name].get(f"unit {unit}") for unit in UNITS]]
        for name in HOSTS
    }


@pytest.fixture(scope="module")
def served(lab: Lab, site: Site, kubectl: Kubectl) -> str:
    """A cluster of the older release with a service: its URL."""
    deploy(site, "-y")
    load_test_image(lab, NODES)
    return serve(kubectl)


@pytest.fixture(scope="module")
def ours(served: object, lab: Lab) -> dict[str, list[str]]:
    return {name: execute(lab, name, OURS) for name in HOSTS}


@pytest.fixture(scope="module")
def upgraded(ours: object, lab: Lab, site: Site, kubectl: Kubectl) -> Upgraded:
    """One line of the inventory changes; the run is killed at a node, and another one goes on."""
    lab.provide(NEXT)
    before = state(lab)
    dry = deploy(site, "--dry")
    kill_when_drained(site, kubectl, NODES[0], PATH)
    midway = state(lab)
    rest = deploy(site, "--dry")
    return Upgraded(dry, before, midway, rest, deploy(site, "-y"))


def test_the_plan_says_what_is_to_come(upgraded: Upgraded) -> None:
    said = next(text for _, text in upgraded.dry.lines if "→" in text and "drained" in text)
    assert said.startswith(f"Kubernetes {RELEASE}.")
    assert said.endswith(f"control plane first, then {', '.join(HOSTS)}, drained one by one")
    moves = {(f"Upgrade | Move to the packages of {NEXT}", name) for name in HOSTS}
    assert moves <= upgraded.dry.planned
    assert upgraded.dry.conditional == set()


def test_hosts_after_the_one_in_turn_are_untouched(upgraded: Upgraded) -> None:
    assert upgraded.midway[NODES[1]] == upgraded.before[NODES[1]]
    assert upgraded.midway[CONTROL_PLANE] != upgraded.before[CONTROL_PLANE]


def test_the_next_run_goes_on(upgraded: Upgraded) -> None:
    # The kubectl of the run that was killed goes on by itself, and may have drained it by then.
    begun = {(f"Upgrade | Drain {NODES[0]}", CONTROL_PLANE)}
    assert (upgraded.rest.planned ^ upgraded.run.changed) - begun == set()
    assert upgraded.rest.conditional == set()
    assert ("Upgrade | Run the apiserver", CONTROL_PLANE) not in upgraded.run.changed
    back = {(f"Upgrade | Let {name} have pods again", CONTROL_PLANE) for name in NODES}
    assert back <= upgraded.run.changed


def test_every_host_is_of_the_next_release(upgraded: Upgraded, lab: Lab, kubectl: Kubectl) -> None:
    version = lab.release.version
    assert kubelets(kubectl) == dict.fromkeys(HOSTS, f"v{version}")
    assert cordoned(kubectl) == set()
    assert kubectl.ready_nodes() == set(HOSTS)
    for name in HOSTS:
        names = execute(lab, name, "rpm --query --all --queryformat '%{NAME} '")[0].split()
        assert not [one for one in names if RELEASE in one]


def test_files_of_ours_are_as_they_were(
    upgraded: object, ours: dict[str, list[str]], lab: Lab
) -> None:
    assert {name: execute(lab, name, OURS) for name in HOSTS} == ours


def test_the_new_packages_are_locked(upgraded: object, lab: Lab) -> None:
    for name in HOSTS:
        locked = execute(lab, name, "dnf --quiet versionlock list")
        assert any(one.startswith(f"kubernetes{NEXT}-") for one in locked)
        assert not [one for one in locked if f"kubernetes{RELEASE}" in one]


def test_the_service_still_answers(
    upgraded: object, served: str, lab: Lab, kubectl: Kubectl
) -> None:
    kubectl("rollout status deployment/asked --timeout=90s")
    for name in HOSTS:
        execute(lab, name, f"curl --silent --fail --max-time 5 --retry 5 {served}")


def test_the_run_after_it_changes_and_restarts_nothing(
    upgraded: object, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    # The next release has another CoreDNS, whose pods go on for a while when others take over.
    eventually(lambda: not kubectl.ending())
    before = {name: starts(lab, name) for name in HOSTS}
    assert deploy(site, "-y").changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before
