"""
Fixes that are made of parts: what a person types to be rid of folders, or of who holds a port.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

FSTAB = r"sed -Ei '/^\s*[^#[:space:]]\S*\s+\S+\s+swap(\s|$)/s/^/# /' /etc/fstab"
"""Makes the lines of swap comments."""


def removal(*folders: str) -> str:
    """
    Return the shell that removes folders, and nothing that is mounted below them.

    + folders: absolute paths

    ```
    >>> removal("/var/lib/k0s")
    "findmnt -nlo TARGET | grep -E '^(/var/lib/k0s)/' | sort -r | xargs -rd '\\\\n' umount; …"
    ```
    """

    below = f"({'|'.join(folders)})/"
    # A bind mount may be of the same file system, so nothing goes while one is left.
    return (
        f"findmnt -nlo TARGET | grep -E '^{below}' | sort -r | xargs -rd '\\n' umount; "
        f"grep -Eq ' {below}' /proc/self/mounts || "
        f"rm -rf --one-file-system {' '.join(folders)}"
    )


def swap_stays_off(makers: Iterable[str]) -> str:
    """
    Return the shell after which nothing turns swap on at boot.

    + makers: names of units, and of zram-generator's files below a folder such as /etc/systemd;
      anything else is of /etc/fstab

    ```
    >>> swap_stays_off(["zram-generator.conf", "dev-sda2.swap"])
    'ln -sf /dev/null /etc/systemd/zram-generator.conf; systemctl disable dev-sda2.swap'
    ```
    """

    return "; ".join(dict.fromkeys(map(_stays_off, makers)))


def _stays_off(maker: str) -> str:
    if maker.startswith("zram-generator.conf"):
        path = f"/etc/systemd/{maker}"
        folder = f"mkdir -p {path.rpartition('/')[0]} && " if "/" in maker else ""
        return f"{folder}ln -sf /dev/null {path}"
    if maker.endswith((".swap", ".service")):
        return f"systemctl disable {shlex.quote(maker)}"
    return FSTAB
