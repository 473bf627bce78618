"""
Manage files, directories and links, secret ones among them.

pyinfra's own ``files`` operations take one path each, need three round trips for it, and print
secrets with ``--diff``.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.cluster import pki
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import note_pending
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import FileContents, Files, FileState, Obstacles

# A path appears under its name only when it is whole, right and owned as wanted. The temporary name
# is a fixed dot file, so the next run replaces what a killed one leaves behind. Where somebody made
# a link to a file, the file that it leads to is set, and the link stays.
WRITER = f"""\
{RECORDER}\
folder() {{
  if [ -z "$1" ] || [ -d "$1" ]; then return; fi
  folder "${{1%/*}}"
  mkdir -p "$1"
  label "$1"
}}
begin() {{
  keep "$1"
  temporary="${{1%/*}}/.${{1##*/}}.pyinfra-kube"
  folder "${{1%/*}}"
  rm -f "$temporary"
}}
finish() {{
  if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1"; fi
  mv -fT "$temporary" "$1"
  label "$1"
}}
arrive() {{
  real=$1
  if [ -L "$1" ] && {{ [ -f "$1" ] || [ ! -e "$1" ]; }}; then
    real=$(readlink -f "$1") || {{ echo "$1 leads nowhere" >&2; exit 1; }}
  fi
  begin "$real"
  trap 'rm -f "$temporary"' EXIT
  (umask 077; set -C; base64 -d > "$temporary")
  echo "$2  $temporary" | sha256sum -c --status || {{ echo "$1 arrived damaged" >&2; exit 1; }}
}}
appear() {{
  chown "$2:$3" "$temporary"
  chmod "$1" "$temporary"
  sync "$temporary" "$record/before"
  finish "$real"
  trap - EXIT
}}
put() {{ arrive "$1" "$5"; wrote "$real" "$5"; appear "$2" "$3" "$4"; }}
point() {{ begin "$1"; ln -s "$2" "$temporary"; finish "$1"; }}
directory() {{
  keep "$1"
  if [ -e "$1" ] || [ -L "$1" ]; then [ -d "$1" ] || rm -f "$1"; fi
  folder "$1"
  chown "$3:$4" "$1"
  chmod "$2" "$1"
}}
"""


@dataclass(frozen=True)
class File:
    """
    One wanted path.

    If the path is a link to a file, that file is set. Its mode and owner stay, unless it is a
    secret.

    + path: absolute path
    + content: text or bytes of a ``file``
    + mode: octal digits
    + user, group: owners
    + keep: leave the mode and owner of a file that exists
    + secret: never show the content, only that it changes
    + shown: what ``--diff`` shows before and after, where the content may hold secrets of others
    + kind: ``file``, ``directory``, ``link`` or ``absent`` (an empty directory goes too)
    + target: where a ``link`` points
    + if_absent: leave whatever exists already
    """

    path: str
    # pyinfra labels an operation without a name with the repr of its arguments.
    content: str | bytes = field(default=b"", repr=False)
    mode: str = "644"
    user: str = "root"
    group: str = "root"
    keep: bool = False
    secret: bool = False
    shown: tuple[str, str] | None = None
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


@operation()
def files(files: Sequence[File]) -> Generator[StringCommand, None, None]:
    """
    Set any number of files, directories and links.

    A file appears under its name only when it is whole, with its mode and owner. What is already
    as wanted is not touched. A service that reads one of the files takes it up when it is
    restarted: name the file in ``config`` of its ``services.Unit``.

    + files: list of ``File``; directories before what lies in them. With ``secret=True`` the
      content of a file is never shown, and its mode is ``600``, or ``640`` for a group

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import files

        files.files(
            name="Set the apiserver's key and tokens",
            files=[
                files.File("/srv/kubernetes", kind="directory", mode="755"),
                files.File("/srv/kubernetes/server.key", key, mode="600", secret=True),
                files.File("/srv/kubernetes/known_tokens.csv", tokens, mode="600", secret=True),
            ],
        )
    """

    yield from run_or_noop(plan_files(files), f"{len(files)} paths are as wanted")


def plan_files(files: Sequence[File], step: bool = False) -> Script | None:
    """
    Return the script that sets all paths, or ``None`` where they are as wanted.

    ``--diff`` shows the difference of each: of a secret only that it changes, of a certificate its
    fields.

    + files: how each path is wanted, directories before what is in them
    + step: whether an earlier operation of the run sets them too, and what reads them is restarted
      beside this script

    Raises ``OperationError`` where something is in the way.
    """

    paths = [file.path for file in files]
    states = read(Files, paths=paths)
    changing = [file for file in files if _differences(file, states.get(file.path))]
    folders = [file.path for file in files if file.kind != "file"]
    refuse_obstacles(paths, [file.path for file in changing if file.kind != "absent"], folders)
    for file in changing:
        _refuse(file, states.get(file.path))
    if not changing:
        return None
    rewritten = [f.path for f in changing if is_rewritten(_differences(f, states.get(f.path)))]
    note_pending(rewritten if not step else ())
    _show(changing, states)
    lines = [_line(file, states.get(file.path)) for file in changing]
    summary = "set " + ", ".join(file.path for file in changing)
    return Script(WRITER + "".join(lines), summary)


def refuse_obstacles(
    paths: Sequence[str], changing: Collection[str], folders: Sequence[str] = ()
) -> None:
    """
    Refuse to plan where something is in the way of a path. The error names it and the fix.

    + paths: all paths that are managed together
    + changing: the paths that will be set
    + folders: the paths where a folder or a link is wanted

    Raises ``OperationError``.
    """

    # In the execution it is too late to refuse, and would take another round trip.
    if not changing or ctx_state.get().is_executing:
        return
    found = read(Obstacles, paths=list(paths), folders=list(folders))
    if wrong := [f"{path}: {found[path]}" for path in paths if path in found and path in changing]:
        raise OperationError("; ".join(wrong))


def _refuse(file: File, state: FileState | None) -> None:
    """Refuse to replace somebody's link whose target does not exist."""

    if state and _leads_on(file, state) and not state.real:
        raise OperationError(
            f"{file.path}: it is a link to {state.target}, whose folder does not exist; make "
            "that folder, or remove the link"
        )
    if state and state.kind == "link" and file.kind == "directory" and state.points_at == "missing":
        raise OperationError(
            f"{file.path}: it is a link to {state.target}, which does not exist; make that folder, "
            "or remove the link"
        )


