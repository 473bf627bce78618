"""
Manage programs that come as one file: from a folder of this machine, or from a URL.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra.api import FileUploadCommand, OperationValueError
from pyinfra.context import ctx_host

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.digest import published_sha256, sha256_of
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import note_pending
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import Files, FileState

__all__ = ["Binary", "binaries"]

_FUNCTIONS = """\
fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl --fail --silent --show-error --location --retry 3 --output "$1" "$2"
  else
    wget --quiet --tries=4 --output-document="$1" "$2"
  fi
}
install_from() {
  echo "$3  $1" | sha256sum -c --status ||
    { rm -f "$1"; echo "$2: its digest is not $3" >&2; exit 1; }
  chown root:root "$1"
  chmod "$4" "$1"
  touch "$1"
  mv -fT "$1" "$2"
}
"""


@dataclass(frozen=True)
class Binary:
    """
    One program.

    + path: where it is on the host
    + source: a path on this machine, or an ``http(s)://`` URL that the host fetches
    + sha256: the digest it must have; by default that of the local file, or the one published at
      the URL with ``.sha256`` appended
    + mode: octal digits
    """

    path: str
    source: str
    sha256: str = ""
    mode: str = "755"

    @property
    def remote(self) -> bool:
        return self.source.startswith(("http://", "https://"))


@operation()
def binaries(binaries: Sequence[Binary]) -> Generator[Any, None, None]:
    """
    Have programs in their places, each checked by digest.

    A program is replaced as a whole, after its digest was checked. A process that runs the old one
    keeps it until it is restarted.

    + binaries: list of ``Binary``

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import binaries

        binaries.binaries(
            name="Install kubelet and kubectl",
            binaries=[
                binaries.Binary("/usr/local/bin/kubelet", source="release/kubelet"),
                binaries.Binary(
                    "/usr/local/bin/kubectl",
                    source="https://dl.k8s.io/v1.20.2/bin/linux/amd64/kubectl",
                    sha256="2583b1c9fbfc5443a722fb04cf0cc83df18e45880a2cf1f6b52d9f595c5beb88",
                ),
            ],
        )
    """

    digests = {binary.path: _digest(binary) for binary in binaries}
    states = read(Files, paths=list(digests))
    differing = [binary for binary in binaries if not _is(binary, digests, states.get(binary.path))]
    for binary in differing:
        changes.show(f"{binary.path}: {_change(binary, digests, states.get(binary.path))}")
    if not differing:
        ctx_host.get().noop(f"{len(binaries)} programs are in place")
        return

    others = [b for b in differing if not _has(b, digests, states.get(b.path))]
    note_pending(binary.path for binary in others)
    mended = [binary for binary in differing if binary not in others]
    uploads = [binary for binary in others if not binary.remote]
    places = {binary.path: _place(binary.path, states.get(binary.path)) for binary in others}
    beside = {path: _beside(place) for path, place in places.items()}
    folders = sorted({place.rpartition("/")[0] for place in places.values()})
    clear = [shlex.join(["mkdir", "-p", *folders]), shlex.join(["rm", "-f", *beside.values()])]
    clear = clear if others else []
    if uploads:
        yield Script("\n".join(clear), f"make room in {', '.join(folders)}")
        clear = []
    for binary in uploads:
        yield FileUploadCommand(binary.source, beside[binary.path])
    lines = [_FUNCTIONS.rstrip("\n"), *clear]
    for binary in mended:
        # Its age stays, so that what runs it is not restarted.
        lines += [f"chown root:root {shlex.quote(binary.path)}"]
        lines += [shlex.join(["chmod", binary.mode, binary.path])]
    for binary in others:
        temporary, digest = beside[binary.path], digests[binary.path]
        if binary.remote:
            lines.append(shlex.join(["fetch", temporary, binary.source]))
        lines.append(
            shlex.join(["install_from", temporary, places[binary.path], digest, binary.mode])
        )
    yield Script("\n".join(lines), f"install {', '.join(b.path for b in differing)}")


def _has(binary: Binary, digests: dict[str, str], state: FileState | None) -> bool:
    """Whether the path has the right program, whatever its mode and owner."""

    return bool(state and state.points_at == "file" and state.sha256 == digests[binary.path])


def _is(binary: Binary, digests: dict[str, str], state: FileState | None) -> bool:
    """Whether the path has the right program, mode and owner."""

    if state is None or not _has(binary, digests, state):
        return False
    return (int(state.mode, 8), state.user) == (int(binary.mode, 8), "root")


def _change(binary: Binary, digests: dict[str, str], state: FileState | None) -> str:
    if state and _has(binary, digests, state):
        return f"mode {state.mode} of {state.user} → {binary.mode} of root"
    was = (state.sha256[:12] or state.kind) if state else "absent"
    return f"{was} → {digests[binary.path][:12]} from {binary.source}"


def _place(path: str, state: FileState | None) -> str:
    """The path of the program itself, which may be behind a link."""

    return state.real if state and state.kind == "link" and state.points_at == "file" else path


def _beside(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.pyinfra-kube"


def _digest(binary: Binary) -> str:
    if binary.remote:
        return binary.sha256.lower() or _published(binary)
    if not Path(binary.source).is_file():
        raise OperationValueError(
            f"source of {binary.path}: {binary.source} is no file on this machine"
        )
    digest = sha256_of(binary.source)
    if binary.sha256 and binary.sha256.lower() != digest:
        raise OperationValueError(
            f"sha256 of {binary.path}: {binary.source} has {digest}, wanted is {binary.sha256}"
        )
    return digest


def _published(binary: Binary) -> str:
    try:
        return published_sha256(binary.source)
    except ValueError as error:
        raise OperationValueError(f"sha256 of {binary.path}: give it; {error}") from None
