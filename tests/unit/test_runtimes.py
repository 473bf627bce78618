"""What asks or changes containers goes by a runtime's table, and by nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.runtimes import DOCKER, Runtime, runtime_named
from pyinfra_kube.facts.images import Images
from pyinfra_kube.facts.pods import PodContainers
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations import bridge, flannel, images, iptables, pods, static_pods
from tests.unit import harness
from tests.unit.toy_runtime import TOY

CRICTL = f"crictl --config /dev/null --timeout 2m --runtime-endpoint {TOY.endpoint}"
NAME = {"runtime": TOY.name}
MANIFEST = """\
metadata: {name: etcd, namespace: kube-system}
spec: {containers: [{name: etcd}]}
"""
ETCD: dict[str, Any] = {
    "id": "e5",
    "metadata": {"name": "etcd", "attempt": 1},
    "image": {"image": "etcd:3"},
    "state": "CONTAINER_RUNNING",
    "createdAt": "1700000000250000000",
    "labels": {"io.kubernetes.pod.name": "etcd-m", "io.kubernetes.pod.namespace": "kube-system"},
}
NOW = f"now 1700001000.5 1 (cat) {' '.join(['0'] * 50)}"


def commands(operation: Any, facts: dict[str, Any], **arguments: Any) -> str:
    """All that an operation does, as one text."""

    outcome = harness.run(operation, {**arguments, **NAME}, facts)
    lines = [line for one in outcome.commands for line in one["lines"]]
    assert "docker" not in "\n".join(lines)
    return "\n".join(lines)


@pytest.mark.parametrize("fact", [Images, PodContainers, StaticPods])
def test_facts_ask_the_runtime_that_is_named(fact: Any) -> None:
    asked = fact().command(**NAME)
    assert "docker" not in asked
    assert f"command -v {TOY.client}" in asked


def test_a_stopped_runtime_is_not_asked() -> None:
    assert f"systemctl show --property=LoadState,ActiveState {TOY.unit}" in TOY.guard
    assert f"! {TOY.name}_runs || ! shown=$(toy images" in TOY.asked(TOY.images)


def test_an_image_is_pulled() -> None:
    facts = {"images.Images": ["runtime crio", "pause:1 sha256:12"]}
    wanted = {"pause:1": None, "pause:2": None}
    assert commands(images.images, facts, files=wanted) == "toy pull pause:2"


def test_an_archive_is_loaded() -> None:
    archive = "tests/unit/operations/images.images/scheduler.tar"
    outcome = harness.run(images.images, {"files": {"a:1": archive}, **NAME}, {})
    lines = outcome.commands[-1]["lines"]
    assert '  toy load "$1"' in lines
    assert '  [ "$1" = "$2" ] || toy tag "$2" "$1"' in lines
    assert '  toy has "$1"' in lines


def test_pods_are_removed() -> None:
    facts = {"pods.PodContainers": ["crio", "a1", "b2"]}
    assert commands(pods.pods_absent, facts) == "toy remove a1 b2"


def test_a_static_pod_is_restarted() -> None:
    pod = static_pods.StaticPod("etcd", MANIFEST, restart=True)
    path = "/etc/kubernetes/manifests/etcd.yaml"
    there = static_pods.File(path, MANIFEST).sha256
    facts = {
        "static_pods.StaticPods": [
            f"{there}  {path}",
            "runtime crio",
            *json.dumps({"containers": [ETCD]}, indent=1).split("\n"),
            NOW,
        ],
        "files.Files": {},
    }
    done = commands(static_pods.static_pods, facts, pods=[pod])
    assert f"end() {{ {CRICTL} stop" in done
    assert f'logs() {{ {CRICTL} logs --tail 20 "$1"; }}' in done
    assert "end 30 e5" in done


def test_boot_units_come_before_the_runtime() -> None:
    for operation, arguments in {
        bridge.bridge: {"address": "10.10.1.1/24"},
        iptables.masquerade: {"cluster_cidr": "10.10.0.0/16"},
        iptables.forward: {"cluster_cidr": "10.10.0.0/16"},
    }.items():
        assert f"Before={TOY.unit} kubelet.service" in commands(operation, {}, **arguments)


def test_flanneld_restarts_with_the_runtime() -> None:
    text = flannel._renewal((), "10.16.0.0/16", "flannel.1", TOY.name).text
    assert f"for unit in {TOY.unit} kubelet.service" in text


def test_a_runtime_that_nobody_knows() -> None:
    assert runtime_named("docker") is DOCKER
    with pytest.raises(InputError, match="runtime = 'rkt'; allowed: docker"):
        runtime_named("rkt")


@pytest.mark.parametrize("one", [DOCKER, TOY], ids=lambda one: one.name)
def test_templates_take_what_is_filled_in(one: Runtime) -> None:
    assert one.load_image.format(file="F").count("F") == 1
    assert "N" in one.tag_image.format(name="N", image="I")
    assert "N" in one.pull_image.format(name="N")
    assert "C" in one.find_container.format(container="C")
    assert "{{" not in one.has_image.format(name="N").replace("{{.Id}}", "")
