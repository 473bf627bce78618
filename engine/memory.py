"""
What is known of each host in this run, and when that ends.

A host that no operation has changed since it was read still has what it had. An execution that
begins at once trusts what its preparation read; a later one, after somebody has thought about the
plan, does not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from pyinfra.api import Host
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import internals
from pyinfra_kube.engine.subject import Subject

# Seconds that an execution may trust what its preparation read.
_FRESH = 15.0


@dataclass
class Memory:
    """
    What is known of one host.

    + changes: whether the run executes, and how many operations had changed the host by then
    + values: answers by identity and subject
    + everywhere: how many operations had changed any host when each was read
    + asked: who asked which subject
    + planned: what each operation asked when it was planned, by its name
    + later: keys of subjects that only the execution needs
    + discovering: whether the host only seems blank, in a discovery pass
    + since: when the oldest answer was read
    """

    changes: tuple[bool, int] = (False, 0)
    values: dict[str, Any] = field(default_factory=dict)
    everywhere: dict[str, int] = field(default_factory=dict)
    asked: dict[str, tuple[str, Subject]] = field(default_factory=dict)
    planned: dict[str, dict[str, tuple[str, Subject]]] = field(default_factory=dict)
    later: set[str] = field(default_factory=set)
    discovering: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def executing(self) -> bool:
        return self.changes[0]

    @property
    def unchanged(self) -> bool:
        """Whether the run executes, and has not changed the host yet."""

        return self.changes == (True, 0)

    def subjects(self, identity: str, later: bool) -> list[Subject]:
        """
        Return what was asked.

        + identity: by whom
        + later: with what only the execution needs
        """

        return [
            subject
            for key, (asker, subject) in self.asked.items()
            if asker == identity and (later or key not in self.later)
        ]

    def of_operation(self, identity: str, subject: Subject) -> list[Subject]:
        """
        Return a subject, with what its operation asked beside it when it was planned.

        + identity: who asks
        + subject: what the current operation asks
        """

        name = internals.current_operation()
        known = self.planned.setdefault(name, {}) if name else {}
        if not self.executing:
            known[identity + subject.key] = (identity, subject)
        others = [one for asker, one in known.values() if asker == identity]
        return list({one.key: one for one in [subject, *others]}.values())

    def forget_later(self) -> None:
        """Forget what only the execution needs: a discovery pass that knows more finds it again."""

        while self.later:
            del self.asked[self.later.pop()]

    def _meet(self, changes: tuple[bool, int]) -> None:
        """Forget all answers when the host may have changed since they were read."""

        if self.changes == changes or self.discovering:
            return
        begins = (self.changes, changes) == ((False, 0), (True, 0))
        if not begins or time.monotonic() - self.since > _FRESH:
            self.values = {}
            self.since = time.monotonic()
        self.changes = changes


_memories: WeakKeyDictionary[Host, Memory] = WeakKeyDictionary()


def current_memory() -> Memory:
    """Return what is still known of the current host."""

    host, state = ctx_host.get(), ctx_state.get()
    memory = _memories.setdefault(host, Memory())
    memory._meet((state.is_executing, internals.executed(state, [host])))
    return memory


def changes_everywhere() -> int:
    """Return how many operations have changed any host in this run."""

    state = ctx_state.get()
    return internals.executed(state, state.inventory) if state.is_executing else 0
