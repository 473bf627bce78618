"""The Kubernetes that the lab's clusters are built from, laid out as a release's server/bin.

Who asks for a release gets that one. Else KUBERNETES_VERSION chooses a release that can be built
here: 1.20 from the distribution's source, the ones since from Go modules. KUBERNETES_BIN names
other binaries: a folder, or the address of an archive. RELEASES names a site that has the programs
of any release, such as https://dl.k8s.io.

What a release does not bring is added: images of its programs under the names that it expects,
etcd's, the pod sandbox's, and one to test with. Releases that need a CRI runtime get one, with all
that belongs to it; CNI plugins are in `cni`.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from pyinfra_kube.cluster.releases import covers, minor_of
from tests.lab import debian_source, go_build, official, release_images, roots
from tests.lab.cache import digest, kept, write_sums
from tests.lab.machine import LabError, run, say
from tests.lab.places import HERE

DEFAULT = "1.37"
"""The release when none is chosen."""

_VERSION, _SITE, _FOLDER = "KUBERNETES_VERSION", "RELEASES", "KUBERNETES_BIN"

# Since when Kubernetes can be had as Go modules, a container runtime has to be brought too.
_CRI = "1.24-"
_PARTS = {
    **{"etcd": "", "containerd": "", "crictl": "", "coredns": "", "cni-plugins": "cni"},
    **{"metrics-server": "", "kube-router": ""},
}
# Later ones ask for an API that 1.20 does not have.
_PARTS_BEFORE = {"coredns-1.7": ""}

# CRI-O's programs, and what goes with them, in the places of a `runtime_source`.
_CRIO = {"crio": "", "crictl": "", "cni-plugins": "cni"}

# What is said of a release here is said anew.
_NOTES = ("SHA256SUMS", "version", "etcd_version", "containerd_version")


def release(asked: str = "") -> Path:
    """The folder of a release, complete; made now if the cache has none.

    + asked: such as `1.20`; empty for the one that the environment chooses, or else the default
    """
    environment = dict(os.environ)
    if asked:
        environment.pop(_FOLDER, None)
        environment[_VERSION] = asked
    with go_build.together():
        chosen = sources(environment)
    files = [path for folder in chosen for path in sorted(folder.iterdir()) if path.is_file()]
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    version = _version(next(iter(chosen)))
    code = [HERE / f"{name}.py" for name in ("kubernetes", "release_images", "images")]
    names = release_images.names(version)
    recipe = digest(version, stamps, names, *code, roots.blank().name)
    kind = "release-{}.{}".format(*minor_of(version))
    return kept(kind, recipe, lambda folder: _complete(folder, chosen, version))


def crio() -> Path:
    """The folder of CRI-O and what goes with it; made now if the cache has none."""
    with go_build.together():
        parts = {go_build.built(part): place for part, place in _CRIO.items()}
    return kept("crio", digest([path.name for path in parts]), lambda it: _lay_out(it, parts))


def sources(environment: Mapping[str, str]) -> dict[Path, str]:
    """The folders that the chosen release is put together from, and their places in it.

    + environment: with the choice
    """
    if binaries := environment.get(_FOLDER):
        return {_other_binaries(binaries): ""}
    site = environment.get(_SITE)
    version = choice(environment.get(_VERSION, ""), any_patch=bool(site))
    if site:
        programs = official.fetched(site, version)
    elif version == debian_source.VERSION:
        programs = debian_source.built()
    else:
        programs = go_build.built(f"kubernetes/{version.rpartition('.')[0]}")
    parts = _PARTS if covers(_CRI, minor_of(version)) else _PARTS_BEFORE
    return {programs: "", **{go_build.built(part): place for part, place in parts.items()}}


def choice(asked: str, *, any_patch: bool = False) -> str:
    """The version that is asked for, whole.

    + asked: such as `1.33` or `1.33.13`; empty for the default
    + any_patch: take versions too that cannot be built here
    """
    versions = versions_to_build()
    for version in versions:
        if (asked or DEFAULT) in (version, version.rpartition(".")[0]):
            return version
    if any_patch and re.fullmatch(r"\d+\.\d+\.\d+\S*", asked):
        return asked
    raise LabError(
        f"{_VERSION}={asked} cannot be built here. There are: {', '.join(versions)}. "
        f"{_SITE}=https://dl.k8s.io takes any release, by its whole number."
    )


def versions_to_build() -> list[str]:
    """Every version that can be built here, oldest first."""
    paths = [path for path in go_build.parts() if path.startswith("kubernetes/")]
    return [debian_source.VERSION, *(go_build.Part(path).version for path in paths)]


def _other_binaries(binaries: str) -> Path:
    if "://" in binaries:
        return kept("kubernetes-fetched", digest(binaries), lambda it: _fetch(it, binaries))
    folder = Path(binaries).resolve()
    if not folder.is_dir():
        raise LabError(f"{_FOLDER}={binaries} is neither a folder nor an address.")
    return folder


def _fetch(folder: Path, address: str) -> None:
    """Fetch a release's archive and keep what its server/bin holds."""
    if not address.endswith((".tar.gz", ".tgz")):
        address = f"{address.rstrip('/')}/kubernetes-server-linux-amd64.tar.gz"
    archive = folder / "archive"
    say(f"fetching {address}")
    try:
        with urllib.request.urlopen(address) as answer, archive.open("wb") as output:
            shutil.copyfileobj(answer, output, 1 << 20)
    except urllib.error.URLError as error:
        raise LabError(f"{_FOLDER}: {address} cannot be fetched: {error.reason}") from error
    with tarfile.open(archive) as tar:
        for member in tar:
            place = Path(member.name)
            content = tar.extractfile(member) if place.parts[-3:-1] == ("server", "bin") else None
            if content:
                with (folder / place.name).open("wb") as output:
                    shutil.copyfileobj(content, output, 1 << 20)
                (folder / place.name).chmod(0o755)
    archive.unlink()


def _complete(folder: Path, chosen: Mapping[Path, str], version: str) -> None:
    """Lay a release out: what it brings, and what it lacks."""
    _lay_out(folder, chosen)
    hyperkube = folder / "hyperkube"
    if hyperkube.exists():
        # It acts as what it is called, where it has a part of that name.
        for name in ("kubelet", "kubectl"):
            if not (folder / name).exists():
                _share(hyperkube, folder / name)
    say(f"writing the images of Kubernetes {version}")
    release_images.write(folder, version)
    (folder / "version").write_text(f"{version}\n")
    write_sums(folder)


def _lay_out(folder: Path, chosen: Mapping[Path, str]) -> None:
    """Put the files of folders into their places."""
    for source, place in chosen.items():
        (folder / place).mkdir(exist_ok=True)
        for path in source.iterdir():
            if path.is_file() and path.name not in _NOTES:
                _share(path, folder / place / path.name)


def _version(folder: Path) -> str:
    """What the binaries say of themselves."""
    for program in (["kubelet"], ["kube-apiserver"], ["hyperkube", "kubelet"]):
        path = folder / program[0]
        if path.exists():
            said = run(path, *program[1:], "--version=true", check=False)
            found = re.search(r"Kubernetes v(\d+\.\d+\.\d+\S*)", said.stdout + said.stderr)
            if found:
                return found[1]
    raise LabError(f"{_FOLDER}: no binary there says which Kubernetes it is (kubelet, hyperkube).")


def _share(source: Path, place: Path) -> None:
    """The same file under a further name; a copy where that cannot be."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)
