"""The objects of add-ons are what each release's API takes, and their phases do what they say."""

from __future__ import annotations

import shlex
import socket
import subprocess
import threading
from types import SimpleNamespace
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.components.rendering import configuration
from pyinfra_kube.cluster.components.row_settings import settings
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.releases import Release, known_releases, minor_of, newest_patch
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases import addons
from pyinfra_kube.deploys.phases.addon_removal import leave_addons
from pyinfra_kube.deploys.phases.addons import dns_checks, dns_manifest, dns_query
from pyinfra_kube.deploys.phases.manifests import of_addons
from pyinfra_kube.deploys.phases.metrics_server import metrics_manifest
from pyinfra_kube.deploys.phases.network_policies import policies_manifest
from pyinfra_kube.deploys.phases.node_local_dns import cache_manifest
from pyinfra_kube.deploys.phases.node_logs import logs_manifest
from pyinfra_kube.engine.phase import run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.objects import Object, ObjectStates
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.operations.manifests import Manifest
from pyinfra_kube.operations.object_sets import Record
from tests.unit.blank import ONE_NODE, prepared

# Those whose schemas kubernetes-validate has.
RELEASES = [
    line
    for line in known_releases()
    if Release.of(f"{line}.0").fact("coredns") and minor_of(line) >= (1, 25)
]


def _cluster(version: str = "1.37.2", nodes: int = 2, host: str = "m", **data: Any) -> Any:
    names = [f"n{number}" for number in range(nodes)]
    common = {"kubernetes_version": version, "control_plane_endpoint": "192.0.2.1", **data}
    hosts = {
        name: {**common, "ssh_hostname": f"192.0.2.{number}"}
        for number, name in enumerate(["m", *names], 1)
    }
    groups = {"control_plane": ["m"], "nodes": names or ["m"]}
    spec = ClusterSpec.from_inventory(groups, hosts)
    roles = spec.host(host).roles
    return SimpleNamespace(
        spec=spec,
        release=Release.of(version),
        plan=make_plan(spec),
        is_first_control_plane=host == "m",
        is_a=lambda role: role in roles,
        units=["kubelet", "kube-proxy"],
        manifests=[],
    )


DENIED = {"network_policies": True, "default_deny": ["shop"], "dns_metrics": True}


def _objects(text: str) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


@pytest.mark.parametrize("line", RELEASES)
def test_every_release_takes_the_objects(line: str) -> None:
    texts = [
        dns_manifest(_cluster(newest_patch(line) or "")),
        render("addons/kubelet-api-admin.yaml.j2", user="kube-apiserver-kubelet-client"),
        metrics_manifest(_cluster(newest_patch(line) or "")),
        policies_manifest(_cluster(newest_patch(line) or "", **DENIED)),
        cache_manifest(_cluster(newest_patch(line) or "")),
        logs_manifest(_cluster(newest_patch(line) or "", log_receiver="https://a.example")),
    ]
    for text in texts:
        for one in yaml.safe_load_all(text):
            kubernetes_validate.validate(one, line, strict=True)


def test_what_the_inventory_says_of_dns() -> None:
    cluster = _cluster(cluster_domain="k8s.example", service_cidr="10.96.0.0/16")
    found = _objects(dns_manifest(cluster))
    assert found["Service"]["spec"]["clusterIP"] == "10.96.0.10"
    assert (
        "kubernetes k8s.example in-addr.arpa ip6.arpa {" in found["ConfigMap"]["data"]["Corefile"]
    )
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.k8s.io/coredns/coredns:v1.14.6"
    selector = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert selector == found["Service"]["spec"]["selector"]
    assert selector == found["Deployment"]["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize(
    ("version", "wanted", "image"),
    [
        ("1.20.2", False, ""),
        ("1.20.2", True, "k8s.gcr.io/coredns:1.7.0"),
        ("1.23.1", True, "k8s.gcr.io/coredns/coredns:v1.8.6"),
        ("1.24.0", None, "k8s.gcr.io/coredns/coredns:v1.8.6"),
    ],
)
def test_dns_is_set_up_by_default_from_1_24_on(
    version: str, wanted: bool | None, image: str
) -> None:
    cluster = _cluster(version, **({} if wanted is None else {"dns": wanted}))
    assert cluster.spec.dns is bool(image)
    if image:
        deployment = _objects(dns_manifest(cluster))["Deployment"]
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


