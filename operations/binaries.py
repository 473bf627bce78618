"""
Manage programs that come as one file: from a folder of this machine, or from a URL, where it may be
in an archive.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra.api import OperationValueError
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.errors import closed
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.digest import DIGEST, published_sha256, sha256_of
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import note_pending
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.sending import Upload, send_ahead
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.binaries import Versions
from pyinfra_kube.facts.files import Files, FileState

__all__ = ["Binary", "binaries"]

_FUNCTIONS = (
    RECORDER
    + DIGEST
    + """\
fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl --fail --silent --show-error --location --retry 3 --output "$1" "$2"
  else
    wget --quiet --tries=4 --output-document="$1" "$2"
  fi
}
install_from() {
  [ "$(digest "$1")" = "$3" ] ||
    { rm -f "$1"; echo "$2: its digest is not $3" >&2; exit 1; }
  chown root:root "$1"
  chmod "$4" "$1"
  touch "$1"
  wrote "$2" "$3"
  mv -fT "$1" "$2"
  label "$2"
}
"""
)

_FROM_ARCHIVE = """\
install_member() {
  [ "$(digest "$1")" = "$3" ] ||
    { rm -f "$1"; echo "$2: the digest of its archive is not $3" >&2; exit 1; }
  tar -xzOf "$1" "$5" > "$1.member"
  install_from "$1.member" "$2" "$(digest "$1.member")" "$4"
  rm -f "$1"
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
    + member: the program's path in the archive that the URL leads to; empty for no archive. Only
      the archive's digest is known, so any program that tells its ``--version`` is the right one
    """

    path: str
    source: str
    sha256: str = ""
    mode: str = "755"
    member: str = ""

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

    digests = {binary.path: _digest(binary) for binary in binaries if not binary.member}
    states = read(Files, paths=[binary.path for binary in binaries])
    members = [binary for binary in binaries if binary.member]
    versions = read(Versions, paths=[binary.path for binary in members]) if members else {}
    for binary in members:
        digests[binary.path] = "" if binary.path in versions else _digest(binary)
    plans = [
        _Plan(binary, digests[binary.path], states.get(binary.path), binary.path in versions)
        for binary in binaries
    ]
    differing = [plan for plan in plans if not plan.done]
    for plan in differing:
        changes.show(f"{plan.binary.path}: {plan.change}")
    if not differing:
        ctx_host.get().noop(f"{len(binaries)} programs are in place")
        return

    others = [plan for plan in differing if not plan.right]
    note_pending(plan.binary.path for plan in others)
    uploads = [plan for plan in others if not plan.binary.remote]
    send_ahead({plan.digest: plan.binary.source for plan in uploads})
    folders = sorted({plan.place.rpartition("/")[0] for plan in others})
    clear = [["mkdir", "-p", *folders], ["rm", "-f", *(plan.beside for plan in others)]]
    kept = [["keep", plan.place] for plan in others]
    lines = [RECORDER + "\n".join(map(shlex.join, [*kept, *clear]))] if others else []
    if uploads:
        yield Script("\n".join(lines), f"make room in {', '.join(folders)}")
        lines = []
    for plan in uploads:
        yield Upload(plan.binary.source, plan.beside, plan.digest)
    lines.insert(0, (_FUNCTIONS + (_FROM_ARCHIVE if members else "")).rstrip("\n"))
    for binary in (plan.binary for plan in differing if plan.right):
        # Its age stays, so that what runs it is not restarted.
        lines += [f"chown root:root {shlex.quote(binary.path)}"]
        lines += [shlex.join(["chmod", binary.mode, binary.path])]
    for plan in others:
        if plan.binary.remote:
            lines.append(shlex.join(["fetch", plan.beside, plan.binary.source]))
        words = ["install_from", plan.beside, plan.place, plan.digest, plan.binary.mode]
        if plan.binary.member:
            words = ["install_member", *words[1:], plan.binary.member]
        lines.append(shlex.join(words))
    yield Script("\n".join(lines), f"install {', '.join(plan.binary.path for plan in differing)}")


@dataclass(frozen=True)
class _Plan:
    """
    A program, the digest that it must have, what stands in its place, and whether that tells its
    version.
    """

    binary: Binary
    digest: str
    state: FileState | None
    tells: bool = False

    @property
    def right(self) -> bool:
        """Whether the right program stands there, whatever its mode and owner."""
        state = self.state
        if self.binary.member:
            return self.tells
        return bool(state and state.points_at == "file" and state.sha256 == self.digest)

    @property
    def done(self) -> bool:
        """Whether the program stands there as wanted."""
        wanted = int(self.binary.mode, 8), "root"
        return bool(
            self.right and self.state and (int(self.state.mode, 8), self.state.user) == wanted
        )

    @property
    def change(self) -> str:
        state = self.state
        if state and self.right:
            return f"mode {state.mode} of {state.user} → {self.binary.mode} of root"
        if self.binary.member:
            return f"{'another' if state else 'absent'} → from {closed(self.binary.source)}"
        was = (state.sha256[:12] or state.kind) if state else "absent"
        return f"{was} → {self.digest[:12]} from {closed(self.binary.source)}"

    @property
    def place(self) -> str:
        """Where the program itself is: a link to it stays."""
        state = self.state
        leads = state and state.kind == "link" and state.points_at == "file"
        return state.real if state and leads else self.binary.path

    @property
    def beside(self) -> str:
        folder, _, name = self.place.rpartition("/")
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
