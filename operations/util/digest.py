"""
Digests of files on this machine, each computed once a run.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits."""

    state = Path(path).stat()
    return _sha256(path, state.st_mtime_ns, state.st_size)


@functools.cache
def _sha256(path: str, _mtime: int, _size: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
