"""
Fixes that are made of parts: what a person types to be rid of folders, or of who holds a port.
"""

from __future__ import annotations


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
