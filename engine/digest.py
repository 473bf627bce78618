"""
Digests: of files on this machine, each computed once, and of published files.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.credential_store import write_whole
from pyinfra_kube.cluster.errors import closed

# digest FILE: of a large file. OpenSSL uses the processor's SHA instructions.
DIGEST = """\
digest() {
  { openssl dgst -sha256 -r "$1" 2>/dev/null || sha256sum "$1"; } | cut -c 1-64
}
"""


# Bytes from which on a digest is kept: less is read faster than looked up.
_LARGE = 1 << 20


def sha256_of(path: str) -> str:
    """
    Return the SHA-256 of a file's content, as hexadecimal digits. That of a large file is computed
    once for as long as the file does not change: a run keeps it in the user's cache folder, a dry
    run keeps nothing.

    + path: path of the file
    """

    state = Path(path).stat()
    # The kernel sets the last one at every change, and nobody else can.
    version = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    digest = _sha256(path, version)
    if _unkept and ctx_state.isset() and ctx_state.get().is_executing:
        _keep()
    return digest


@functools.cache
def _sha256(path: str, version: tuple[int, ...]) -> str:
    *_, size, _, changed = version
    # What changes again in the same moment may look as it did before.
    keeps = size >= _LARGE and time.time_ns() - changed > 2 * 10**9
    real = os.path.realpath(path)
    known, digest = _digests().get(real, ([], "")) if keeps else ([], "")
    if known == [*version]:
        return digest
    digest = _computed(path)
    if keeps:
        _unkept[real] = ([*version], digest)
    return digest


# What this run has computed, like what is kept.
_unkept: dict[str, tuple[list[int], str]] = {}


def _computed(path: str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _store() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser() / "pyinfra-kube" / "digests.json"


@functools.cache
def _digests() -> dict[str, tuple[list[int], str]]:
    """What is kept: by path, the file's version and its digest."""

    try:
        kept = _KEPT.validate_json(_store().read_bytes())
    except (OSError, RuntimeError, ValueError):
        return {}
    return {path: one for path, one in kept.items() if os.path.exists(path)}


_KEPT = TypeAdapter(dict[str, tuple[list[int], Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]])


def _keep() -> None:
    """Keep what was computed; where there is no place for it, nothing is kept."""

    _digests().update(_unkept)
    _unkept.clear()
    with suppress(OSError, RuntimeError):
        _store().parent.mkdir(parents=True, exist_ok=True)
        write_whole(_store(), json.dumps(_digests(), indent=1))


@functools.cache
def published_sha256(url: str) -> str:
    """
    Return the SHA-256 that is published beside a file, at its URL with ``.sha256`` at the end.

    + url: URL of the file

    Raises ``ValueError`` with the reason where there is none.
    """

    try:
        with urllib.request.urlopen(f"{url}.sha256", timeout=20) as answer:
            text = answer.read(1024).decode("ascii", "replace")
    except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(closed(f"{url}.sha256 does not tell: {error}")) from None
    match = re.match(r"[0-9a-fA-F]{64}\b", text.strip())
    if not match:
        raise ValueError(closed(f"{url}.sha256 does not begin with a SHA-256 digest"))
    return match[0].lower()
