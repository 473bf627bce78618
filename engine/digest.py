"""
Digests: of files on this machine, each computed once, and of published files.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

from pyinfra_kube.cluster.errors import closed

# digest FILE: of a large file. OpenSSL uses the processor's SHA instructions.
DIGEST = """\
digest() {
  { openssl dgst -sha256 -r "$1" 2>/dev/null || sha256sum "$1"; } | cut -c 1-64
}
"""


def sha256_of(path: str) -> str:
    """
    Return the SHA-256 of a file's content, as hexadecimal digits.

    + path: path of the file
    """

    state = Path(path).stat()
    return _sha256(path, state.st_mtime_ns, state.st_size)


@functools.cache
def _sha256(path: str, _mtime: int, _size: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


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
