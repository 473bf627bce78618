"""
What the scratch path makes of its inputs on blank hosts: wrong ones are refused before any command
runs, and every choice shows in the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.paths import Run, Site, each, execute, state
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = pytest.mark.lab

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.20"
MANIFESTS = "/etc/kubernetes/manifests"
KUBELET = "/etc/systemd/system/kubelet.service"
PROXY = "/etc/systemd/system/kube-proxy.service"
DAEMON = "/etc/docker/daemon.json"


# With what the error must say: key and value, what is allowed, the way out.
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "services among pods": (
        {"settings": {"service_cidr": "10.10.128.0/24"}},
        [
            "service_cidr = '10.10.128.0/24'",
            "allowed: a range apart from cluster_cidr 10.10.0.0/16",
            'fix: for example "10.0.0.0/24"',
        ],
    ),
    "hosts among pods": (
        {"settings": {"cluster_cidr": "{network}"}},
        [
            "cluster_cidr = '{network}'",
            f"allowed: a range without the hosts' addresses: {CONTROL_PLANE}",
        ],
    ),
    "host bits": (
        {"settings": {"cluster_cidr": "10.10.3.0/16"}},
        ["cluster_cidr = '10.10.3.0/16'", "allowed: a network without host bits", "10.10.0.0/16"],
    ),
    "host bits of a node": (
        {"own": {NODES[0]: {"pod_cidr": "10.10.1.1/24"}}},
        [f"{NODES[0]}: pod_cidr = '10.10.1.1/24'", "host bits", 'fix: write "10.10.1.0/24"'],
    ),
    "more nodes than networks": (
        {"settings": {"cluster_cidr": "10.10.0.0/24"}},
        [
            "cluster_cidr = '10.10.0.0/24'",
            "allowed: a range for 2 nodes; this one has room for 1",
            "fix: node_cidr_mask_size = 25",
        ],
    ),
    "unknown release": (
        {"settings": {"kubernetes_version": "1.99.0"}},
        ["kubernetes_version = '1.99.0'", "allowed: a release of 1.2", "nearest known: 1.36, 1.37"],
    ),
    "flag that the release lacks": (
        {
            "settings": {
                "kubernetes_version": "1.20.2",
                "kubelet_flags": {"api-servers": "http://192.0.2.1"},
            }
        },
        ["kubelet_flags = 'api-servers'", "a flag of kubelet 1.20", "fix: use --kubeconfig"],
    ),
    "unknown key": (
        {"settings": {"cluster_cidrt": "10.10.0.0/16"}},
        ["cluster_cidrt", "allowed: a known key", "fix: did you mean cluster_cidr?"],
    ),
    "missing group": (
        {"groups": {"control_plane": [CONTROL_PLANE], "node": NODES}},
        ["nodes is not set", "allowed: a group with at least one host", "rename the group node"],
    ),
    "endpoint with a scheme": (
        {"settings": {"control_plane_endpoint": "https://{address}:6443"}},
        [
            "control_plane_endpoint = 'https://{address}:6443'",
            'fix: write "{address}:6443"',
        ],
    ),
    "endpoint on a node": (
        {"settings": {"control_plane_endpoint": "{node}"}},
        [
            "control_plane_endpoint = '{node}'",
            f"allowed: an address of the control plane: {CONTROL_PLANE} ({{address}})",
            f"fix: {NODES[0]} has it: is it to be in the control plane?",
        ],
    ),
    "version as a number": (
        {"settings": {"kubernetes_version": 1.20}},
        [
            "kubernetes_version = 1.2;",
            'allowed: a release in quotes, such as "1.37.2"',
            '"1.20.15"',
        ],
    ),
    "version without a patch": (
        {"settings": {"kubernetes_version": "1.37"}},
        ["kubernetes_version = '1.37'", "allowed: a release", 'fix: write "1.37.2"'],
    ),
    "docker with a release of today": (
        {"settings": {"kubernetes_version": "1.24.17", "container_runtime": "docker"}},
        ["container_runtime = 'docker'", "1.24", "from 1.24 on containerd"],
    ),
    "containerd with an old release": (
        {"settings": {"kubernetes_version": "1.19.16", "container_runtime": "containerd"}},
        ["container_runtime = 'containerd'", "1.19", "leave it unset for docker up to 1.23"],
    ),
    "misspelt field": (
        {
            "settings": {
                "kubernetes_version": "1.37.2",
                "kubelet_configuration": {"maxPod": 50},
            }
        },
        ["kubelet_configuration = 'maxPod'", "allowed: a field of", "fix: did you mean maxPods?"],
    ),
    "unknown containerd": (
        {"settings": {"kubernetes_version": "1.37.2", "containerd_version": "3.9.0"}},
        ["containerd_version = '3.9.0'", "allowed: a version of containerd", "2.3-2.4"],
    ),
    "approach that the release lacks": (
        {"settings": {"kubernetes_version": "1.20.2", "apiserver_approach": "http"}},
        ["apiserver_approach = 'http'", "1.20", "https"],
    ),
    "a port of another component": (
        {"settings": {"secure_port": 10259}},
        ["secure_port = 10259", "allowed: a port that kube-apiserver or kube-scheduler has alone"],
    ),
    "several things": (
        {"settings": {"cluster_dns": "10.10.0.10", "route_pods": "yes", "log_level": 11}},
        [
            "3 things are wrong with the inventory",
            "cluster_dns = '10.10.0.10'; allowed: an address of the services 10.254.0.0/24",
            "route_pods = 'yes'; allowed: True or False; fix: write True without quotes",
            "log_level = 11; allowed: at most 10",
        ],
    ),
}


@pytest.fixture(scope="module")
def names(lab: Lab) -> dict[str, str]:
    """What the lab's addresses are, for the texts above."""
    return {
        "network": str(lab.network.hosts),
        "address": lab.hosts[CONTROL_PLANE].ip,
        "node": lab.hosts[NODES[0]].ip,
    }


