"""The Kubernetes that the lab's clusters are built from, laid out as a release's server/bin.

KUBERNETES_VERSION chooses a release that can be built here: 1.20 from the distribution's source,
the ones since from Go modules. RELEASES names a site that has the programs of any release, such as
https://dl.k8s.io. KUBERNETES_BIN names other binaries: a folder, or the address of an archive.

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
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyinfra_kube.cluster import images
from pyinfra_kube.cluster.releases import Release, covers, known_releases, minor_of
from tests.lab import debian_source, go_build, official, roots
from tests.lab.cache import digest, kept, write_sums
from tests.lab.images import Image
from tests.lab.machine import LabError, run, say
from tests.lab.places import HERE

DEFAULT = "1.20"
"""The release when none is chosen."""

TEST_IMAGE = "lab/test:1"

_VERSION, _SITE, _FOLDER = "KUBERNETES_VERSION", "RELEASES", "KUBERNETES_BIN"

# Since when Kubernetes can be had as Go modules, a container runtime has to be brought too.
_CRI = "1.24-"
_PARTS = {"etcd": "", "containerd": "", "crictl": "", "coredns": "", "cni-plugins": "cni"}

_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_ADDONS = {"coredns": "registry.k8s.io/coredns/coredns"}

# What a sandbox's process does: nothing, until it is told to end.
_PAUSE = (
    "sh",
    "-c",
    "trap 'exit 0' INT TERM; while :; do /bin/busybox sleep 86400 & wait $!; done",
)


def release() -> Path:
    """The folder of the chosen release, complete; made now if the cache has none."""
    chosen = sources(os.environ)
    files = [path for folder in chosen for path in sorted(folder.iterdir()) if path.is_file()]
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    version = _version(next(iter(chosen)))
    code = [HERE / f"{name}.py" for name in ("kubernetes", "images")]
    recipe = digest(version, stamps, *code, roots.blank().name)
    kind = "release-{}.{}".format(*minor_of(version))
    return kept(kind, recipe, lambda folder: _complete(folder, chosen, version))


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
    parts = _PARTS if covers(_CRI, minor_of(version)) else {}
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
    for source, place in chosen.items():
        (folder / place).mkdir(exist_ok=True)
        for path in source.iterdir():
            if path.is_file() and path.name not in ("SHA256SUMS", "version"):
                _share(path, folder / place / path.name)
    hyperkube = folder / "hyperkube"
    if hyperkube.exists():
        # It acts as what it is called, where it has a part of that name.
        for name in ("kubelet", "kubectl"):
            if not (folder / name).exists():
                _share(hyperkube, folder / name)
    say(f"writing the images of Kubernetes {version}")
    for name, image in _images(folder, version):
        archive = folder / f"{name}.tar"
        if not archive.exists():
            image.write(archive)
            (folder / f"{name}.docker_tag").write_text(image.names[0].rpartition(":")[2] + "\n")
    (folder / "version").write_text(f"{version}\n")
    write_sums(folder)


def _images(folder: Path, version: str) -> Iterator[tuple[str, Image]]:
    chosen = _facts(version)
    parts = folder / "parts"
    for package in ("etcd-server", "etcd-client", "busybox"):
        (archive,) = (roots.blank() / "apt").glob(f"{package}_*.deb")
        run("dpkg-deb", "--extract", archive, parts)
    busybox = _with_libraries({"/bin/busybox": parts / "bin/busybox"})
    applets = run(parts / "bin/busybox", "--list").stdout.split()
    shell = {f"/bin/{applet}": "busybox" for applet in applets if applet != "busybox"}
    for name in (*_CONTROL_PLANE, "kube-proxy"):
        if (folder / name).exists():
            image = images.image(name, chosen)
            files = {image.command[0]: folder / name}
            yield name, Image([_tagged(image.name, f"v{version}")], files)
    all_in_one = images.image(_CONTROL_PLANE[0], chosen, hyperkube=True)
    if all_in_one.archive == "hyperkube" and (folder / "hyperkube").exists():
        files = {"/hyperkube": folder / "hyperkube", **busybox}
        yield "hyperkube", Image([all_in_one.name], files, shell)
    programs = _etcd_programs(folder, parts)
    etcd_version = run(programs["/usr/local/bin/etcd"], "--version").stdout.split()[2]
    (folder / "etcd_version").write_text(f"{etcd_version}\n")
    name = images.image("etcd", chosen, etcd_version=etcd_version).name
    yield "etcd", Image([name], {**_with_libraries(programs), **busybox}, shell)
    sandbox = images.image("pause", chosen).name
    if (folder / "pause").exists():
        pause = {"/pause": folder / "pause"}
        yield "pause", Image([sandbox], pause, entrypoint=["/pause"])
    else:
        yield "pause", Image([sandbox], busybox, entrypoint=["/bin/busybox", *_PAUSE])
    for name, repository in _ADDONS.items():
        if (folder / name).exists():
            tag = f"v{go_build.Part(name).version}"
            files = {f"/{name}": folder / name}
            yield name, Image([f"{repository}:{tag}"], files, entrypoint=[f"/{name}"])
    yield "test", Image([TEST_IMAGE], busybox, shell, command=["/bin/sh"])
    shutil.rmtree(parts)


def _facts(version: str) -> Release:
    """What the package knows of a release; of the newest one, where it knows none of this."""
    newest = known_releases()[-1]
    return Release.of(f"{newest}.0" if minor_of(version) > minor_of(newest) else version)


def _tagged(image: str, tag: str) -> str:
    return f"{image.rpartition(':')[0]}:{tag}"


def _etcd_programs(folder: Path, parts: Path) -> dict[str, Path]:
    """The etcd that the folder brings, or else the distribution's."""
    source = folder if (folder / "etcd").exists() else parts / "usr/bin"
    return {f"/usr/local/bin/{name}": source / name for name in ("etcd", "etcdctl")}


def _with_libraries(programs: dict[str, Path]) -> dict[str, Path]:
    """Programs and what they are linked with, from the server that the packages are meant for."""
    root = roots.blank() / "root"
    found = dict(programs)
    for program in programs.values():
        for place in re.findall(r"(/\S+) \(0x", run("ldd", program, check=False).stdout):
            found[place] = root / place.lstrip("/")
    return found


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
