"""
The scratch path with its other choices: one certificate for all, kubenet's bridge, a
control-plane host that is a node too, a member of etcd on each host, and supervisord's monitors.
"""

from __future__ import annotations

import pytest

from tests.e2e.paths import Run, Site, each, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.20"
SETTINGS = {
    "credential_kind": "certificate",
    "credential_policy": "shared",
    "bridge_approach": "kubelet",
    "log_to_host": True,
}
GROUPS = {"control_plane": [CONTROL_PLANE], "nodes": list(HOSTS), "etcd": list(HOSTS)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "cluster", SETTINGS, GROUPS)


@pytest.fixture(scope="module")
def built(lab: Lab, site: Site) -> tuple[Run, Run]:
    dry = succeeded(site.run("--dry", "--json"))
    return dry, succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def web(built: object, kubectl: Kubectl) -> dict[str, str]:
    return kubectl.run_web(list(HOSTS))


@pytest.fixture(scope="module")
def rebooted(web: object, lab: Lab) -> None:
    each(lambda name: lab.host(name).reboot(), HOSTS)


@pytest.fixture(scope="module")
def own(rebooted: None, lab: Lab) -> str:
    """The process of somebody's own program, which supervisord runs on one host."""
    execute(lab, NODES[0], "apt-get install -y -qq --no-install-recommends supervisor >/dev/null")
    execute(lab, NODES[0], f"printf '{OWN}' > /etc/supervisor/conf.d/own.conf")
    execute(lab, NODES[0], "supervisorctl update")
    return _own(lab)


@pytest.fixture(scope="module")
def monitored(own: str, lab: Lab, site: Site) -> tuple[Run, Run]:
    _set(site, "supervisord")
    dry = succeeded(site.run("--dry", "--json"))
    return dry, succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def unmonitored(monitored: object, lab: Lab, site: Site) -> tuple[Run, Run]:
    _set(site, "systemd")
    dry = succeeded(site.run("--dry", "--json"))
    return dry, succeeded(site.run("-y", "--json"))


OWN = "[program:own]\\ncommand=sleep infinity\\n"
# Five answers, each within five seconds, and ten between them.
BOUND = 5 * (5 + 10)


def _set(site: Site, monitor: str) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data['liveness_monitor'] = {monitor!r}\n")


def _own(lab: Lab) -> str:
    (pid,) = execute(lab, NODES[0], "supervisorctl pid own")
    return pid


def _pid(lab: Lab, host: str, unit: str) -> str:
    (line,) = execute(lab, host, f"systemctl show --property=MainPID {unit}")
    return line.partition("=")[2]


def test_the_plan_is_the_run(built: tuple[Run, Run]) -> None:
    dry, run = built
    assert run.changed == dry.planned
    assert dry.conditional == set()


def test_nodes_are_ready(built: object, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(HOSTS)


def test_etcd_has_three_members(built: object, lab: Lab) -> None:
    ask = (
        "docker exec --env=ETCDCTL_API=3 $(docker ps -q -f label=io.kubernetes.container.name=etcd)"
        " etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/srv/kubernetes/etcd-ca.crt"
        " --cert=/srv/kubernetes/etcd-server.crt --key=/srv/kubernetes/etcd-server.key"
    )
    for name in HOSTS:
        members = execute(lab, name, f"{ask} member list")
        assert len([line for line in members if "started" in line]) == 3


def test_no_token_is_anywhere(built: object, lab: Lab, site: Site) -> None:
    assert not list(site.store.glob("tokens.json"))
    for name in HOSTS:
        assert execute(lab, name, "grep -l token: /var/lib/*/kubeconfig || true") == []


def test_logs_on_the_host_are_turned_over(built: object, lab: Lab) -> None:
    turn = "logrotate --force /etc/logrotate.d/kubernetes && ls /var/log"
    for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        log = f"{component}.{CONTROL_PLANE}.root.log.INFO"
        names = [name for name in execute(lab, CONTROL_PLANE, turn) if name.startswith(log)]
        assert any(name.endswith(".1.gz") for name in names), names
        assert not any(".gz." in name for name in names), names


def test_pods(web: dict[str, str], kubectl: Kubectl) -> None:
    kubectl.see_pods_reach_pods(web)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()


def test_the_second_run_changes_and_restarts_nothing(web: object, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


def test_the_cluster_comes_back_by_itself(rebooted: None, kubectl: Kubectl) -> None:
    def back() -> bool:
        kubectl.see_pods_reach_pods(kubectl.web(len(HOSTS), patience=0))
        return kubectl.ready_nodes() == set(HOSTS)

    eventually(back, 180)


def test_nothing_is_planned_after_a_reboot(rebooted: None, site: Site) -> None:
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())


# Liveness


def test_monitors_run(monitored: tuple[Run, Run], lab: Lab, site: Site) -> None:
    dry, run = monitored
    assert run.changed == dry.planned
    assert dry.conditional == set()
    for name in HOSTS:
        lines = execute(lab, name, "supervisorctl status kube-monitors:*")
        assert [line.split()[:2] for line in lines] == [
            [f"kube-monitors:kube-monitor-{one}", "RUNNING"]
            for one in ("docker", "kube-proxy", "kubelet")
        ]
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_a_kubelet_that_hangs_is_restarted(monitored: object, lab: Lab, site: Site) -> None:
    hangs, stopped = NODES
    pid, others = _pid(lab, hangs, "kubelet"), _pid(lab, hangs, "kube-proxy")
    execute(lab, stopped, "systemctl stop kube-proxy")
    execute(lab, hangs, f"kill -STOP {pid}")
    eventually(lambda: _pid(lab, hangs, "kubelet") not in ("0", pid), BOUND + 30)
    log = "\n".join(execute(lab, hangs, "journalctl --identifier=kube-health-monitor"))
    assert "kubelet.service: it is restarted" in log
    assert "kube-proxy" not in log
    assert "docker" not in log
    assert _pid(lab, hangs, "kube-proxy") == others
    # A person stopped it.
    assert _pid(lab, stopped, "kube-proxy") == "0"
    assert execute(lab, stopped, "journalctl --quiet --identifier=kube-health-monitor") == []
    execute(lab, stopped, "systemctl start kube-proxy")


def test_a_monitor_that_somebody_stopped_runs_again(
    monitored: object, own: str, lab: Lab, site: Site
) -> None:
    execute(lab, NODES[0], "supervisorctl stop kube-monitors:kube-monitor-docker")
    dry = succeeded(site.run("--dry", "--json"))
    run = succeeded(site.run("-y", "--json"))
    assert {host for _, host in dry.planned} == {NODES[0]}
    assert run.changed == dry.planned
    assert len(run.changed) == 1
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert _own(lab) == own


def test_nothing_of_the_monitors_is_left(
    unmonitored: tuple[Run, Run], own: str, lab: Lab, site: Site
) -> None:
    dry, run = unmonitored
    assert run.changed == dry.planned != set()
    for name in HOSTS:
        execute(lab, name, "! pgrep -f kube-health-[m]onitor")
        execute(lab, name, "! supervisorctl status | grep kube-")
        execute(lab, name, "! find /etc/supervisor /usr/local/bin | grep -e monitor")
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert _own(lab) == own
