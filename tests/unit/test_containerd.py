"""containerd: what it answers, what it keeps, and what its configuration becomes."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.cluster.containerd_versions import newest_configuration, of_distribution
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.runtimes import CONTAINERD, bolt, crictl
from pyinfra_kube.cluster.runtimes.containerd import full_name
from pyinfra_kube.cluster.runtimes.containerd_config import Wanted, merge
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases import container_runtime
from pyinfra_kube.facts.images import Images
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.operations import images
from tests.unit import harness
from tests.unit.blank import ONE_NODE, prepared

# The file that containerd 2.4.2 kept of three images, one of them with two names.
META = Path(__file__).parent / "fixtures/containerd/meta.db.gz"
PAUSE = "registry.k8s.io/pause:3.10.2"
KEPT = {
    "docker.io/lab/test:1": "",
    "registry.k8s.io/kube-proxy:v1.37.2": "",
    PAUSE: "",
    "registry.k8s.io/renamed:1": "",
}
NAME = {"runtime": "containerd"}


def test_kept_names() -> None:
    assert CONTAINERD.read_kept_images(META.read_bytes()) == KEPT


def test_buckets_of_a_damaged_file() -> None:
    data = gzip.decompress(META.read_bytes())
    assert bolt.buckets(data, ["v1", "moby", "images"]) == []
    for damaged in (b"", data[:5000], b"\0" * len(data)):
        with pytest.raises(ValueError, match=r"damaged|none of bolt's"):
            bolt.buckets(damaged, ["v1", "k8s.io", "images"])


@pytest.mark.parametrize("state", ["down", "missing"])
def test_a_stopped_containerd_keeps_its_images(state: str) -> None:
    kept = base64.b64encode(META.read_bytes()).decode()
    facts = {"images.Images": [f"runtime {state}", f"kept {CONTAINERD.kept_images} {kept}"]}
    archive = "tests/unit/operations/images.images/scheduler.tar"
    outcome = harness.run(
        images.images, {"files": {"lab/test:1": archive, PAUSE: None}} | NAME, facts
    )
    assert outcome.commands == []


def test_a_loaded_image_stays() -> None:
    archive = "tests/unit/operations/images.images/scheduler.tar"
    outcome = harness.run(images.images, {"files": {"a:1": archive}} | NAME, {})
    lines = outcome.commands[-1]["lines"]
    assert any(
        line.endswith('label "$1" io.cri-containerd.pinned=pinned >/dev/null') for line in lines
    )
    assert lines[-1].startswith("name docker.io/library/a:1 ")


def test_names_of_images() -> None:
    assert full_name("busybox:1") == "docker.io/library/busybox:1"
    assert full_name("lab/test:1") == "docker.io/lab/test:1"
    for name in (PAUSE, "localhost/a:1", "host:5000/a:1"):
        assert full_name(name) == name


def test_images() -> None:
    shown = {
        "images": [
            {"id": "sha256:12", "repoTags": ["a:1", "b:1"], "pinned": True},
            {"id": "sha256:34", "repoTags": []},
        ]
    }
    fact = Images()
    fact.command(**NAME)
    lines = ["runtime containerd", *json.dumps(shown, indent=2).split("\n")]
    assert fact.process(lines).ids == {"a:1": "sha256:12", "b:1": "sha256:12"}
    assert crictl.read_images(["{}"]) == {}


CONTAINER: dict[str, Any] = {
    "id": "52835",
    "metadata": {"name": "c1", "attempt": 3},
    "image": {"image": "sha256:8c", "userSpecifiedImage": "docker.io/lab/test:1"},
    "state": "CONTAINER_EXITED",
    "createdAt": "1795690494268433863",
    "labels": {"io.kubernetes.pod.name": "p1", "io.kubernetes.pod.namespace": "ns"},
}


def test_containers() -> None:
    running = {**CONTAINER, "id": "b4890", "state": "CONTAINER_RUNNING"}
    lines = json.dumps({"containers": [CONTAINER, running]}, indent=2).split("\n")
    ended, runs = crictl.read_containers([*lines, "exit 52835 7"], lambda _: 0.0)
    assert (ended.exit_code, ended.restarts, ended.started) == (7, 3, 1795690494.268)
    assert (ended.pod, ended.namespace, ended.image) == ("p1", "ns", "docker.io/lab/test:1")
    assert runs.running
    assert runs.exit_code is None


@pytest.mark.parametrize(
    ("version", "newest"),
    [("1.5.9", None), ("1.6", 2), ("2.0.7", 3), ("2.4.2", 4), ("3.0.0", None)],
)
def test_versions_of_the_file(version: str, newest: int | None) -> None:
    assert newest_configuration(version) == newest


def test_versions_of_distributions() -> None:
    assert of_distribution("debian", "12") == "1.6"
    assert of_distribution("debian", "13") == "1.7"
    assert of_distribution("arch", "") == "2.4"


GROUPS = {"control_plane": ["m"], "nodes": ["n"]}
COMMON = {"kubernetes_version": "1.37.2", "control_plane_endpoint": "192.0.2.1"}


def problems(**data: Any) -> str:
    with pytest.raises(InputError) as error:
        ClusterSpec.from_inventory(GROUPS, {key: {**COMMON, **data} for key in ("m", "n")})
    return str(error.value)


def test_settings_that_are_refused() -> None:
    versions = 'allowed: a version of containerd, such as "2.4.2", of 1.6-1.7, 2.0-2.2, 2.3-2.4'
    assert f"containerd_version = '3.0.0'; {versions}" in problems(containerd_version="3.0.0")
    assert f"containerd_version = '1.5'; {versions}" in problems(containerd_version="1.5")
    assert 'fix: write "2.4.2"' in problems(containerd_version="v2.4.2")
    assert "containerd_version is not set" in problems(runtime_source="/srv/programs")
    said = problems(container_runtime="docker")
    assert "container_runtime = 'docker'; allowed: containerd, cri-o (Kubernetes 1.37)" in said
    said = problems(container_runtime="containerd", kubernetes_version="1.19.16")
    assert "container_runtime = 'containerd'; allowed: docker (Kubernetes 1.19)" in said


FOLDER = Path(container_runtime.__file__)
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "crictl")
PLUGINS = ("bridge", "host-local", "loopback", "portmap")
CRICTL = "https://github.com/kubernetes-sigs/cri-tools/releases/download/v1.37.0"


def programs(folder: Path, plugins: str = "cni", names: Sequence[str] = PROGRAMS) -> str:
    """A folder with everything that a source must have."""

    for path in (*names, *(f"{plugins}/{name}" for name in PLUGINS)):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(path)
    return str(folder)


def planned(tmp_path: Path, offered: str = "", **data: Any) -> str:
    """What the phase alone shows on a blank Debian 12, whose apt offers a containerd."""

    common = {"credentials_dir": str(tmp_path / "none"), "kubernetes_version": "1.37.2", **data}
    code = compile(FOLDER.read_text(), str(FOLDER), "exec")
    host = PackageStates("apt", "debian", "12")
    more = {"packages.Candidates": {"containerd": offered} if offered else {}}
    _, shown = prepared(lambda: exec(code, {}), ONE_NODE, common, host, more=more)
    return shown["n"]


def test_a_plan_with_a_source(tmp_path: Path) -> None:
    source = programs(tmp_path)
    shown = planned(tmp_path, runtime_source=source, containerd_version="2.4.2")
    for line in (
        "+ version = 3",
        'bin_dirs = ["/opt/cni/bin"]',
        "ExecStart=/usr/local/bin/containerd",
        '"mtu": 1460,',
        '{"type": "host-local", "ranges": [[{"subnet": "10.10.1.0/24"}]]}',
        "package runc: absent → installed",
        f"from {source}/cni/portmap",
        "containerd.service: inactive → running",
    ):
        assert line in shown
    assert "package containerd:" not in shown
    (tmp_path / "runc").write_text("runc")
    shown = planned(tmp_path, runtime_source=source, containerd_version="2.4.2")
    assert "/usr/local/sbin/runc: absent" in shown
    assert "package runc:" not in shown


def test_a_plan_with_packages(tmp_path: Path) -> None:
    archive = "crictl-v1.37.0-linux-amd64.tar.gz"
    shown = planned(tmp_path, runtime_sha256={archive: "0" * 64})
    for line in (
        "+ version = 2",
        'bin_dir = "/usr/lib/cni"',
        "package containerd: absent → installed",
        "package containernetworking-plugins: absent → installed",
        f"/usr/local/bin/crictl: absent → from {CRICTL}/{archive}",
        "containerd.service: not installed → enabled",
    ):
        assert line in shown
    assert "/etc/systemd/system/containerd.service" not in shown


@pytest.mark.parametrize(
    ("offered", "data", "version"),
    [
        ("2.2.1-0ubuntu1~24.04.3", {}, 3),
        ("1:2.2.1+dfsg1-1", {}, 3),
        ("1.7.24~ds1-6", {}, 2),
        ("of another kind", {}, 2),
        ("2.2.1-1", {"containerd_version": "1.7.27"}, 2),
    ],
)
def test_it_is_configured_for_the_one_that_apt_offers(
    offered: str, data: dict[str, str], version: int, tmp_path: Path
) -> None:
    sums = {"crictl-v1.37.0-linux-amd64.tar.gz": "0" * 64}
    shown = planned(tmp_path, offered, runtime_sha256=sums, **data)
    assert f"+ version = {version}" in shown


@pytest.mark.parametrize(
    ("given_names", "more", "said"),
    [
        (("ctr", "crictl"), {}, "a folder with containerd, containerd-shim-runc-v2 in it too"),
        (PROGRAMS, {"runtime_sha256": {"ctr": "0" * 64}}, "runtime_sha256.ctr = '0000"),
        (None, {}, "allowed: a URL, or a folder that is there"),
    ],
)
def test_a_source_that_is_refused(
    given_names: Sequence[str] | None, more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = programs(tmp_path, "bin", given_names) if given_names else "/no/folder"
    with pytest.raises(DeployError) as error:
        planned(tmp_path, runtime_source=source, containerd_version="2.4.2", **more)
    assert said in str(error.value)


# Foreign tables of a file, below any plugin.
_NAMES = st.sampled_from(["a", "b-c", "r.example.com", "io.containerd.internal.v1.opt"])
_VALUES = st.one_of(st.booleans(), st.integers(0, 99), st.text("ab'\" é", max_size=4))
_TABLES = st.dictionaries(_NAMES, _VALUES, max_size=3)
_CRI = "io.containerd.grpc.v1.cri"


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file of version 2, with comments, keys of others, and some of ours set to anything."""

    lines = ["# of mine", "version = 2 # two"]
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["cri", _CRI, "io.containerd.x.v1.y"]), unique=True))
        lines.append(f"disabled_plugins = {json.dumps(names)}")
    tables: list[tuple[str, ...]] = [
        ("debug",),
        ("plugins", _CRI),
        ("plugins", _CRI, "cni"),
        ("plugins", _CRI, "registry"),
        ("plugins", _CRI, "registry", "headers"),
        ("plugins", _CRI, "containerd", "runtimes", "runc"),
        ("plugins", _CRI, "containerd", "runtimes", "nvidia"),
        ("plugins", "io.containerd.internal.v1.opt"),
    ]
    for table in draw(st.permutations(tables))[: draw(st.integers(0, len(tables)))]:
        lines += [f"# before {table[-1]}", f"[{'.'.join(json.dumps(name) for name in table)}]"]
        found = draw(_TABLES)
        if table[-1] == "cni" and draw(st.booleans()):
            found["bin_dir"] = "/mine"
        for name, value in found.items():
            key, text = tomlkit.key(name).as_string(), tomlkit.item(value).as_string()
            lines.append(f"{key} = {text} # of {table[-1]}")
    return "\n".join(lines) + "\n"


