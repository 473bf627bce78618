"""
The scratch path with a release of today, on containerd: from blank hosts to a cluster that outlives
reboots.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance import images, registry
from tests.conformance.cluster import Judged
from tests.conformance.ginkgo import Outcome
from tests.conformance.images import Programs
from tests.e2e import archive, cis, doors, faults
from tests.e2e.closed import AUDIT_LOG, answers, make_secret, see_value_nowhere
from tests.e2e.paths import Run, Site, eventually, execute, starts, succeeded
from tests.e2e.pods import PORT, Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = pytest.mark.lab

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

# What `--diff` must name on each kind of host, besides what every release has.
ON_ALL = (
    "/etc/containerd/config.toml",
    "/etc/crictl.yaml",
    "/etc/systemd/system/containerd.service",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/pki/kubelet.crt",
    "/var/lib/kubelet/pki/kubelet.key",
)
ON_NODES = ("/etc/cni/net.d/10-pods.conflist", "/var/lib/kube-proxy/config.yaml")
ON_CONTROL_PLANE = (
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/srv/kubernetes/etcd-server.crt",
    "/srv/kubernetes/front-proxy-client.key",
    "/srv/kubernetes/kube-scheduler.yaml",
)

# The processes of pods, as their host numbers them.
PIDS = "find /sys/fs/cgroup/pids -path '*kubepods*' -name cgroup.procs -exec cat {} + | sort -n"

# Of Kubernetes' own suite: what must be there → the spec that misses it.
SPECS = {
    "portmap": "HostPort validates that there is no conflict between pods with same hostPort",
    "the front proxy": "Aggregator Should be able to support the 1.17 Sample API Server",
    "an issuer that pods can resolve": "ServiceAccountIssuerDiscovery should support OIDC",
    "DNS": "DNS should provide DNS for services",
    "rules for packets on the bridge": "Services should serve multiport endpoints from pods",
    "privileged pods": "KubeletManagedEtcHosts should test kubelet managed /etc/hosts file",
    "a mirror of the registry": "ImageVolume should succeed with pod and pull policy of Always",
    "images like the published ones": "Kubelet when scheduling a read only busybox container",
}

# A manifest that changed: the apiserver ends, kubelet waits 10 s, and it starts.
LONGEST_OUTAGE = 15.0


# The steps


@pytest.fixture(scope="module")
def dry(lab: Lab, site: Site) -> Run:
    return succeeded(site.run("--dry", "--diff", "--json"))


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def web(built: Run, kubectl: Kubectl) -> dict[str, str]:
    """A web server on each node: pod → address."""
    return kubectl.run_web(NODES)


@pytest.fixture(scope="module")
def mirrored(web: object, lab: Lab, site: Site, release: str) -> Iterator[tuple[Run, Programs]]:
    """A registry with the images of Kubernetes' own suite, and the run that made it a mirror."""
    programs = Programs.built(release)
    storage = images.stored(programs)
    with registry.serving(storage, f"{lab.network.control}:5000", read_only=True) as mirror:
        with site.inventory.open("a") as inventory:
            inventory.write(f"_data['registry_mirrors'] = {{{images.REGISTRY!r}: {mirror!r}}}\n")
        yield succeeded(site.run("-y", "--json")), programs


@pytest.fixture(scope="module")
def judged(mirrored: tuple[Run, Programs], lab: Lab) -> Judged:
    return Judged(lab, mirrored[1], {})