@pytest.fixture(scope="module")
def refusals(
    lab: Lab, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Run]]:
    """What a run says to each of them; several at once, for nothing may come of any."""
    sites = {
        case: Site(tmp_path_factory.mktemp("wrong") / "cluster", **_filled(arguments, names))
        for case, (arguments, _) in WRONG.items()
    }
    before = state(lab), {case: site.contents() for case, site in sites.items()}
    runs = each(lambda case: sites[case].run("-y", "-vvv"), sites)
    yield dict(zip(sites, runs, strict=True))
    assert (state(lab), {case: site.contents() for case, site in sites.items()}) == before


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case: str, refusals: dict[str, Run], names: dict[str, str]) -> None:
    refused(refusals[case], [text.format(**names) for text in WRONG[case][1]])
    # With -vvv each command is shown after this sign.
    assert ">>>" not in refusals[case].said


def test_what_only_hosts_know_is_refused_after_looking(lab: Lab, tmp_path: Path) -> None:
    """A network of a host's own that is among the pods'."""
    site = Site(tmp_path / "cluster")
    execute(lab, NODES[1], "ip link add far type bridge && ip address add 10.10.77.1/24 dev far")
    try:
        before = state(lab), site.contents()
        run = site.run("-y")
        allowed = f"allowed: a range apart from the network 10.10.77.0/24 of {NODES[1]}"
        refused(run, ["cluster_cidr = '10.10.0.0/16'", allowed, "fix: for example"])
        assert (state(lab), site.contents()) == before
    finally:
        execute(lab, NODES[1], "ip link delete far")


def refused(run: Run, expected: list[str]) -> None:
    assert run.code != 0
    assert "no host was touched" in run.said
    assert "Traceback" not in run.said
    for text in expected:
        assert text in run.said, run.said


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, names) for key, item in value.items()}
    return value.format(**names) if isinstance(value, str) else value


# Choices

CHOICES: dict[str, dict[str, Any]] = {
    "one certificate": {
        "settings": {"credential_kind": "certificate", "credential_policy": "shared"}
    },
    "a token a component": {"settings": {"credential_policy": "per_component"}},
    # The last release that has it. What is installed does not matter to the plan.
    "http": {"settings": {"apiserver_approach": "http", "kubernetes_version": "1.19.16"}},
    "kubenet": {"settings": {"bridge_approach": "kubelet", "kubernetes_version": "1.20.2"}},
    # The guide's own time.
    "1.3": {
        "settings": {
            "apiserver_approach": "http",
            "bridge_approach": "kubelet",
            "hyperkube": True,
            "kubernetes_version": "1.3.10",
        }
    },
    "three members": {
        "groups": {"control_plane": [CONTROL_PLANE], "nodes": NODES, "etcd": list(HOSTS)}
    },
    "a control-plane host that is a node": {
        "groups": {"control_plane": [CONTROL_PLANE], "nodes": list(HOSTS)}
    },
}


