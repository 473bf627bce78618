"""
Add-ons on one cluster: DNS caches, metrics-server, NetworkPolicies with packets, objects of one's
own; changed by hand, changed in the inventory, and turned off again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from tests.e2e.doors import spec_of
from tests.e2e.log_receiver import LogReceiver
from tests.e2e.paths import Run, Site, eventually, execute, load_image, load_test_image, succeeded
from tests.e2e.pods import PORT, SERVE, Kubectl
from tests.lab import Lab, go_build
from tests.lab.images import Image
from tests.lab.lab import HOSTS
from tests.lab.release_images import TEST_IMAGE

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

ADDONS = {
    "node_local_dns": True,
    "metrics_server": True,
    "network_policies": True,
    "default_deny": ["shut", "shop"],
}
OFF: dict[str, Any] = {key: type(value)() for key, value in ADDONS.items()} | {
    "manifests": [],
    "log_receiver": None,
}

SHOP = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: till, namespace: shop}
stringData: {pin: hunter2-is-secret}
"""
PRICES = (
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: prices, namespace: shop}, data: {a: '1'}}"
)
PRIORITY = (
    "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: shop}, value: 7}"
)
OPEN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "open", "namespace": "shut"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [
            {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "friend"}}}]}
        ],
    },
}

# What kube-router leaves, in each table that it can be in.
TRACES = (
    "for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do "
    "$tool-save 2>/dev/null | grep -E 'KUBE-(ROUTER|POD-FW|NWPLCY)'; done; ipset list -n; true"
)


def _set(site: Site, settings: dict[str, Any]) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data.update({settings!r})\n")


# The steps


@pytest.fixture(scope="module")
def dry(lab: Lab, site: Site) -> Run:
    own = site.folder / "objects"
    own.mkdir()
    for name, text in {"shop": SHOP, "prices": PRICES, "priority": PRIORITY}.items():
        (own / f"{name}.yaml").write_text(text)
    _set(site, {**ADDONS, "manifests": [str(own)]})
    return succeeded(site.run("--dry", "--diff", "--json"))


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def servers(built: Run, lab: Lab, kubectl: Kubectl) -> dict[str, str]:
    """A server behind the default-deny on each node, and who asks: node → its server's address."""
    load_test_image(lab, NODES)
    items = [_pod("server", node, "shut") for node in NODES]
    items += [_pod(app, node, "default") for app in ("friend", "stranger") for node in NODES]
    kubectl("apply --filename=-", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def ready() -> dict[str, str]:
        found = [
            pod["status"]
            for space in ("shut", "default")
            for pod in kubectl.get(f"pods --namespace={space} --selector=app")
        ]
        there = [one.get("podIP") and one["containerStatuses"][0]["ready"] for one in found]
        pods = kubectl.get("pods --namespace=shut")
        return (
            {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods}
            if len(there) == len(items) and all(there)
            else {}
        )

    return dict(eventually(ready, 90))


def _pod(app: str, node: str, namespace: str) -> dict[str, Any]:
    container = {"name": "main", "image": TEST_IMAGE, "command": ["sh", "-c", SERVE]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{app}-{node}", "namespace": namespace, "labels": {"app": app}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{**container, "imagePullPolicy": "IfNotPresent"}],
        },
    }


@pytest.fixture(scope="module")
def receiver(
    servers: object, lab: Lab, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LogReceiver]:
    """Who takes the cluster's logs; its collectors are set up now."""
    name = image_of("otelcol", spec_of(lab, site)).name
    archive = tmp_path_factory.mktemp("image") / "otelcol.tar"
    program = go_build.built("otelcol") / "otelcol"
    Image([name], {"/otelcol": program}, entrypoint=["/otelcol"]).write(archive)
    load_image(lab, HOSTS, archive)
    receiver = LogReceiver(str(lab.network.control))
    receiver.start()
    _set(site, {"log_receiver": receiver.url})
    dry = succeeded(site.run("--dry", "--diff", "--json"))
    assert succeeded(site.run("-y", "--json")).changed == dry.planned
    assert succeeded(site.run("--dry", "--json")).planned == set()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="module")
def off(receiver: object, site: Site) -> tuple[Run, Run]:
    """The plan and the run that turn all off."""
    _set(site, OFF)
    return succeeded(site.run("--dry", "--diff", "--json")), succeeded(site.run("-y", "--json"))


