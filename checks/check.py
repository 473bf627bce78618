"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from pyinfra_kube.checks.readings import Host, Readings

State = Literal["failed", "warning", "unknown"]


class Said(NamedTuple):
    """
    What a check says of one thing on a host that is not as it should be.

    + seen: what it is
    + expected: what it should be
    + subject: which one; fills in ``{of}`` in the row's texts
    + about: other hosts that take part in it: what is wrong there may be the cause
    + state: how bad it is
    + mend, look: in place of the row's
    + chosen: whether somebody made it so, and nothing else is its cause
    """

    seen: str
    expected: str = ""
    subject: str = ""
    about: tuple[str, ...] = ()
    state: State = "failed"
    mend: str = ""
    look: str = ""
    chosen: bool = False


Judge = Callable[[Host, Readings], Iterable[Said]]


class Check(NamedTuple):
    """
    A row of the table of checks.

    + id: its name
    + title: what holds where nothing is wrong
    + reads: how that is seen
    + judge: gives what is wrong on a host
    + look: a command to look closer; ``{of}`` is the subject, ``{host}`` the host
    + mend: what most likely mends it
    + roles: of the hosts that it is asked of; empty for all, ``cluster`` for what is asked once
    + explains: the checks, or beginnings of their names with ``*``, that fail as a consequence.
      Only rows that follow can.
    """

    id: str
    title: str
    reads: str
    judge: Judge
    look: str
    mend: str
    roles: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()


class Finding(NamedTuple):
    """
    A check that does not hold on a host.

    + check: its row
    + host: where
    + said: what it says
    """

    check: Check
    host: str
    said: Said

    @property
    def look(self) -> str:
        return self._filled(self.said.look or self.check.look)

    @property
    def mend(self) -> str:
        return self._filled(self.said.mend or self.check.mend)

    def _filled(self, text: str) -> str:
        return text.replace("{of}", self.said.subject).replace("{host}", self.host)