@pytest.fixture(scope="module")
def plans(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """What a dry run says of each choice."""

    def plan(case: str) -> Run:
        site = Site(tmp_path_factory.mktemp("choice") / "cluster", **CHOICES[case])
        return site.run("--dry", "--diff")

    runs = dict(zip(CHOICES, each(plan, CHOICES), strict=True))
    for case, run in runs.items():
        assert run.code == 0, (case, run.said[-4000:])
    return runs


def test_one_certificate_for_all(plans: dict[str, Run]) -> None:
    run = plans["one certificate"]
    apiserver = run.new_files(CONTROL_PLANE)[f"{MANIFESTS}/kube-apiserver.yaml"]
    assert "--client-ca-file=/srv/kubernetes/ca.crt" in apiserver
    assert "token-auth-file" not in apiserver
    assert "/srv/kubernetes/known_tokens.csv" not in run.new_files(CONTROL_PLANE)
    assert (CONTROL_PLANE, "clients/admin.crt: made, the store has none") in run.lines
    assert not any("tokens.json" in text for _, text in run.lines)


def test_one_token_a_component(plans: dict[str, Run]) -> None:
    parts = "admin, kube-controller-manager, kube-scheduler, kubelet, kube-proxy"
    assert (CONTROL_PLANE, f"tokens.json: new for {parts}") in plans["a token a component"].lines


def test_http(plans: dict[str, Run], lab: Lab) -> None:
    run, address = plans["http"], lab.hosts[CONTROL_PLANE].ip
    files = run.new_files(CONTROL_PLANE)
    assert f"--insecure-bind-address={address}" in files[f"{MANIFESTS}/kube-apiserver.yaml"]
    assert "--insecure-port=8080" in files[f"{MANIFESTS}/kube-apiserver.yaml"]
    for component in ("kube-controller-manager", "kube-scheduler"):
        assert f"--master=http://{address}:8080" in files[f"{MANIFESTS}/{component}.yaml"]
    assert f"--master=http://{address}:8080" in run.new_files(NODES[0])[PROXY]
    assert any("--dport 8080 -j ACCEPT" in text for _, text in run.lines)


def test_the_bridge_by_kubenet(plans: dict[str, Run]) -> None:
    run = plans["kubenet"]
    files = run.new_files(NODES[0])
    assert "--network-plugin=kubenet" in files[KUBELET]
    assert '"bridge": "none"' in files[DAEMON]
    assert (NODES[0], "package containernetworking-plugins: absent → installed") in run.lines
    assert not any("bridge cbr0" in text for _, text in run.lines)


def test_the_bridge_by_the_first_kubelets(plans: dict[str, Run], lab: Lab) -> None:
    run = plans["1.3"]
    kubelet = run.new_files(NODES[0])[KUBELET]
    for flag in (
        f"--api-servers=http://{lab.hosts[CONTROL_PLANE].ip}:8080",
        "--config=/etc/kubernetes/manifests",
        "--configure-cbr0=true",
        "--pod-cidr=10.10.0.0/24",
    ):
        assert f"  {flag} \\" in kubelet.splitlines()
    apiserver = run.new_files(CONTROL_PLANE)[f"{MANIFESTS}/kube-apiserver.yaml"]
    assert "image: gcr.io/google_containers/hyperkube:v1.3.10" in apiserver
    assert "    - /hyperkube\n    - apiserver\n" in apiserver
    # That kubelet makes the bridge, but docker needs it to start.
    assert (NODES[0], "bridge cbr0: absent → present") in run.lines


def test_three_members_of_etcd(plans: dict[str, Run], lab: Lab) -> None:
    run = plans["three members"]
    ips = {name: lab.hosts[name].ip for name in HOSTS}
    everybody = ",".join(f"{name}=https://{ip}:2380" for name, ip in ips.items())
    for name, ip in ips.items():
        etcd = run.new_files(name)[f"{MANIFESTS}/etcd.yaml"]
        assert f"--initial-cluster={everybody}" in etcd
        assert f"--listen-peer-urls=https://{ip}:2380" in etcd
    apiserver = run.new_files(CONTROL_PLANE)[f"{MANIFESTS}/kube-apiserver.yaml"]
    servers = ",".join(f"https://{ip}:2379" for ip in ips.values())
    assert f"--etcd-servers={servers}" in apiserver


def test_a_control_plane_host_that_is_a_node(plans: dict[str, Run]) -> None:
    run = plans["a control-plane host that is a node"]
    assert "--register-node=true" in run.new_files(CONTROL_PLANE)[KUBELET]
    assert PROXY in run.new_files(CONTROL_PLANE)
    assert (CONTROL_PLANE, f"node {CONTROL_PLANE}: pod CIDR absent → 10.10.0.0/24") in run.lines
