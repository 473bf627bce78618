"""Fedora-like hosts: the Debian base with dnf and rpm in place of apt, and a repository of RPMs.

The RPMs have Fedora 34's names, file layout and units, and hold real programs: the Kubernetes that
the lab provides, and the distribution's etcd, docker and containerd. flanneld is the one that
FLANNELD_BIN names, or else a stand-in that speaks flannel's protocol with etcd.

Those of Fedora 44 are named by Kubernetes' minor release, and hold what the lab builds: Kubernetes,
CRI-O, containerd, CNI plugins, etcd.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.lab import kubernetes, modules, roots
from tests.lab.cache import digest, kept
from tests.lab.machine import LabError, require_tools, run, run_logged, say
from tests.lab.places import HERE, LOGS

_RPMS = HERE / "rpms"
_TODAY = _RPMS / "44"
_STAND_IN = HERE / "flanneld_stand_in"
_CHOICE = "FLANNELD_BIN"
_RELEASE = "1.20"

_TOOLS = {
    "createrepo_c": "createrepo-c",
    "dpkg-deb": "dpkg",
    "rpmbuild": "rpm",
}

# Beside what a blank server has: the package manager, its plugins, and what programs in the RPMs
# link to.
_MORE = ["dnf", "dnf-plugins-core", "rpm", "libdevmapper1.02.1", "libseccomp2"]
_MORE_TODAY = [*_MORE, "firewalld", "libglib2.0-0", "libgpgme11", "systemd-resolved"]

# Of the distribution, inside the RPMs.
_PROGRAMS = ["containerd", "docker.io", "etcd-client", "etcd-server", "runc", "tini"]
_PROGRAMS_TODAY = ["conmon", "runc", "skopeo"]

# Whose packages are named by Kubernetes' minor release.
_BY_MINOR = ("cri-o", "cri-tools", "kubernetes")

# What a Fedora host would have from the start, with Debian's content.
_INSTALLED = "fedora-release"

_OS_RELEASE = """\
NAME=Fedora
VERSION="{number} (like it, on Debian)"
ID=fedora
VERSION_ID={number}
PLATFORM_ID="platform:f{number}"
PRETTY_NAME="Fedora {number} (like it, on Debian)"
"""

# Debian's rpm would keep its database in the user's home.
_MACROS = "%_dbpath /var/lib/rpm\n"

_DNF = "[main]\ngpgcheck=0\ninstall_weak_deps=False\nbest=True\n"

_REPOSITORIES = """\
[fedora]
name=Fedora, as the lab has it
baseurl=file:///srv/rpms/fedora
enabled=1

