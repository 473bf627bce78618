"""
A question to a host, and what stands in place of an answer that it did not give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase, StringCommand
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override


@dataclass(frozen=True)
class Subject:
    """
    One fact with its arguments.

    + fact: the fact's class
    + arguments: the arguments of its ``command``
    """

    fact: type[FactBase[Any]]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.fact.__module__}.{self.fact.__name__}({sorted(self.arguments.items())!r})"

    @property
    def secret(self) -> bool:
        """Whether the fact's class says ``secret = True``: what it reads may hold secrets."""

        return getattr(self.fact, "secret", False)

    @property
    def shared(self) -> bool:
        """Whether the fact's class says ``shared = True``: other hosts change what it reads."""

        return getattr(self.fact, "shared", False)

    @property
    def functions(self) -> str:
        """The shell text that the fact's class says its commands begin with, in ``functions``."""

        return getattr(self.fact, "functions", "")

    @override
    def __repr__(self) -> str:
        return ".".join(self.fact.name.split(".")[-2:])

    def command(self, fact: FactBase[Any]) -> str:
        """
        Return the shell text that asks the question.

        + fact: the instance that will process the answer
        """

        command = _call(fact.command, self.arguments)
        text = command.get_raw_value() if isinstance(command, StringCommand) else command
        needed = _call(fact.requires_command, self.arguments)
        if needed:
            return f"if command -v {needed} >/dev/null 2>&1; then {text}\nfi"
        return str(text)


@dataclass(frozen=True)
class Failure:
    """
    What stands in place of a fact that has no answer.

    + reason: what failed, for people
    """

    reason: str


def understood(subject: Subject, process: Callable[[], Any]) -> Any:
    """
    Return what a fact makes of its output, or the ``Failure`` to do so.

    + subject: the fact
    + process: reads the output
    """

    try:
        return process()
    except FactProcessError as error:
        return Failure(str(error))
    # A host may print anything, and each fact may fail on it in its own way.
    except Exception as error:
        return Failure(f"{subject!r} is not understood: {type(error).__name__}: {error}")


def _call(attribute: Callable[..., Any] | str, arguments: dict[str, Any]) -> Any:
    return attribute(**arguments) if callable(attribute) else attribute
