"""
A flannel of today on Fedora's path, which keeps its network in etcd's v3 interface: etcd's roles
limit it to its own keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import doors
from tests.e2e.paths import Run, Site, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, down, go_build, held

pytestmark = [pytest.mark.lab, pytest.mark.slow]

# The release of Kubernetes → the hosts, and what their inventory says more.
_PACKAGED: dict[str, object] = {
    "flannel_store": "etcd",
    "runtime_source": None,
    "containerd_version": None,
}
SYSTEMS: dict[str, tuple[str, dict[str, object]]] = {
    "1.20": ("fedora", {}),
    "1.34": (
        "fedora-44",
        {**_PACKAGED, "kubernetes_version": "1.34", "container_runtime": "containerd"},
    ),
    "1.37": ("fedora-44", _PACKAGED),
}
CONTROL_PLANE, *NODES = HOSTS = ("fed-master", "fed-node-1", "fed-node-2")
ROLE = "flannel's role | Limit flannel to its own keys in etcd"
_SUBNET = "grep FLANNEL_SUBNET /run/flannel/subnet.env"


@pytest.fixture(scope="module", params=SYSTEMS)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, release: str) -> Iterator[Lab]:
    go_build.built("flannel")
    with held():
        down()
        yield Lab.up(HOSTS, family=SYSTEMS[release][0], release=release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(lab: Lab, release: str, tmp_path_factory: pytest.TempPathFactory) -> Site:
    program = go_build.built("flannel")
    settings = {
        "network": "flannel",
        "cluster_cidr": "10.20.0.0/16",
        "flannel_subnet_len": 24,
        "flannel_source": str(program),
        "flannel_version": (program / "version").read_text().strip(),
        **SYSTEMS[release][1],
    }
    return Site(tmp_path_factory.mktemp("site") / "cluster", settings)


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    # Fedora's CRI-O does not guess the registry of an image.
    return Kubectl(lab, CONTROL_PLANE, "docker.io/")


@pytest.fixture(scope="module")
def built(site: Site) -> tuple[Run, Run]:
    dry = succeeded(site.run("--dry", "--json", deploy="multinode"))
    return dry, succeeded(site.run("-y", "--json", deploy="multinode"))


def _ask(lab: Lab, host: str, who: str, question: str) -> tuple[bool, str]:
    """What etcdctl says to somebody with a certificate of that host."""
    words = [f"--{name}=/srv/kubernetes/{file}" for name, file in _files(who).items()]
    url = f"--endpoints=https://{lab.hosts[CONTROL_PLANE].ip}:2379"
    done = lab.exec(host, f"ETCDCTL_API=3 etcdctl {url} {' '.join(words)} {question} 2>&1")
    return done.returncode == 0, done.stdout


def _files(who: str) -> dict[str, str]:
    return {"cacert": "etcd-ca.crt", "cert": f"{who}.crt", "key": f"{who}.key"}


def _pods_reach_each_other(kubectl: Kubectl) -> bool:
    pods = kubectl.web(len(NODES))
    return all(
        kubectl.fetch(pod, f"http://{address}:8080/") == other
        for pod in pods
        for other, address in pods.items()
    )


def _nothing_is_left(lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    dry = succeeded(site.run("--dry", "--json", deploy="multinode"))
    assert (dry.planned, dry.conditional) == (set(), set())
    assert succeeded(site.run("-y", "--json", deploy="multinode")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


def test_the_plan_is_the_run(built: tuple[Run, Run]) -> None:
    dry, run = built
    assert (dry.planned, dry.conditional) == (run.changed, set())
    assert (ROLE, CONTROL_PLANE) in run.changed


def test_pods_reach_each_other(built: object, kubectl: Kubectl) -> None:
    kubectl.run_web(NODES)
    assert eventually(lambda: _pods_reach_each_other(kubectl))


def test_nothing_is_open_without_a_reason(
    built: object, lab: Lab, site: Site, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl.run_web(NODES)
    doors.see_all(lab, site, doors.process_of_pod(lab, NODES[0], "httpd"), tmp_path)


def test_services_and_names(built: object, kubectl: Kubectl, release: str) -> None:
    web = kubectl.run_web(NODES)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()
    # The guide's path has no DNS.
    for pod in web if release != "1.20" else ():
        assert kubectl.fetch(pod, "http://web.default/") in web


def test_flannel_reads_and_writes_its_own_keys_only(built: object, lab: Lab) -> None:
    node = NODES[0]
    own, other = "/coreos.com/network/", "/registry/"
    for question in (
        f"get {own}config",
        f"get --prefix {own}subnets",
        f"put {own}tried 1",
        f"del {own}tried",
    ):
        assert _ask(lab, node, "etcd-flannel", question)[0], question
    for question in (
        f"get --prefix {other} --keys-only",
        f"get --prefix {other}secrets/",
        f"get --prefix {own.rstrip('/')}",
        "get --prefix /",
        f"put {other}tried 1",
        f"del --prefix {other}",
        f"watch --prefix {other}secrets/ --rev=1",
        "user list",
        "role grant-permission flannel read / 0",
        "auth disable",
        "snapshot save /root/snapshot.db",
    ):
        ok, said = _ask(lab, node, "etcd-flannel", f"{question} </dev/null")
        assert "permission denied" in said or "canceled" in said, (question, said)
        assert not ok or question.startswith("watch"), question
    # Over HTTP nobody is anybody.
    files = " ".join(
        f"--{name} /srv/kubernetes/{file}" for name, file in _files("etcd-flannel").items()
    )
    url = f"https://{lab.hosts[CONTROL_PLANE].ip}:2379/v3/kv/range"
    ask = f'curl -s {files} --data \'{{"key":"AA==","range_end":"AA=="}}\' {url}'
    assert "kvs" not in "".join(execute(lab, node, ask))


def test_a_second_run_changes_nothing(built: object, lab: Lab, site: Site) -> None:
    _nothing_is_left(lab, site)


def test_another_permission_is_taken_back(built: object, lab: Lab, site: Site) -> None:
    grant = "role grant-permission flannel --prefix=true read /registry/"
    assert _ask(lab, CONTROL_PLANE, "etcd-server", grant)[0]
    assert _ask(lab, NODES[0], "etcd-flannel", "get --prefix /registry/ --keys-only")[0]
    dry = succeeded(site.run("--dry", "--json", deploy="multinode"))
    run = succeeded(site.run("-y", "--json", deploy="multinode"))
    assert dry.planned == run.changed == {(ROLE, CONTROL_PLANE)}
    assert not _ask(lab, NODES[0], "etcd-flannel", "get --prefix /registry/ --keys-only")[0]


def test_all_start_anew(built: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    execute(lab, CONTROL_PLANE, "systemctl restart etcd && systemctl restart kube-apiserver")
    for name in NODES:
        execute(lab, name, "systemctl restart flanneld")
    eventually(lambda: kubectl.ready_nodes() >= set(NODES))
    assert eventually(lambda: _pods_reach_each_other(kubectl), patience=120)
    succeeded(site.run("-y", "--json", deploy="multinode"))


def test_a_reboot_changes_nothing(built: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    for name in (NODES[0], CONTROL_PLANE):
        lab.reboot(name)
    eventually(lambda: kubectl.ready_nodes() >= set(NODES), 240)
    assert eventually(lambda: _pods_reach_each_other(kubectl), patience=240)
    assert succeeded(site.run("-y", "--json", deploy="multinode")).changed == set()


def test_another_backend(built: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    other = ("--data", "flannel_backend=host-gw")
    dry = succeeded(site.run("--dry", "--json", *other, deploy="multinode"))
    run = succeeded(site.run("-y", "--json", *other, deploy="multinode"))
    assert (dry.planned, dry.conditional) == (run.changed, set())
    assert eventually(lambda: _pods_reach_each_other(kubectl), patience=120)
    assert succeeded(site.run("-y", "--json", *other, deploy="multinode")).changed == set()


def test_a_node_leaves_with_its_lease(built: object, lab: Lab, site: Site) -> None:
    leave = ("--data", f'remove_nodes=["{NODES[1]}"]', "--data", "flannel_backend=host-gw")
    succeeded(site.run("-y", "--json", *leave, deploy="remove_node"))
    leases = "get --prefix /coreos.com/network/subnets/"
    _, said = _ask(lab, CONTROL_PLANE, "etcd-server", leases)
    assert lab.hosts[NODES[0]].ip in said
    assert lab.hosts[NODES[1]].ip not in said
