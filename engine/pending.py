"""
Which files an operation of this run gives another content, for later operations that restart what
reads them: a dry run must tell it before any of them has changed.
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
    Note that the current host gets another content at these paths. Another mode or owner is no
    business of a reader's: it is not announced.

    + paths: absolute paths
    """

    if not discovering():
        _pending.setdefault(ctx_host.get(), set()).update(paths)


def pending() -> frozenset[str]:
    """Return what was announced for the current host."""

    return frozenset(_pending.get(ctx_host.get(), ()))
