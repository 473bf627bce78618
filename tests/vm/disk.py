"""The disk of the virtual machine: Debian 13 with its kernel, from Debian's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import roots
from tests.lab.cache import digest, kept
from tests.lab.machine import run, say

USER = "debian"
"""Who logs in; sudo asks for no password."""

_FAMILY = "debian-13"
_SIZE = "12G"
_SET_UP = f"""
useradd --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}
passwd --lock root
echo 'source /etc/network/interfaces.d/*' >/etc/network/interfaces
"""


def made() -> Path:
    """The folder of `disk.ext4`, `vmlinuz` and `initrd.img`; made now if the cache has none."""
    server = roots.blank(_FAMILY, kernel=True)
    recipe = digest(server.name, _SIZE, _SET_UP)
    return kept("disk-vm", recipe, lambda folder: _make(folder, server))


def _make(folder: Path, server: Path) -> None:
    say("making the disk of the virtual machine")
    root = folder / "root"
    run("cp", "--archive", server / "root", root)
    run("chroot", root, "sh", "-euc", _SET_UP)
    # It has no other disk to find packages on.
    run("cp", "--recursive", f"{server}/apt/.", root / "srv/apt")
    for name in ("vmlinuz", "initrd.img"):
        (source,) = (root / "boot").glob(f"{name}-*")
        shutil.copy2(source, folder / name)
    disk = folder / "disk.ext4"
    run("truncate", f"--size={_SIZE}", disk)
    run("mkfs.ext4", "-q", "-m", "0", "-d", root, disk)
    shutil.rmtree(root)