[updates-testing]
name=Updates of it to be tested
baseurl=file:///srv/rpms/updates-testing
enabled=0
"""


def base_of_today(release: Path, more: Sequence[Path] = ()) -> roots.Base:
    """The base of hosts like Fedora 44; made now if the cache has none of this recipe.

    + release: the folder of the Kubernetes in their repository, from 1.24 on
    + more: those of other minor releases, beside it
    """
    require_tools(_TOOLS)
    crio, releases = kubernetes.crio(), [release, *more]
    recipe = digest(_TODAY, *(one.name for one in releases), crio.name, roots.blank().name)
    packages = kept("rpms-44", recipe, lambda it: _make_repository_of_today(it, releases, crio))
    files = _files("44")
    recipe = digest(roots.blank().name, _MORE_TODAY, *files.values(), _dnf(_INSTALLED), packages)
    root = kept("root-fedora-44", recipe, lambda it: _make_root(it, packages, files, _MORE_TODAY))
    return _base("fedora-44", root, packages)


def base(*, runtime: str = "", release: Path | None = None) -> roots.Base:
    """The base of Fedora-like hosts; made now if the cache has none of this recipe.

    + runtime: docker; empty for a host without any
    + release: the folder of the Kubernetes in their repository; by default Fedora 34's own
    """
    if runtime not in ("", "docker"):
        raise LabError(f"There are no Fedora-like hosts with {runtime}.")
    packages = repository(release or kubernetes.release(_RELEASE))
    root = _root(packages)
    kind = "fedora"
    if runtime:
        kind, plain = "fedora-docker", root
        recipe = digest(plain.name, "docker")
        root = kept(f"root-{kind}", recipe, lambda it: _make_with_docker(it, plain, packages))
    return _base(kind, root, packages)


def _base(kind: str, root: Path, packages: Path) -> roots.Base:
    modules.load_on_machine()
    parts = (HERE / "root", HERE / "roots.py")
    recipe = digest(root.name, modules.KERNEL, modules.present(), *parts)
    disk = kept(f"disk-{kind}", recipe, lambda folder: roots._make_disk(folder, root))
    return roots.Base(usr=root / "root/usr", apt=packages, disk=disk / "disk.ext4")


def repository(release: Path) -> Path:
    """The folder of both repositories, which a host sees as /srv/rpms."""
    require_tools(_TOOLS)
    flanneld = _flanneld()
    recipe = digest(_RPMS, flanneld, release.name, roots.blank().name)
    return kept("rpms", recipe, lambda folder: _make_repository(folder, release, flanneld))


def _flanneld() -> Path:
    choice = os.environ.get(_CHOICE)
    if choice:
        if not os.access(choice, os.X_OK):
            raise LabError(f"{_CHOICE}={choice} is no program.")
        return Path(choice).resolve()
    return kept("flanneld-stand-in", digest(_STAND_IN), _build_stand_in) / "flanneld"


def _build_stand_in(folder: Path) -> None:
    require_tools({"go": "golang-go"})
    say("building the stand-in for flanneld")
    run(
        *("go", "build", "-ldflags", "-s -w", "-o", folder / "flanneld"),
        folder=_STAND_IN,
        environment={
            **{"GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0"},
            **{"GOCACHE": str(folder / "cache"), "HOME": str(folder)},
        },
    )
    shutil.rmtree(folder / "cache")


def _make_repository(folder: Path, release: Path, flanneld: Path) -> None:
    say("building the RPMs")
    debian = folder / "debian"
    for package in _PROGRAMS:
        (archive,) = (roots.blank() / "apt").glob(f"{package}_*.deb")
        run("dpkg-deb", "--extract", archive, debian)
    version = run(flanneld, "--version", check=False)
    match = re.search(r"\d+(\.\w+)+", version.stdout + version.stderr)
    words: dict[str, str | Path] = {
        "lab_files": _RPMS / "root",
        "lab_release": release,
        "lab_version": (release / "version").read_text().strip().removeprefix("v"),
        "lab_debian": debian,
        "lab_flanneld": flanneld,
        "lab_flannel_version": match[0] if match else "0",
    }
    for spec in sorted(_RPMS.glob("*.spec")):
        _build(folder, spec, "fedora", words)
    # Newer than the other, so that whether it was asked for shows.
    _build(folder, _RPMS / "etcd.spec", "updates-testing", {**words, "lab_build": "2"})
    for name in ("fedora", "updates-testing"):
        run("createrepo_c", "--quiet", "--no-database", folder / name)
    shutil.rmtree(debian)


def _make_repository_of_today(folder: Path, releases: Sequence[Path], crio: Path) -> None:
    say("building the RPMs of Fedora 44")
    debian = folder / "debian"
    for package in _PROGRAMS_TODAY:
        (archive,) = (roots.blank() / "apt").glob(f"{package}_*.deb")
        run("dpkg-deb", "--extract", archive, debian)
    said = run(crio / "crio", "--version").stdout
    match = re.search(r"\d+\.\d+\.\d+", said)
    all_words: dict[str, str | Path] = {
        "lab_files": _TODAY / "root",
        "lab_crio": crio,
        "lab_crio_version": match[0] if match else "0",
        "lab_debian": debian,
    }
    words, *more = [{**all_words, **_words_of(release)} for release in releases]
    for spec in sorted(_TODAY.glob("*.spec")):
        for one in [words, *(more if spec.stem in _BY_MINOR else [])]:
            _build(folder, spec, "fedora", one)
    # Newer ones, which an upgrade of a system would take.
    for name in ("etcd", "cri-tools"):
        _build(folder, _TODAY / f"{name}.spec", "updates-testing", {**words, "lab_build": "2"})
    for name in ("fedora", "updates-testing"):
        run("createrepo_c", "--quiet", "--no-database", folder / name)
    shutil.rmtree(debian)


def _words_of(release: Path) -> dict[str, str | Path]:
    version = (release / "version").read_text().strip().removeprefix("v")
    minor = version.rpartition(".")[0]
    return {"lab_release": release, "lab_version": version, "lab_minor": minor}


def _build(folder: Path, spec: Path, repository: str, words: dict[str, str | Path]) -> None:
    defined = {
        **words,
        "_topdir": folder / "work",
        "_rpmdir": folder / repository,
        "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "_dbpath": folder / "work/database",
    }
    options = [word for name in defined for word in ("--define", f"{name} {defined[name]}")]
    run("rpmbuild", "-bb", "--quiet", *options, spec)
    shutil.rmtree(folder / "work")


def _root(packages: Path) -> Path:
    files = _files("34")
    recipe = digest(roots.blank().name, _MORE, *files.values())
    installed = digest(_RPMS / f"{_INSTALLED}.spec", _RPMS / "common.inc", _dnf(_INSTALLED))
    recipe = digest(recipe, installed)
    return kept("root-fedora", recipe, lambda it: _make_root(it, packages, files, _MORE))


def _files(number: str) -> dict[str, str]:
    """What makes a root Fedora's, by path."""
    return {
        "usr/lib/os-release": _OS_RELEASE.format(number=number),
        "etc/rpm/macros": _MACROS,
        "etc/dnf/dnf.conf": _DNF,
        "etc/dnf/vars/releasever": f"{number}\n",
        "etc/yum.repos.d/lab.repo": _REPOSITORIES,
    }


