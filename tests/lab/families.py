"""The kinds of hosts that there are."""

from __future__ import annotations

from tests.lab import fedora, roots
from tests.lab.machine import LabError

_BASES = {"debian": roots.base, "fedora": fedora.base}
FAMILIES = tuple(_BASES)


def base(family: str, *, runtime: str = "") -> roots.Base:
    """The base of a kind of host; made now if the cache has none of this recipe."""
    if family not in _BASES:
        raise LabError(f"No such family of hosts: {family}. There are: {', '.join(FAMILIES)}.")
    return _BASES[family](runtime=runtime)
