"""
Files, directories and links, any number of them in one round trip.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

_KINDS = {"f": "file", "d": "directory", "l": "link"}

# OpenSSL has the processor's help, which pays for what is large.
_DIGESTS = """\
 -type f \\( -size +1024k -exec sh -c \
'openssl dgst -sha256 -r "$@" 2>/dev/null || sha256sum "$@"' sh {} + \
-o -exec sha256sum {} + \\)"""


@dataclass(frozen=True)
class FileState:
    """
    What stands at a path.

    + kind: ``file``, ``directory``, ``link`` or ``other``
    + mode: octal digits, as ``644``
    + size: in bytes
    + mtime: seconds since the epoch
    + target: where a link points
    + points_at: the kind of thing that a link leads to (the kind itself for anything else)
    + sha256: digest of a regular file's content
    """

    kind: str
    mode: str
    user: str
    group: str
    size: int
    mtime: float
    target: str = ""
    points_at: str = ""
    sha256: str = ""


class Files(FactBase[dict[str, FileState]]):
    """
    Returns what stands at each of the paths; a path where nothing stands is left out.

    + paths: absolute paths
    + digest: whether to read the content's SHA-256

    .. code:: python

        {
            "/etc/docker/daemon.json": FileState(
                kind="file", mode="644", user="root", group="root", size=120,
                mtime=1700000000.5, points_at="file", sha256="9f86d0…",
            ),
        }
    """

    default = dict

    @override
    def command(self, paths: Sequence[str], digest: bool = True) -> str:
        if not paths:
            return "true"
        names = " ".join(shlex.quote(path) for path in paths)
        return (
            f"find {names} -maxdepth 0 -printf '%y\\t%Y\\t%m\\t%u\\t%g\\t%s\\t%T@\\t%l\\t%p\\n'"
            f"{_DIGESTS if digest else ''} 2>/dev/null || true"
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, FileState]:
        states: dict[str, FileState] = {}
        digests: dict[str, str] = {}
        for line in output:
            fields = line.split("\t", 8)
            if len(fields) == 9:
                kind, points_at, mode, user, group, size, mtime, target, path = fields
                states[path] = FileState(
                    kind=_KINDS.get(kind, "other"),
                    mode=mode,
                    user=user,
                    group=group,
                    size=int(size),
                    mtime=float(mtime),
                    target=target,
                    points_at=_KINDS.get(points_at, "other"),
                )
            else:
                # sha256sum writes two spaces, OpenSSL a space and a star.
                digest, path = line[:64], line[66:]
                digests[path] = digest
        return {
            path: FileState(**{**vars(state), "sha256": digests.get(path, "")})
            for path, state in states.items()
        }


class FileContents(FactBase[dict[str, bytes]]):
    """
    Returns the content of each of the paths; one that cannot be read is left out.

    Never ask it for a file that holds a secret: ``-vvv`` prints what facts read.

    + paths: absolute paths

    .. code:: python

        {"/etc/hosts": b"127.0.0.1 localhost\\n"}
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        names = " ".join(shlex.quote(path) for path in paths)
        return (
            f"for path in {names}; do "
            '[ -f "$path" ] && [ -r "$path" ] || continue; '
            'printf "%s\\n" "$path"; base64 -w 0 < "$path"; echo; done'
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, bytes]:
        lines = list(output)
        return {
            path: base64.b64decode(content)
            for path, content in zip(lines[::2], lines[1::2], strict=False)
        }
