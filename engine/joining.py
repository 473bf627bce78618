"""
Questions of one kind that a host answers together, for what a question costs is its processes.

A fact that can be joined says how, by two static methods:

+ ``join(one, other)``: the arguments that ask for what both ask; ``None`` where none do
+ ``part(answer, arguments)``: what the answer is to one of them; ``None`` where that cannot be told
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pyinfra_kube.engine.subject import Failure, Subject

# Bytes of the commands that one stands for, so that no joined one fills a round trip.
_ENOUGH = 40_000


@dataclass(frozen=True)
class Joined:
    """
    Subjects that are asked as one.

    + subject: what is asked
    + parts: what it stands for
    """

    subject: Subject
    parts: tuple[Subject, ...]

    def answers(self, answer: Any) -> dict[str, Any]:
        """
        Return what the answer is to each part, by its key. A part that is left out has to be asked
        alone.

        + answer: to the subject: a value, or a ``Failure``
        """

        if len(self.parts) == 1:
            return {self.parts[0].key: answer}
        if isinstance(answer, Failure):
            return {}
        fact: Any = self.subject.fact
        told = {one.key: fact.part(answer, one.arguments) for one in self.parts}
        return {key: own for key, own in told.items() if own is not None}


def alone(subjects: Iterable[Subject]) -> list[Joined]:
    """
    Return each subject by itself.

    + subjects: the facts and their arguments
    """

    return [Joined(subject, (subject,)) for subject in subjects]


def join(subjects: Iterable[Subject]) -> list[Joined]:
    """
    Return subjects, as many as possible of them joined.

    + subjects: the facts and their arguments

    **Example:**

    .. code:: python

        joined = join([Subject(Files, {"paths": ["/a"]}), Subject(Files, {"paths": ["/b"]})])
    """

    found: list[Joined] = []
    room: dict[int, int] = {}
    for one in alone(subjects):
        size = len(one.subject.command(one.subject.fact()))
        for index, other in enumerate(found):
            both = _both(other, one) if room[index] >= size else None
            if both:
                found[index] = both
                room[index] -= size
                break
        else:
            room[len(found)] = _ENOUGH - size
            found.append(one)
    return found


def _both(one: Joined, other: Joined) -> Joined | None:
    fact: Any = one.subject.fact
    if fact is not other.subject.fact or not hasattr(fact, "join"):
        return None
    arguments = fact.join(one.subject.arguments, other.subject.arguments)
    if arguments is None:
        return None
    return Joined(replace(one.subject, arguments=arguments), one.parts + other.parts)
