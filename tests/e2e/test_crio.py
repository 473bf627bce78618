"""
The scratch path on CRI-O: from blank hosts to pods that outlive CRI-O and a reboot, until a node is
removed.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.paths import Run, Site, eventually, execute, starts, succeeded
from tests.e2e.pods import PORT, Kubectl
from tests.e2e.test_today import PIDS
from tests.lab import Lab, kubernetes
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

DROP_IN = "/etc/crio/crio.conf.d/90-pyinfra-kube.conf"

# What is done to a node → the operations that mend it.
DRIFT = {
    f'sed -i \'s/"systemd"/"cgroupfs"/\' {DROP_IN}': {"Configure CRI-O", "Run CRI-O"},
    "systemctl disable --now crio": {"Run CRI-O"},
    "skopeo delete containers-storage:registry.k8s.io/pause:3.10.2": set(),
}

# A network of somebody else, which comes first by its name.
OTHER = "/etc/cni/net.d/05-other.conflist"
OTHER_NETWORK = """{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "nothing"}]}"""


# The steps


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    settings = {
        "container_runtime": "cri-o",
        "runtime_source": str(kubernetes.crio()),
        "containerd_version": None,
    }
    return Site(tmp_path_factory.mktemp("site") / "cluster", settings)


@pytest.fixture(scope="module")
def dry(lab: Lab, site: Site) -> Run:
    for name in NODES:
        execute(lab, name, f"mkdir -p /etc/cni/net.d; echo '{OTHER_NETWORK}' >{OTHER}")
    return succeeded(site.run("--dry", "--diff", "--json"))


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def web(built: Run, kubectl: Kubectl) -> dict[str, str]:
    """A web server on each node: pod → address."""
    return kubectl.run_web(NODES)


# The cluster


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert built.changed == dry.planned
    assert dry.conditional == set()


def test_nodes_run_on_crio(built: Run, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(HOSTS)
    runtimes = {n["status"]["nodeInfo"]["containerRuntimeVersion"] for n in kubectl.get("nodes")}
    assert {one.partition("://")[0] for one in runtimes} == {"cri-o"}


def test_pods_reach_pods_and_services_of_other_nodes(web: dict[str, str], kubectl: Kubectl) -> None:
    kubectl.see_pods_reach_pods(web)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()
    for pod in web:
        assert kubectl.fetch(pod, "http://web.default/") in web


def test_logs_and_exec_come_through_the_apiserver(web: dict[str, str], kubectl: Kubectl) -> None:
    for pod in web:
        assert kubectl(f"exec {pod} -- hostname").strip() == pod
    pods = kubectl("get pods --namespace=kube-system --output=name").split()
    assert kubectl(f"logs --namespace=kube-system --tail=1 {pods[0]}")


def test_containers_have_the_filter_of_system_calls(web: dict[str, str], kubectl: Kubectl) -> None:
    for pod in web:
        assert "Seccomp:\t2" in kubectl(f"exec {pod} -- cat /proc/1/status")


def test_the_second_run_changes_and_restarts_nothing(web: object, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert {"unit crio.service", "unit kubelet.service"} <= set(before[NODES[0]])
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


def test_pods_outlive_crio(web: dict[str, str], kubectl: Kubectl, lab: Lab) -> None:
    before = {name: set(execute(lab, name, PIDS)) for name in HOSTS}
    for name in HOSTS:
        assert len(before[name]) > 1
        execute(lab, name, "systemctl restart crio")
    eventually(lambda: [kubectl.fetch(pod, f"http://{web[pod]}:{PORT}/") for pod in web])
    for name in HOSTS:
        assert before[name] <= set(execute(lab, name, PIDS))


@pytest.mark.parametrize("harm", DRIFT)
def test_drift_is_mended(web: object, lab: Lab, site: Site, harm: str) -> None:
    execute(lab, NODES[0], harm)
    changed = succeeded(site.run("-y", "--json")).changed
    mended = {(name.rpartition(" | ")[2], host) for name, host in changed}
    assert {(name, NODES[0]) for name in DRIFT[harm]} <= mended
    assert {host for _, host in mended} <= {NODES[0]}
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_another_runtime_is_refused(web: object, tmp_path: Path) -> None:
    run = Site(tmp_path / "cluster").run("--dry")
    assert run.code != 0
    assert "allowed: cri-o: it runs pods" in run.said


def test_a_reboot_changes_nothing(
    web: dict[str, str], lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    lab.reboot(NODES[0])
    # The API tells for a while what was before.
    eventually(lambda: kubectl.see_pods_reach_pods(kubectl.web(len(NODES))) or True, 240)
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_a_node_is_removed(web: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data['remove_nodes'] = [{NODES[1]!r}]\n")
    succeeded(site.run("-y", deploy="remove_node"))
    assert kubectl.ready_nodes() == {CONTROL_PLANE, NODES[0]}
    left = "crictl --runtime-endpoint unix:///run/crio/crio.sock pods --quiet"
    assert execute(lab, NODES[1], left) == []
    assert execute(lab, NODES[1], f"cat {OTHER}") == [OTHER_NETWORK]
