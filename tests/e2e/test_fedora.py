"""
Fedora's paths on real hosts that are like Fedora: real dnf, RPMs, systemd; from blank to rebooted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinfra_kube.operations import packages
from tests.e2e import doors
from tests.e2e.closed import see_kubelets_closed
from tests.e2e.paths import REPOSITORY, Run, Site, each, eventually, execute, starts
from tests.e2e.person import see_a_person_come_and_go
from tests.e2e.pods import Kubectl
from tests.lab import Lab, down, held
from tests.lab.places import KNOWN_HOSTS, NAME
from tests.unit.harness import fake_host

pytestmark = pytest.mark.lab

CONTROL_PLANE, *NODES = "fed-master", "fed-node-1", "fed-node-2"
NEW = "fed-node-3"
RELEASE = "1.20"
# The guide's own numbers.
GUIDE = {"network": "flannel", "cluster_cidr": "18.16.0.0/16", "flannel_subnet_len": 24}
PREFIX = "https://127.0.0.1:2379/v2/keys/coreos.com/network"
CURL = (
    "curl -s --cacert /srv/kubernetes/etcd-ca.crt --cert /srv/kubernetes/etcd-server.crt"
    " --key /srv/kubernetes/etcd-server.key"
)


def succeeded(run: Run) -> Run:
    assert run.code == 0, run.said[-8000:]
    return run


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, release: str) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up([CONTROL_PLANE, *NODES], family="fedora", release=release)
        if not request.config.getoption("--keep"):
            down()


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("multinode") / "cluster", GUIDE)


@pytest.fixture(scope="module")
def kubectl(lab: Lab) -> Kubectl:
    return Kubectl(lab, CONTROL_PLANE)


def deploy(site: Site, *options: str, name: str = "multinode") -> Run:
    return succeeded(site.run(*options, deploy=name))


def all_starts(lab: Lab, names: list[str]) -> dict[str, dict[str, str]]:
    return {name: starts(lab, name) for name in names}


def stands(lab: Lab) -> dict[str, tuple[list[str], dict[str, str]]]:
    """The files of each host's settings with their dates, and when what runs was started."""
    find = "find /etc /usr /run/flannel -xdev -printf '%p %m %T@ %l\\n' | sort"
    names = [CONTROL_PLANE, *NODES]
    return {name: (execute(lab, name, find), starts(lab, name)) for name in names}


def restarted(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in before if after.get(key) != before[key]}


def leases(lab: Lab) -> dict[str, str]:
    """Public address → key of its lease."""
    answer = json.loads("".join(execute(lab, CONTROL_PLANE, f"{CURL} {PREFIX}/subnets")))
    found = answer["node"].get("nodes", [])
    return {json.loads(node["value"])["PublicIP"]: node["key"] for node in found}


# Multi-node


@pytest.fixture(scope="module")
def dry(site: Site) -> Run:
    shown = deploy(site, "--dry", "--diff")
    assert "/etc/kubernetes/config" in shown.said
    assert 'KUBE_LOG_LEVEL="--v=2"' in shown.said or "KUBE_LOG_LEVEL=--v=2" in shown.said
    assert "is public" in shown.said
    assert not site.store.exists()
    return deploy(site, "--dry", "--json")


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return deploy(site, "-y", "--json")


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert not dry.conditional
    assert dry.planned == built.changed


def test_what_the_guide_says_stands_there(built: Run, lab: Lab) -> None:
    config = json.loads("".join(execute(lab, CONTROL_PLANE, f"{CURL} {PREFIX}/config")))
    assert json.loads(config["node"]["value"]) == {
        "Network": "18.16.0.0/16",
        "SubnetLen": 24,
        "Backend": {"Type": "vxlan", "VNI": 1},
    }
    sysconfig = "\n".join(execute(lab, NODES[0], "cat /etc/sysconfig/flanneld"))
    address = lab.hosts[CONTROL_PLANE].ip
    assert f"FLANNEL_ETCD=https://{address}:2379" in sysconfig.replace('"', "")
    assert "FLANNEL_ETCD_KEY=/coreos.com/network" in sysconfig.replace('"', "")
    subnet = dict(line.split("=") for line in execute(lab, NODES[0], "cat /run/flannel/subnet.env"))
    assert subnet["FLANNEL_SUBNET"].startswith("18.16.")
    assert subnet["FLANNEL_MTU"] == "1450"
    assert subnet["FLANNEL_IPMASQ"] == "false"


