"""The roots that hosts start from: made once for each recipe, then shared by all hosts.

A base is two things: `usr`, which all hosts share under an overlay of their own, and
`disk.ext4`, the blank disk with everything else, which each host gets a copy of.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.lab import modules
from tests.lab.cache import digest, kept
from tests.lab.machine import require_tools, run, run_logged, say
from tests.lab.places import HERE, LOGS

SUITE = "bookworm"
# The families of Debian hosts, and the release of Debian that each has.
SUITES = {"debian": SUITE, "debian-13": "trixie"}
MIRROR = os.environ.get("PYINFRA_KUBE_LAB_MIRROR", "http://deb.debian.org/debian")
_DISK_SIZE = "8G"

_TOOLS = {
    "depmod": "kmod",
    "dpkg-scanpackages": "dpkg-dev",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
}


def _list(name: str) -> list[str]:
    return (HERE / "lists" / name).read_text().split()


# What a blank Debian server has.
_BLANK = _list("blank")

# What a virtual machine has besides.
_KERNEL = _list("kernel")

# What a deploy may install on it from /srv/apt: these, and whatever they depend on.
_OFFERED = _list("offered")

# The container runtimes that a host may have from the start, and what a deploy installs for them.
RUNTIMES = ("docker", "containerd")

# What newer releases have split off: beside the packages that brought it before.
_SPLIT_OFF = {"trixie": {"docker.io": ["docker-cli"]}}

# Timers would do their work in the middle of a test; a console is nobody's here.
_MASKED = _list("masked")

_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Base:
    """What the cache has for one kind of host."""

    usr: Path
    apt: Path
    disk: Path


def base(family: str = "debian", *, runtime: str = "") -> Base:
    """The base of Debian hosts; made now if the cache has none of this recipe.

    + family: of `SUITES`
    + runtime: one of `RUNTIMES`; empty for a host without any
    """
    server = blank(family)
    kind, root = family, server
    if runtime:
        kind = f"{family}-{runtime}"
        packages = _whole(_list(runtime), SUITES[family])
        recipe = digest(server.name, packages)
        root = kept(f"root-{kind}", recipe, lambda folder: _make_with(folder, server, packages))
    modules.load_on_machine()
    recipe = digest(root.name, _DISK_SIZE, modules.KERNEL, modules.present(), HERE / "root")
    disk = kept(f"disk-{kind}", recipe, lambda folder: _make_disk(folder, root))
    return Base(usr=root / "root/usr", apt=server / "apt", disk=disk / "disk.ext4")


def blank(family: str = "debian", *, kernel: bool = False) -> Path:
    """The Debian server itself (`root`) and the packages that it may be given (`apt`).

    + family: of `SUITES`
    + kernel: with one of its own, for a virtual machine
    """
    require_tools(_TOOLS)
    suite = SUITES[family]
    kind = f"root-{family}{'-kernel' if kernel else ''}"
    installed = [*_BLANK, *(_KERNEL if kernel else ())]
    offered = _whole(_OFFERED, suite)
    recipe = digest(suite, MIRROR, installed, offered, _MASKED)
    return kept(kind, recipe, lambda it: _make_blank(it, kind, suite, installed, offered))


def _whole(packages: list[str], suite: str) -> list[str]:
    """Packages, with what a release has split off them."""
    more = _SPLIT_OFF.get(suite, {})
    return [one for name in packages for one in (name, *more.get(name, ()))]


def _make_blank(
    folder: Path, kind: str, suite: str, packages: list[str], offered: list[str]
) -> None:
    """A Debian server, and beside it a repository of what it may be given."""
    log = LOGS / f"{kind}.log"
    say(f"making a Debian server, {suite} (log: {log})")
    root, apt = folder / "root", folder / "apt"
    apt.mkdir()
    installed, more, masked = ",".join(packages), " ".join(offered), " ".join(_MASKED)
    run_logged(
        *("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={installed}"),
        f'--customize-hook=chroot "$1" apt-get install --yes --download-only '
        f"--no-install-recommends {more}",
        f'--customize-hook=cp "$1"/var/cache/apt/archives/*.deb "{apt}"',
        f'--customize-hook=chroot "$1" systemctl mask {masked}',
        *(suite, root, MIRROR),
        log=log,
        environment=_QUIET,
    )
    index = run("dpkg-scanpackages", "--multiversion", ".", folder=apt).stdout
    (apt / "Packages").write_text(index)
    _point_apt_at_repository(root, apt)


def _point_apt_at_repository(root: Path, apt: Path) -> None:
    """From now on /srv/apt is all that apt on a host knows of."""
    sources = root / "etc/apt/sources.list"
    sources.write_text("deb [trusted=yes] file:/srv/apt ./\n")
    (root / "srv/apt").mkdir()
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    _inside(root, apt, "apt-get update")
    for secret in root.glob("etc/ssh/ssh_host_*"):
        secret.unlink()


def _inside(root: Path, apt: Path, script: str) -> None:
    """Run a script in a root that sees the repository, with mounts that end with it."""
    mounts = 'mount --bind "$1" "$0/srv/apt" && mount -t proc proc "$0/proc"'
    run(
        *("unshare", "--mount", "--propagation", "private", "sh", "-euc"),
        f'{mounts} && exec chroot "$0" sh -euc "$2"',
        *(root, apt, script),
        environment=_QUIET,
    )


def _make_with(folder: Path, server: Path, packages: list[str]) -> None:
    """The same server with a container runtime installed as a deploy would."""
    say(f"installing {packages[0]} on a copy of the Debian server")
    root = folder / "root"
    run("cp", "--archive", server / "root", root)
    install = f"apt-get install --yes --no-install-recommends {' '.join(packages)}"
    _inside(root, server / "apt", f"{install} && apt-get clean")


def _make_disk(folder: Path, made: Path) -> None:
    """The blank disk: the root but for /usr, and the lab's own files."""
    say("making the blank disk")
    stage = folder / "stage"
    (stage / "work").mkdir(parents=True)
    run("rsync", "--archive", "--hard-links", "--exclude=/usr/*", f"{made}/root/", stage / "root")
    run("cp", "--recursive", f"{HERE}/root/.", stage / "root")
    # What lies in /usr goes into the overlay's upper layer.
    (stage / "root/usr").rename(stage / "usr")
    (stage / "root/usr").mkdir()
    modules.describe(stage / "usr")
    disk = folder / "disk.ext4"
    run("truncate", f"--size={_DISK_SIZE}", disk)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-d", stage, disk)
    shutil.rmtree(stage)
