"""
The user's own manifests: read on the control machine before any host is touched.
"""

from __future__ import annotations

import functools
import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from pyinfra.api import OperationValueError

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.operations.manifests import Manifest, documents, refuse_doubles

_SUFFIXES = (".yaml", ".yml", ".json")


def read_manifests(spec: ClusterSpec) -> list[Manifest]:
    """
    Return the manifests that an inventory names, in its order.

    + spec: the cluster

    Raises ``InputError`` for what is not there, has another digest, or is no manifest.
    """

    problems, found = [], []
    for place in spec.manifests:
        try:
            found += _read(place, spec.manifests_sha256.get(place, ""))
        except InputError as error:
            problems += error.problems
    if not problems:
        problems += _wrong(found)
    if problems:
        raise InputError(problems)
    return found


def _read(place: str, digest: str) -> list[Manifest]:
    if "://" in place:
        return [Manifest(place, _text(place, _fetched(place, digest)))]
    path = Path(place).expanduser()
    files = sorted(_files(path)) if path.is_dir() else [path] if path.is_file() else []
    if not files:
        allowed = "a file, a folder with .yaml, .yml or .json files, or a URL"
        raise InputError([Problem("manifests", place, None, allowed)])
    try:
        return [Manifest(str(one), _text(str(one), one.read_bytes())) for one in files]
    except OSError as error:
        allowed = f"files that can be read: {error.strerror}"
        raise InputError([Problem("manifests", place, None, allowed)]) from None


def _files(folder: Path) -> Iterator[Path]:
    """Those of a folder, and of the folders in it, but for hidden ones."""

    for one in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in one.relative_to(folder).parts)
        if one.suffix in _SUFFIXES and one.is_file() and not hidden:
            yield one


def _text(place: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError([Problem("manifests", place, None, "text in UTF-8")]) from None


@functools.cache
def _fetched(url: str, digest: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            data = bytes(answer.read())
    except (urllib.error.URLError, OSError, ValueError) as error:
        allowed = f"a URL within reach of this machine: {error}"
        raise InputError([Problem("manifests", url, None, allowed)]) from None
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        allowed = f"the digest of what is there, {found}"
        fix = "read it, and give its digest if it is what you want"
        raise InputError([Problem(f"manifests_sha256.{url}", digest, None, allowed, fix)])
    return data


def _wrong(found: list[Manifest]) -> list[Problem]:
    """What is no object, or is there twice."""

    problems, objects = [], []
    for one in found:
        try:
            objects += documents(one)
        except OperationValueError as error:
            problems.append(Problem("manifests", one.name, None, f"manifests; {error}"))
    try:
        refuse_doubles(objects)
    except OperationValueError as error:
        problems.append(Problem("manifests", None, None, f"each object once; {error}"))
    return problems
