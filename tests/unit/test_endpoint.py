"""Where clients reach the control plane, and what a host's own address is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.allocation import SeenAddresses, choose_addresses, make_plan
from pyinfra_kube.cluster.components.row_settings import settings
from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.errors import InputError, Wrong
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.endpoint import Endpoint, parse_endpoint
from pyinfra_kube.deploys.run.context import _check_endpoint
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import HOSTS, TWO_NODES, prepared

RELEASE = {"kubernetes_version": "1.20.2"}
CONTROL_PLANE = {"m1": "192.168.10.4", "m2": "192.168.10.5", "m3": "192.168.10.6"}
BALANCER = "192.168.10.100:443"


def spec_of(
    endpoint: str | None = None, own: dict[str, str] | None = None, **data: Any
) -> ClusterSpec:
    """A cluster of control-plane hosts with or without addresses, and a node."""
    addresses = {"m1": CONTROL_PLANE["m1"]} if own is None else own
    groups = {"control_plane": list(addresses), "nodes": ["n1"]}
    known = {name: {"ssh_hostname": address} for name, address in addresses.items()}
    hosts = {**known, "n1": {"ssh_hostname": "192.168.10.9"}}
    common = {**RELEASE, **({"control_plane_endpoint": endpoint} if endpoint else {}), **data}
    return ClusterSpec.from_inventory(groups, {name: common | hosts[name] for name in hosts})


# How it is written

_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
_NAME = st.lists(_LABEL, min_size=1, max_size=4).map(".".join)
_ADDRESS = st.tuples(
    st.integers(1, 223).filter(lambda first: first != 127), *[st.integers(0, 255)] * 3
).map(lambda parts: ".".join(map(str, parts)))
_HOST = _ADDRESS.filter(lambda text: not text.startswith("169.254.")) | _NAME.filter(
    lambda text: not text.split(".")[-1].isdecimal() and not text.startswith("localhost")
)


@given(_HOST, st.integers(1, 65535))
def test_what_is_written_is_read(host: str, port: int) -> None:
    assert parse_endpoint(f"{host}:{port}") == (host, port)
    assert parse_endpoint(host, 6443) == (host, 6443)
    assert str(parse_endpoint(host, 6443)) == f"{host}:6443"
    assert (parse_endpoint(host).address is None) == bool(re.search("[a-z]", host.split(".")[-1]))


@given(
    st.text(max_size=20)
    | st.text(alphabet="aA1.:-/[]_hps", max_size=20)
    | st.tuples(_HOST, st.integers(-1, 70000)).map(lambda both: f"https://{both[0]}:{both[1]}/x")
)
@example("https://https://https://a")
@example("a.:1")
def test_any_text_is_read_or_refused_with_a_fix_that_works(text: str) -> None:
    try:
        endpoint = parse_endpoint(text, 1)
    except Wrong as wrong:
        if wrong.fix:
            parse_endpoint(wrong.fix.removeprefix('write "').removesuffix('"'))
        return
    assert text in (endpoint.host, str(endpoint))
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("192.0.2.10:6443/api", 'write "192.0.2.10:6443"'),
        ("192.0.2.10:99999", 'write "192.0.2.10"'),
    ],
)
def test_a_port_that_is_right_stays(text: str, fix: str) -> None:
    with pytest.raises(Wrong) as wrong:
        parse_endpoint(text)
    assert wrong.value.fix == fix


# What it is by default


@pytest.mark.parametrize(
    ("endpoint", "data", "url"),
    [
        (None, {}, "https://192.168.10.4:6443"),
        (None, {"secure_port": 443}, "https://192.168.10.4:443"),
        ("192.168.10.4", {"secure_port": 443}, "https://192.168.10.4:443"),
        (BALANCER, {}, "https://192.168.10.100:443"),
        ("k8s.example.com", {}, "https://k8s.example.com:6443"),
        (
            "k8s.example.com",
            {"kubernetes_version": "1.3.10", "apiserver_approach": "http"},
            "http://k8s.example.com:8080",
        ),
    ],
)
def test_the_url_of_the_apiserver(endpoint: str | None, data: dict[str, Any], url: str) -> None:
    assert spec_of(endpoint, **data).apiserver_url == url


def test_a_default_that_only_hosts_can_tell() -> None:
    spec = spec_of(own={"m1": "m1.example.com"})
    assert spec.endpoint is None
    assert "control plane  (not known yet)  m1" in make_plan(spec).table()
    with pytest.raises(
        InputError,
        match="where clients reach the control plane, for the address of m1 is not known",
    ):
        _ = spec.apiserver_url
    told = spec.with_addresses({"m1": "192.168.10.4"})
    assert told.endpoint == Endpoint("192.168.10.4", 6443)


# Which host has it, and what its own address is then


@pytest.mark.parametrize(
    ("own", "endpoint", "links", "address"),
    [
        # The address that SSH finds is another link's, or none of the host's.
        ("172.20.9.9", "192.168.10.4:443", ["172.20.9.9/24", "192.168.10.4/24"], "192.168.10.4"),
        ("203.0.113.7", "192.168.10.4", ["172.20.9.9/24", "192.168.10.4/24"], "192.168.10.4"),
        ("m1.example.com", "192.168.10.4", ["172.20.9.9/24", "192.168.10.4/24"], "192.168.10.4"),
        # Nobody knows an address but the endpoint's.
        ("m1.example.com", "192.168.10.4", [], "192.168.10.4"),
        # Not this host's.
        ("192.168.10.4", BALANCER, ["192.168.10.4/24"], "192.168.10.4"),
        ("m1.example.com", BALANCER, ["192.168.10.4/24"], "192.168.10.4"),
        ("m1.example.com", "k8s.example.com", ["192.168.10.4/24"], "192.168.10.4"),
    ],
)
def test_the_own_address_of_a_single_host(
    own: str, endpoint: str, links: list[str], address: str
) -> None:
    spec = spec_of(endpoint, {"m1": own})
    seen = {"m1": SeenAddresses(dict.fromkeys(links, "eth0"))}
    told = spec.with_addresses(choose_addresses(spec, seen))
    assert make_plan(told).own_address("m1") == address


def test_an_address_that_is_written_is_the_own_one() -> None:
    spec = spec_of("192.168.10.4", {"m1": "172.20.9.9"})
    seen = {"m1": SeenAddresses({"172.20.9.9/24": "eth0", "192.168.10.4/24": "eth1"})}
    assert choose_addresses(spec, seen, written=["m1"]) == {}
    assert make_plan(spec).own_address("m1") == "172.20.9.9"


def test_several_hosts_have_their_own_addresses() -> None:
    spec = spec_of(CONTROL_PLANE["m1"], CONTROL_PLANE)
    plan = make_plan(spec)
    assert {name: plan.own_address(name) for name in CONTROL_PLANE} == CONTROL_PLANE
    unknown = make_plan(spec_of(CONTROL_PLANE["m1"], {**CONTROL_PLANE, "m1": "m1.example.com"}))
    with pytest.raises(InputError, match="m1: address is not set"):
        unknown.own_address("m1")


LEADS = "control_plane_endpoint {} must lead to port {} of {}: nothing here sets that up"


@pytest.mark.parametrize(
    ("endpoint", "own", "held", "warned"),
    [
        (None, CONTROL_PLANE, {}, ""),
        ("192.168.10.5", CONTROL_PLANE, {}, ""),
        ("192.168.10.5:6443", CONTROL_PLANE, {}, ""),
        ("m2", CONTROL_PLANE, {}, ""),
        # An address that is on one of them now, as a virtual one is.
        ("192.168.10.100", CONTROL_PLANE, {"m2": ["192.168.10.100"]}, ""),
        ("192.168.10.100", CONTROL_PLANE, {}, "6443 of m1, m2, m3"),
        ("192.168.10.5:443", CONTROL_PLANE, {}, "6443 of m1, m2, m3"),
        ("k8s.example.com", CONTROL_PLANE, {}, "6443 of m1, m2, m3"),
        # Nobody can tell yet.
        ("192.168.10.100", {"m1": "m1.example.com"}, {}, ""),
    ],
)
def test_the_plan_warns_of_an_endpoint_that_no_apiserver_listens_on(
    endpoint: str | None, own: dict[str, str], held: dict[str, list[str]], warned: str
) -> None:
    warnings = make_plan(spec_of(endpoint, own), held=held).warnings
    port, _, hosts = warned.partition(" of ")
    assert warnings == ((LEADS.format(endpoint, port, hosts),) if warned else ())


def test_a_run_refuses_an_endpoint_that_nobody_knows_or_that_a_node_has() -> None:
    def told(*addresses: str) -> HostFacts:
        return HostFacts(list(addresses), "", [], "", "", "", "")

    named = {"m1": "m1.example.com"}
    with pytest.raises(InputError, match="the address of m1 is not known"):
        _check_endpoint(spec_of(own=named), {})
    spec = spec_of("172.20.0.7", named)
    with pytest.raises(InputError, match="n1 has it: is it to be in the control plane"):
        _check_endpoint(spec, {"m1": told("172.20.0.1"), "n1": told("172.20.0.7")})
    _check_endpoint(spec, {"m1": told("172.20.0.1", "172.20.0.7"), "n1": told("172.20.0.7")})
    _check_endpoint(spec, {"m1": told("172.20.0.1"), "n1": told("172.20.0.2")})
    # The host of the control plane that is away may have it.
    _check_endpoint(spec, {"n1": told("172.20.0.7")})


# What follows from it


def test_components_use_the_endpoint_as_clients_and_their_own_address_as_servers() -> None:
    spec = spec_of(BALANCER, CONTROL_PLANE)
    found = settings(spec, make_plan(spec), "m2")
    assert found["apiserver_url"] == "https://192.168.10.100:443"
    assert found["host_address"] == "192.168.10.5"
    assert found["secure_port"] == 6443
    assert found["etcd_peer_url"] == "https://192.168.10.5:2380"


@pytest.mark.parametrize("endpoint", [BALANCER, "k8s.example.com:443"])
def test_the_certificate_names_the_endpoint_and_each_host(endpoint: str, tmp_path: Path) -> None:
    spec = spec_of(endpoint, CONTROL_PLANE)
    credentials = CredentialStore(tmp_path).plan(spec, make_plan(spec))
    names = pki.read(credentials.host_files(spec.host("m1"))["/srv/kubernetes/server.crt"]).names
    assert {endpoint.partition(":")[0], *CONTROL_PLANE.values(), *CONTROL_PLANE} <= names
    assert f"server: https://{endpoint}\n" in credentials.kubeconfig("kubelet", "n1")
    assert "server: https://127.0.0.1:6443\n" in credentials.kubeconfig("kube-scheduler")


def test_a_path_with_an_endpoint_elsewhere(tmp_path: Path) -> None:
    data = {"control_plane_endpoint": "k8s.example.com:443", "credentials_dir": str(tmp_path)}
    digests = dict.fromkeys(("kubelet", "kube-proxy", "kubectl"), "0" * 64)
    packages = PackageStates("apt", "debian", "12")
    _, shown = prepared(scratch, TWO_NODES, {**data, "kubernetes_sha256": digests}, packages)
    assert f"--advertise-address={HOSTS['m']}" in shown["m"]
    assert "--dport 6443 -j ACCEPT" in shown["m"]
    assert "443 -j ACCEPT" not in shown["m"].replace("6443", "")


# The words of inventories

WORDS: dict[str, tuple[dict[str, list[str]], dict[str, Any], str]] = {
    "ours": (
        {"control_plane": ["m1"], "nodes": ["n1"]},
        {
            "kubernetes_version": "1.20.2",
            "cluster_name": "east",
            "control_plane_endpoint": "192.168.10.4",
            "cluster_cidr": "10.20.0.0/16",
            "service_cidr": "10.254.0.0/16",
            "cloud_provider": None,
        },
        "pod_cidr",
    ),
    "those of the previous version": (
        {"masters": ["m1"], "nodes": ["n1"]},
        {
            "kubernetes_version": "1.20.2",
            "cluster_name": "east",
            "master_ip": "192.168.10.4",
            "cluster_subnet": "10.20.0.0/16",
            "service_cluster_ip_range": "10.254.0.0/16",
            "cloud_provider": "unset",
        },
        "node_pod_cidr",
    ),
    "the guide's": (
        {"masters": ["m1"], "minions": ["n1"]},
        {
            "KUBERNETES_VERSION": "1.20.2",
            "CLUSTER_NAME": "east",
            "MASTER_IP": "192.168.10.4",
            "CLUSTER_SUBNET": "10.20.0.0/16",
            "SERVICE_CLUSTER_IP_RANGE": "10.254.0.0/16",
            "CLOUD_PROVIDER": "unset",
        },
        "NODE_X_POD_CIDR",
    ),
}


@pytest.mark.parametrize("words", WORDS)
def test_an_inventory_in_other_words_is_the_same_cluster(words: str) -> None:
    def read(words: str) -> ClusterSpec:
        groups, data, pod_cidr = WORDS[words]
        return ClusterSpec.from_inventory(
            groups, {"m1": data, "n1": {**data, pod_cidr: "10.20.7.0/24"}}
        )

    spec = read(words)
    assert spec == read("ours")
    assert spec.endpoint == Endpoint("192.168.10.4", 6443)
    assert spec.host("n1").pod_cidr == "10.20.7.0/24"