def _differences(file: File, state: FileState | None) -> list[str]:
    """Name what differs between the wanted file and the existing one."""

    if file.kind == "absent":
        return ["present → absent"] if state else []
    if state is None or (_leads_on(file, state) and state.points_at == "missing"):
        return [f"absent → {file.kind}"]
    if file.if_absent:
        return []
    if file.kind == "directory" and state.kind == "link" and state.points_at == "directory":
        return []
    if state.kind != file.kind and not _leads_on(file, state):
        return [f"{state.kind} → {file.kind}"]
    if file.kind == "link":
        return [f"→ {state.target} becomes → {file.target}"] if state.target != file.target else []
    content = file.kind == "file" and state.sha256 != file.sha256
    return ["content"] * content + attribute_changes(state, *_attributes(file, state))


def _leads_on(file: File, state: FileState) -> bool:
    """Whether a link is there, and the file that it leads to will be set."""

    wanted = file.kind == "file" and state.kind == "link"
    return wanted and state.points_at in ("file", "missing")


def _attributes(file: File, state: FileState | None) -> tuple[str, str, str]:
    """The mode, user and group that are wanted."""

    if state and (
        (_leads_on(file, state) and state.points_at == "file" and not file.secret)
        or (file.keep and state.kind == "file")
    ):
        return state.mode, state.user, state.group
    return file.mode, file.user, file.group


def attribute_changes(state: FileState, mode: str, user: str, group: str) -> list[str]:
    """
    Return what of a file's mode and owner differs, for people.

    + state: what is there
    + mode, user, group: as wanted
    """

    found = []
    if int(state.mode, 8) != int(mode, 8):
        found.append(f"mode {state.mode} → {mode}")
    if (state.user, state.group) != (user, group):
        found.append(f"owner {state.user}:{state.group} → {user}:{group}")
    return found


def attribute_lines(path: str, mode: str, user: str, group: str) -> str:
    """
    Return shell text that sets a file's mode and owner.

    + path: of the file
    + mode, user, group: as wanted
    """

    name = shlex.quote(path)
    return f"chown {shlex.quote(f'{user}:{group}')} {name}\nchmod {mode} {name}\n"


def is_rewritten(differences: Iterable[str]) -> bool:
    """
    Return whether more than the mode and owner differs.

    + differences: all of them, for people
    """

    return not all(one.startswith(("mode ", "owner ")) for one in differences)


def _line(file: File, state: FileState | None) -> str:
    """The line of the script that sets one path."""

    path = shlex.quote(file.path)
    mode, user, group = _attributes(file, state)
    attributes = shlex.join([mode, user, group])
    if file.kind == "absent":
        return f"rmdir {path}\n" if state and state.kind == "directory" else f"rm -f {path}\n"
    if file.kind == "link":
        return f"point {path} {shlex.quote(file.target)}\n"
    if file.kind == "directory":
        return f"directory {path} {attributes}\n"
    if state and state.points_at == "file" and state.sha256 == file.sha256:
        return attribute_lines(file.path, mode, user, group)
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
        and not file.shown
        and states[file.path].points_at == "file"
        and file.kind == "file"
        and states[file.path].sha256 != file.sha256
    ]
    contents = read(FileContents, paths=readable) if readable else {}
    for file in changing:
        changes.show(_diff(file, states.get(file.path), contents.get(file.path, b"")))


def _diff(file: File, state: FileState | None, before: bytes) -> str:
    differences = _differences(file, state)
    way = f" → {state.target}" if state and _leads_on(file, state) else ""
    title = f"{file.path}{way}: {', '.join(differences)}"
    if file.kind != "file" or (state and "content" not in differences):
        return title if file.kind != "link" or state else f"{file.path}: absent → {file.target}"
    if file.secret:
        return f"{title} (content hidden)"
    try:
        old, new = file.shown or (before.decode(), file.data.decode())
    except UnicodeDecodeError:
        return f"{title} (binary, {len(file.data)} bytes)"
    said = _readable(old), _readable(new)
    # Two certificates may say the same: then their text differs.
    old, new = said if said[0] != said[1] else (old, new)
    # With line ends, because the last line may lack one.
    return changes.text(title, old.splitlines(keepends=True), new.splitlines(keepends=True))


def _readable(text: str) -> str:
    """The fields of certificates in place of their base64; any other text as it is."""

    begin = "-----BEGIN CERTIFICATE-----"
    if not text.startswith(begin):
        return text
    try:
        return "".join(_fields(f"{begin}{part}") for part in text.split(begin)[1:])
    except ValueError:
        return text


def _fields(pem: str) -> str:
    said = pki.read(pem)
    lines = [
        f"certificate of {', '.join([said.common_name, *said.organizations])}",
        f"issued by {said.issuer}, ends {said.not_after:%Y-%m-%d}",
        *([f"for {', '.join(sorted(said.names))}"] if said.names else []),
    ]
    return "".join(f"{line}\n" for line in lines)
