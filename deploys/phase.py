"""
A phase of a deploy: pyinfra's ``deploy`` with the types of what it decorates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from pyinfra.api.deploy import deploy

P = ParamSpec("P")
R = TypeVar("R")


def phase(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Give the name of a function's phase to every operation that it calls.

    + name: what stands before the operations' names
    """

    return cast("Callable[[Callable[P, R]], Callable[P, R]]", deploy(name))