@pytest.mark.parametrize(("nodes", "replicas"), [(0, 1), (1, 2), (3, 2)])
def test_replicas(nodes: int, replicas: int) -> None:
    found = _objects(dns_manifest(_cluster(nodes=nodes)))
    assert found["Deployment"]["spec"]["replicas"] == replicas


def test_an_old_coredns_gets_no_option_that_it_does_not_know() -> None:
    assert "disable" not in dns_manifest(_cluster("1.26.0"))
    assert "disable success cluster.local" in dns_manifest(_cluster("1.27.0"))


def test_metrics_server_verifies_kubelets() -> None:
    found = _objects(metrics_manifest(_cluster()))
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.k8s.io/metrics-server/metrics-server:v0.9.0"
    assert any(one.startswith("--kubelet-certificate-authority=") for one in container["args"])
    assert not [one for one in container["args"] if "insecure" in one]
    assert found["APIService"]["spec"]["service"] == {
        "name": found["Service"]["metadata"]["name"],
        "namespace": found["Service"]["metadata"]["namespace"],
    }


def test_what_is_denied() -> None:
    texts = [policies_manifest(_cluster(**data)) for data in ({"network_policies": True}, DENIED)]
    policies = [
        [one for one in yaml.safe_load_all(text) if one["kind"] == "NetworkPolicy"]
        for text in texts
    ]
    assert [len(some) for some in policies] == [1, 2]
    # Nothing else is open: what kube-router serves, or CoreDNS to pods.
    (container,) = _objects(texts[0])["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert {"--health-port=0", "--metrics-port=0", "--run-router=false"} <= {*container["args"]}
    assert {one["port"] for one in policies[0][0]["spec"]["ingress"][0]["ports"]} == {53}
    assert policies[1][1]["metadata"] == {"name": "default-deny", "namespace": "shop"}


def test_the_cache_of_a_node_asks_the_cluster_and_the_host() -> None:
    found = _objects(cache_manifest(_cluster(cluster_domain="k8s.example")))
    cluster, others = found["ConfigMap"]["data"]["Corefile"].split("\n}\n", 1)
    assert cluster.startswith("k8s.example:53 in-addr.arpa:53 ip6.arpa:53 {")
    assert "forward . 10.0.0.10 {" in cluster
    assert "forward . /etc/resolv.conf" in others
    assert cluster.count("bind 169.254.20.10") == others.count("bind 169.254.20.10") == 1
    pod = found["DaemonSet"]["spec"]["template"]["spec"]
    assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "Default")


@pytest.mark.parametrize("mode", [None, "iptables", "nftables", "ipvs"])
def test_pods_ask_the_cache_of_their_node_first(mode: str | None) -> None:
    asked = [
        _configuration(node_local_dns=wanted, proxy_mode=mode)["clusterDNS"]
        for wanted in (False, True)
    ]
    assert asked == [["10.0.0.10"], ["169.254.20.10", "10.0.0.10"]]


def _configuration(**data: Any) -> dict[str, Any]:
    cluster = _cluster(**data)
    context = settings(cluster.spec, cluster.plan, "n0")
    return configuration("kubelet", cluster.release, context)


def test_a_closed_namespace_reaches_the_cache_of_its_node() -> None:
    texts = [policies_manifest(_cluster(node_local_dns=it, **DENIED)) for it in (False, True)]
    assert ["169.254.20.10/32" in text for text in texts] == [False, True]


