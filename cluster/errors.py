"""What is wrong with an input, said whole: every problem at once, each with its way out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


class _Hidden:
    def __repr__(self) -> str:
        return "(not shown)"


HIDDEN = _Hidden()
"""Stands for a value that may be a secret."""


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong with what somebody gave.

    + key: the setting, as it is spelled in the inventory
    + value: what it was set to; ``None`` when it was not set, ``HIDDEN`` when it may be a secret
    + host: the host whose data it is; ``None`` for a setting of the whole cluster
    + allowed: what may stand there
    + fix: what to do, where that is known

    ```
    >>> print(Problem("cluster_cidr", "10.10.3.0/16", None, "a network", 'write "10.10.0.0/16"'))
    cluster_cidr = '10.10.3.0/16'; allowed: a network; fix: write "10.10.0.0/16"
    ```
    """

    key: str
    value: object = None
    host: str | None = None
    allowed: str = ""
    fix: str | None = None

    def __str__(self) -> str:
        place = f"{_printable(self.host)}: " if self.host is not None else ""
        value = " is not set" if self.value is None else f" = {_short(closed(repr(self.value)))}"
        fix = f"; fix: {self.fix}" if self.fix else ""
        return f"{place}{_printable(self.key)}{value}; {closed(f'allowed: {self.allowed}{fix}')}"


class InputError(ValueError):
    """
    Wrong input, found before any host was touched.

    + problems: every one of them, in the order in which they were found
    """

    about = "the inventory"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnfitHosts(InputError):
    """
    Hosts that cannot carry the cluster, found before any of them was touched.

    + problems: every one of every host
    """

    about = "the hosts"


def refuse(problems: Iterable[Problem], kind: type[InputError] = InputError) -> None:
    """
    Raise ``InputError`` where there are problems.

    + problems: every one of them; none is fine
    + kind: of error
    """
    if found := list(problems):
        raise kind(found)


class Wrong(ValueError):
    """
    A value is wrong, said by who does not know whose value it is.

    + allowed: what may stand there
    + fix: what to do, where that is known
    """

    def __init__(self, allowed: str, fix: str | None = None) -> None:
        self.allowed = allowed
        self.fix = fix
        super().__init__(allowed)


def _printable(name: str) -> str:
    return name if name and name.isprintable() else repr(name)


def closed(text: str) -> str:
    """
    Give a text without the passwords of its URLs.

    + text: for people

    ```
    >>> closed("from https://me:secret@example.com/etcd")
    'from https://(not shown)@example.com/etcd'
    ```
    """
    return re.sub(r"://[^/\s]*@", f"://{HIDDEN}@", text)


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
