"""
What ``--diff`` shows: the changed lines of a text, or one line with the value before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from pyinfra import logger
from pyinfra.api import Host
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import internals
from pyinfra_kube.engine.snapshot import discovering

_shown: WeakKeyDictionary[Host, set[str]] = WeakKeyDictionary()


def wanted() -> bool:
    """Return whether the run was asked for diffs."""

    return bool(ctx_state.get().config.DIFF) and not discovering()


def show(text: str) -> None:
    """
    Show, once a run, a change that is about to be made, when ``--diff`` is given.

    + text: one or more lines, for example ``"bridge cbr0: mtu 1500 → 1460"``
    """

    host = ctx_host.get()
    shown = _shown.setdefault(host, set())
    if not wanted() or text in shown:
        return
    shown.add(text)
    for line in text.splitlines() or [""]:
        host.log(line, logger.info)


def say(text: str) -> None:
    """
    Say, once a run, what the plan leaves as it is, with and without ``--diff``.

    + text: one line, for example ``"docker: data-root /data/docker stays"``
    """

    host = ctx_host.get()
    shown = _shown.setdefault(host, set())
    if not discovering() and text not in shown:
        shown.add(text)
        host.log(text, logger.info)


def text(title: str, before: Sequence[str], after: Sequence[str]) -> str:
    """
    Return a title and, below it, how the lines of a text differ.

    + title: for example ``"/etc/hosts: content"``
    + before, after: lines
    """

    lines = internals.diff(before, after)
    return "\n".join([title, *(f"  {line.rstrip()}" for line in lines)])