def test_pods_reach_each_other_and_a_service(built: Run, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(NODES)
    pods = kubectl.run_web(NODES)
    _all_reach_all(kubectl, pods)


def test_nothing_is_open_without_a_reason(
    built: Run, lab: Lab, site: Site, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl.run_web(NODES)
    doors.see_all(lab, site, doors.process_of_pod(lab, NODES[0], "httpd"), tmp_path)


def _all_reach_all(kubectl: Kubectl, pods: dict[str, str]) -> None:
    for pod in pods:
        for other, address in pods.items():
            assert kubectl.fetch(pod, f"http://{address}:8080/") == other
    service = kubectl.get("service web")["spec"]["clusterIP"]
    eventually(lambda: kubectl.fetch(next(iter(pods)), f"http://{service}/") in pods)


def test_a_person_comes_and_goes(built: Run, lab: Lab, site: Site) -> None:
    see_a_person_come_and_go(lab, site)


def test_kubelets_are_closed(built: Run, lab: Lab) -> None:
    see_kubelets_closed(lab, CONTROL_PLANE, NODES)


def test_a_second_run_changes_nothing(built: Run, lab: Lab, site: Site) -> None:
    before = all_starts(lab, [CONTROL_PLANE, *NODES])
    assert deploy(site, "-y", "--json").changed == set()
    assert all_starts(lab, [CONTROL_PLANE, *NODES]) == before
    again = deploy(site, "--dry", "--json")
    assert (again.planned, again.conditional) == (set(), set())


def test_a_new_subnet_restarts_docker_there_alone(
    built: Run, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    key = leases(lab)[lab.hosts[NODES[0]].ip]
    before = all_starts(lab, [CONTROL_PLANE, *NODES])
    url = f"{PREFIX.partition('/coreos')[0]}{key}"
    # flanneld would take the one that it recorded, or by chance the same one.
    execute(lab, NODES[0], "rm /run/flannel/subnet.env")
    other = """{"PublicIP": "192.0.2.99"}"""
    take = f"{CURL} -X PUT -d ttl=600 --data-urlencode 'value={other}' {url}"
    execute(lab, CONTROL_PLANE, f"{CURL} -X DELETE {url} && {take}")
    eventually(lambda: leases(lab).get(lab.hosts[NODES[0]].ip, key) != key, patience=120)
    up = "set -e; test -e /run/flannel/subnet.env; systemctl is-active flanneld docker"
    eventually(lambda: execute(lab, NODES[0], up) == ["active"] * 2, patience=60)
    # One flanneld ends when its lease is gone, and systemd starts it, and docker after it, anew;
    # another takes the new one as it runs, and leaves docker to us.
    anew = "unit flanneld.service" in restarted(before[NODES[0]], starts(lab, NODES[0]))
    assert _docker_follows(lab, NODES[0]) == anew
    execute(lab, CONTROL_PLANE, f"{CURL} -X DELETE {url}")
    dry = deploy(site, "--dry", "--json")
    run = deploy(site, "-y", "--json")
    assert (dry.planned, dry.conditional) == (run.changed, set())
    after = all_starts(lab, [CONTROL_PLANE, *NODES])
    assert "unit docker.service" in restarted(before[NODES[0]], after[NODES[0]])
    assert _docker_follows(lab, NODES[0])
    for name in (CONTROL_PLANE, NODES[1]):
        assert restarted(before[name], after[name]) == set()
    eventually(lambda: kubectl.ready_nodes() == set(NODES))
    eventually(lambda: _all_reach_all(kubectl, kubectl.web(len(NODES))) or True)
    assert deploy(site, "-y", "--json").changed == set()


def _docker_follows(lab: Lab, name: str) -> bool:
    found = execute(
        lab,
        name,
        ". /run/flannel/subnet.env; systemctl is-active docker; "
        'ip -4 -o address show dev docker0 | grep -cF " $FLANNEL_SUBNET " || true',
    )
    return found == ["active", "1"]


def test_docker_off_its_subnet_is_restarted_once(
    built: Run, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    execute(
        lab, NODES[1], "ip address flush dev docker0 && ip address add 10.99.0.1/24 dev docker0"
    )
    before = all_starts(lab, [CONTROL_PLANE, *NODES])
    dry = deploy(site, "--dry", "--json")
    run = deploy(site, "-y", "--json")
    assert dry.planned == run.changed == {("flannel | Have docker use flannel's subnet", NODES[1])}
    after = all_starts(lab, [CONTROL_PLANE, *NODES])
    assert "unit docker.service" in restarted(before[NODES[1]], after[NODES[1]])
    for name in (CONTROL_PLANE, NODES[0]):
        assert restarted(before[name], after[name]) == set()
    assert _docker_follows(lab, NODES[1])
    eventually(lambda: _all_reach_all(kubectl, kubectl.web(len(NODES))) or True)


def test_an_interface_that_no_host_has_is_refused(built: Run, lab: Lab, site: Site) -> None:
    before = stands(lab), site.contents()
    run = site.run("-y", "--data", "flannel_iface=eth9", deploy="multinode")
    assert run.code != 0
    for name in NODES:
        assert f"{name}: flannel_iface = 'eth9'; allowed: " in run.said
    assert "no host was touched" in run.said
    assert (stands(lab), site.contents()) == before


# Options, and what the refusal says.
WRONG = {
    "two nodes of one name": (["hostname_override=one"], "hostname_override = 'one'"),
    "a network smaller than a subnet": (
        ["cluster_cidr=18.16.0.0/25"],
        "flannel_subnet_len = 24; allowed: from 27 to 30",
    ),
    "subnets larger than the network": (["flannel_subnet_len=12"], "flannel_subnet_len = "),
    "an unknown backend": (["flannel_backend=gre"], "flannel_backend = 'gre'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(built: Run, lab: Lab, site: Site, case: str) -> None:
    options, said = WRONG[case]
    before = stands(lab), site.contents()
    data = [word for option in options for word in ("--data", option)]
    run = site.run("-y", *data, deploy="multinode")
    assert run.code != 0
    assert said in run.said
    assert "no host was touched" in run.said
    assert (stands(lab), site.contents()) == before


def test_another_range_under_running_pods_is_refused(built: Run, lab: Lab, site: Site) -> None:
    before = stands(lab)
    run = site.run("-y", "--data", "cluster_cidr=10.16.0.0/16", deploy="multinode")
    assert run.code != 0
    assert "would take their network from running pods" in run.said
    assert stands(lab) == before
    assert deploy(site, "-y", "--json").changed == set()


BACKENDS = {
    "vxlan": ["flannel_vni=7", "flannel_port=8473"],
    "host-gw": ["flannel_backend=host-gw"],
    "udp": ["flannel_backend=udp"],
}


# That of the cluster itself is vxlan too.
@pytest.mark.parametrize(
    "backend", [pytest.param("vxlan", marks=pytest.mark.slow), "host-gw", "udp"]
)
def test_backend(built: Run, lab: Lab, site: Site, kubectl: Kubectl, backend: str) -> None:
    """Another way between the nodes, and back."""

    if backend == "udp" and "FLANNELD_BIN" not in os.environ:
        pytest.skip("the stand-in has no udp: give a real flanneld with FLANNELD_BIN")
    data = [word for option in BACKENDS[backend] for word in ("--data", option)]
    kubectl.run_web(NODES)
    dry = deploy(site, "--dry", "--json", *data)
    run = deploy(site, "-y", "--json", *data)
    assert (dry.planned, dry.conditional) == (run.changed, set())
    assert _way(lab, backend)
    eventually(lambda: _all_reach_all(kubectl, kubectl.web(len(NODES))) or True)
    assert deploy(site, "-y", "--json", *data).changed == set()
    deploy(site, "-y", "--json")
    eventually(lambda: _all_reach_all(kubectl, kubectl.web(len(NODES))) or True)
    assert deploy(site, "-y", "--json").changed == set()


def _way(lab: Lab, backend: str) -> bool:
    """Whether packets to the other node's pods take the way that was asked for."""

    other = next(key for ip, key in leases(lab).items() if ip == lab.hosts[NODES[1]].ip)
    subnet = other.rpartition("/")[2].rpartition("-")[0]
    route = "".join(execute(lab, NODES[0], f"ip -d route get {subnet}"))
    if backend == "vxlan":
        link = "".join(execute(lab, NODES[0], "ip -d link show flannel.7"))
        return " dev flannel.7 " in route and " id 7 " in link and " dstport 8473 " in link
    if backend == "host-gw":
        return f" via {lab.hosts[NODES[1]].ip} " in route
    return " dev flannel0 " in route


def test_etcd_out_of_a_nodes_reach_is_said_early(built: Run, lab: Lab, site: Site) -> None:
    before = site.contents()
    rule = f"INPUT -s {lab.hosts[NODES[0]].ip} -p tcp --dport 2379 -j REJECT"
    execute(lab, CONTROL_PLANE, f"iptables -w -I {rule}")
    try:
        seen = stands(lab)
        run = site.run("-y", deploy="multinode")
        assert run.code != 0
        url = f"https://{lab.hosts[CONTROL_PLANE].ip}:2379"
        assert f"etcd at {url} does not answer this host" in run.said
        assert (stands(lab), site.contents()) == (seen, before)
    finally:
        execute(lab, CONTROL_PLANE, f"iptables -w -D {rule}")
    assert deploy(site, "-y", "--json").changed == set()


_ANSIBLE = """\
[masters]
{control_plane}

[etcd:children]
masters

[nodes]
{nodes}

[all:vars]
ansible_ssh_user=root
"""
_GROUP_VARS = """\
cluster_name: cluster.local
kube_version: {version}
kube_service_addresses: 10.254.0.0/24
kube_master_api_port: 6443
dns_server: "{{{{ kube_service_addresses | ipaddr('net') | ipaddr(10) | ipaddr('address') }}}}"
networking: flannel
flannel_subnet: 18.16.0.0
flannel_prefix: 16
flannel_host_prefix: 24
"""


def test_an_ansible_inventory_that_says_the_same_plans_nothing(
    built: Run, lab: Lab, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert lab.kubernetes
    line = "{0} ansible_host={1.ip} ansible_ssh_private_key_file={1.ssh_key}"
    nodes = "\n".join(line.format(name, lab.hosts[name]) for name in NODES)
    text = _ANSIBLE.format(
        control_plane=line.format(CONTROL_PLANE, lab.hosts[CONTROL_PLANE]), nodes=nodes
    )
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts").write_text(text)
    version = (lab.kubernetes / "version").read_text().strip()
    (tmp_path / "group_vars/all.yml").write_text(_GROUP_VARS.format(version=version))
    monkeypatch.setenv("ANSIBLE_INVENTORY", str(tmp_path / "hosts"))
    # What the playbooks had no variable for.
    ours = {
        "ssh_known_hosts_file": KNOWN_HOSTS,
        "ssh_strict_host_key_checking": "yes",
        "credentials_dir": site.store,
        "kubernetes_source": lab.kubernetes,
        "flannel_etcd_prefix": "/coreos.com/network",
        "cluster_name": NAME,
        "etcd_version": (lab.kubernetes / "etcd_version").read_text().strip(),
    }
    data = [word for key, value in ours.items() for word in ("--data", f"{key}={value}")]
    files = (REPOSITORY / "inventories/ansible.py", REPOSITORY / "deploys/multinode.py")
    run = succeeded(site.pyinfra(*files, "--dry", "--diff", "--json", *data))
    assert (run.planned, run.conditional) == (set(), set()), run.said


@pytest.fixture(scope="module")
def grown(built: Run, lab: Lab, site: Site) -> tuple[Run, dict[str, set[str]]]:
    before = all_starts(lab, NODES)
    lab.add(NEW, family="fedora")
    dry = deploy(site, "--dry", "--json")
    run = deploy(site, "-y", "--json")
    assert dry.planned == run.changed
    after = all_starts(lab, NODES)
    return run, {name: restarted(before[name], after[name]) for name in NODES}


def test_a_new_node_changes_no_other(
    grown: tuple[Run, dict[str, set[str]]], kubectl: Kubectl
) -> None:
    run, others = grown
    assert kubectl.ready_nodes() == {*NODES, NEW}
    assert others == {name: set() for name in NODES}
    changed = {operation for operation, host in run.changed if host in NODES}
    assert changed == {"Fedora hosts | Set the hosts' names in /etc/hosts"}


def test_a_removed_node_leaves_and_comes_back(
    grown: object, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    before = all_starts(lab, NODES)
    options = ("--data", f'remove_nodes=["{NEW}"]')
    dry = deploy(site, "--dry", "--json", *options, name="remove_node")
    run = deploy(site, "-y", "--json", *options, name="remove_node")
    assert dry.planned == run.changed
    assert kubectl.ready_nodes() == set(NODES)
    assert NEW not in {node["metadata"]["name"] for node in kubectl.get("nodes")}
    assert lab.hosts[NEW].ip not in leases(lab)
    left = execute(lab, NEW, "systemctl is-active docker flanneld || true; ip -4 -o address")
    assert left[:2] == ["active", "inactive"]
    assert not any(" 18.16." in line for line in left)
    assert deploy(site, "-y", "--json", *options, name="remove_node").changed == set()
    after = all_starts(lab, NODES)
    assert all(restarted(before[name], after[name]) == set() for name in NODES)
    deploy(site, "-y", "--json")
    assert kubectl.ready_nodes() == {*NODES, NEW}


def test_a_reboot_changes_nothing(grown: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    def back() -> bool:
        _all_reach_all(kubectl, kubectl.web(len(NODES), patience=0))
        return kubectl.ready_nodes() == {*NODES, NEW}

    kubectl.run_web(NODES)
    each(lambda name: lab.host(name).reboot(), lab.hosts)
    eventually(back, 240)
    _control_plane_is_back(lab)
    again = deploy(site, "--dry", "--json")
    assert (again.planned, again.conditional) == (set(), set())


def _control_plane_is_back(lab: Lab) -> None:
    """What asks the apiserver ends again and again until that answers."""

    # Exit status 0 means that one of several units is active.
    states = "systemctl is-active kube-apiserver kube-controller-manager kube-scheduler || true"
    eventually(lambda: execute(lab, CONTROL_PLANE, states) == ["active"] * 3, 60)


# Single node


def test_what_a_killed_run_still_installs_is_waited_for(lab: Lab) -> None:
    lab.reset([CONTROL_PLANE])
    with fake_host({"packages.Packages": ["system\tfedora\t34", "manager\tdnf"]}):
        (command,) = packages.packages._inner(packages=["kubernetes-master", "etcd"])
    each(
        lambda _: execute(lab, CONTROL_PLANE, f"set -e\n{command.text}"),
        ["a killed run", "the next"],
    )
    assert execute(lab, CONTROL_PLANE, "rpm --query --queryformat '%{NAME}' etcd") == ["etcd"]


def test_single_node(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in (NEW, NODES[1]):
        if name in lab.hosts:
            lab.remove(name)
    lab.reset([CONTROL_PLANE, NODES[0]])
    # The guide's way: node.json by hand.
    settings = {"node_registration": "manual"}
    site = Site(tmp_path_factory.mktemp("single") / "cluster", settings)
    kubectl = Kubectl(lab, CONTROL_PLANE)

    dry = deploy(site, "--dry", "--json", name="fedora_single_node")
    run = deploy(site, "-y", "--json", name="fedora_single_node")
    assert (dry.planned, dry.conditional) == (run.changed, set())
    assert kubectl.ready_nodes() == {NODES[0]}
    _all_reach_all(kubectl, kubectl.run_web([NODES[0]]))
    see_a_person_come_and_go(lab, site)
    see_kubelets_closed(lab, CONTROL_PLANE, [NODES[0]])

    before = all_starts(lab, [CONTROL_PLANE, NODES[0]])
    assert deploy(site, "-y", "--json", name="fedora_single_node").changed == set()
    assert all_starts(lab, [CONTROL_PLANE, NODES[0]]) == before

    each(lambda name: lab.host(name).reboot(), lab.hosts)
    eventually(lambda: kubectl.ready_nodes() == {NODES[0]}, patience=180)
    _control_plane_is_back(lab)
    again = deploy(site, "--dry", "--json", name="fedora_single_node")
    assert (again.planned, again.conditional) == (set(), set())
