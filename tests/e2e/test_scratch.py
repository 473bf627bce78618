"""
The scratch path on real hosts, from blank to grown and rebooted.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

import re
import shlex
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from pyinfra_kube.cluster.images import image
from pyinfra_kube.operations import nodes
from tests.e2e import doors
from tests.e2e.closed import see_kubelets_closed
from tests.e2e.paths import Run, Site, each, eventually, execute, starts, state, succeeded
from tests.e2e.person import see_a_person_come_and_go
from tests.e2e.pods import PORT, Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS
from tests.unit.harness import fake_host

pytestmark = pytest.mark.lab

CONTROL_PLANE, *NODES = HOSTS
NEW = "kube-node-3"
RELEASE = "1.20"
# Where nobody but us puts files.
OURS = re.compile(
    r"/etc/(docker(?!/key\.json)|kubernetes|systemd/system|sysctl\.d|modules-load\.d|logrotate\.d)/"
    r"|/etc/hosts$|/srv/|/usr/local/|/root/(?!\.kube/cache/)"
)


# The steps


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "cluster", {"dns": True})


@pytest.fixture(scope="module")
def blank(lab: Lab, site: Site) -> tuple[dict[str, list[str]], object]:
    """What hosts and the control machine are before anything."""
    return state(lab), site.contents()


@pytest.fixture(scope="module")
def diff(blank: object, site: Site) -> Run:
    return succeeded(site.run("--dry", "--diff"))


@pytest.fixture(scope="module")
def dry(diff: Run, site: Site) -> Run:
    return succeeded(site.run("--dry", "--json"))


@pytest.fixture(scope="module")
def untouched(dry: Run, lab: Lab, site: Site) -> tuple[dict[str, list[str]], object]:
    """What they are after the dry runs."""
    return state(lab), site.contents()


@pytest.fixture(scope="module")
def built(untouched: object, site: Site) -> Run:
    return succeeded(site.run("-y", "--json", "--diff", "-vvv"))


@pytest.fixture(scope="module")
def web(built: Run, kubectl: Kubectl) -> dict[str, str]:
    """A web server on each node: pod → address."""
    return kubectl.run_web(NODES)


@pytest.fixture(scope="module")
def forbidden(mended: object, web: object, lab: Lab, site: Site) -> tuple[Run, Run, Run]:
    """Firewalls that iptables-save does not show: the plan, the run, and the run without them."""
    one, other = NODES
    execute(lab, one, "iptables-legacy -P FORWARD DROP")
    execute(lab, other, "apt-get install -y -qq --no-install-recommends nftables >/dev/null")
    table = "add table inet filter; add chain inet filter fo { type filter hook forward priority 9;"
    rule = "add rule inet filter fo ip saddr 10.10.0.0/16 tcp dport 1-60000 reject with tcp reset"
    execute(lab, other, f"nft {shlex.quote(f'{table} }}; {rule}')}")
    dry = site.run("--dry", "--json")
    run = site.run("-y")
    execute(lab, one, "iptables-legacy -P FORWARD ACCEPT")
    execute(lab, other, "nft delete table inet filter")
    return dry, run, site.run("-y", "--json")


@pytest.fixture(scope="module")
def grown(forbidden: object, lab: Lab, site: Site) -> tuple[Run, Run, dict[str, set[str]]]:
    """One node more: the plan, the run, and what was started anew on the other hosts."""
    before = {name: starts(lab, name) for name in HOSTS}
    lab.add(NEW)
    dry = succeeded(site.run("--dry", "--json"))
    run = succeeded(site.run("-y", "--json"))
    after = {name: starts(lab, name) for name in HOSTS}
    return dry, run, {name: keys(before[name], after[name]) for name in HOSTS}


@pytest.fixture(scope="module")
def rebooted(grown: object, lab: Lab, kubectl: Kubectl) -> None:
    """Every host at once, with a web server on each node, and nobody who runs anything."""
    kubectl.run_web([*NODES, NEW])
    each(lambda name: lab.host(name).reboot(), lab.hosts)


def keys(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """What differs between two such tellings."""
    return {key for key, _ in before.items() ^ after.items()}


def at_rest(lab: Lab) -> dict[str, list[str]]:
    """What does not change by itself on hosts that work."""
    return {
        name: [line for line in lines if not line.startswith("file /var/")]
        for name, lines in state(lab).items()
    }


# Blank hosts


def test_dry_run_lists_changes(dry: Run) -> None:
    assert {host for _, host in dry.planned} == set(HOSTS)
    assert ("kubelet | Install kubelet", CONTROL_PLANE) in dry.planned
    assert dry.conditional == set()


def test_dry_run_touches_nothing(
    blank: tuple[object, object], untouched: tuple[object, object], site: Site
) -> None:
    assert untouched == blank


def test_diff_shows_one_line_for_what_is_no_file(diff: Run, lab: Lab) -> None:
    apiserver = image("kube-apiserver", lab.release).name
    for host, line in {
        (CONTROL_PLANE, "sysctl net.ipv4.ip_forward: 0 → 1"),
        (NODES[0], "bridge cbr0: absent → present"),
        (NODES[0], "bridge cbr0: address none → 10.10.0.1/24"),
        (NODES[1], "bridge cbr0: address none → 10.10.1.1/24"),
        (NODES[0], "package docker.io: absent → installed"),
        (NODES[0], "kubelet.service: inactive → running"),
        (CONTROL_PLANE, f"image {apiserver}: absent → loaded"),
        (CONTROL_PLANE, f"node {NODES[0]}: pod CIDR absent → 10.10.0.0/24"),
    }:
        assert diff.lines.count((host, line)) == 1, line
    for start, count in (("iptables nat: absent → -A POSTROUTING", 2), ("route 10.10.", 4)):
        assert sum(text.startswith(start) for _, text in diff.lines) == count, start


def test_diff_shows_each_file_as_it_then_stands(diff: Run, built: Run, lab: Lab) -> None:
    """Certificates differ: those of a dry run are not kept."""
    for name in HOSTS:
        shown = {p: t for p, t in diff.new_files(name).items() if not p.endswith((".crt", ".pub"))}
        for path, text in shown.items():
            if text:
                assert execute(lab, name, f"cat {path}") == text.splitlines(), path
        assert len([text for text in shown.values() if text]) > 8
    unit = diff.new_files(NODES[0])["/etc/systemd/system/kubelet.service"]
    assert "--kubeconfig=/var/lib/kubelet/kubeconfig" in unit


def test_diff_names_each_file_that_the_run_writes(
    diff: Run, built: Run, blank: tuple[dict[str, list[str]], object], lab: Lab
) -> None:
    for name, now in state(lab, HOSTS).items():
        new = (line.split() for line in set(now) - set(blank[0][name]))
        paths = {words[1] for words in new if words[0] == "file" and words[2] == "f"}
        named = {text.split(":")[0] for host, text in diff.lines if host == name}
        assert {path for path in paths if OURS.match(path)} - named == set()


def test_no_secret_is_shown(diff: Run, dry: Run, built: Run, site: Site) -> None:
    for path in ("server.key", "known_tokens.csv", "admin.kubeconfig"):
        line = f"/srv/kubernetes/{path}: absent → file (content hidden)"
        assert (CONTROL_PLANE, line) in diff.lines
    # What a dry run makes up is nowhere to be compared with.
    text = re.sub(r"-----BEGIN (CERTIFICATE|PUBLIC KEY)-.*?-----END \1-", "", diff.said, flags=re.S)
    assert "PRIVATE KEY" not in text
    assert not re.search(r"(?<![\w/+-])(?=\S*[a-z])(?=\S*[A-Z])[A-Za-z0-9]{32}\b", text)
    secrets = site.secrets()
    assert len(secrets) > 50
    for run in (diff, dry, built):
        assert [one for one in secrets if one in run.said or one in run.out] == []


# The cluster


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert built.changed == dry.planned


def test_nothing_is_open_without_a_reason(
    web: dict[str, str], lab: Lab, site: Site, tmp_path: Path
) -> None:
    doors.see_all(lab, site, doors.process_of_pod(lab, NODES[0], "httpd"), tmp_path)


def test_nodes_are_ready_with_their_pod_cidrs(built: Run, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(NODES)
    cidrs = {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in kubectl.get("nodes")}
    assert cidrs == {NODES[0]: "10.10.0.0/24", NODES[1]: "10.10.1.0/24"}


def test_the_store_is_closed(built: Run, site: Site) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in site.store.rglob("*.*")}
    assert site.store.stat().st_mode & 0o777 == 0o700
    assert {"ca.key", "tokens.json", "addresses.yaml"} <= set(modes)
    assert set(modes.values()) == {0o600}
    assert yaml.safe_load((site.store / "addresses.yaml").read_text()) == {
        NODES[0]: "10.10.0.0/24",
        NODES[1]: "10.10.1.0/24",
    }


def test_pods_are_in_their_nodes_networks(web: dict[str, str], kubectl: Kubectl) -> None:
    cidrs = {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in kubectl.get("nodes")}
    pods = kubectl.get("pods --selector=app=web")
    assert {pod["spec"]["nodeName"] for pod in pods} == set(NODES)
    for pod in pods:
        address = ip_address(pod["status"]["podIP"])
        assert address in ip_network(cidrs[pod["spec"]["nodeName"]])


def test_pods_reach_each_other(web: dict[str, str], kubectl: Kubectl) -> None:
    kubectl.see_pods_reach_pods(web)


def test_hosts_reach_pods(web: dict[str, str], lab: Lab) -> None:
    for host in HOSTS:
        for pod, address in web.items():
            assert execute(lab, host, f"curl -s -m 5 http://{address}:{PORT}/") == [pod]


def test_a_service_leads_to_each_of_its_pods(web: dict[str, str], kubectl: Kubectl) -> None:
    kubectl.see_a_service_lead_to_pods(web)


def test_a_service_has_a_name(web: dict[str, str], kubectl: Kubectl) -> None:
    for pod in web:
        eventually(lambda pod=pod: kubectl.fetch(pod, "http://web.default/") in web)


def test_pods_reach_the_api(web: dict[str, str], kubectl: Kubectl) -> None:
    service = kubectl.get("service kubernetes")["spec"]["clusterIP"]
    assert service == "10.254.0.1"
    # With its own token: only from 1.6 on may somebody unknown ask.
    token = "$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)"
    get = f'wget -q -O - --no-check-certificate --header "Authorization: Bearer {token}"'
    for pod in web:
        ask = shlex.quote(f"timeout 5 {get} https://{service}/version")
        assert '"gitVersion"' in kubectl(f"exec {pod} -- sh -c {ask}")


def test_outside_sees_the_nodes_address(web: dict[str, str], kubectl: Kubectl) -> None:
    kubectl.see_pods_leave_as_their_nodes()


def test_a_person_comes_and_goes(web: object, lab: Lab, site: Site) -> None:
    see_a_person_come_and_go(lab, site)


def test_kubelets_are_closed(web: dict[str, str], lab: Lab, kubectl: Kubectl) -> None:
    see_kubelets_closed(lab, CONTROL_PLANE, NODES)
    for pod in web:
        assert kubectl(f"exec {pod} -- hostname").strip() == pod
        kubectl(f"logs {pod}")


def test_the_api_takes_the_manifests(built: Run, kubectl: Kubectl) -> None:
    if kubectl.lab.release.minor < (1, 18):
        pytest.skip("the API tries objects without keeping them from 1.18 on")
    folder = "/etc/kubernetes/manifests"
    names = execute(kubectl.lab, CONTROL_PLANE, f"ls {folder}")
    assert len(names) == 4
    for name in names:
        said = kubectl(f"create --dry-run=server --filename={folder}/{name}")
        assert "created (server dry run)" in said
    with fake_host({}):
        line = nodes._create(nodes.NodeObject("one-more"))
    (manifest,) = (word for word in shlex.split(line) if word.startswith("{"))
    assert "created" in kubectl("create --dry-run=server --filename=-", manifest)


# The second run


def test_the_second_run_changes_and_restarts_nothing(
    web: dict[str, str], lab: Lab, site: Site
) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert {"unit docker.service", "unit kubelet.service"} <= set(before[NODES[0]])
    assert any("kube-apiserver" in key for key in before[CONTROL_PLANE])
    contents = site.contents()
    run = succeeded(site.run("-y", "--json"))
    assert run.changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before
    assert site.contents() == contents


def test_nothing_is_planned_after_a_run(web: dict[str, str], lab: Lab, site: Site) -> None:
    before = at_rest(lab)
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())
    assert at_rest(lab) == before


def test_services_keep_their_range(web: dict[str, str], lab: Lab, site: Site) -> None:
    before = at_rest(lab)
    moved = ("--data", "service_cidr=10.253.0.0/24")
    run = site.run("-y", *moved)
    assert run.code != 0
    assert "no host was touched" in run.said
    assert "allowed: 10.254.0.0/24, in which the services have their addresses" in run.said
    assert "set allow_network_change = True" in run.said
    assert at_rest(lab) == before

    # The service of DNS keeps its address until somebody deletes it.
    moved += ("--data", "allow_network_change=True", "--data", "dns=False")
    allowed = succeeded(site.run("--dry", *moved))
    assert "first of all: kubectl delete service kubernetes" in allowed.said


# What others did to the hosts

DROP_IN = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
ALICE = 'a-token-of-alice,alice,alice-uid,"developers,viewers"'


@pytest.fixture(scope="module")
def meddled(web: object, lab: Lab, site: Site) -> tuple[Run, Run]:
    """
    A user of somebody's, a command line of somebody's for kubelet, a host that runs no command for
    us: the plan and the run.
    """
    text = "[Service]\\nExecStart=\\nExecStart=/usr/local/bin/kubelet --anonymous-auth=true\\n"
    drop_in = f"mkdir -p {DROP_IN.rpartition('/')[0]} && printf '{text}' > {DROP_IN}"
    execute(lab, NODES[0], drop_in)
    execute(lab, NODES[1], "usermod --shell /usr/sbin/nologin root")
    tokens = "/srv/kubernetes/known_tokens.csv"
    execute(lab, CONTROL_PLANE, f"printf '%s\\n' {shlex.quote(ALICE)} >> {tokens}")
    return site.run("--dry", "--json", "-vvv"), site.run("-y", "--json", "-vvv", "--diff")


@pytest.fixture(scope="module")
def mended(meddled: object, lab: Lab, site: Site) -> None:
    """All that is undone, but for the user."""
    execute(lab, NODES[1], "usermod --shell /bin/bash root")
    execute(lab, NODES[0], f"rm -rf {DROP_IN.rpartition('/')[0]}; systemctl daemon-reload")
    succeeded(site.run("-y", "--json"))


def test_a_host_that_cannot_be_planned_is_named_and_left(meddled: tuple[Run, Run]) -> None:
    for run in meddled:
        assert run.code == 1
        assert "Traceback" not in run.said
        shadow = f"Error: kubelet.service: {DROP_IN} gives it another command line"
        silent = "Error: the host cannot be asked: This account is currently not available."
        for host, start in {NODES[0]: shadow, NODES[1]: silent}.items():
            said = [text for name, text in run.lines if name == host]
            assert any(text.startswith(start) for text in said), said
            assert "Nothing is done to this host." in said
    dry, run = meddled
    assert (
        dry.planned
        == run.changed
        == {("Control plane | Run the control plane as static pods", CONTROL_PLANE)}
    )


def test_users_of_others_stay(meddled: tuple[Run, Run], lab: Lab) -> None:
    lines = execute(lab, CONTROL_PLANE, "cat /srv/kubernetes/known_tokens.csv")
    assert ALICE in lines
    assert all("a-token-of-alice" not in run.said + run.out for run in meddled)
    ask = "curl -sk -H 'Authorization: Bearer a-token-of-alice' https://127.0.0.1:6443/api/v1/nodes"
    assert 'User \\"alice\\" cannot list' in "".join(execute(lab, CONTROL_PLANE, ask))


def test_what_shadows_ours_is_put_aside_when_asked(
    meddled: tuple[Run, Run], lab: Lab, site: Site
) -> None:
    run = site.run("-y", "--json", "--data", "take_over_units=True")
    assert run.changed == {("kubelet | Run kubelet", NODES[0])}
    assert execute(lab, NODES[0], f"ls {DROP_IN}*") == [f"{DROP_IN}.before-pyinfra-kube"]
    command = execute(lab, NODES[0], "tr '\\0' ' ' < /proc/$(pidof kubelet)/cmdline")
    assert "--anonymous-auth=true" not in "".join(command)


def test_a_node_that_has_failed_is_not_waited_for(meddled: object, lab: Lab, site: Site) -> None:
    execute(lab, NODES[1], "usermod --shell /bin/bash root; systemctl stop kubelet")
    damage = "cd /usr/local/bin && cp kube-proxy other && echo >> other && mv other kube-proxy"
    execute(lab, NODES[1], damage)
    execute(lab, NODES[1], "mount --bind /usr/local/bin /usr/local/bin")
    execute(lab, NODES[1], "mount -o remount,bind,ro /usr/local/bin")
    execute(lab, CONTROL_PLANE, f"kubectl delete node {NODES[1]}")
    begun = time.monotonic()
    try:
        run = site.run("-y", "--json")
    finally:
        execute(lab, NODES[1], "systemctl stop kubelet; umount /usr/local/bin")
    assert run.code == 1
    assert "Traceback" not in run.said
    waiting = [
        text for host, text in run.lines if host == CONTROL_PLANE and "not waited for" in text
    ]
    assert any(f"node {NODES[1]} is registered ({NODES[1]} failed)" in text for text in waiting)
    assert time.monotonic() - begun < 120


# One node more


def test_a_new_node_changes_of_others_what_must(
    grown: tuple[Run, Run, dict[str, set[str]]],
) -> None:
    dry, run, _ = grown
    assert run.changed == dry.planned
    assert dry.conditional == set()
    everywhere = {
        (operation, host)
        for operation in (
            "Host preparation | Set the hosts' names in /etc/hosts",
            "Pod network | Route to the pods of the other nodes",
        )
        for host in HOSTS
    }
    # The apiserver reads its tokens when it starts.
    on_control_plane = {
        ("Allocations | Record the pod CIDRs on the control machine", CONTROL_PLANE),
        ("Credentials | Keep the credentials on the control machine", CONTROL_PLANE),
        ("Credentials | Set the users of the apiserver", CONTROL_PLANE),
        ("Control plane | Run the control plane as static pods", CONTROL_PLANE),
        ("Nodes | Set the nodes' pod CIDRs and labels", CONTROL_PLANE),
    }
    assert {
        (what, host) for what, host in run.changed if host != NEW
    } == everywhere | on_control_plane


def test_a_new_node_restarts_the_apiserver_only(
    grown: tuple[Run, Run, dict[str, set[str]]],
) -> None:
    _, _, restarted = grown
    kinds = {
        name: {re.sub(r"k8s_([^_.]+)[_.].*", r"\1", key) for key in keys}
        for name, keys in restarted.items()
    }
    assert kinds == {CONTROL_PLANE: {"container kube-apiserver"}, NODES[0]: set(), NODES[1]: set()}


def test_a_new_node_is_ready(grown: object, kubectl: Kubectl, lab: Lab) -> None:
    assert kubectl.ready_nodes() == {*NODES, NEW}
    kubectl.see_pods_reach_pods(kubectl.run_web([*NODES, NEW]))


# The reboot


def test_the_cluster_comes_back_by_itself(rebooted: None, kubectl: Kubectl, lab: Lab) -> None:
    everybody = {*NODES, NEW}
    started = time.monotonic()

    def back() -> bool:
        kubectl.see_pods_reach_pods(kubectl.web(len(everybody), patience=0))
        return kubectl.ready_nodes() == everybody

    eventually(back, 180)
    print(f"back after {time.monotonic() - started:.0f} s")
    for name in lab.hosts:
        assert execute(lab, name, "systemctl --failed --no-legend --plain") == []


def test_nothing_is_planned_after_a_reboot(rebooted: None, site: Site) -> None:
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())


def test_no_run_calls_a_cluster_good_whose_packets_do_not_arrive(
    forbidden: tuple[Run, Run, Run], lab: Lab
) -> None:
    dry, run, after = forbidden
    one, other = NODES
    legacy = "firewall: iptables-legacy, table filter, chain FORWARD: policy drop stops"
    native = "firewall: nft, table inet filter, chain fo: handle 2: reject may stop"
    for said in (dry, run):
        assert any(host == one and text.startswith(legacy) for host, text in said.lines), said.said
        assert any(host == other and text.startswith(native) for host, text in said.lines)
    assert (dry.code, dry.planned, run.code) == (0, set(), 1)
    assert f"✗ {one} does not reach the pods of {other}" in run.said
    assert f"✗ {other} does not reach the pods of {one}" in run.said
    assert f"{one}: {legacy}" in run.said
    assert succeeded(after).changed == set()
    for node in NODES:
        assert execute(lab, node, "ip -o link show | grep kube-reach || true") == []
