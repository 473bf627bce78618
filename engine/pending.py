"""
Files whose content an operation of this run will change. A later operation restarts what reads
them, and a dry run must say so before any file has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from pyinfra.api import Host
from pyinfra.context import ctx_host

from pyinfra_kube.engine.snapshot import discovering

_pending: WeakKeyDictionary[Host, set[str]] = WeakKeyDictionary()


def note_pending(paths: Iterable[str]) -> None:
    """
    Note that files of the current host will get another content. A change of mode or owner is not
    noted: it concerns no reader.

    + paths: absolute paths
    """

    if not discovering():
        _pending.setdefault(ctx_host.get(), set()).update(paths)


def pending() -> frozenset[str]:
    """Return the paths that were noted for the current host."""

    return frozenset(_pending.get(ctx_host.get(), ()))
