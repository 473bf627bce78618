"""
Facts, many in one round trip and none twice while nothing has changed.

pyinfra reads a fact once to prepare an operation and once more to execute it, each in a round trip
of its own. Our operations read through :func:`read`, which asks again only after a change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactError
from pyinfra.context import ctx_host

from pyinfra_kube.engine.asking import ask, identity
from pyinfra_kube.engine.joining import Joined, alone, join
from pyinfra_kube.engine.memory import Memory, changes_everywhere, current_memory
from pyinfra_kube.engine.round_trip import trips
from pyinfra_kube.engine.subject import Failure, Subject

T = TypeVar("T")


def read(fact: type[FactBase[T]], **arguments: Any) -> T:
    """
    Return a fact of the current host, from what is known when nothing changed since it was read.

    Within one operation read everything before the first command is yielded. A fact whose class
    says ``shared = True`` reads what other hosts change too: it is asked again after a change
    anywhere.

    + fact: the fact's class
    + arguments: its arguments

    Raises ``FactError`` where there is no answer.

    **Example:**

    .. code:: python

        units = read(Units, units=["docker.service"])
    """

    subject, who = Subject(fact, arguments), identity()
    memory, key = current_memory(), who + subject.key
    memory.asked[key] = (who, subject)
    if memory.discovering:
        return cast(T, _answer(memory.values.get(key, fact().default())))
    if key not in memory.values and memory.unchanged:
        _fetch(memory, who, memory.subjects(who, later=key in memory.later))
    if memory.executing and key in memory.values and _may_differ(memory, key, subject):
        del memory.values[key]
    together = memory.of_operation(who, subject)
    if key not in memory.values:
        _fetch(memory, who, together)
    return cast(T, _answer(memory.values[key]))


def ask_now(fact: type[FactBase[T]], **arguments: Any) -> T:
    """
    Return a fact of the current host as it is at this moment, whatever is known.

    + fact: the fact's class
    + arguments: its arguments

    Raises ``FactError`` where there is no answer.
    """

    subject = Subject(fact, arguments)
    return cast(T, _answer(ask(ctx_host.get(), [subject])[subject.key]))


def expect(subjects: Iterable[Subject]) -> None:
    """
    Read in one round trip what the operations to come will ask for; what is too long in a few.

    + subjects: the facts and their arguments

    **Example:**

    .. code:: python

        expect([Subject(Links), Subject(Units, {"units": ["docker.service"]})])
    """

    wanted, who, memory = list(subjects), identity(), current_memory()
    memory.asked |= {who + subject.key: (who, subject) for subject in wanted}
    _fetch(memory, who, wanted)


def expect_at_execution(fact: type[FactBase[Any]], **arguments: Any) -> None:
    """
    Note what an operation will ask when it is executed and its plan need not know. On a host that
    nothing has changed, the first of them reads all of this in one round trip.

    + fact: the fact's class
    + arguments: its arguments

    **Example:**

    .. code:: python

        expect_at_execution(Checks, commands={"docker answers": "docker info"})
    """

    subject, who, memory = Subject(fact, arguments), identity(), current_memory()
    if who + subject.key not in memory.asked:
        memory.asked[who + subject.key] = (who, subject)
        memory.later.add(who + subject.key)


def read_asked() -> bool:
    """Read in one round trip what was asked for and is not known; return whether there was any."""

    memory, who = current_memory(), identity()
    return _fetch(memory, who, memory.subjects(who, later=False))


def discovering() -> bool:
    """Return whether the current host only seems blank, in a discovery pass."""

    return current_memory().discovering


def _fetch(memory: Memory, who: str, subjects: list[Subject]) -> bool:
    missing = [s for s in subjects if who + s.key not in memory.values]
    untold = _ask(memory, who, join(missing))
    _ask(memory, who, alone(untold))
    return bool(missing)


def _ask(memory: Memory, who: str, questions: list[Joined]) -> list[Subject]:
    """Ask in as few round trips as can be; return those that have to be asked alone."""

    untold: list[Subject] = []
    for together in trips(one.subject for one in questions):
        # The answer may miss what others change while it is read.
        before = changes_everywhere()
        found = ask(ctx_host.get(), together)
        for question in questions:
            if question.subject not in together:
                continue
            answers = question.answers(found[question.subject.key])
            untold += [part for part in question.parts if part.key not in answers]
            for part, own in answers.items():
                memory.values[who + part] = own
                memory.everywhere[who + part] = before
    return untold


def _may_differ(memory: Memory, key: str, subject: Subject) -> bool:
    """Whether others may have changed it since, or a service that did not answer now may."""

    value = memory.values[key]
    states = {getattr(value, name, "") for name in ("status", "runtime", "manager")}
    if states & {"down", "refused"}:
        return True
    return subject.shared and memory.everywhere.get(key) != changes_everywhere()


def _answer(value: Any) -> Any:
    if isinstance(value, Failure):
        raise FactError(value.reason)
    return value
