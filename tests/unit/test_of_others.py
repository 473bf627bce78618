"""What somebody else has on a host is told from ours by what it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.runtimes import CONTAINERD, DOCKER
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases.kubelet import _say_other_pods
from pyinfra_kube.deploys.run.context import _check_etcd, _check_runtime, _check_store
from pyinfra_kube.deploys.run.host_facts import _kubelet_runtime, gather
from pyinfra_kube.engine.round_trip import RoundTrip
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.subject import Subject
from pyinfra_kube.facts.checks import Checks
from pyinfra_kube.facts.packages import Packages
from pyinfra_kube.facts.services import CommandDropIns
from pyinfra_kube.facts.static_pods import StaticPodStates
from pyinfra_kube.operations.services import Unit, _put_aside
from tests.unit import harness

DATA = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.0.2.10"}
SPEC = ClusterSpec.from_inventory(
    {"control_plane": ["m1"], "nodes": ["n1"]}, {"m1": DATA, "n1": DATA}
)
ELSEWHERE = {"DOCKER_HOST": "tcp://192.0.2.1:2375", "DOCKER_CONTEXT": "x", "DOCKER_TLS_VERIFY": "1"}


def shell(text: str, **environment: str) -> str:
    return subprocess.run(
        ["sh"], env={**os.environ, **environment}, input=text, capture_output=True, text=True
    ).stdout


OWN = "unix:///var/run/docker.sock//"


def test_docker_is_the_host_s_own_in_scripts() -> None:
    script = Script('echo "$DOCKER_HOST/${DOCKER_CONTEXT-}/${DOCKER_TLS_VERIFY-}"', "say")
    assert shell(str(script.connector_arguments["_stdin"]), **ELSEWHERE).strip() == OWN


def test_docker_is_the_host_s_own_in_facts() -> None:
    right = f'[ "$DOCKER_HOST/${{DOCKER_CONTEXT-}}/${{DOCKER_TLS_VERIFY-}}" = {OWN} ]'
    subject = Subject(Checks, {"commands": {"host": right, "tables": '[ ! -e "$DOCKER_CONFIG" ]'}})
    trip = RoundTrip([subject])
    said = shell(trip.command, **ELSEWHERE, DOCKER_CONFIG="/root")
    assert trip.process(said.split("\n"))[subject.key] == {"host": True, "tables": True}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("etc/systemd/system/kube-proxy.service.d", True),
        ("etc/systemd/system/kube-.service.d", True),
        ("run/systemd/system/service.d", True),
        ("usr/lib/systemd/system/kube-.service.d", True),
        ("etc/systemd/system/kube-p.service.d", False),
        ("etc/systemd/system/kubelet.service.d", False),
    ],
)
def test_drop_ins_that_systemd_reads_for_a_unit(tmp_path: Path, path: str, found: bool) -> None:
    file = tmp_path / path / "x.conf"
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\n ExecStart =\nExecStart=/bin/true\n")
    fact = CommandDropIns()
    said = shell(fact.command(["kube-proxy.service"], root=str(tmp_path))).splitlines()
    assert fact.process(said) == ({"kube-proxy.service": (str(file),)} if found else {})


def test_a_drop_in_of_other_units_too_stays() -> None:
    unit = Unit("kube-proxy.service")
    own = _put_aside(unit, "/etc/systemd/system/kube-proxy.service.d/x.conf")
    shared = _put_aside(unit, "/etc/systemd/system/kube-.service.d/x.conf")
    assert own[-1].startswith("mv ")
    assert shared[-1] == "ln -sfn /dev/null /etc/systemd/system/kube-proxy.service.d/x.conf"


ROWS = """\
installed	dpkg	1.21		install
installed	iputils-ping	3.1	ping	install
installed	apt	2.6	apt-transport-https (= 2.6), other	hold
triggers-pending	man-db	2.1		install
not-installed	socat			hold
config-files	gawk	5.1	awk	deinstall
"""


def test_what_a_package_of_apt_provides_is_installed(tmp_path: Path) -> None:
    for name, text in {"apt-get": "exit 1", "dpkg-query": f"cat <<'.'\n{ROWS}.\n"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    fact = Packages()
    names = ["ping", "other", "apt", "man-db", "socat", "awk", "gawk", "none"]
    said = shell(fact.command(names), PATH=f"{tmp_path}:/usr/bin:/bin").splitlines()
    states = fact.process([line.replace("manager\tdnf", "manager\tapt") for line in said])
    assert sorted(states.versions) == ["apt", "man-db", "other", "ping"]
    assert (states.held, states.partial) == (("socat",), ())


@pytest.mark.parametrize(
    ("there", "refused"),
    [
        ([], False),
        (["/var/lib/etcd/member"], True),
        (["/var/lib/etcd/member", "/srv/kubernetes/server.crt"], False),
    ],
)
def test_etcd_s_data_of_another_cluster(there: list[str], refused: bool) -> None:
    state = SimpleNamespace(points_at="directory")
    with harness.fake_host({"files.Files": dict.fromkeys(there, state)}):
        seen = gather(SPEC, "/srv/kubernetes/ca.crt")
    if not refused:
        _check_etcd(SPEC, {"m1": seen})
        return
    with pytest.raises(InputError, match=r"m1: etcd_data_dir = .*/var/lib/etcd/member is there"):
        _check_etcd(SPEC, {"m1": seen})


@pytest.mark.parametrize(
    ("held", "replace", "refused"),
    [
        ("ours", False, False),
        ("", False, False),
        ("theirs", False, True),
        ("theirs", True, False),
    ],
)
def test_credentials_of_another_cluster(held: str, replace: bool, refused: bool) -> None:
    spec = SPEC.model_copy(update={"replace_credentials": replace})
    credentials: Any = SimpleNamespace(new=True, ca_fingerprints=frozenset(["ours" * 16]))
    facts: Any = {"m1": SimpleNamespace(ca_fingerprint=held * 16)}
    if not refused:
        _check_store(spec, credentials, facts)
        return
    with pytest.raises(InputError, match="replace_credentials = True"):
        _check_store(spec, credentials, facts)


@pytest.mark.parametrize(
    ("version", "runtime", "refused"),
    [("1.24.0", "docker", True), ("1.24.0", "remote", False), ("1.23.1", "docker", False)],
)
def test_a_kubelet_that_runs_docker_s_containers(version: str, runtime: str, refused: bool) -> None:
    there = SimpleNamespace(kubelet_runtime=runtime)
    facts: Any = {"n1": there}
    spec = ClusterSpec.from_inventory(
        {"control_plane": ["m1"], "nodes": ["n1"]},
        dict.fromkeys(["m1", "n1"], DATA | {"kubernetes_version": version}),
    )
    if not refused:
        _check_runtime(spec, Release.of(version), facts)
        return
    with pytest.raises(InputError, match="kubelet runs docker's containers there"):
        _check_runtime(spec, Release.of(version), facts)


@pytest.mark.parametrize(
    ("told", "flags", "wanted", "refused"),
    [
        (b"containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n", {}, "cri-o", True),
        (b'containerRuntimeEndpoint: "unix:///run/crio/crio.sock"\n', {}, "containerd", True),
        (b'containerRuntimeEndpoint: "unix:///run/crio/crio.sock"\n', {}, "cri-o", False),
        (b"containerRuntimeEndpoint: unix:///run/other.sock\n", {}, "cri-o", False),
        (b"", {"container-runtime-endpoint": CONTAINERD.endpoint}, "cri-o", True),
        (b"", {"container-runtime": "remote"}, "cri-o", False),
    ],
)
def test_a_host_keeps_its_runtime(
    told: bytes, flags: dict[str, str], wanted: str, refused: bool
) -> None:
    facts: Any = {"n1": SimpleNamespace(kubelet_runtime=_kubelet_runtime(flags, told))}
    data = DATA | {"kubernetes_version": "1.37.2", "container_runtime": wanted}
    spec = ClusterSpec.from_inventory(
        {"control_plane": ["m1"], "nodes": ["n1"]}, dict.fromkeys(["m1", "n1"], data)
    )
    if not refused:
        _check_runtime(spec, Release.of("1.37.2"), facts)
        return
    with pytest.raises(InputError, match=f"container_runtime = '{wanted}'; allowed: .* runs pods"):
        _check_runtime(spec, Release.of("1.37.2"), facts)


def cluster(role: str) -> Any:
    settings = {
        "etcd_client_port": 2379,
        "etcd_metrics": False,
        "etcd_own_health": False,
        "etcd_version": "3.4.13-0",
        "apiserver_port": 6443,
    }
    return SimpleNamespace(
        runtime=DOCKER,
        spec=SPEC,
        release=Release.of("1.20.2"),
        settings=lambda: settings,
        host_spec=SimpleNamespace(roles={role}),
        is_a=lambda asked: asked == role,
    )


@pytest.mark.parametrize(
    ("role", "said"), [("node", ["etcd.yaml"]), ("etcd", []), ("", ["etcd.yaml"])]
)
def test_pods_of_others_are_said(role: str, said: list[str]) -> None:
    states = StaticPodStates(manifests={"/etc/kubernetes/manifests/etcd.yaml": "9f86"})
    with harness.fake_host({"static_pods.StaticPods": states}) as (_, _, lines):
        _say_other_pods(cluster(role))
    assert [line.split()[0].rpartition("/")[2] for line in lines] == said