def _reached(kubectl: Kubectl, app: str, servers: dict[str, str]) -> set[tuple[str, str]]:
    """From which node's pod which node's server answers."""
    found = set()
    for node in NODES:
        for other, address in servers.items():
            ask = f"exec {app}-{node} -- timeout 2 wget -q -O - http://{address}:{PORT}/"
            if kubectl(f"{ask} || true", "").strip():
                found.add((node, other))
    return found


# The build


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert built.changed == dry.planned
    assert dry.conditional == set()
    assert "hunter2" not in dry.said + dry.out + built.said


def test_the_second_run_changes_nothing(servers: object, site: Site) -> None:
    again = succeeded(site.run("-y", "--json"))
    assert again.changed == set()
    assert "packet to port 8181" not in again.said


def test_top_gives_figures(built: Run, kubectl: Kubectl) -> None:
    nodes = [line.split() for line in kubectl("top nodes --no-headers").splitlines()]
    assert {name for name, *_ in nodes} == set(HOSTS)
    assert all(line[1].endswith("m") and line[3].endswith("Mi") for line in nodes), nodes
    pods = kubectl("top pods --namespace=kube-system --no-headers").splitlines()
    assert len([line for line in pods if line.split()[2].endswith("Mi")]) >= 6, pods


def test_kubelets_are_verified(built: Run, kubectl: Kubectl) -> None:
    (deployment,) = kubectl.get(
        "deployments --namespace=kube-system --selector=k8s-app=metrics-server"
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert not [one for one in container["args"] if "insecure" in one]


# DNS caches of nodes

NAME = "kubernetes.default.svc.cluster.local"


def test_each_pod_asks_the_cache_of_its_node(servers: object, kubectl: Kubectl) -> None:
    for node in NODES:
        pod = f"exec stranger-{node} --"
        said = kubectl(f"{pod} grep nameserver /etc/resolv.conf").splitlines()
        assert said == [f"nameserver {NODE_DNS}", "nameserver 10.254.0.10"]
        for server in ("", NODE_DNS):
            assert "10.254.0.1" in kubectl(f"{pod} nslookup {NAME} {server}")


def test_what_is_kept_outlives_coredns(servers: object, kubectl: Kubectl) -> None:
    coredns = "deployment/coredns --namespace=kube-system"
    pods = "pods --namespace=kube-system --selector=k8s-app=kube-dns"

    def heard(server: str) -> list[bool]:
        ask = f"timeout 3 nslookup {NAME} {server} 2>&1 || true"
        return ["10.254.0.1\n" in kubectl(f"exec stranger-{one} -- {ask}") for one in NODES]

    try:
        kubectl(f"scale {coredns} --replicas=0")
        assert all(heard(NODE_DNS))
        eventually(lambda: not kubectl.get(pods), 25)
        assert all(heard(NODE_DNS))
        assert not any(heard("10.254.0.10"))
    finally:
        kubectl(f"scale {coredns} --replicas=2")
        kubectl(f"rollout status {coredns}")


# Logs


def _say(lab: Lab, kubectl: Kubectl, word: str) -> None:
    """A word of a pod on each node, and one of its host."""
    for node in NODES:
        kubectl(f"exec stranger-{node} -- sh -c 'echo {word}-of-pod >/proc/1/fd/1'")
        execute(lab, node, f"logger {word}-of-host")


def _all_of(receiver: LogReceiver, word: str) -> bool:
    return all(
        receiver.has(node, f"{word}-of-{kind}") for node in NODES for kind in ("pod", "host")
    )


def test_each_node_sends_its_logs(receiver: LogReceiver, lab: Lab, kubectl: Kubectl) -> None:
    _say(lab, kubectl, "plain")
    eventually(lambda: _all_of(receiver, "plain"), 30)


def test_a_receiver_that_is_away_loses_nothing(
    receiver: LogReceiver, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    collectors = "pods --namespace=kube-system --selector=k8s-app=node-logs"
    receiver.stop()
    try:
        _say(lab, kubectl, "kept")
        # What it keeps is known to the next one.
        time.sleep(5)
        kubectl(f"delete {collectors}")
        _say(lab, kubectl, "between")
    finally:
        receiver.start()
    eventually(lambda: _all_of(receiver, "kept") and _all_of(receiver, "between"), 90)


# NetworkPolicies


def test_default_deny_blocks_and_an_allow_opens(servers: dict[str, str], kubectl: Kubectl) -> None:
    everywhere = {(node, other) for node in NODES for other in NODES}
    assert _reached(kubectl, "friend", servers) == set()
    kubectl("apply --filename=-", json.dumps(OPEN))
    eventually(lambda: _reached(kubectl, "friend", servers) == everywhere, 60)
    assert _reached(kubectl, "stranger", servers) == set()
    for node in NODES:
        asked = "nslookup kubernetes.default.svc.cluster.local"
        assert "10.254.0.1" in kubectl(f"exec --namespace=shut server-{node} -- {asked}")


def test_what_enforces_nothing_is_said(
    servers: object, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    """Its pods run, but do nothing, and somebody's rule comes before theirs."""
    for host in HOSTS:
        execute(lab, host, "pkill -STOP -x kube-router")
        execute(lab, host, "iptables -I FORWARD -p tcp --dport 8181 -j ACCEPT")
    try:
        run = site.run("-y", "--data", "verify_timeout=20")
        assert run.code != 0
        assert "which their policy does not allow, is stopped: not so after 20 s" in run.said
        assert "nothing enforces policies while such a packet arrives" in run.said
    finally:
        for host in HOSTS:
            execute(lab, host, "iptables -D FORWARD -p tcp --dport 8181 -j ACCEPT")
            execute(lab, host, "pkill -CONT -x kube-router")


# Changes


def test_what_is_changed_by_hand_is_named_and_mended(
    servers: object, site: Site, kubectl: Kubectl
) -> None:
    kubectl("scale --namespace=kube-system deployment/metrics-server --replicas=2")
    kubectl("label --overwrite priorityclass/shop pyinfra-kube/set=mine")
    dry = succeeded(site.run("--dry", "--diff", "--json"))
    assert "spec.replicas: set by kubectl" in dry.said
    assert "metadata.labels.pyinfra-kube/set: set by kubectl-label" in dry.said
    assert succeeded(site.run("-y", "--json")).changed == dry.planned != set()
    assert succeeded(site.run("--dry", "--json")).planned == set()
    (deployment,) = kubectl.get(
        "deployments --namespace=kube-system --selector=k8s-app=metrics-server"
    )
    assert deployment["spec"]["replicas"] == 1


def test_what_no_manifest_names_goes(servers: object, site: Site, kubectl: Kubectl) -> None:
    (site.folder / "objects/prices.yaml").unlink()
    dry = succeeded(site.run("--dry", "--diff", "--json"))
    assert "ConfigMap shop/prices: present → absent" in dry.said
    assert "hunter2" not in dry.said
    assert succeeded(site.run("-y", "--json")).changed == dry.planned
    assert "prices" not in kubectl("get configmaps --namespace=shop --output=name")
    assert succeeded(site.run("--dry", "--json")).planned == set()


# Turned off


def test_pods_have_dns_without_the_cache(off: object, lab: Lab, kubectl: Kubectl) -> None:
    """Those that were made before ask the second server when the first is gone."""
    for host in HOSTS:
        assert execute(lab, host, "ip link show kube-node-dns 2>/dev/null || true") == []
        assert execute(lab, host, "ss -Hltnu 'sport = 53'") == []
    for node in NODES:
        assert "10.254.0.1" in kubectl(f"exec stranger-{node} -- nslookup {NAME}")


def test_what_is_turned_off_goes(
    off: tuple[Run, Run], lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    dry, run = off
    assert run.changed == dry.planned
    for gone in ("DaemonSet kube-system/kube-router", "Secret shop/till", "PriorityClass shop"):
        assert f"{gone}: present → absent" in dry.said
    for kept in ("shop", "shut"):
        assert f"Namespace {kept} stays: what others have in it would go with it" in dry.said
    # DNS stays on.
    ours = kubectl(
        "get all,netpol --namespace=kube-system --selector=pyinfra-kube/set --output=name"
    )
    assert ours.split() == ["service/kube-dns", "deployment.apps/coredns"]
    records = kubectl("get configmaps --namespace=kube-system --output=name")
    assert records.count("pyinfra-kube-set") == 1
    for host in HOSTS:
        assert execute(lab, host, TRACES) == []
        execute(lab, host, "! test -e /var/lib/node-logs")
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_nothing_blocks_any_more(off: object, servers: dict[str, str], kubectl: Kubectl) -> None:
    assert len(_reached(kubectl, "stranger", servers)) == len(NODES) ** 2