def test_where_logs_are_sent() -> None:
    found = [
        _objects(logs_manifest(_cluster(log_receiver=url)))
        for url in ("http://a.example:4318/otlp/", "https://b.example")
    ]
    read = [yaml.safe_load(one["ConfigMap"]["data"]["config.yaml"]) for one in found]
    assert [one["exporters"]["otlp_http"]["endpoint"] for one in read] == [
        "http://a.example:4318/otlp",
        "https://b.example",
    ]
    # Nothing listens, and nothing that a receiver has not taken yet is thrown away.
    assert read[0]["service"]["telemetry"] == {"metrics": {"level": "none"}}
    assert read[0]["exporters"]["otlp_http"]["retry_on_failure"] == {"max_elapsed_time": 0}
    # Its pods are made anew with another configuration.
    marks = [one["DaemonSet"]["spec"]["template"]["metadata"]["annotations"] for one in found]
    assert marks[0] != marks[1]
    hosts = found[0]["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    paths = {one["hostPath"]["path"] for one in hosts if "hostPath" in one}
    assert not paths & {"/", "/etc", "/srv", "/var/lib", "/var/lib/kubelet"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"network_policies": True, "network": "none"}, "network = 'none'; allowed: routes or"),
        ({"network_policies": True, "proxy_mode": "none"}, "proxy_mode = 'none'; allowed: another"),
        ({"network_policies": True, "dns": False}, "dns = False; allowed: True, for the run tries"),
        ({"network_policies": True, "version": "1.20.2"}, "network_policies = True; allowed: Fals"),
        ({"dns": True, "version": "1.18.20"}, "dns = True; allowed: False"),
        ({"node_local_dns": True, "network": "none"}, "network = 'none'; allowed: routes or"),
        ({"node_local_dns": True, "proxy_mode": "none"}, "the cache asks the service of DNS, as"),
        ({"node_local_dns": True, "dns": False}, "dns = False; allowed: True, for the cache asks"),
        ({"node_local_dns": True, "version": "1.20.2"}, "node_local_dns = True; allowed: False"),
        ({"metrics_server": True, "version": "1.20.15"}, "metrics_server = True; allowed: False"),
        (
            {"metrics_server": True, "version": "1.21.14", "network": "flannel"},
            "network = 'flannel'; allowed: routes, by which",
        ),
        ({"default_deny": ["shop"]}, "default_deny = ['shop']; allowed: nothing: without netw"),
        ({"network_policies": True, "default_deny": ["kube-system"]}, "other namespaces than kube"),
        ({"network_policies": True, "default_deny": ["Shop"]}, 'fix: write "shop"'),
        (
            {"log_receiver": "https://a.example", "version": "1.23.1"},
            "allowed: nothing: what sends",
        ),
        ({"log_receiver": "a.example:4318"}, "allowed: a URL"),
        ({"log_receiver": "https://me:secret@a.example"}, "(not shown)@a.example'; allowed: a URL"),
        ({"log_receiver": "https://a.example?token=secret"}, "?…'; allowed: a URL without ? and #"),
        ({"manifests": ["shop"], "version": "1.20.2"}, "manifests = ['shop']; allowed: nothing"),
        ({"manifests": ["https://a.example/b"]}, "the digest of https://a.example/b; fix: see"),
        ({"manifests_sha256": {"https://a.example/b": "0" * 64}}, "allowed: a URL of manifests"),
    ],
)
def test_what_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as failure:
        _cluster(**data)
    assert said in str(failure.value)


def test_a_namespace_of_own_manifests_is_made_by_them() -> None:
    cluster = _cluster(**DENIED)
    assert _objects(policies_manifest(cluster))["Namespace"]["metadata"]["name"] == "shop"
    text = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {a: b}}}"
    cluster.manifests = [Manifest("a", text)]
    assert "Namespace" not in _objects(policies_manifest(cluster))


def test_own_manifests_have_no_object_of_an_addon() -> None:
    cluster = _cluster(metrics_server=True, **DENIED)
    cluster.manifests = [
        Manifest(name, f"{{apiVersion: {version}, kind: {kind}, metadata: {metadata}}}")
        for name, version, kind, metadata in (
            ("a", "v1", "ConfigMap", "{name: coredns, namespace: kube-system}"),
            ("b", "apps/v1beta1", "Deployment", "{name: metrics-server, namespace: kube-system}"),
            ("c", "v1", "ConfigMap", "{name: coredns}"),
            ("d", "v1", "Namespace", "{name: shop}"),
        )
    ]
    assert [(one.value, one.allowed) for one in of_addons(cluster)] == [
        ("a", "other objects: ConfigMap kube-system/coredns is of dns"),
        ("b", "other objects: Deployment kube-system/metrics-server is of metrics_server"),
    ]


