"""
Set files, directories and links as a whole: one fact read, one script run.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pyinfra_kube.cluster import pki
from pyinfra_kube.facts.files import FileContents, Files, FileState
from pyinfra_kube.facts.snapshot import read
from pyinfra_kube.operations.util import changes
from pyinfra_kube.operations.util.coming import announce
from pyinfra_kube.operations.util.script import Script

# A file appears under its name only when it is whole, right and owned as wanted; the temporary
# name is a fixed dot file, so what a killed run leaves behind is taken up by the next one.
_FUNCTIONS = """\
put() {
  temporary="${1%/*}/.${1##*/}.pyinfra-kube"
  mkdir -p "${1%/*}"
  rm -f "$temporary"
  trap 'rm -f "$temporary"' EXIT
  (umask 077; set -C; base64 -d > "$temporary")
  echo "$5  $temporary" | sha256sum -c --status || { echo "$1 arrived damaged" >&2; exit 1; }
  chown "$3:$4" "$temporary"
  chmod "$2" "$temporary"
  sync "$temporary"
  if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1"; fi
  mv -fT "$temporary" "$1"
  trap - EXIT
}
point() {
  temporary="${1%/*}/.${1##*/}.pyinfra-kube"
  mkdir -p "${1%/*}"
  rm -f "$temporary"
  ln -s "$2" "$temporary"
  if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1"; fi
  mv -fT "$temporary" "$1"
}
directory() {
  if [ -e "$1" ] || [ -L "$1" ]; then [ -d "$1" ] || rm -f "$1"; fi
  mkdir -p "$1"
  chown "$3:$4" "$1"
  chmod "$2" "$1"
}
"""


@dataclass(frozen=True)
class File:
    """
    How one path is wanted.

    + path: absolute path
    + content: text or bytes of a ``file``
    + mode: octal digits
    + user, group: owners
    + secret: never show the content, only that it changes
    + kind: ``file``, ``directory``, ``link`` or ``absent`` (an emptied directory goes too)
    + target: where a ``link`` points
    + if_absent: leave whatever stands there already
    """

    path: str
    content: str | bytes = b""
    mode: str = "644"
    user: str = "root"
    group: str = "root"
    secret: bool = False
    kind: Literal["file", "directory", "link", "absent"] = "file"
    target: str = ""
    if_absent: bool = False

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or self.path.rstrip("/") != self.path:
            raise ValueError(
                f"path: {self.path!r} is not an absolute path without a slash at its end"
            )
        if self.secret and self.kind == "file" and int(self.mode, 8) & 0o037:
            raise ValueError(
                f"mode: {self.mode} of the secret file {self.path}: 600, or 640, at most"
            )

    @property
    def data(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def plan_files(files: Sequence[File]) -> Script | None:
    """
    Return the script that makes the paths as wanted, or ``None`` where they are so already.

    Shows the whole difference of each with ``--diff``; of a secret only that it changes, of a
    certificate what it says.

    + files: how each path is wanted, directories before what lies in them
    """

    states = read(Files, paths=[file.path for file in files])
    changing = [file for file in files if _differences(file, states.get(file.path))]
    if not changing:
        return None
    announce(f.path for f in changing if _content_differs(f, states.get(f.path)))
    _show(changing, states)
    lines = [_line(file, states.get(file.path)) for file in changing]
    summary = "set " + ", ".join(file.path for file in changing)
    return Script(_FUNCTIONS + "".join(lines), summary)


def _differences(file: File, state: FileState | None) -> list[str]:
    """Name what differs between the wanted file and the one that stands there."""

    if file.kind == "absent":
        return ["present → absent"] if state else []
    if state is None:
        return [f"absent → {file.kind}"]
    if file.if_absent:
        return []
    if file.kind == "directory" and state.kind == "link" and state.points_at == "directory":
        return []
    if state.kind != file.kind:
        return [f"{state.kind} → {file.kind}"]
    if file.kind == "link":
        return [f"→ {state.target} becomes → {file.target}"] if state.target != file.target else []
    found = []
    if file.kind == "file" and state.sha256 != file.sha256:
        found.append("content")
    if int(state.mode, 8) != int(file.mode, 8):
        found.append(f"mode {state.mode} → {file.mode}")
    if (state.user, state.group) != (file.user, file.group):
        found.append(f"owner {state.user}:{state.group} → {file.user}:{file.group}")
    return found


def _content_differs(file: File, state: FileState | None) -> bool:
    """Whether more than mode and owner differs."""

    return not all(d.startswith(("mode ", "owner ")) for d in _differences(file, state))


def _line(file: File, state: FileState | None) -> str:
    """The line of the script that sets one path."""

    path = shlex.quote(file.path)
    attributes = shlex.join([file.mode, file.user, file.group])
    if file.kind == "absent":
        return f"rmdir {path}\n" if state and state.kind == "directory" else f"rm -f {path}\n"
    if file.kind == "link":
        return f"point {path} {shlex.quote(file.target)}\n"
    if file.kind == "directory":
        return f"directory {path} {attributes}\n"
    if state and state.kind == "file" and state.sha256 == file.sha256:
        owner = shlex.quote(f"{file.user}:{file.group}")
        return f"chown {owner} {path}\nchmod {file.mode} {path}\n"
    content = base64.encodebytes(file.data).decode()
    return f"put {path} {attributes} {file.sha256} <<'.'\n{content}.\n"


def _show(changing: Iterable[File], states: dict[str, FileState]) -> None:
    if not changes.wanted():
        return
    readable = [
        file.path
        for file in changing
        if not file.secret
        and file.path in states
        and states[file.path].kind == "file"
        and file.kind == "file"
        and states[file.path].sha256 != file.sha256
    ]
    contents = read(FileContents, paths=readable) if readable else {}
    for file in changing:
        changes.show(_diff(file, states.get(file.path), contents.get(file.path, b"")))


def _diff(file: File, state: FileState | None, before: bytes) -> str:
    differences = _differences(file, state)
    title = f"{file.path}: {', '.join(differences)}"
    if file.kind != "file" or (state and "content" not in differences):
        return title if file.kind != "link" or state else f"{file.path}: absent → {file.target}"
    if file.secret:
        return f"{title} (content hidden)"
    try:
        old, new = before.decode(), file.data.decode()
    except UnicodeDecodeError:
        return f"{title} (binary, {len(file.data)} bytes)"
    said = _readable(old), _readable(new)
    # Two certificates may say the same.
    old, new = said if said[0] != said[1] else (old, new)
    # With their ends, for a last line may lack one.
    return changes.text(title, old.splitlines(keepends=True), new.splitlines(keepends=True))


def _readable(text: str) -> str:
    """What a certificate says, in place of its letters; any other text as it is."""

    if not text.startswith("-----BEGIN CERTIFICATE-----"):
        return text
    try:
        said = pki.read(text)
    except ValueError:
        return text
    lines = [
        f"certificate of {', '.join([said.common_name, *said.organizations])}",
        f"issued by {said.issuer}, ends {said.not_after:%Y-%m-%d}",
        *([f"for {', '.join(sorted(said.names))}"] if said.names else []),
    ]
    return "".join(f"{line}\n" for line in lines)