def _leaves(data: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(data, dict):
        return {path: data}
    found: dict[tuple[str, ...], Any] = {}
    for name, value in data.items():
        found |= _leaves(value, (*path, name))
    return found


@given(files())
def test_the_file_of_somebody_else(text: str) -> None:
    wanted = Wanted(PAUSE, "/usr/lib/cni", "/etc/cni/net.d", "1.7.24")
    once = merge(text, wanted).text
    assert merge(once, wanted).text == once
    before, after = _leaves(tomlkit.parse(text).unwrap()), _leaves(tomlkit.parse(once).unwrap())
    ours = {
        ("plugins", _CRI, "sandbox_image"): PAUSE,
        ("plugins", _CRI, "restrict_oom_score_adj"): True,
        ("plugins", _CRI, "cni", "bin_dir"): "/usr/lib/cni",
        ("plugins", _CRI, "cni", "conf_dir"): "/etc/cni/net.d",
        ("plugins", _CRI, "containerd", "runtimes", "runc", "options", "SystemdCgroup"): True,
    }
    assert after.items() >= ours.items()
    also = {
        ("plugins", _CRI, "containerd", "runtimes", "runc", "runtime_type"),
        ("plugins", _CRI, "registry", "config_path"),
        ("disabled_plugins",),
    }
    foreign = {key: value for key, value in before.items() if key not in ours.keys() | also}
    assert {k: v for k, v in after.items() if k not in ours.keys() | also} == foreign
    assert not {"cri", _CRI} & set(after.get(("disabled_plugins",), []))
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    assert all(comment in once for comment in comments)


@pytest.mark.parametrize(
    ("version", "cni", "key"),
    [
        ("2.4.2", "", "bin_dirs"),
        ("2.0.7", "", "bin_dir"),
        ("2.3.1", "bin_dir = '/x'", "bin_dir"),
        ("2.4.2", "bin_dir = '/x'", "bin_dirs"),
        ("2.4.2", "bin_dir = '/opt/cni/bin' # mine", "bin_dirs"),
        ("2.5.0", "bin_dir = '/x'", "bin_dirs"),
        ("2.4.2", "bin_dirs = ['/x', '/y']", "bin_dirs"),
        ("2.0.7", "bin_dirs = ['/x']", "bin_dir"),
        ("2.4.2", "bin_dir = '/x'\nbin_dirs = ['/x']", "bin_dirs"),
    ],
)
def test_one_key_for_the_folder_of_plugins(version: str, cni: str, key: str) -> None:
    text = f"version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n{cni}\n"
    wanted = Wanted(PAUSE, "/opt/cni/bin", "/etc/cni/net.d", version)
    merged = tomlkit.parse(merge(text, wanted).text).unwrap()
    table = merged["plugins"]["io.containerd.cri.v1.runtime"]["cni"]
    assert [name for name in table if name.startswith("bin_dir")] == [key]


@pytest.mark.parametrize(("said", "is_so"), [("", True), ("enable_selinux = false", False)])
def test_selinux_confines_containers_unless_the_file_says_so_itself(said: str, is_so: bool) -> None:
    text = f"version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n{said}\n"
    wanted = Wanted(PAUSE, "/opt/cni/bin", "/etc/cni/net.d", "2.4.2", selinux=True)
    merged = tomlkit.parse(merge(text, wanted).text).unwrap()
    assert merged["plugins"]["io.containerd.cri.v1.runtime"]["enable_selinux"] is is_so
