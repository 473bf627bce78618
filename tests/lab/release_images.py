"""The images that go with a release, from its own programs and from Debian's busybox and etcd."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyinfra_kube.cluster import images
from pyinfra_kube.cluster.releases import Release
from tests.lab import roots
from tests.lab.images import Image
from tests.lab.machine import LabError, run

TEST_IMAGE = "lab/test:1"

_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
# Others whose archives have the names that the package asks for, whichever version is in them.
_NAMED = ("pause", "coredns", "metrics-server", "kube-router")

# What a sandbox's process does: nothing, until it is told to end.
_PAUSE = (
    "sh",
    "-c",
    "trap 'exit 0' INT TERM; while :; do /bin/busybox sleep 86400 & wait $!; done",
)


def write(folder: Path, version: str) -> None:
    """Write an archive of each image that a release's folder does not bring itself.

    + folder: with the release's programs
    + version: of the release
    """
    debian = _Debian.unpacked(folder / "debian")
    release = Release.of(version)
    for made in (
        _of_components(folder, release, version, debian),
        _of_etcd(folder, release, debian),
        _of_pause(folder, release, debian),
        _of_one_program(folder, release, "coredns"),
        _of_one_program(folder, release, "metrics-server"),
        _of_kube_router(folder, release, debian),
        [("test", Image([TEST_IMAGE], debian.busybox, debian.applets, command=["/bin/sh"]))],
    ):
        for name, image in made:
            archive = folder / f"{name}.tar"
            if not archive.exists():
                image.write(archive)
                tag = image.names[0].rpartition(":")[2]
                (folder / f"{name}.docker_tag").write_text(f"{tag}\n")
    if (folder / "containerd").exists():
        found = _version_of(folder / "containerd")
        (folder / "containerd_version").write_text(f"{found}\n")
    shutil.rmtree(debian.folder)


def names(version: str) -> list[str]:
    """What the package calls images whose names say nothing of the release's own version."""
    return [_named(part, Release.of(version)) for part in _NAMED]


@dataclass(frozen=True)
class _Debian:
    """What Debian's packages bring.

    + folder: where they are unpacked
    + busybox: its files in an image
    + applets: links to it
    """

    folder: Path
    busybox: dict[str, Path]
    applets: dict[str, str]

    @classmethod
    def unpacked(cls, folder: Path) -> _Debian:
        for package in ("etcd-server", "etcd-client", "busybox", "ipset", "libipset13"):
            (archive,) = (roots.blank() / "apt").glob(f"{package}_*.deb")
            run("dpkg-deb", "--extract", archive, folder)
        program = folder / "bin/busybox"
        names = run(program, "--list").stdout.split()
        applets = {f"/bin/{name}": "busybox" for name in names if name != "busybox"}
        return cls(folder, _with_libraries({"/bin/busybox": program}), applets)


def _of_components(
    folder: Path, release: Release, version: str, debian: _Debian
) -> Iterator[tuple[str, Image]]:
    for name in _COMPONENTS:
        if (folder / name).exists():
            image = images.image(name, release)
            tagged = f"{image.name.rpartition(':')[0]}:v{version}"
            yield name, Image([tagged], {image.command[0]: folder / name})
    all_in_one = images.image(_COMPONENTS[0], release, hyperkube=True)
    if all_in_one.archive == "hyperkube" and (folder / "hyperkube").exists():
        files = {"/hyperkube": folder / "hyperkube", **debian.busybox}
        yield "hyperkube", Image([all_in_one.name], files, debian.applets)


def _of_etcd(folder: Path, release: Release, debian: _Debian) -> Iterator[tuple[str, Image]]:
    """The etcd that the folder brings, or else the distribution's."""
    source = folder if (folder / "etcd").exists() else debian.folder / "usr/bin"
    programs = {f"/usr/local/bin/{name}": source / name for name in ("etcd", "etcdctl")}
    version = _version_of(source / "etcd")
    (folder / "etcd_version").write_text(f"{version}\n")
    name = images.image("etcd", release, etcd_version=version).name
    yield "etcd", Image([name], {**_with_libraries(programs), **debian.busybox}, debian.applets)


def _of_pause(folder: Path, release: Release, debian: _Debian) -> Iterator[tuple[str, Image]]:
    names = [_named("pause", release)]
    if (folder / "pause").exists():
        yield "pause", Image(names, {"/pause": folder / "pause"}, entrypoint=["/pause"])
    else:
        yield "pause", Image(names, debian.busybox, entrypoint=["/bin/busybox", *_PAUSE])


def _of_one_program(folder: Path, release: Release, part: str) -> Iterator[tuple[str, Image]]:
    if (folder / part).exists():
        files = {f"/{part}": folder / part}
        yield part, Image([_named(part, release)], files, entrypoint=[f"/{part}"])


def _of_kube_router(folder: Path, release: Release, debian: _Debian) -> Iterator[tuple[str, Image]]:
    """With the programs that it calls: the same iptables as hosts have, and ipset."""
    if not (folder / "kube-router").exists():
        return
    root = roots.blank() / "root"
    tables, program = "/usr/sbin/xtables-nft-multi", "/usr/local/bin/kube-router"
    libraries = root / "usr/lib/x86_64-linux-gnu/xtables"
    files = {
        **_inside(root, tables),
        **_inside(root, "/usr/sbin/ipset", debian.folder),
        **{f"/{one.relative_to(root)}": one for one in libraries.glob("*.so")},
        **debian.busybox,
        program: folder / "kube-router",
    }
    names = [f"{name}{end}" for name in ("iptables", "ip6tables") for end in _TABLES]
    links = {f"/usr/sbin/{name}": "xtables-nft-multi" for name in names}
    image = _named("kube-router", release)
    yield "kube-router", Image([image], files, {**debian.applets, **links}, entrypoint=[program])


_TABLES = ("", "-save", "-restore")


def _inside(root: Path, program: str, more: Path | None = None) -> dict[str, Path]:
    """
    A program of a Debian server and what it is linked with there.

    + more: where packages are unpacked that the server does not have
    """
    source = (more or root) / program.lstrip("/")
    places = [root / "usr/lib/x86_64-linux-gnu", *([more / _LIBRARIES] if more else [])]
    search = {"LD_LIBRARY_PATH": ":".join(map(str, places))}
    said = run("ldd", source, environment=search).stdout
    found = {program: source}
    for path in (Path(place) for place in re.findall(r"(/\S+) \(0x", said)):
        base = next((one for one in (more, root) if one and path.is_relative_to(one)), None)
        # The loader itself is this machine's.
        inside = path.relative_to(base) if base else path.relative_to("/")
        found[f"/{inside}"] = path if base else root / inside
    return found


_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def _named(part: str, release: Release) -> str:
    return images.image(part, release).name


def _version_of(program: Path) -> str:
    """What a program says of itself, without a leading "v"."""
    said = run(program, "--version").stdout
    match = re.search(r"\d+\.\d+\.\d+\S*", said)
    if not match:
        raise LabError(f"{program} says no version: {said}")
    return match[0]


def _with_libraries(programs: dict[str, Path]) -> dict[str, Path]:
    """Programs and what they are linked with, from the server that the packages are meant for."""
    root = roots.blank() / "root"
    found = dict(programs)
    for program in programs.values():
        for place in re.findall(r"(/\S+) \(0x", run("ldd", program, check=False).stdout):
            found[place] = root / place.lstrip("/")
    return found