@pytest.fixture(scope="module")
def outcomes(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What came of each of the specs: what it needs → its outcome."""
    all_specs = judged.suite.specs()
    found = {
        name: needed for needed, text in SPECS.items() for name in all_specs if f" {text}" in name
    }
    assert len(found) == len(SPECS)
    folder = tmp_path_factory.mktemp("suite")
    phase = judged.run(folder, "some", only=list(found), processes=len(found))
    return {needed: phase.outcomes[name] for name, needed in found.items()}


@pytest.fixture(scope="module")
def flag_changed(web: object, lab: Lab, site: Site) -> list[tuple[Run, float]]:
    """One flag of the apiserver more, twice: the run, and for how many seconds nothing answered."""
    found = []
    for hours in (2, 3):
        with site.inventory.open("a") as inventory:
            inventory.write(f"_data['apiserver_flags'] = {{'event-ttl': '{hours}h0m0s'}}\n")
        with _watched(lab) as outages:
            run = succeeded(site.run("-y", "--json"))
        found.append((run, max(outages)))
    return found


@pytest.fixture(scope="module")
def rebooted(flag_changed: object, lab: Lab) -> list[str]:
    """A node, then the control plane."""
    for name in (NODES[0], CONTROL_PLANE):
        lab.reboot(name)
    return [NODES[0], CONTROL_PLANE]


@contextmanager
def _watched(lab: Lab) -> Iterator[list[float]]:
    """Ask the apiserver all the time whether it is ready; note for how long it was not."""
    url = f"https://{lab.hosts[CONTROL_PLANE].ip}:6443/readyz"
    unverified = ssl._create_unverified_context()
    outages: list[float] = []
    end = threading.Event()

    def watch() -> None:
        good = time.monotonic()
        while not end.is_set():
            try:
                with urllib.request.urlopen(url, timeout=1, context=unverified):
                    now = time.monotonic()
                    outages.append(now - good)
                    good = now
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield outages
    finally:
        end.set()
        watcher.join()


# Blank hosts


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert built.changed == dry.planned
    assert dry.conditional == set()


@pytest.mark.parametrize("host", HOSTS)
def test_diff_names_the_files(dry: Run, host: str) -> None:
    named = {text.partition(": ")[0] for name, text in dry.lines if name == host}
    assert {*ON_ALL, *(ON_CONTROL_PLANE if host == CONTROL_PLANE else ON_NODES)} <= named
    assert "PRIVATE KEY" not in dry.said


# The cluster


def test_nodes_are_ready_and_show_their_roles(built: Run, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(HOSTS)
    rows = [line.split() for line in kubectl("get nodes --no-headers").splitlines()]
    assert {name: roles for name, _, roles, *_ in rows if name == CONTROL_PLANE} == {
        CONTROL_PLANE: "control-plane"
    }
    runtimes = {n["status"]["nodeInfo"]["containerRuntimeVersion"] for n in kubectl.get("nodes")}
    assert {one.partition("://")[0] for one in runtimes} == {"containerd"}


def test_pods_reach_pods_and_services_of_other_nodes(web: dict[str, str], kubectl: Kubectl) -> None:
    kubectl.see_pods_reach_pods(web)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()


def test_the_way_of_a_packet_is_whole(web: dict[str, str], site: Site) -> None:
    packet = ("--data", f"packet_from=default/{next(iter(web))}", "--data", "packet_to=default/web")
    run = succeeded(site.run("-y", "--json", *packet, deploy="topology"))
    assert run.changed == {("Draw the picture on the control machine", CONTROL_PLANE)}
    assert "MISSING" not in run.said
    assert all(f"kube-proxy leads it to {address}:{PORT}" in run.said for address in web.values())


@pytest.mark.parametrize("name", ["web", "web.default", "web.default.svc.cluster.local"])
def test_pods_have_dns(web: dict[str, str], kubectl: Kubectl, name: str) -> None:
    for pod in web:
        assert kubectl.fetch(pod, f"http://{name}/") in web
    for pod in web:
        said = kubectl(f"exec {pod} -- nslookup kubernetes.default.svc.cluster.local")
        assert "10.254.0.1" in said


def test_logs_and_exec_come_through_the_apiserver(web: dict[str, str], kubectl: Kubectl) -> None:
    for pod in web:
        assert kubectl(f"exec {pod} -- hostname").strip() == pod
        assert kubectl(f"logs {pod}").split() == [pod]
    assert kubectl(f"logs --namespace=kube-system --tail=1 kube-apiserver-{CONTROL_PLANE}")


def test_kubelets_serve_with_certificates_of_the_cluster(
    built: Run, kubectl: Kubectl, lab: Lab
) -> None:
    apiserver = execute(lab, CONTROL_PLANE, "tr '\\0' '\\n' </proc/$(pidof kube-apiserver)/cmdline")
    assert "--kubelet-certificate-authority=/srv/kubernetes/ca.crt" in apiserver
    assert not [flag for flag in apiserver if "insecure" in flag]
    for host in HOSTS:
        for name in (host, lab.hosts[host].ip):
            ask = "curl -s -o /dev/null -w '%{http_code}'"
            url = f"https://{name}:10250/healthz"
            trusted = f"{ask} --cacert /srv/kubernetes/ca.crt {url}"
            assert execute(lab, CONTROL_PLANE, trusted) == ["401"]
            assert lab.exec(CONTROL_PLANE, f"{ask} {url}").returncode == 60


def test_all_is_well(web: object, lab: Lab, site: Site) -> None:
    faults.until_well(site)


@pytest.mark.parametrize("name", [name for name, one in faults.FAULTS.items() if one.quick])
def test_a_fault_is_called_what_it_is(web: object, lab: Lab, site: Site, name: str) -> None:
    faults.until_well(site)
    faults.see(faults.FAULTS[name], lab, site)


def test_an_archive_of_support_has_no_secret(web: object, site: Site, lab: Lab) -> None:
    files = archive.made(site)
    assert archive.secrets_in(files, site) == []
    assert {f"{host}/{name}" for host in HOSTS for name in archive.SOME} <= files.keys()
    assert "Starting kubelet." in files[f"{CONTROL_PLANE}/events.json"]
    assert all(f">{host}</text>" in files["index.html"] for host in HOSTS)
    assert "MISSING" not in files["topology.txt"]


def test_nothing_is_open_without_a_reason(
    web: dict[str, str], lab: Lab, site: Site, kubectl: Kubectl, tmp_path: Path
) -> None:
    pod = doors.process_of_pod(lab, NODES[0], "httpd")
    doors.see_all(lab, site, pod, tmp_path)
    doors.see_only_doors_of_dns(lab, site, pod, kubectl)


def test_the_benchmark_is_held_as_its_page_says(built: Run, lab: Lab) -> None:
    assert cis.other_than_said(lab) == []


def test_files_have_their_modes(built: Run, lab: Lab) -> None:
    cis.see_modes(lab)


def test_kube_proxy_may_do_what_it_needs(built: Run, lab: Lab) -> None:
    cis.see_unit(lab, "kube-proxy")


def test_secrets_are_read_from_no_file(built: Run, lab: Lab, kubectl: Kubectl) -> None:
    see_value_nowhere(lab, CONTROL_PLANE, make_secret(kubectl, "hidden"))
    modes = execute(
        lab, CONTROL_PLANE, f"stat --format=%a {AUDIT_LOG} /srv/kubernetes/encryption.yaml"
    )
    assert modes == ["600", "600"]
    asked = f"""grep -c '"verb":"create".*"resource":"secrets".*"name":"hidden"' {AUDIT_LOG}"""
    assert execute(lab, CONTROL_PLANE, asked) == ["1"]


def test_strangers_get_health_alone(built: Run, lab: Lab) -> None:
    health, others = ["/healthz", "/livez", "/readyz"], ["/api", "/version", "/debug/pprof/"]
    codes = answers(lab, NODES[0], lab.hosts[CONTROL_PLANE].ip, health + others)
    assert codes == dict.fromkeys(health, "200") | dict.fromkeys(others, "401")


def test_administrators_are_let_in_by_a_binding(built: Run, lab: Lab, kubectl: Kubectl) -> None:
    said = kubectl("auth whoami --output=json")
    assert "pyinfra-kube:cluster-admins" in said
    assert "system:masters" not in said
    look = "grep -rl system:masters /srv/kubernetes /root/.kube /dev/shm"
    assert lab.exec(CONTROL_PLANE, look).stdout == ""
    assert kubectl("auth can-i '*' '*'").strip() == "yes"


# The second run


def test_the_second_run_changes_and_restarts_nothing(web: object, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert {"unit containerd.service", "unit kubelet.service"} <= set(before[NODES[0]])
    assert any("kube-apiserver" in key for key in before[CONTROL_PLANE])
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())


def test_pods_outlive_containerd(web: dict[str, str], kubectl: Kubectl, lab: Lab) -> None:
    before = {name: set(execute(lab, name, PIDS)) for name in HOSTS}
    for name in HOSTS:
        assert len(before[name]) > 1
        execute(lab, name, "systemctl restart containerd")
    eventually(lambda: [kubectl.fetch(pod, f"http://{web[pod]}:{PORT}/") for pod in web])
    for name in HOSTS:
        assert before[name] <= set(execute(lab, name, PIDS))


# Kubernetes' own suite; `make conformance` runs all of it.


def test_a_mirror_is_set_while_pods_run(mirrored: tuple[Run, Programs]) -> None:
    run, _ = mirrored
    assert run.changed == {("Container runtime | Configure containerd", name) for name in HOSTS}


@pytest.mark.parametrize("needed", SPECS)
def test_a_spec_passes(outcomes: dict[str, Outcome], needed: str) -> None:
    assert outcomes[needed].passed, outcomes[needed].message


def test_specs_leave_nothing_behind(outcomes: object, judged: Judged) -> None:
    assert judged.left_over() == []


# One flag more


def test_a_changed_flag_costs_seconds_of_the_api(
    flag_changed: list[tuple[Run, float]], kubectl: Kubectl
) -> None:
    changed = ("Control plane | Run the control plane as static pods", CONTROL_PLANE)
    assert [run.changed for run, _ in flag_changed] == [{changed}] * 2
    outages = [outage for _, outage in flag_changed]
    print(f"the API was away for {outages} s")
    assert max(outages) <= LONGEST_OUTAGE
    assert kubectl.ready_nodes() == set(HOSTS)


# Reboots


def test_the_cluster_comes_back_by_itself(
    rebooted: list[str], kubectl: Kubectl, lab: Lab, site: Site
) -> None:
    def back() -> bool:
        kubectl.see_pods_reach_pods(kubectl.web(len(NODES), patience=0))
        return kubectl.ready_nodes() == set(HOSTS)

    started = time.monotonic()
    eventually(back, 120)
    print(f"back after {time.monotonic() - started:.0f} s")
    for name in rebooted:
        assert execute(lab, name, "systemctl --failed --no-legend --plain") == []
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())
