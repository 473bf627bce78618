"""
Which files an operation of this run gives another content, for later operations that restart what
reads them: a dry run must tell it before any of them has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from pyinfra.api import Host
from pyinfra.context import ctx_host

from pyinfra_kube.engine.snapshot import rehearsing

_coming: WeakKeyDictionary[Host, set[str]] = WeakKeyDictionary()


def announce(paths: Iterable[str]) -> None:
    """
    Note that the current host gets another content at these paths. Another mode or owner is no
    business of a reader's: it is not announced.

    + paths: absolute paths
    """

    if not rehearsing():
        _coming.setdefault(ctx_host.get(), set()).update(paths)


def coming() -> frozenset[str]:
    """Return what was announced for the current host."""

    return frozenset(_coming.get(ctx_host.get(), ()))
