"""
bolt: the file in which containerd keeps what it knows. It is read here where containerd is stopped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_MAGIC = 0xED0CDAED
_PAGE = struct.Struct("<QHHI")
_META = struct.Struct("<IIIIQQQQQQ")
_BRANCH = struct.Struct("<IIQ")
_LEAF = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")
_IS_BRANCH, _IS_LEAF, _IS_BUCKET = 1, 2, 1


def buckets(data: bytes, path: Sequence[str]) -> list[str]:
    """
    Return the names of the buckets within a bucket, in order; none where there is no such bucket.

    + data: of the whole file
    + path: names of buckets, from the outermost one on

    Raises ``ValueError`` for what is no file of bolt, or a damaged one.
    """

    try:
        size, root = _root(data)
        at = root * size
        for name in path:
            found = dict(_within(data, size, at))
            if name not in found:
                return []
            at = found[name]
        return [name for name, _ in _within(data, size, at)]
    except (struct.error, RecursionError) as error:
        raise ValueError(f"the file is damaged: {error}") from error


def _root(data: bytes) -> tuple[int, int]:
    """The size of a page, and the number of the outermost bucket's first one."""

    found = []
    first = _META.unpack_from(data, _PAGE.size)
    for at in (0, first[2]):
        magic, _, size, _, root, _, _, _, transaction, _ = _META.unpack_from(data, at + _PAGE.size)
        if magic == _MAGIC:
            found.append((transaction, size, root))
    if not found:
        raise ValueError("the file is none of bolt's")
    return max(found)[1:]


def _within(data: bytes, size: int, at: int) -> Iterator[tuple[str, int]]:
    """The buckets below a page, each with where its own page begins."""

    _, flags, count, _ = _PAGE.unpack_from(data, at)
    start = at + _PAGE.size
    if flags & _IS_BRANCH:
        for one in range(start, start + count * _BRANCH.size, _BRANCH.size):
            yield from _within(data, size, _BRANCH.unpack_from(data, one)[2] * size)
    elif flags & _IS_LEAF:
        for one in range(start, start + count * _LEAF.size, _LEAF.size):
            kind, offset, length, _ = _LEAF.unpack_from(data, one)
            if kind & _IS_BUCKET:
                key = one + offset
                root, _ = _BUCKET.unpack_from(data, key + length)
                # A small bucket has its page within its value.
                page = root * size if root else key + length + _BUCKET.size
                yield data[key : key + length].decode(errors="replace"), page
    else:
        raise ValueError(f"the file is damaged: a page has the flags {flags:#x}")
