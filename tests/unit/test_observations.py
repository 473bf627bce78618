"""What a deploy sees of a host before it plans."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.observations import Observation, observe
from tests.unit import harness

DATA = {"kubernetes_version": "1.20.2", "master_ip": "192.0.2.10"}
SPEC = ClusterSpec.from_inventory({"masters": ["m1"], "nodes": ["n1"]}, {"m1": DATA, "n1": DATA})
TITLE = b"Filename Type Size Used Priority\n"


def seen(facts: dict[str, Any]) -> Observation:
    with harness.fake_host(facts):
        return observe(SPEC, "/srv/kubernetes/ca.crt")


def test_a_blank_host() -> None:
    found = seen({})
    assert (found.addresses, found.pod_cidr, found.ca_fingerprint) == ([], "", "")
    assert found.settings == {
        "cni_bin_dir": "/opt/cni/bin",
        "docker_root": "/var/lib/docker",
        "fail_swap_on": None,
    }


def test_kubelet_follows_a_docker_that_somebody_configured() -> None:
    text = '{"data-root": "/data/docker", "exec-opts": ["native.cgroupdriver=systemd"]}'
    lines = [f"file {base64.b64encode(text.encode()).decode()} /etc/docker/daemon.json"]
    settings = seen({"docker.Docker": lines}).settings
    assert (settings["docker_root"], settings["cgroup_driver"]) == ("/data/docker", "systemd")
    running = [
        *lines,
        "running",
        "info Server Version: 20.10.24",
        "info Docker Root Dir: /data/docker/1000.1000",
    ]
    assert seen({"docker.Docker": running}).settings["docker_root"] == "/data/docker/1000.1000"


@pytest.mark.parametrize(("more", "flag"), [(b"", None), (b"/dev/sda2 partition 9 0 -2\n", False)])
def test_swap(more: bytes, flag: bool | None) -> None:
    found = seen({"files.FileContents": {"/proc/swaps": TITLE + more}})
    assert found.settings["fail_swap_on"] is flag