def test_who_checks_what() -> None:
    deployment = "CoreDNS runs as its Deployment says"
    answers = "10.0.0.10 answers where kubernetes.default.svc.cluster.local is"
    assert [check.name for check in dns_checks(_cluster())] == [deployment, answers]
    assert [check.name for check in dns_checks(_cluster(host="n1"))] == [answers]


def test_an_older_release_gets_no_add_ons() -> None:
    phases = [addons.load_dns_image, addons.allow_components, addons.run_dns]
    state, _ = prepared(lambda: run_phases(phases), ONE_NODE, {}, PackageStates("apt"))
    assert not state.failed_hosts
    assert not any(state.ops.values())


SETS = ("coredns", "manifests", "metrics-server", "network-policies", "node-local-dns", "node-logs")


@pytest.mark.parametrize(
    ("data", "gone"),
    [
        ({"kubernetes_version": "1.18.2"}, set()),
        ({"kubernetes_version": "1.19.2"}, {"coredns"}),
        ({"kubernetes_version": "1.22.2"}, {"coredns", "metrics-server"}),
        ({"kubernetes_version": "1.22.2", "dns": True}, {"metrics-server"}),
        ({"kubernetes_version": "1.22.2", "metrics_server": True}, {"coredns"}),
        ({"kubernetes_version": "1.37.2"}, {*SETS} - {"coredns"}),
        ({"kubernetes_version": "1.37.2", "dns": False}, {*SETS}),
    ],
    ids=str,
)
def test_add_ons_that_a_release_can_have_go_where_they_are_not_wanted(
    data: dict[str, Any], gone: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    records = [Record(name).manifest() for name in SETS]
    found = [
        Object("ConfigMap", one["metadata"]["name"], "kube-system", {**one, "data": {}})
        for one in records
    ]
    more = {"objects.Objects": ObjectStates("ok", objects=found)}
    _, shown = prepared(
        lambda: run_phases([leave_addons]), ONE_NODE, data, PackageStates("apt"), more=more
    )
    said = "\n".join(shown.values())
    assert {name for name in SETS if f"pyinfra-kube-set-{name}: present → absent" in said} == gone


# What a server answers by TCP to the question for a.b, after its header.
_QUESTION = b"\1a\1b\0\0\1\0\1"
_ADDRESS = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\x0a\0\0\1"


@pytest.mark.parametrize(
    ("reply", "works"),
    [
        (b"\x4b\x55\x81\x80\0\1\0\1\0\0\0\0" + _QUESTION + _ADDRESS, True),
        (b"\x4b\x55\x81\x80\0\1\0\1\0\0\0\0" + _QUESTION + _ADDRESS[:-1] + b"\2", False),
        (b"\x4b\x55\x81\x83\0\1\0\0\0\0\0\0" + _QUESTION, False),
        (b"", False),
    ],
    ids=["the address", "another address", "no such name", "nothing"],
)
def test_dns_is_asked_with_bash(reply: bytes, works: bool) -> None:
    asked = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            asked.append(connection.recv(100))
            connection.sendall(len(reply).to_bytes(2, "big") + reply)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        command = dns_query("127.0.0.1", "a.b", "10.0.0.1")
        port = server.getsockname()[1]
        done = subprocess.run(
            ["sh", "-c", command.replace("127.0.0.1/53", f"127.0.0.1/{port}")], check=False
        )
    assert (done.returncode == 0) is works
    header = b"\x4b\x55\1\0\0\1\0\0\0\0\0\0"
    assert asked == [(len(header) + len(_QUESTION)).to_bytes(2, "big") + header + _QUESTION]
    assert "\n" in shlex.split(command)[-1]
