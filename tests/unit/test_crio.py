"""CRI-O: what it answers, what it keeps, and what a plan does with it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.runtimes import CRIO
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases import container_runtime
from pyinfra_kube.facts.images import Images
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.operations import images
from tests.unit import harness
from tests.unit.blank import ONE_NODE, prepared

NAME = {"runtime": "cri-o"}
PAUSE = "registry.k8s.io/pause:3.10.2"
KEPT = [
    {"id": "ab" * 32, "names": [PAUSE], "layer": "c1"},
    {"id": "cd" * 32, "names": ["docker.io/lab/test:1", "docker.io/lab/test@sha256:12"]},
    {"id": "ef" * 32},
]
SHOWN = {
    "images": [
        {"id": "ab" * 32, "repoTags": [PAUSE], "repoDigests": [], "size": "1", "pinned": True},
        {"id": "cd" * 32, "repoTags": ["docker.io/lab/test:1"], "repoDigests": [], "size": "1"},
    ]
}
IDS = {PAUSE: f"sha256:{'ab' * 32}", "docker.io/lab/test:1": f"sha256:{'cd' * 32}"}
ARCHIVE = "tests/unit/operations/images.images/scheduler.tar"


def test_images() -> None:
    fact = Images()
    fact.command(**NAME)
    lines = ["runtime cri-o", *json.dumps(SHOWN, indent=2).split("\n")]
    assert fact.process(lines).ids == IDS


@pytest.mark.parametrize("state", ["down", "missing"])
def test_a_stopped_crio_keeps_its_images(state: str) -> None:
    kept = base64.b64encode(json.dumps(KEPT).encode()).decode()
    fact = Images()
    fact.command(**NAME)
    assert fact.process([f"runtime {state}", f"kept {CRIO.kept_images} {kept}"]).ids == IDS


def test_the_shell_knows_its_guard_by_a_word() -> None:
    assert CRIO.guard.startswith("crio_runs() {")
    assert "! crio_runs ||" in CRIO.asked(CRIO.images)


def test_an_archive_is_loaded_where_crio_has_its_images() -> None:
    outcome = harness.run(images.images, {"files": {"a:1": ARCHIVE}} | NAME, {})
    lines = "\n".join(outcome.commands[-1]["lines"])
    assert 'copy --quiet "docker-archive:""$1"":$one" "containers-storage:$one"' in lines
    assert 'copy --quiet containers-storage:"$2" containers-storage:"$1"' in lines
    assert lines.splitlines()[-1].startswith("name docker.io/library/a:1 ")


def problems(**data: Any) -> str:
    data = {"kubernetes_version": "1.37.2", "container_runtime": "cri-o", **data}
    with pytest.raises(InputError) as error:
        ClusterSpec.from_inventory(ONE_NODE, dict.fromkeys(("m", "n"), data))
    return str(error.value)


def test_wrong_settings() -> None:
    said = problems(kubernetes_version="1.23.17")
    assert "container_runtime = 'cri-o'; allowed: docker (Kubernetes 1.23)" in said
    said = problems(containerd_version="2.4.2")
    assert "containerd_version = '2.4.2'; allowed: nothing" in said
    assert "runs containers with cri-o" in said
    said = problems(registry_mirrors={"_default": "https://a.example.com"})
    assert "registry_mirrors = '_default'; allowed: registries by their names" in said
    said = problems(registry_mirrors={"quay.io": "https://a.example.com/quay"})
    assert "registry_mirrors.quay.io = 'https://a.example.com/quay'; allowed: for CRI-O" in said


def planned(tmp_path: Path, host: PackageStates, **data: Any) -> str:
    """What the phase alone shows on a blank host."""

    common = {"kubernetes_version": "1.37.2", "container_runtime": "cri-o", **data}
    common["credentials_dir"] = str(tmp_path / "none")
    path = Path(container_runtime.__file__)
    code = compile(path.read_text(), str(path), "exec")
    _, shown = prepared(lambda: exec(code, {}), ONE_NODE, common, host)
    return shown["n"]


DEBIAN = PackageStates("apt", "debian", "12")


def test_a_plan_with_a_source(tmp_path: Path) -> None:
    names = ("crio", "pinns", "crictl", "bridge", "host-local", "loopback", "portmap")
    for name in names:
        (tmp_path / name).write_text(name)
    shown = planned(tmp_path, DEBIAN, runtime_source=str(tmp_path))
    for line in (
        'default_runtime = "runc"',
        'plugin_dirs = ["/opt/cni/bin"]',
        'cni_default_network = "pods"',
        "ExecStart=/usr/local/bin/crio",
        "package conmon: absent → installed",
        "package runc: absent → installed",
        f"from {tmp_path}/pinns",
        "crio.service: inactive → running",
    ):
        assert line in shown
    assert "package skopeo:" not in shown
    archives = tmp_path / "archives"
    archives.mkdir()
    for name in ("pause", "kube-proxy"):
        (archives / f"{name}.tar").write_bytes(Path(ARCHIVE).read_bytes())
    shown = planned(tmp_path, DEBIAN, runtime_source=str(tmp_path), image_source=str(archives))
    assert "package skopeo: absent → installed" in shown
    assert f'pinned_images = ["{PAUSE}"]' in shown


def test_a_plan_with_packages(tmp_path: Path) -> None:
    shown = planned(tmp_path, PackageStates("dnf", "fedora", "44"))
    for line in (
        'plugin_dirs = ["/usr/libexec/cni"]',
        "package cri-o1.37: absent → installed",
        "package cri-tools1.37: absent → installed",
        "crio.service: not installed → enabled",
    ):
        assert line in shown
    assert "default_runtime" not in shown
    assert "/etc/systemd/system/crio.service" not in shown


def test_a_distribution_without_it(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="debian 12 ships no package of it") as error:
        planned(tmp_path, DEBIAN)
    assert "runtime_source" in str(error.value)
