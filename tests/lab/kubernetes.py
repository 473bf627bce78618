"""The Kubernetes that the lab's clusters are built from, laid out as a release's server/bin.

By default it is the distribution's own source, built once; KUBERNETES_BIN names other binaries:
a folder, or the address of a release's archive. What a release does not bring is added: images
of its binaries under the names that it expects, etcd's, the pod sandbox's, and one to test with.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from pyinfra_kube.cluster import images
from pyinfra_kube.cluster.releases import Release
from tests.lab import roots
from tests.lab.cache import digest, kept, sha256
from tests.lab.images import Image
from tests.lab.machine import LabError, require_tools, run, run_logged, say
from tests.lab.places import HERE, LOGS

TEST_IMAGE = "lab/test:1"

_CHOICE = "KUBERNETES_BIN"
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

_BUILD_TOOLS = {
    "/usr/include/stdio.h": "libc6-dev",
    "dpkg-source": "dpkg-dev",
    "gcc": "gcc",
    "go": "golang-go",
    "jq": "jq",
    "make": "make",
    "rsync": "rsync",
}

# What a sandbox's process does: nothing, until it is told to end.
_PAUSE = (
    "sh",
    "-c",
    "trap 'exit 0' INT TERM; while :; do /bin/busybox sleep 86400 & wait $!; done",
)

# The source of one fixed Debian release, whatever the machine itself takes its packages from.
_SOURCES = "deb-src [signed-by={key}] {mirror} bookworm main\n"
_KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
_APT = """\
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
"""


def release() -> Path:
    """The folder of the chosen release, complete; made now if the cache has none."""
    binaries = _binaries(os.environ.get(_CHOICE, ""))
    files = sorted(path for path in binaries.iterdir() if path.is_file())
    stamps = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    recipe = digest(stamps, HERE / "kubernetes.py", HERE / "images.py", roots.blank().name)
    return kept("release", recipe, lambda folder: _complete(folder, binaries))


def _binaries(choice: str) -> Path:
    if not choice:
        script = HERE / "build/kubernetes.sh"
        return kept("kubernetes-built", digest(script), _build)
    if "://" in choice:
        return kept("kubernetes-fetched", digest(choice), lambda folder: _fetch(folder, choice))
    folder = Path(choice).resolve()
    if not folder.is_dir():
        raise LabError(f"{_CHOICE}={choice} is neither a folder nor an address.")
    return folder


def _build(folder: Path) -> None:
    """Build the distribution's source package; the network is used to fetch it only."""
    require_tools(_BUILD_TOOLS)
    work = folder / "work"
    for place in ("lists/partial", "cache/archives/partial"):
        (work / "apt" / place).mkdir(parents=True)
    (work / "apt/sources.list").write_text(_SOURCES.format(key=_KEY, mirror=roots.MIRROR))
    (work / "apt/apt.conf").write_text(_APT.format(folder=work / "apt"))
    environment = {"APT_CONFIG": str(work / "apt/apt.conf"), "LC_ALL": "C.UTF-8"}
    say("fetching the source package of kubernetes")
    run("apt-get", "update", environment=environment)
    run("apt-get", "source", "--download-only", "kubernetes", folder=work, environment=environment)
    (description,) = work.glob("kubernetes_*.dsc")
    version = _version_of_package(description.name)
    run("dpkg-source", "--extract", description, work / "source")
    log = LOGS / "kubernetes.log"
    say(f"building Kubernetes {version}, once: some 8 minutes on 2 cores (log: {log})")
    build = HERE / "build/kubernetes.sh"
    run_logged("nice", build, work / "source", f"v{version}", folder, log=log)
    shutil.rmtree(work)


def _version_of_package(name: str) -> str:
    """`kubernetes_1.20.5+really1.20.2-1.1.dsc` is 1.20.2."""
    version = name.split("_")[1].split("-")[0]
    return version.rpartition("+really")[2]


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
        raise LabError(f"{_CHOICE}: {address} cannot be fetched: {error.reason}") from error
    with tarfile.open(archive) as tar:
        for member in tar:
            place = Path(member.name)
            content = tar.extractfile(member) if place.parts[-3:-1] == ("server", "bin") else None
            if content:
                with (folder / place.name).open("wb") as output:
                    shutil.copyfileobj(content, output, 1 << 20)
                (folder / place.name).chmod(0o755)
    archive.unlink()


def _complete(folder: Path, binaries: Path) -> None:
    """Lay a release out: what it brings, and what it lacks."""
    for path in binaries.iterdir():
        if path.is_file():
            _share(path, folder / path.name)
    hyperkube = folder / "hyperkube"
    if hyperkube.exists():
        # It acts as what it is called, where it has a part of that name.
        for name in ("kubelet", "kubectl"):
            if not (folder / name).exists():
                _share(hyperkube, folder / name)
    version = _version(folder)
    chosen = Release.of(version)
    say(f"writing the images of Kubernetes {version}")
    for name, image in _images(folder, chosen):
        archive = folder / f"{name}.tar"
        if not archive.exists():
            image.write(archive)
            (folder / f"{name}.docker_tag").write_text(image.names[0].rpartition(":")[2] + "\n")
    (folder / "version").write_text(f"{version}\n")
    sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.is_file()]
    (folder / "SHA256SUMS").write_text("".join(sums))


def _images(folder: Path, chosen: Release) -> Iterator[tuple[str, Image]]:
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
            yield name, Image([image.name], {image.command[0]: folder / name})
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
    yield "test", Image([TEST_IMAGE], busybox, shell, command=["/bin/sh"])
    shutil.rmtree(parts)


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
    raise LabError(f"{_CHOICE}: no binary there says which Kubernetes it is (kubelet, hyperkube).")


def _share(source: Path, place: Path) -> None:
    """The same file under a further name; a copy where that cannot be."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)
