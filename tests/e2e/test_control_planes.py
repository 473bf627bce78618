"""
Several control-plane hosts of today's release, a member of etcd on each: from blank, and drift on
one of them.
"""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from tests.e2e import faults
from tests.e2e.closed import ETCDCTL, Writer, providers, stored
from tests.e2e.faults import Fault
from tests.e2e.paths import Run, Site, each, execute, started, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"
NODE = "kube-node-3"
PODS = "Control plane | Run the control plane as static pods"
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
    assert started(lab, before) == set()


# A member that is dead, and one that nobody planned.
MEMBERS = {
    "a dead member": Fault(
        "etcd.answers",
        HOSTS[2],
        "kill -STOP $(pidof etcd)",
        "kill -CONT $(pidof etcd)",
        patience=60,
    ),
    "a member of nobody": Fault(
        "etcd.members",
        HOSTS[0],
        f"{ETCDCTL} member add stranger --peer-urls=https://192.0.2.9:2380",
        f"{ETCDCTL} member remove $({ETCDCTL} member list | grep 192.0.2.9 | cut -d, -f1)",
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_verification_names_what_is_wrong_with_a_member(
    built: object, lab: Lab, site: Site, name: str
) -> None:
    faults.until_well(site)
    faults.see(MEMBERS[name], lab, site)


def test_a_lost_file_restarts_only_what_reads_it(built: object, lab: Lab, site: Site) -> None:
    hurt = HOSTS[1]
    give = ("Credentials | Give the control plane its credentials", hurt)
    # etcd reads its certificate again by itself, and the CA of its clients when it starts.
    for file, done in (("etcd-server.crt", {give}), ("etcd-ca.crt", {give, (PODS, hurt)})):
        before = {name: starts(lab, name) for name in lab.hosts}
        execute(lab, hurt, f"rm /srv/kubernetes/{file}")
        assert succeeded(site.run("-y", "--json")).changed == done
        changed = started(lab, before)
        assert {name for name, _ in changed} == ({hurt} if len(done) > 1 else set())
        assert {"etcd" in part or "apiserver" in part for _, part in changed} <= {True}
        assert succeeded(site.run("-y", "--json")).changed == set()


class Watch:
    """Asks each apiserver whether it is ready, and notes whenever two of them were not."""

    def __init__(self, lab: Lab) -> None:
        self.rounds = 0
        self.down: list[set[str]] = []
        self._addresses = {name: lab.hosts[name].ip for name in HOSTS}
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._look)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            ready = dict(zip(HOSTS, each(self._ready, HOSTS), strict=True))
            self.rounds += 1
            self.down.append({name for name, answers in ready.items() if not answers})
            time.sleep(0.2)

    def _ready(self, name: str) -> bool:
        url = f"https://{self._addresses[name]}:6443/readyz"
        ask = ["curl", "--silent", "--fail", "--insecure", "--max-time", "5", url]
        return subprocess.run(ask, capture_output=True).returncode == 0


def test_apiservers_take_another_key_one_after_the_other(
    built: object, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write("_data['encryption_key'] = '2026-11-26'\n")
    with Watch(lab) as watch, Writer(kubectl, "keys") as writer:
        run = succeeded(site.run("-y", "--json"))
    restarted = {name for operation, name in run.changed if operation == PODS}
    assert restarted == {*HOSTS}
    seen = set[str]().union(*watch.down)
    print(f"{watch.rounds} rounds; {len(writer.made)} Secrets were made, {writer.failed} could not")
    assert seen == {*HOSTS}
    assert [down for down in watch.down if len(down) > 1] == []
    for name in HOSTS:
        ask = f"kubectl --server=https://{lab.hosts[name].ip}:6443 get secrets --output=name"
        assert len(execute(lab, name, ask)) >= len(writer.made)
        [provider] = providers(lab, name)
        assert provider.startswith("2026-11-26-")
        assert stored(lab, name) == {provider}
    assert succeeded(site.run("-y", "--json")).changed == set()