def _make_root(folder: Path, packages: Path, files: dict[str, str], more: list[str]) -> None:
    """The Debian server with dnf in place of apt, and the word that it is Fedora."""
    log = LOGS / "root-fedora.log"
    say(f"making a Fedora-like server (log: {log})")
    root = folder / "root"
    run("cp", "--archive", roots.blank() / "root", root)
    (root / "etc/apt/sources.list").write_text(f"deb {roots.MIRROR} {roots.SUITE} main\n")
    # From outside, where the mirror's name is known.
    options = {
        "RootDir": root,
        "APT::Sandbox::User": "root",
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
    }
    apt = ["apt-get", "--yes", "--quiet", "--no-install-recommends"]
    apt += [word for name in options for word in ("-o", f"{name}={options[name]}")]
    run_logged(*apt, "update", log=log, environment=roots._QUIET)
    run_logged(*apt, "install", "--download-only", *more, log=log, environment=roots._QUIET)
    install = f"apt-get --yes --no-download --no-install-recommends install {' '.join(more)}"
    roots._inside(root, packages, f"{install} && dpkg --purge --force-all apt")
    for folder_of_apt in ("etc/apt", "var/lib/apt", "var/cache/apt"):
        shutil.rmtree(root / folder_of_apt, ignore_errors=True)
    # A host gets a file of its own there.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    # A host sees the repositories where others see the one of Debian packages.
    (root / "srv/rpms").symlink_to("apt")
    (root / "etc/sysconfig").mkdir(exist_ok=True)
    roots._inside(root, packages, _dnf(_INSTALLED))


def _make_with_docker(folder: Path, plain: Path, packages: Path) -> None:
    say("installing docker on a copy of the Fedora-like server")
    root = folder / "root"
    run("cp", "--archive", plain / "root", root)
    roots._inside(root, packages, f"{_dnf('moby-engine')} && systemctl enable docker")


def _dnf(package: str) -> str:
    # A root outlives the repository, so it keeps nothing of what that lists.
    return f"dnf --assumeyes --quiet install {package} && dnf --quiet clean all"
