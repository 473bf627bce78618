"""
A phase of a deploy: pyinfra's ``deploy``, but with every problem of an inventory in its error, and
without hosts that are left out of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from pyinfra.api.deploy import deploy
from pyinfra.api.exceptions import DeployError, PyinfraError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.engine.failing import is_of_host, leave_out, left_out
from pyinfra_kube.engine.snapshot import discovering

P = ParamSpec("P")
R = TypeVar("R")


def phase(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Make a function a phase, whose name stands before those of its operations.

    It returns ``None`` for a host that is left out of the run. An ``InputError`` becomes a
    ``DeployError`` that lists every problem.

    + name: of the phase

    **Example:**

    .. code:: python

        @phase("Prepare the host")
        def prepare_host() -> None:
            sysctl.sysctls(name="Forward packets", settings={"net.ipv4.ip_forward": 1})
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
            if left_out():
                return None
            try:
                return function(*args, **kwargs)
            except InputError as error:
                raise DeployError(explain(error)) from None
            except PyinfraError as error:
                if discovering() or ctx_state.get().is_executing or not is_of_host(error):
                    raise
                leave_out(error)
                return None

        return cast("Callable[P, R]", deploy(name)(call))

    return decorate


def explain(error: InputError) -> str:
    """
    Return every problem of an input as text, for people.

    + error: with the problems
    """

    count = len(error.problems)
    title = "One thing is" if count == 1 else f"{count} things are"
    lines = [f"{title} wrong with the inventory; no host was touched:"]
    return "\n".join([*lines, *(f"  {problem}" for problem in error.problems)])
