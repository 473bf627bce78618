"""
Fedora's path with a release of today, or KUBERNETES_VERSION=1.34, on hosts like Fedora 44: packages
named by minor release, their programs in units of ours, and CRI-O or containerd.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import doors
from tests.e2e.paths import Run, Site, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, down, go_build, held

# CRI-O alone is a build of minutes.
pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS = ("fed-master", "fed-node-1", "fed-node-2")
RELEASE = os.environ.get("KUBERNETES_VERSION", "1.37")
PACKAGES = {
    CONTROL_PLANE: f"kubernetes{RELEASE}-systemd kubernetes{RELEASE}-client etcd",
    NODES[0]: f"kubernetes{RELEASE} kubernetes{RELEASE}-systemd containernetworking-plugins "
    f"cri-tools{RELEASE}",
}
RUNTIMES = {"cri-o": f"cri-o{RELEASE}", "containerd": "containerd"}

# The host's nameserver, and 127.0.0.53 in its place, as Fedora has it.
RESOLVED, CONF = "/run/systemd/resolve", "/etc/systemd/resolved.conf.d"
STUB = (
    f"mkdir -p {CONF} && "
    f"sed -n 's/^nameserver /[Resolve]\\nLLMNR=no\\nDNS=/p' /etc/resolv.conf > {CONF}/lab.conf && "
    f"ln -sfn {RESOLVED}/stub-resolv.conf /etc/resolv.conf && systemctl restart systemd-resolved"
)

# What is done to a host → the host, and some of the operations that mend it.
DRIFT = {
    "sed -i 's/--v=[0-9]*/--v=9/' /etc/systemd/system/kube-apiserver.service": (
        CONTROL_PLANE,
        {"Set the units of the control plane", "Run the apiserver"},
    ),
    "rm /srv/kubernetes/kube-scheduler.kubeconfig": (
        CONTROL_PLANE,
        {"Give the control plane its credentials", "Run the controller manager and the scheduler"},
    ),
    "systemctl disable --now kube-proxy": (NODES[0], {"Run kube-proxy"}),
    "rm /etc/cni/net.d/10-pods.conflist": (NODES[0], {"Describe the pod network"}),
    "ip link set cbr0 down": (NODES[0], {"Make the bridge cbr0 of the pods"}),
}


@pytest.fixture(scope="module", params=["cri-o", "containerd"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, runtime: str, release: str) -> Iterator[Lab]:
    with held():
        down()
        lab = Lab.up(HOSTS, family="fedora-44", release=release)
        for name in HOSTS:
            execute(lab, name, STUB)
        yield lab
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(lab: Lab, runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Site:
    # CRI-O is the default of this system.
    asked = {} if runtime == "cri-o" else {"container_runtime": runtime}
    settings = {"kubernetes_version": RELEASE, "runtime_source": None, "containerd_version": None}
    # The package of an old distribution may have one that is too old.
    own_etcd = {"etcd_source": str(go_build.built("etcd"))} if asked else {}
    settings |= asked | own_etcd
    return Site(tmp_path_factory.mktemp("site") / "cluster", settings)


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    # Fedora's CRI-O does not guess the registry of an image.
    return Kubectl(lab, CONTROL_PLANE, "docker.io/")


def deploy(site: Site, *options: str, name: str = "fedora_single_node") -> Run:
    return succeeded(site.run(*options, "--json", deploy=name))


@pytest.fixture(scope="module")
def dry(site: Site) -> Run:
    return deploy(site, "--dry", "--diff")


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return deploy(site, "-y")


@pytest.fixture(scope="module")
def web(built: Run, kubectl: Kubectl) -> dict[str, str]:
    """A web server on each node: pod → address."""
    return kubectl.run_web(NODES)


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert (dry.planned, dry.conditional) == (built.changed, set())


def test_what_packages_brought_stays_as_it_is(built: Run, lab: Lab, runtime: str) -> None:
    for host, names in PACKAGES.items():
        words = f"{names} {RUNTIMES[runtime]}" if host in NODES else names
        execute(lab, host, f"rpm --query {words}")
        changed = execute(lab, host, f"rpm --verify --nomtime {words} || true")
        # Others than root see nothing of them.
        assert {line.split()[-1] for line in changed} <= {"/var/lib/etcd", "/var/lib/kubelet"}


def test_an_upgrade_of_the_system_moves_nothing_of_it(built: Run, lab: Lab) -> None:
    dnf = "dnf --assumeyes --enablerepo=updates-testing"
    for host, there in {
        CONTROL_PLANE: {"etcd", f"cri-tools{RELEASE}"},
        NODES[0]: {f"cri-tools{RELEASE}"},
    }.items():
        would = execute(lab, host, f"{dnf} --assumeno --disableplugin=versionlock upgrade || true")
        assert {line.split()[0] for line in would if "updates-testing" in line} == there
        before = execute(lab, host, "rpm --query --all | sort")
        execute(lab, host, f"{dnf} upgrade")
        assert execute(lab, host, "rpm --query --all | sort") == before


def test_pods_services_and_names(web: dict[str, str], kubectl: Kubectl, runtime: str) -> None:
    assert kubectl.ready_nodes() == set(HOSTS)
    told = {n["status"]["nodeInfo"]["containerRuntimeVersion"] for n in kubectl.get("nodes")}
    assert {one.partition("://")[0] for one in told} == {runtime}
    kubectl.see_pods_reach_pods(web)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()
    for pod in web:
        assert kubectl.fetch(pod, "http://web.default/") in web
        assert kubectl(f"exec {pod} -- hostname").strip() == pod


def test_pods_get_the_real_nameservers(web: object, lab: Lab, kubectl: Kubectl) -> None:
    assert execute(lab, NODES[0], "grep -c 127.0.0.53 /etc/resolv.conf") == ["1"]
    (real,) = execute(lab, NODES[0], f"grep ^nameserver {RESOLVED}/resolv.conf")
    assert real != "nameserver 127.0.0.53"
    # One that asked itself would end.
    kubectl("rollout status deployment/coredns --namespace=kube-system --timeout=90s")
    asked = "cat /proc/$(pidof -s coredns)/root/etc/resolv.conf"
    (host, *_) = [name for name in HOSTS if execute(lab, name, "pidof -s coredns || true")]
    assert real in execute(lab, host, asked)


def test_nothing_is_open_without_a_reason(
    web: object, lab: Lab, site: Site, tmp_path: Path
) -> None:
    doors.see_all(lab, site, doors.process_of_pod(lab, NODES[0], "httpd"), tmp_path)


def test_a_second_run_changes_and_restarts_nothing(web: object, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert deploy(site, "-y").changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before
    again = deploy(site, "--dry")
    assert (again.planned, again.conditional) == (set(), set())


@pytest.mark.parametrize("harm", DRIFT)
def test_drift_is_mended(web: object, lab: Lab, site: Site, harm: str) -> None:
    host, names = DRIFT[harm]
    execute(lab, host, harm)
    dry, run = deploy(site, "--dry"), deploy(site, "-y")
    assert (dry.planned, dry.conditional) == (run.changed, set())
    mended = {(name.rpartition(" | ")[2], where) for name, where in run.changed}
    assert {(name, host) for name in names} <= mended
    assert {where for _, where in mended} == {host}
    assert deploy(site, "-y").changed == set()


def test_a_cluster_is_well(web: object, site: Site) -> None:
    succeeded(site.run("-y", deploy="verify"))


def test_a_reboot_changes_nothing(web: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    for name in (NODES[0], CONTROL_PLANE):
        lab.reboot(name)
    eventually(lambda: kubectl.ready_nodes() == set(HOSTS), 240)
    # The API tells for a while what was before.
    eventually(lambda: kubectl.see_pods_reach_pods(kubectl.web(len(NODES))) or True, 240)
    assert deploy(site, "-y").changed == set()


def test_a_node_is_removed(web: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    deploy(site, "-y", "--data", f'remove_nodes=["{NODES[1]}"]', name="remove_node")
    assert kubectl.ready_nodes() == {CONTROL_PLANE, NODES[0]}
    left = "ls -d /sys/class/net/cbr0 /var/lib/kubelet/config.yaml || true"
    assert execute(lab, NODES[1], left) == []
