"""
Files, directories and links, any number of them by one command.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from posixpath import normpath
from typing import Any

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

_KINDS = {"f": "file", "d": "directory", "l": "link", "N": "missing"}

# OpenSSL uses the processor's SHA instructions, which pays for large files.
_DIGESTS = """\
 -type f \\( -size +1024k -exec sh -c \
'openssl dgst -sha256 -r "$@" 2>/dev/null || sha256sum "$@"' sh {} + \
-o -exec sha256sum {} + \\)"""

# Where a link leads to.
_REAL = """\
 -type l -exec sh -c \
'for path; do printf "real\\t%s\\t%s\\n" "$path" "$(readlink -f -- "$path")"; done' sh {} +"""


@dataclass(frozen=True)
class FileState(Printable):
    """
    What is at a path. For a link to a file, all but ``kind`` describes that file.

    + kind: ``file``, ``directory``, ``link`` or ``other``
    + mode: octal digits, for example ``644``
    + size: in bytes
    + mtime: seconds since the epoch
    + target: the text of a link
    + points_at: the kind of thing that a link leads to, ``missing`` for nothing; ``kind`` for
      anything but a link
    + real: the path that a link leads to in the end; empty where its folder does not exist
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
    real: str = ""
    sha256: str = ""


class OfPaths:
    """A fact about paths, whose value has what it knows by path: several are asked as one."""

    @staticmethod
    def join(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
        paths = [*dict.fromkeys([*one["paths"], *other["paths"]])]
        both = {**one, "paths": paths}
        return both if both == {**other, "paths": paths} else None

    @staticmethod
    def part(answer: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        return {path: answer[path] for path in arguments["paths"] if path in answer}


class Files(OfPaths, FactBase[dict[str, FileState]]):
    """
    Returns what is at each of the paths. A path where nothing is is left out.

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
        self.paths, self.digest = paths, digest
        # The root is always there: its line shows that find(1) works.
        names = " ".join(shlex.quote(path) for path in ["/", *paths])
        return (
            f"find {names} -maxdepth 0 -printf '%y\\t%Y\\t%m\\t%u\\t%g\\t%s\\t%T@\\t%l\\t%p\\n'"
            f" \\({_REAL}{f' ,{_DIGESTS}' if digest else ''} \\) 2>/dev/null\n"
            f"find -L {names} -maxdepth 0 -xtype l -printf 'has\\t%m\\t%u\\t%g\\t%s\\t%T@\\t%p\\n'"
            f"{_DIGESTS if digest else ''} 2>/dev/null\ntrue"
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, FileState]:
        said: dict[str, dict[str, list[str]]] = {}
        for line in output:
            fields = line.split("\t", 8)
            if fields[0] == "real" and len(fields) == 3:
                said.setdefault(fields[1], {})["real"] = fields[2:]
            elif fields[0] == "has" and len(fields) == 7:
                said.setdefault(fields[6], {})["has"] = fields[1:6]
            elif len(fields) == 9:
                said.setdefault(fields[8], {})["own"] = fields[:8]
            else:
                # sha256sum writes two spaces, OpenSSL a space and a star.
                said.setdefault(line[66:], {})["digest"] = [line[:64]]
        if "own" not in said.get("/", {}):
            raise FactProcessError("find does not tell what stands at the paths that we manage")
        states = {path: _state(said[path]) for path in self.paths if path in said}
        unread = [
            path for path, state in states.items() if state.points_at == "file" and not state.sha256
        ]
        if self.digest and unread:
            raise FactProcessError(f"{', '.join(unread)} cannot be read")
        return states


def _state(said: dict[str, list[str]]) -> FileState:
    kind, points_at, *has, target = said["own"]
    # A link that leads to nothing has a mode and owner of its own.
    mode, user, group, size, mtime = said.get("has", has)
    return FileState(
        kind=_KINDS.get(kind, "other"),
        mode=mode,
        user=user,
        group=group,
        size=int(size),
        mtime=float(mtime),
        target=target,
        points_at=_KINDS.get(points_at, "other"),
        real=said.get("real", [""])[0],
        sha256=said.get("digest", [""])[0],
    )


# What is in the way of a path. Mostly without processes of its own, because paths may be many.
_LOOK = """\
mounted=$(cut -d ' ' -f 5 /proc/self/mountinfo 2>/dev/null | tr '\\n' ' ')
look() {
real=$1
if [ -L "$1" ]; then
case $(find "$1" -maxdepth 0 -printf %Y) in L) echo "$1 loop"; return;; esac
if [ -d "$1" ] && [ "$2" = file ]; then echo "$1 to-folder $(readlink "$1")"; return; fi
if [ -f "$1" ] || [ ! -e "$1" ]; then real=$(readlink -f "$1") || real=; fi
[ "$real" ] || { echo "$1 nowhere $(readlink "$1")"; return; }
fi
folder=${real%/*}
while [ "$folder" ] && [ ! -e "$folder" ] && [ ! -L "$folder" ]; do folder=${folder%/*}; done
folder=${folder:-/}
if [ ! -d "$folder" ]; then echo "$1 no-folder $folder"
elif [ ! -w "$folder" ]; then echo "$1 fixed $folder"
elif [ -f "$real" ] && [ ! -w "$real" ]; then echo "$1 fixed $real"
elif [ -d "$real" ] && [ ! -L "$real" ]; then
[ "$2" = folder ] || [ -z "$(ls -A "$real")" ] || echo "$1 full"
elif [ -e "$real" ]; then
case " $mounted" in *" $(cd -P "$folder" && pwd)/${real##*/} "*) echo "$1 mount $real";; esac
fi
}
"""

_OBSTACLES = {
    "loop": "it is a link that leads to itself; remove it",
    "nowhere": "it is a link to {}, whose folder does not exist; make that folder, or remove the "
    "link",
    "to-folder": "it is a link to the folder {}; remove the link",
    "no-folder": "{} is no folder, nor a link to one; make it one, or move it out of the way",
    "fixed": "{} cannot be written; see whether it is read-only (mount) or immutable (lsattr)",
    "full": "it is a folder that holds something; move it out of the way",
    "mount": "{} is a mount point, and no other file can take its place; umount it, or mount the "
    "folder that it is in",
}


class Obstacles(OfPaths, FactBase[dict[str, str]]):
    """
    Returns what is in the way of setting paths, with the fix. A free path is left out.

    + paths: absolute paths
    + folders: those of them where a folder or a link is wanted, not a file

    .. code:: python

        {"/etc/hosts": "it is a link that leads to itself; remove it"}
    """

    default = dict
    functions = _LOOK

    @override
    @staticmethod
    def join(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
        both = OfPaths.join({**one, "folders": ()}, {**other, "folders": ()})
        folders = {*one.get("folders", ()), *other.get("folders", ())}
        # What one wants a folder at, another may want a file at.
        agree = all(
            folders.intersection(asked["paths"]) <= {*asked.get("folders", ())}
            for asked in (one, other)
        )
        return {**both, "folders": sorted(folders)} if both and agree else None

    @override
    def command(self, paths: Sequence[str], folders: Sequence[str] = ()) -> str:
        kinds = {"file": [path for path in paths if path not in folders], "folder": folders}
        looks = [
            f'for path in {shlex.join(some)}; do look "$path" {kind}; done'
            for kind, some in kinds.items()
            if some
        ]
        return _LOOK + "\n".join([*looks, "true"])

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        found = {}
        for path, obstacle, *detail in (line.split(" ", 2) for line in output):
            found[path] = _OBSTACLES[obstacle].format(*detail)
        return found


# A circle ends after as many links as the kernel would follow.
_FOLLOW = """\
for path; do
if [ -e "$path" ] && [ ! -f "$path" ]; then continue; fi
step=$path; left=40
while [ -L "$step" ] && [ "$left" -gt 0 ]; do
target=$(readlink "$step")
case $target in /*) step=$target;; *) step=${step%/*}/$target;; esac
printf "%s\\t%s\\n" "$path" "$step"; left=$((left - 1))
done
done"""


class LinkSteps(OfPaths, FactBase[dict[str, list[str]]]):
    """
    Returns the paths that links to files lead through, one after the other, the last one perhaps
    missing. Whatever is no such link is left out.

    + paths: absolute paths

    .. code:: python

        {"/srv/kubernetes/ca.crt": ["/srv/kubernetes/new.crt", "/etc/pki/ca.crt"]}
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        return f"sh -c {shlex.quote(_FOLLOW)} sh {shlex.join(paths)}"

    @override
    def process(self, output: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path, step in (line.split("\t", 1) for line in output):
            found.setdefault(path, []).append(normpath(step))
        return found


class FileContents(OfPaths, FactBase[dict[str, bytes]]):
    """
    Returns the content of each of the paths. A path that cannot be read is left out.

    Not for files that hold secrets: ``-vvv`` prints what facts read.

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
            'printf "%s\\n" "$path"; base64 -w 0 < "$path" || exit 1; echo; done'
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, bytes]:
        lines = list(output)
        return {
            path: base64.b64decode(content)
            for path, content in zip(lines[::2], lines[1::2], strict=False)
        }
