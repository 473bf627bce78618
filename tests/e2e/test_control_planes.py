"""
Several control-plane hosts of today's release, a member of etcd on each: from blank, and drift on
one of them.
"""

from __future__ import annotations

import pytest

from tests.e2e.paths import Run, Site, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"
NODE = "kube-node-3"
GROUPS = {"control_plane": list(HOSTS), "etcd": list(HOSTS), "nodes": [NODE]}


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    lab.add(NODE)
    return Site(tmp_path_factory.mktemp("site") / "cluster", groups=GROUPS)


@pytest.fixture(scope="module")
def built(site: Site) -> tuple[Run, Run]:
    dry = succeeded(site.run("--dry", "--json"))
    return dry, succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    return Kubectl(lab, HOSTS[0])


def test_the_plan_is_the_run(built: tuple[Run, Run]) -> None:
    dry, run = built
    assert run.changed == dry.planned
    assert dry.conditional == set()


def test_nodes_are_ready(built: object, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == {*HOSTS, NODE}


def test_the_components_choose_a_leader(built: object, kubectl: Kubectl) -> None:
    for component in ("kube-controller-manager", "kube-scheduler"):
        holder = kubectl.get(f"lease {component} --namespace=kube-system")["spec"]["holderIdentity"]
        assert holder.partition("_")[0] in HOSTS


def test_etcd_wants_certificates_of_clients_and_members(built: object, lab: Lab) -> None:
    ask = "curl --silent --max-time 5 --insecure --output /dev/null --write-out %{http_code}"
    for name in HOSTS:
        for port, path in ((2379, "health"), (2380, "members")):
            url = f"https://{lab.hosts[name].ip}:{port}/{path}"
            assert execute(lab, name, f"{ask} {url} || true") == ["000"]


def test_the_second_run_changes_and_restarts_nothing(built: object, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in lab.hosts}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in lab.hosts} == before


def test_a_lost_certificate_restarts_only_what_reads_it(
    built: object, lab: Lab, site: Site
) -> None:
    before = {name: starts(lab, name) for name in lab.hosts}
    hurt = HOSTS[1]
    execute(lab, hurt, "rm /srv/kubernetes/etcd-server.crt")
    run = succeeded(site.run("-y", "--json"))
    assert run.changed == {
        ("Credentials | Give the control plane its credentials", hurt),
        ("Control plane | Run the control plane as static pods", hurt),
    }
    after = {name: starts(lab, name) for name in lab.hosts}
    changed = {
        (name, part)
        for name in lab.hosts
        for part in before[name].keys() | after[name].keys()
        if before[name].get(part) != after[name].get(part)
    }
    assert {name for name, _ in changed} == {hurt}
    assert {"etcd" in part for _, part in changed} == {True}
    assert succeeded(site.run("-y", "--json")).changed == set()
