"""Command lines: exact for the guide's era and for 1.20, and never with an unknown flag."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.components import COMPONENTS, PODS
from pyinfra_kube.cluster.components.rendering import (
    command_line,
    configuration,
    configuration_text,
    holding,
    named_files,
    ports,
    probe,
    reread_files,
)
from pyinfra_kube.cluster.components.row_settings import HOST_FACTS
from pyinfra_kube.cluster.components.row_settings import settings as context_of
from pyinfra_kube.cluster.components.rows import Field, Flag
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.fields import has_file
from pyinfra_kube.cluster.releases import Release, covers, flags_setting, known_releases
from pyinfra_kube.cluster.spec import ClusterSpec

ADDRESSES = {"m1": "192.0.2.10", "n1": "192.0.2.11", "n2": "192.0.2.12", "m2": "192.0.2.13"}
ADDRESSES["m3"] = "192.0.2.14"
GROUPS = {"control_plane": ["m1"], "nodes": ["n1", "n2"]}
CONTROL_PLANE = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
)


def spec_of(version: str, groups: dict[str, list[str]] = GROUPS, **data: Any) -> ClusterSpec:
    everywhere = {"kubernetes_version": version, "control_plane_endpoint": "192.0.2.10", **data}
    hosts = {
        name: {**everywhere, "address": ADDRESSES[name]}
        for group in groups.values()
        for name in group
    }
    return ClusterSpec.from_inventory(groups, hosts)


def flags(
    component: str, spec: ClusterSpec, host: str, facts: Any = None, **extra: Any
) -> list[str]:
    context = context_of(spec, make_plan(spec), host, facts or {})
    return command_line(component, Release.of(spec.kubernetes_version), context, extra)


def named(component: str, spec: ClusterSpec, host: str, facts: Any = None) -> dict[str, str]:
    lines = flags(component, spec, host, facts)
    return dict(line.removeprefix("--").split("=", 1) for line in lines)


EXACT_1_3 = {
    ("etcd", "m1"): """
        --name=m1
        --data-dir=/var/lib/etcd
        --listen-client-urls=https://127.0.0.1:2379,https://192.0.2.10:2379
        --advertise-client-urls=https://192.0.2.10:2379
        --listen-peer-urls=https://192.0.2.10:2380
        --initial-advertise-peer-urls=https://192.0.2.10:2380
        --initial-cluster=m1=https://192.0.2.10:2380
        --initial-cluster-state=new
        --initial-cluster-token=kubernetes
        --cert-file=/srv/kubernetes/etcd-server.crt
        --key-file=/srv/kubernetes/etcd-server.key
        --trusted-ca-file=/srv/kubernetes/etcd-ca.crt
        --client-cert-auth=true
        --peer-cert-file=/srv/kubernetes/etcd-server.crt
        --peer-key-file=/srv/kubernetes/etcd-server.key
        --peer-trusted-ca-file=/srv/kubernetes/etcd-ca.crt
        --peer-client-cert-auth=true
    """,
    ("kube-apiserver", "m1"): """
        --etcd-servers=https://192.0.2.10:2379
        --etcd-cafile=/srv/kubernetes/etcd-ca.crt
        --etcd-certfile=/srv/kubernetes/etcd-client.crt
        --etcd-keyfile=/srv/kubernetes/etcd-client.key
        --service-cluster-ip-range=10.0.0.0/16
        --bind-address=0.0.0.0
        --secure-port=6443
        --insecure-bind-address=127.0.0.1
        --insecure-port=8080
        --advertise-address=192.0.2.10
        --allow-privileged=true
        --tls-cert-file=/srv/kubernetes/server.crt
        --tls-private-key-file=/srv/kubernetes/server.key
        --client-ca-file=/srv/kubernetes/ca.crt
        --token-auth-file=/srv/kubernetes/known_tokens.csv
        --authorization-mode=AlwaysAllow
        --admission-control=NamespaceLifecycle,LimitRanger,ServiceAccount,PersistentVolumeLabel,ResourceQuota
        --service-account-key-file=/srv/kubernetes/service-account.pub
        --kubelet-client-certificate=/srv/kubernetes/kubelet-client.crt
        --kubelet-client-key=/srv/kubernetes/kubelet-client.key
        --kubelet-certificate-authority=/srv/kubernetes/ca.crt
        --profiling=false
        --logtostderr=true
        --v=2
    """,
    ("kube-controller-manager", "m1"): """
        --master=http://127.0.0.1:8080
        --address=127.0.0.1
        --cluster-name=kubernetes
        --cluster-cidr=10.10.0.0/16
        --allocate-node-cidrs=false
        --service-cluster-ip-range=10.0.0.0/16
        --service-account-private-key-file=/srv/kubernetes/service-account.key
        --root-ca-file=/srv/kubernetes/ca.crt
        --leader-elect=false
        --profiling=false
        --logtostderr=true
        --v=2
    """,
    ("kube-scheduler", "m1"): """
        --master=http://127.0.0.1:8080
        --address=127.0.0.1
        --leader-elect=false
        --profiling=false
        --logtostderr=true
        --v=2
    """,
    ("kubelet", "m1"): """
        --config=/etc/kubernetes/manifests
        --register-node=false
        --hostname-override=m1
        --node-ip=192.0.2.10
        --address=127.0.0.1
        --read-only-port=0
        --cadvisor-port=0
        --allow-privileged=true
        --cluster-dns=10.0.0.10
        --cluster-domain=cluster.local
        --root-dir=/var/lib/kubelet
        --docker-root=/var/lib/docker
        --container-runtime=docker
        --pod-infra-container-image=gcr.io/google_containers/pause-amd64:3.0
        --configure-cbr0=false
        --cloud-provider=
        --logtostderr=true
        --v=2
    """,
    ("kubelet", "n1"): """
        --api-servers=https://192.0.2.10:6443
        --kubeconfig=/var/lib/kubelet/kubeconfig
        --config=/etc/kubernetes/manifests
        --register-node=true
        --hostname-override=n1
        --node-ip=192.0.2.11
        --address=0.0.0.0
        --read-only-port=0
        --cadvisor-port=0
        --tls-cert-file=/var/lib/kubelet/pki/kubelet.crt
        --tls-private-key-file=/var/lib/kubelet/pki/kubelet.key
        --allow-privileged=true
        --cluster-dns=10.0.0.10
        --cluster-domain=cluster.local
        --root-dir=/var/lib/kubelet
        --docker-root=/var/lib/docker
        --container-runtime=docker
        --pod-infra-container-image=gcr.io/google_containers/pause-amd64:3.0
        --configure-cbr0=true
        --pod-cidr=10.10.0.0/24
        --reconcile-cidr=false
        --non-masquerade-cidr=10.10.0.0/16
        --hairpin-mode=hairpin-veth
        --cloud-provider=
        --logtostderr=true
        --v=2
    """,
    ("kube-proxy", "n1"): """
        --kubeconfig=/var/lib/kube-proxy/kubeconfig
        --cluster-cidr=10.10.0.0/16
        --proxy-mode=iptables
        --hostname-override=n1
        --logtostderr=true
        --v=2
    """,
}

EXACT_1_20 = {
    ("etcd", "m1"): """
        --name=m1
        --data-dir=/var/lib/etcd
        --listen-client-urls=https://127.0.0.1:2379
        --advertise-client-urls=https://127.0.0.1:2379
        --listen-peer-urls=https://127.0.0.1:2380
        --initial-advertise-peer-urls=https://127.0.0.1:2380
        --initial-cluster=m1=https://127.0.0.1:2380
        --initial-cluster-state=new
        --initial-cluster-token=kubernetes
        --cert-file=/srv/kubernetes/etcd-server.crt
        --key-file=/srv/kubernetes/etcd-server.key
        --trusted-ca-file=/srv/kubernetes/etcd-ca.crt
        --client-cert-auth=true
        --peer-cert-file=/srv/kubernetes/etcd-server.crt
        --peer-key-file=/srv/kubernetes/etcd-server.key
        --peer-trusted-ca-file=/srv/kubernetes/etcd-ca.crt
        --peer-client-cert-auth=true
        --listen-metrics-urls=http://127.0.0.1:2381
    """,
    ("kube-apiserver", "m1"): """
        --etcd-servers=https://127.0.0.1:2379
        --etcd-cafile=/srv/kubernetes/etcd-ca.crt
        --etcd-certfile=/srv/kubernetes/etcd-client.crt
        --etcd-keyfile=/srv/kubernetes/etcd-client.key
        --service-cluster-ip-range=10.0.0.0/16
        --bind-address=0.0.0.0
        --secure-port=6443
        --advertise-address=192.0.2.10
        --allow-privileged=true
        --tls-cert-file=/srv/kubernetes/server.crt
        --tls-private-key-file=/srv/kubernetes/server.key
        --client-ca-file=/srv/kubernetes/ca.crt
        --token-auth-file=/srv/kubernetes/known_tokens.csv
        --authorization-mode=Node,RBAC
        --enable-admission-plugins=NodeRestriction
        --service-account-key-file=/srv/kubernetes/service-account.pub
        --service-account-signing-key-file=/srv/kubernetes/service-account.key
        --service-account-issuer=https://kubernetes.default.svc.cluster.local
        --kubelet-client-certificate=/srv/kubernetes/kubelet-client.crt
        --kubelet-client-key=/srv/kubernetes/kubelet-client.key
        --kubelet-certificate-authority=/srv/kubernetes/ca.crt
        --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname
        --proxy-client-cert-file=/srv/kubernetes/front-proxy-client.crt
        --proxy-client-key-file=/srv/kubernetes/front-proxy-client.key
        --requestheader-client-ca-file=/srv/kubernetes/front-proxy-ca.crt
        --requestheader-allowed-names=front-proxy-client
        --requestheader-username-headers=X-Remote-User
        --requestheader-group-headers=X-Remote-Group
        --requestheader-extra-headers-prefix=X-Remote-Extra-
        --enable-aggregator-routing=true
        --profiling=false
        --logtostderr=true
        --v=2
    """,
    ("kube-controller-manager", "m1"): """
        --kubeconfig=/srv/kubernetes/kube-controller-manager.kubeconfig
        --authentication-kubeconfig=/srv/kubernetes/kube-controller-manager.kubeconfig
        --authorization-kubeconfig=/srv/kubernetes/kube-controller-manager.kubeconfig
        --port=0
        --bind-address=127.0.0.1
        --cluster-name=kubernetes
        --cluster-cidr=10.10.0.0/16
        --allocate-node-cidrs=false
        --service-cluster-ip-range=10.0.0.0/16
        --service-account-private-key-file=/srv/kubernetes/service-account.key
        --root-ca-file=/srv/kubernetes/ca.crt
        --use-service-account-credentials=true
        --leader-elect=false
        --profiling=false
        --logtostderr=true
        --v=2
    """,
    ("kube-scheduler", "m1"): """
        --kubeconfig=/srv/kubernetes/kube-scheduler.kubeconfig
        --authentication-kubeconfig=/srv/kubernetes/kube-scheduler.kubeconfig
        --authorization-kubeconfig=/srv/kubernetes/kube-scheduler.kubeconfig
        --port=0
        --bind-address=127.0.0.1
        --leader-elect=false
        --profiling=false
        --logtostderr=true
        --v=2
    """,
    ("kubelet", "m1"): """
        --pod-manifest-path=/etc/kubernetes/manifests
        --register-node=false
        --hostname-override=m1
        --node-ip=192.0.2.10
        --address=127.0.0.1
        --read-only-port=0
        --client-ca-file=/srv/kubernetes/ca.crt
        --anonymous-auth=false
        --authorization-mode=AlwaysAllow
        --cluster-dns=10.0.0.10
        --cluster-domain=cluster.local
        --root-dir=/var/lib/kubelet
        --docker-root=/var/lib/docker
        --container-runtime=docker
        --pod-infra-container-image=k8s.gcr.io/pause:3.2
        --cgroup-driver=cgroupfs
        --logtostderr=true
        --v=2
    """,
    ("kubelet", "n1"): """
        --kubeconfig=/var/lib/kubelet/kubeconfig
        --pod-manifest-path=/etc/kubernetes/manifests
        --register-node=true
        --hostname-override=n1
        --node-ip=192.0.2.11
        --address=0.0.0.0
        --read-only-port=0
        --tls-cert-file=/var/lib/kubelet/pki/kubelet.crt
        --tls-private-key-file=/var/lib/kubelet/pki/kubelet.key
        --client-ca-file=/srv/kubernetes/ca.crt
        --anonymous-auth=false
        --authentication-token-webhook=true
        --authorization-mode=Webhook
        --cluster-dns=10.0.0.10
        --cluster-domain=cluster.local
        --root-dir=/var/lib/kubelet
        --docker-root=/var/lib/docker
        --container-runtime=docker
        --pod-infra-container-image=k8s.gcr.io/pause:3.2
        --cgroup-driver=cgroupfs
        --network-plugin=kubenet
        --cni-bin-dir=/opt/cni/bin
        --non-masquerade-cidr=10.10.0.0/16
        --hairpin-mode=hairpin-veth
        --logtostderr=true
        --v=2
    """,
    ("kube-proxy", "n1"): EXACT_1_3["kube-proxy", "n1"],
}

EXACT = [
    (version, component, host, text.split())
    for version, table in (("1.3.10", EXACT_1_3), ("1.20.2", EXACT_1_20))
    for (component, host), text in table.items()
]


@pytest.mark.parametrize(("version", "component", "host", "expected"), EXACT)
def test_exact_lines(version: str, component: str, host: str, expected: list[str]) -> None:
    assert flags(component, spec_of(version, bridge_approach="kubelet"), host) == expected


def test_plain_http_as_the_guide_has_it() -> None:
    spec = spec_of("1.3.10", apiserver_approach="http")
    apiserver = named("kube-apiserver", spec, "m1")
    assert apiserver["insecure-bind-address"] == apiserver["advertise-address"] == "192.0.2.10"
    assert apiserver["token-auth-file"] == "/dev/null"
    assert not {"client-ca-file", "basic-auth-file", "cluster-name", "address"} & apiserver.keys()
    assert named("kube-controller-manager", spec, "m1")["master"] == "http://192.0.2.10:8080"
    kubelet = named("kubelet", spec, "n1")
    assert kubelet["api-servers"] == "http://192.0.2.10:8080"
    assert "kubeconfig" not in kubelet
    proxy = named("kube-proxy", spec, "n1")
    assert proxy["master"] == "http://192.0.2.10:8080"
    assert "kubeconfig" not in proxy


def test_plain_http_kubelet_has_its_server_from_a_kubeconfig_from_1_8_on() -> None:
    kubelet = named("kubelet", spec_of("1.8.0", apiserver_approach="http"), "n1")
    assert kubelet["kubeconfig"] == "/var/lib/kubelet/kubeconfig"
    assert "api-servers" not in kubelet


def test_bridge_by_hand() -> None:
    old = named("kubelet", spec_of("1.3.10"), "n1")
    assert old["configure-cbr0"] == "false"
    assert not {"pod-cidr", "reconcile-cidr", "non-masquerade-cidr"} & old.keys()
    new = named("kubelet", spec_of("1.20.2"), "n1")
    assert not {"network-plugin", "cni-bin-dir", "non-masquerade-cidr"} & new.keys()
    assert new["hairpin-mode"] == "hairpin-veth"


@pytest.mark.parametrize(
    ("version", "flag"), [("1.5.8", "network-plugin-dir"), ("1.7.0", "cni-bin-dir")]
)
def test_where_kubenet_finds_its_plugins(version: str, flag: str) -> None:
    spec = spec_of(version, bridge_approach="kubelet")
    kubelet = named("kubelet", spec, "n1", {"cni_bin_dir": "/usr/lib/cni"})
    assert kubelet["network-plugin"] == "kubenet"
    assert kubelet[flag] == "/usr/lib/cni"
    assert not ({"network-plugin-dir", "cni-bin-dir"} - {flag}) & kubelet.keys()


def test_a_kubelet_leaves_the_labels_of_kubernetes_to_others() -> None:
    labels = {
        "disk": "ssd",
        "example.io/rack": "7",
        "node-role.kubernetes.io/db": "",
        "k8s.io/x": "y",
    }
    data = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.0.2.10"}
    own = {"n1": data | {"address": ADDRESSES["n1"], "node_labels": labels}}
    spec = ClusterSpec.from_inventory({"control_plane": ["m1"], "nodes": ["n1"]}, own)
    assert named("kubelet", spec, "n1")["node-labels"] == "disk=ssd,example.io/rack=7"
    assert spec.host("n1").reserved_labels == {"node-role.kubernetes.io/db": "", "k8s.io/x": "y"}


def test_no_admission_plugins_at_all() -> None:
    apiserver = named("kube-apiserver", spec_of("1.3.10", admission_control=[]), "m1")
    assert "admission-control" not in apiserver


def test_a_control_plane_host_that_is_a_node_too() -> None:
    spec = spec_of("1.20.2", {"control_plane": ["m1"], "nodes": ["m1", "n1"]})
    kubelet = named("kubelet", spec, "m1")
    assert kubelet["register-node"] == "true"
    assert kubelet["kubeconfig"] == "/var/lib/kubelet/kubeconfig"
    assert kubelet["authorization-mode"] == "Webhook"


@pytest.mark.parametrize(
    ("version", "groups", "network", "asks_pods"),
    [
        ("1.6.13", GROUPS, "routes", False),
        ("1.7.16", GROUPS, "routes", True),
        ("1.20.2", GROUPS, "routes", True),
        ("1.20.2", GROUPS, "flannel", False),
        ("1.20.2", {"control_plane": ["m1"], "nodes": ["m1", "n1"]}, "routes", False),
        ("1.24.17", GROUPS, "routes", False),
    ],
)
def test_an_apiserver_without_a_kube_proxy_asks_pods(
    version: str, groups: dict[str, list[str]], network: str, asks_pods: bool
) -> None:
    spec = spec_of(version, groups, network=network)
    found = named("kube-apiserver", spec, "m1").get("enable-aggregator-routing")
    assert found == ("true" if asks_pods else None)


@pytest.mark.parametrize("given", [{"register_node": False}, {"node_registration": "manual"}])
def test_nodes_whose_objects_are_made_for_them(given: dict[str, Any]) -> None:
    spec = spec_of("1.20.2", **given)
    assert named("kubelet", spec, "n1")["register-node"] == "false"
    assert not spec.nodes_register


def test_several_control_planes_with_an_etcd_member_each() -> None:
    groups = {"control_plane": ["m1", "m2", "m3"], "nodes": ["n1"]}
    spec = spec_of("1.3.10", groups)
    etcd = named("etcd", spec, "m2")
    assert etcd["listen-client-urls"] == "https://127.0.0.1:2379,https://192.0.2.13:2379"
    assert etcd["advertise-client-urls"] == "https://192.0.2.13:2379"
    assert etcd["listen-peer-urls"] == "https://192.0.2.13:2380"
    assert etcd["initial-cluster"] == (
        "m1=https://192.0.2.10:2380,m2=https://192.0.2.13:2380,m3=https://192.0.2.14:2380"
    )
    apiserver = named("kube-apiserver", spec, "m2")
    assert apiserver["apiserver-count"] == "3"
    assert apiserver["advertise-address"] == "192.0.2.13"
    assert apiserver["etcd-servers"].count("https://") == 3
    assert named("kube-scheduler", spec, "m2")["leader-elect"] == "true"
    assert "apiserver-count" not in named("kube-apiserver", spec_of("1.20.2", groups), "m2")


def test_etcd_on_a_host_of_its_own() -> None:
    spec = spec_of("1.20.2", {"control_plane": ["m1"], "etcd": ["m2"], "nodes": ["n1"]})
    assert named("kube-apiserver", spec, "m1")["etcd-servers"] == "https://192.0.2.13:2379"
    etcd = named("etcd", spec, "m2")
    assert etcd["listen-client-urls"] == "https://127.0.0.1:2379,https://192.0.2.13:2379"
    flannel = named("etcd", spec_of("1.20.2", network="flannel"), "m1")
    assert flannel["listen-client-urls"] == "https://127.0.0.1:2379,https://192.0.2.10:2379"
    spec = spec_of("1.20.2", etcd_listen_client_urls="https://0.0.0.0:2379")
    assert named("etcd", spec, "m1")["listen-client-urls"] == "https://0.0.0.0:2379"


# In http no file of TLS is named, and no port of its own tells health.
@pytest.mark.parametrize(
    ("serves", "clients", "peers", "probe_port"),
    [
        ("http", "http://127.0.0.1:2379,http://192.0.2.13:2379", "http", "2379"),
        (
            "both",
            "http://127.0.0.1:2379,http://192.0.2.13:2379,"
            "https://127.0.0.1:2379,https://192.0.2.13:2379",
            "http",
            "2381",
        ),
        ("tls", "https://127.0.0.1:2379,https://192.0.2.13:2379", "https", "2381"),
    ],
)
def test_what_a_member_serves_on_its_way_to_tls(
    serves: str, clients: str, peers: str, probe_port: str
) -> None:
    spec = spec_of("1.20.2", {"control_plane": ["m1"], "etcd": ["m2"], "nodes": ["n1"]})
    facts = {"etcd_serves": serves}
    etcd = named("etcd", spec, "m2", facts)
    assert etcd["listen-client-urls"] == clients
    assert etcd["listen-peer-urls"] == f"{peers}://192.0.2.13:2380"
    assert ("cert-file" in etcd, "peer-cert-file" in etcd) == (serves != "http",) * 2
    context = context_of(spec, make_plan(spec), "m2", facts)
    assert probe("etcd", Release.of("1.20.2"), context).port == probe_port


@pytest.mark.parametrize("asked", ["http", "https"])
def test_how_an_apiserver_asks_etcd_on_the_way(asked: str) -> None:
    apiserver = named("kube-apiserver", spec_of("1.20.2"), "m1", {"etcd_asked": asked})
    assert apiserver["etcd-servers"] == f"{asked}://127.0.0.1:2379"
    assert ("etcd-cafile" in apiserver) == (asked == "https")


@pytest.mark.parametrize(
    ("version", "etcd", "needed"),
    [("1.3.10", "3.4.23", True), ("1.3.10", None, False), ("1.20.2", "3.4.23", False)],
)
def test_the_old_api_of_a_newer_etcd(version: str, etcd: str | None, needed: bool) -> None:
    found = named("etcd", spec_of(version, etcd_version=etcd), "m1")
    assert ("enable-v2" in found) is needed


def test_cloud_provider() -> None:
    spec = spec_of("1.3.10", cloud_provider="aws", cloud_config="aws.conf")
    for component, host in (
        ("kube-apiserver", "m1"),
        ("kube-controller-manager", "m1"),
        ("kubelet", "n1"),
    ):
        found = named(component, spec, host)
        assert (found["cloud-provider"], found["cloud-config"]) == (
            "aws",
            "/srv/kubernetes/cloud.conf",
        )
    unset = spec_of("1.20.2")
    assert all("cloud-provider" not in named(one, unset, "m1") for one in CONTROL_PLANE)


def test_logs_on_the_host() -> None:
    found = named("kube-scheduler", spec_of("1.20.2", log_to_host=True), "m1")
    assert (found["logtostderr"], found["alsologtostderr"]) == ("false", "true")
    assert found["log-dir"] == "/var/log"


def test_authentication() -> None:
    spec = spec_of("1.18.0", credential_kind="certificate", authorization_mode="AlwaysAllow")
    found = named(
        "kube-apiserver", spec, "m1", {"basic_auth_file": "/srv/kubernetes/basic_auth.csv"}
    )
    assert "token-auth-file" not in found
    assert found["basic-auth-file"] == "/srv/kubernetes/basic_auth.csv"
    assert found["anonymous-auth"] == "false"
    assert "use-service-account-credentials" not in named("kube-controller-manager", spec, "m1")
    alpha = named("kube-apiserver", spec_of("1.5.8", authorization_mode="RBAC"), "m1")
    assert alpha["authorization-rbac-super-user"] == "admin"


def test_what_is_set_and_what_is_not() -> None:
    spec = spec_of("1.20.2", max_pods=200)
    found = named("kubelet", spec, "n1", {"fail_swap_on": False, "cgroup_driver": "systemd"})
    assert found["max-pods"] == "200"
    assert found["fail-swap-on"] == "false"
    assert found["cgroup-driver"] == "systemd"
    assert "fail-swap-on" not in named("kubelet", spec, "n1")
    assert "resolv-conf" not in named("kubelet", spec, "n1")
    resolved = {"resolv_conf": "/run/systemd/resolve/resolv.conf"}
    assert named("kubelet", spec, "n1", resolved)["resolv-conf"] == resolved["resolv_conf"]


def test_a_limit_of_connections_that_only_the_machine_sets() -> None:
    fixed = {"conntrack_per_core": 0}
    old = spec_of("1.20.2")
    assert named("kube-proxy", old, "n1", fixed)["conntrack-max-per-core"] == "0"
    assert "conntrack-max-per-core" not in named("kube-proxy", old, "n1")
    spec = spec_of("1.30.14")
    context = context_of(spec, make_plan(spec), "n1", fixed)
    assert configuration("kube-proxy", Release.of("1.30.14"), context)["conntrack"] == {
        "maxPerCore": 0
    }
    context = context_of(spec, make_plan(spec), "n1", {})
    assert "conntrack" not in configuration("kube-proxy", Release.of("1.30.14"), context)


@pytest.mark.parametrize(
    ("release", "behavior"), [("1.29.15", None), ("1.30.14", {"swapBehavior": "LimitedSwap"})]
)
def test_swap_of_pods(release: str, behavior: object) -> None:
    spec = spec_of(release)
    facts = {"fail_swap_on": False, "swap_behavior": "LimitedSwap"}
    context = context_of(spec, make_plan(spec), "n1", facts)
    found = configuration("kubelet", Release.of(release), context)
    assert found["failSwapOn"] is False
    assert found.get("memorySwap") == behavior


def test_extra_flags_take_the_place_of_ours_or_follow_by_name() -> None:
    spec = spec_of("1.20.2")
    found = flags(
        "kube-scheduler", spec, "m1", None, **{"v": 4, "lock-object-name": "x", "kube-api-qps": 9}
    )
    assert found[-3:] == ["--v=4", "--kube-api-qps=9", "--lock-object-name=x"]
    assert found.index("--v=4") == flags("kube-scheduler", spec, "m1").index("--v=2")


def test_extra_flags_that_the_release_lacks_are_all_named() -> None:
    with pytest.raises(InputError) as caught:
        flags(
            "kubelet",
            spec_of("1.24.0"),
            "n1",
            None,
            **{"docker-root": "/d", "network-plugin": "cni"},
        )
    assert [problem.value for problem in caught.value.problems] == ["docker-root", "network-plugin"]
    assert all(problem.fix for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("component", "flag", "value", "setting"),
    [
        ("kube-apiserver", "service-cluster-ip-range", "10.9.0.0/16", "service_cidr"),
        ("kube-apiserver", "secure-port", 8443, "secure_port"),
        ("kube-controller-manager", "cluster-cidr", "10.9.0.0/16", "cluster_cidr"),
        ("kubelet", "cluster-domain", "example.org", "cluster_domain"),
    ],
)
def test_a_flag_does_not_contradict_a_setting(
    component: str, flag: str, value: object, setting: str
) -> None:
    spec = spec_of("1.20.2")
    with pytest.raises(InputError, match=rf"_flags\.{flag} = .*; fix: set {setting}"):
        flags(component, spec, "m1", None, **{flag: value})
    own = named(component, spec, "m1")[flag]
    assert flags(component, spec, "m1", None, **{flag: own}) == flags(component, spec, "m1")


def test_an_address_that_is_not_known() -> None:
    everywhere = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.0.2.10"}
    spec = ClusterSpec.from_inventory(GROUPS, dict.fromkeys(["m1", "n1", "n2"], everywhere))
    assert context_of(spec, make_plan(spec), "m1")["host_address"] == "192.0.2.10"
    with pytest.raises(InputError, match="n1: address"):
        context_of(spec, make_plan(spec), "n1")


@pytest.mark.parametrize(
    ("version", "data", "component", "expected"),
    [
        ("1.3.10", {}, "kube-apiserver", ("HTTP", "127.0.0.1", "8080", "/healthz")),
        (
            "1.3.10",
            {"apiserver_approach": "http"},
            "kube-apiserver",
            ("HTTP", "192.0.2.10", "8080", "/healthz"),
        ),
        ("1.20.2", {}, "kube-apiserver", ("HTTPS", "192.0.2.10", "6443", "/livez")),
        (
            "1.20.2",
            {"authorization_mode": "AlwaysAllow"},
            "kube-apiserver",
            ("TCP", "192.0.2.10", "6443", ""),
        ),
        ("1.3.10", {}, "kube-scheduler", ("HTTP", "127.0.0.1", "10251", "/healthz")),
        ("1.20.2", {}, "kube-controller-manager", ("HTTPS", "127.0.0.1", "10257", "/healthz")),
        ("1.6.0", {}, "kube-proxy", ("HTTP", "127.0.0.1", "10249", "/healthz")),
        ("1.20.2", {}, "kube-proxy", ("HTTP", "127.0.0.1", "10256", "/healthz")),
        (
            "1.20.2",
            {"etcd_client_port": 4001, "etcd_tls": False},
            "etcd",
            ("HTTP", "127.0.0.1", "4001", "/health"),
        ),
        ("1.20.2", {}, "etcd", ("HTTP", "127.0.0.1", "2381", "/health")),
        ("1.13.12", {}, "etcd", ("TCP", "192.0.2.10", "2379", "")),
    ],
)
def test_probes(
    version: str, data: dict[str, Any], component: str, expected: tuple[str, ...]
) -> None:
    spec = spec_of(version, **data)
    context = context_of(spec, make_plan(spec), "m1")
    assert probe(component, Release.of(version), context)[:4] == expected


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSpec:
    release = Release.of(f"{draw(st.sampled_from(known_releases()))}.1")
    hosts = draw(st.sampled_from([["m1"], ["m1", "m2", "m3"]]))
    nodes = ["n1", *(["m1"] if draw(st.booleans()) else [])]
    groups = {"control_plane": hosts, "nodes": nodes}
    if draw(st.booleans()):
        groups["etcd"] = ["n2"]
    cloud = draw(st.sampled_from([None, *release.fact("cloud_provider")]))
    return spec_of(
        release.version,
        groups,
        apiserver_approach=draw(st.sampled_from(release.fact("apiserver_approach"))),
        bridge_approach=draw(st.sampled_from(release.fact("bridge_approach"))),
        network=draw(st.sampled_from(release.fact("network"))),
        flannel_source="/flanneld",
        flannel_version="0.17.0",
        cloud_provider=cloud,
        cloud_config=draw(st.sampled_from([None, "cloud.conf"])) if cloud else None,
        credential_policy="shared",
        credential_kind=draw(st.sampled_from(["token", "certificate"])),
        authorization_mode=draw(st.sampled_from([None, *release.fact("authorization_modes")])),
        admission_control=draw(st.sampled_from([None, ["ServiceAccount", "ResourceQuota"]])),
        allow_privileged=draw(st.booleans()),
        register_node=draw(st.booleans()),
        log_to_host=draw(st.sampled_from(release.fact("log_to_host"))),
        log_level=draw(st.integers(0, 10)),
        max_pods=draw(st.sampled_from([None, 50])),
        etcd_tls=draw(st.booleans()),
        certificate_signing=draw(st.sampled_from(release.fact("certificate_signing"))),
        control_plane_taint=draw(st.booleans()),
    )


@given(clusters(), st.sampled_from([None, True, False]))
def test_any_settings_give_flags_that_the_release_has(spec: ClusterSpec, swap: bool | None) -> None:
    release = Release.of(spec.kubernetes_version)
    plan = make_plan(spec)
    for host in spec.hosts:
        context = context_of(spec, plan, host.name, {"fail_swap_on": swap})
        for component in COMPONENTS:
            if component == "etcd" and host not in spec.etcd_members:
                continue
            lines = command_line(component, release, context)
            names = [line.removeprefix("--").partition("=")[0] for line in lines]
            assert len(names) == len(set(names))
            assert all(release.has_flag(component, name) for name in names)
            assert "None" not in " ".join(lines)
            assert lines == command_line(component, release, context)
            # It raises for a field that the release does not have.
            content = configuration(component, release, context)
            assert bool(content) is has_file(component, release)
            path = COMPONENTS[component].configuration
            assert (f"--config={path}" in lines) is bool(content)
            assert content == yaml.safe_load(
                configuration_text(component, release, context) or "{}"
            )
            assert probe(component, release, context).host


@given(clusters())
def test_no_two_rows_of_one_flag_hold_at_once(spec: ClusterSpec) -> None:
    release = Release.of(spec.kubernetes_version)
    for host in spec.hosts:
        context = context_of(spec, make_plan(spec), host.name)
        # A row whose setting is not set is left out.
        given = {name for name, value in context.items() if value is not None}
        for name, component in COMPONENTS.items():
            held = [
                (type(row), row.name)
                for row in holding(component.rows, name, release, context)
                if {word.split("}")[0] for word in str(row.value).split("{")[1:]} <= given
            ]
            assert name == "etcd" or len(held) == len(set(held)), name
            asked = [row.asked for row in holding(component.probes, name, release, context)]
            assert "liveness" in asked
            assert len(asked) == len(set(asked))


def test_ports() -> None:
    old, new = Release.of("1.3.10"), Release.of("1.20.2")
    assert ports("kube-scheduler", old) == {"port": 10251}
    assert ports("kube-scheduler", new) == {"port": 10259}
    # Those that ask nobody who they are stay closed, in every release.
    for release in (old, new):
        assert ports("kubelet", release) == {"port": 10250, "healthz_port": 10248}
    spec = spec_of("1.3.10")
    assert (spec.insecure_port, spec.secure_port, spec.etcd_client_port) == (8080, 6443, 2379)


@pytest.mark.parametrize("name", COMPONENTS)
def test_spans_have_one_value_for_each_release(name: str) -> None:
    component, lines = COMPONENTS[name], [Release.of(f"{one}.0").minor for one in known_releases()]
    for spans in component.ports.values():
        assert all(sum(covers(span, line) for span in spans) == 1 for line in lines)
    assert flags_setting(name) in ClusterSpec.model_fields


@pytest.mark.parametrize("policy", ["shared", "per_component", "per_node"])
def test_what_has_a_kubeconfig_is_somebody_under_any_policy(policy: str) -> None:
    for component in COMPONENTS.values():
        assert bool(component.kubeconfig) == bool(component.users)
        assert not component.users or policy in component.users
    assert "kube-proxy" not in PODS


ROWS = (
    Field("apiVersion", "kubelet.config.k8s.io/v1beta1", "1.24-"),
    Field("port", 10250, "1.24-"),
    Field("authentication.anonymous.enabled", False, "1.24-"),
    Field("authentication.x509.clientCAFile", "/srv/kubernetes/ca.crt", "1.24-"),
    Field("clusterDomain", "{cluster_domain}", "1.24-", {"standalone": False}),
    Field("maxPods", "{max_pods}", "1.24-"),
    Field("healthzBindAddress", "{cluster_domain}:{secure_port}", "1.24-"),
    Field("failCgroupV1", False, "1.31-"),
    Flag("max-pods", "{max_pods}", "1.2-1.23"),
)


def test_fields_become_a_nested_file(monkeypatch: pytest.MonkeyPatch) -> None:
    kubelet = replace(COMPONENTS["kubelet"], rows=ROWS)
    monkeypatch.setitem(COMPONENTS, "kubelet", kubelet)

    def both(version: str, **data: Any) -> tuple[dict[str, Any], list[str]]:
        spec = spec_of(version, **data)
        context, release = context_of(spec, make_plan(spec), "n1"), Release.of(version)
        return configuration("kubelet", release, context), command_line("kubelet", release, context)

    content, line = both("1.30.2", max_pods=50)
    assert content == {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "port": 10250,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": "/srv/kubernetes/ca.crt"},
        },
        "clusterDomain": "cluster.local",
        "maxPods": 50,
        "healthzBindAddress": "cluster.local:6443",
    }
    assert line == []
    assert "maxPods" not in both("1.30.2")[0]
    assert both("1.23.0", max_pods=50) == ({}, ["--max-pods=50"])


def test_fields_of_the_inventory_are_merged_over_ours() -> None:
    given = {"authentication": {"webhook": {"cacheTTL": "30s"}}, "clusterDNS": ["192.0.2.53"]}
    spec = spec_of("1.37.2", kubelet_configuration=given)
    context, release = context_of(spec, make_plan(spec), "n1"), Release.of("1.37.2")
    own = configuration("kubelet", release, context)
    found = configuration("kubelet", release, context, spec.kubelet_configuration)
    assert found["authentication"] == {
        **own["authentication"],
        "webhook": {"enabled": True, "cacheTTL": "30s"},
    }
    assert found["clusterDNS"] == ["192.0.2.53"]
    assert [*found] == [*own]
    with pytest.raises(InputError, match=r"kubelet_configuration\.clusterDomain = .* cluster_dom"):
        configuration("kubelet", release, context, {"clusterDomain": "example.org"})
    with pytest.raises(InputError, match="did you mean maxPods"):
        spec_of("1.37.2", kubelet_configuration={"maxPod": 60})
    with pytest.raises(InputError, match="use kubelet_flags"):
        spec_of("1.20.2", kubelet_configuration={"maxPods": 60})


def test_a_host_of_the_control_plane_is_a_node_from_1_24_on() -> None:
    def taints(groups: dict[str, list[str]], host: str, **data: Any) -> Any:
        spec = spec_of("1.37.2", groups, **data)
        context = context_of(spec, make_plan(spec), host)
        return configuration("kubelet", Release.of("1.37.2"), context).get("registerWithTaints")

    both = {"control_plane": ["m1"], "nodes": ["m1", "n1"]}
    assert taints(GROUPS, "m1") == [
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    ]
    assert taints(GROUPS, "m1", control_plane_taint=False) is None
    assert taints(both, "m1") is taints(GROUPS, "n1") is None
    role = {"node-role.kubernetes.io/control-plane": ""}
    assert spec_of("1.37.2").host("m1").reserved_labels == role
    assert spec_of("1.20.2").host("m1").roles == {"control_plane", "etcd"}


def test_files_that_a_command_line_names() -> None:
    held = [f"/srv/kubernetes/{name}" for name in ("ca.crt", "server.key", "service-account.key")]
    found = flags("kube-controller-manager", spec_of("1.3.10"), "m1")
    assert named_files(found, held) == [held[0], held[2]]
    assert named_files(flags("kube-scheduler", spec_of("1.3.10"), "m1"), held) == []


@pytest.mark.parametrize(
    ("component", "host", "version", "files"),
    [
        ("kube-apiserver", "m1", "1.20.2", set()),
        (
            "kube-apiserver",
            "m1",
            "1.37.2",
            {
                *("server.crt", "server.key", "kubelet-client.crt", "kubelet-client.key"),
                *("etcd-client.crt", "etcd-client.key", "front-proxy-ca.crt"),
                *("front-proxy-client.crt", "front-proxy-client.key"),
            },
        ),
        ("etcd", "m1", "1.37.2", {"etcd-server.crt", "etcd-server.key"}),
        # By root-ca-file it tells pods what it read when it started.
        ("kube-controller-manager", "m1", "1.37.2", {"front-proxy-ca.crt"}),
        ("kube-scheduler", "m1", "1.37.2", set()),
        ("kubelet", "n1", "1.23.1", set()),
        ("kubelet", "n1", "1.30.1", {"ca.crt"}),
        ("kubelet", "n1", "1.31.1", {"ca.crt", "kubelet.crt", "kubelet.key"}),
        ("kube-proxy", "n1", "1.37.2", set()),
    ],
)
def test_files_that_a_component_reads_again_by_itself(
    component: str, host: str, version: str, files: set[str]
) -> None:
    spec = spec_of(version)
    context = context_of(spec, make_plan(spec), host)
    found = reread_files(component, Release.of(version), context)
    assert {path.rpartition("/")[2] for path in found} == files


def test_host_facts_can_all_be_given() -> None:
    spec = spec_of("1.30.0")
    context = context_of(spec, make_plan(spec), "n1", dict.fromkeys(HOST_FACTS, "x"))
    assert all(context[name] == "x" for name in HOST_FACTS)
