"""
The phases of a deploy: how one is made, and how a list of them runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar, cast

from pyinfra.api.deploy import deploy
from pyinfra.api.exceptions import DeployError, PyinfraError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.engine.failing import is_of_host, leave_out, left_out
from pyinfra_kube.engine.prefetch import prefetch
from pyinfra_kube.engine.snapshot import discovering

P = ParamSpec("P")
R = TypeVar("R")


def phase(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Make a function a phase: pyinfra's ``deploy``, which explains every problem of an ``InputError``
    and does nothing for a host that is left out of the run.

    + name: prefix of the names of its operations

    **Example:**

    .. code:: python

        @phase("Message of the day")
        def set_motd() -> None:
            files.files(name="Set it", files=[files.File("/etc/motd", "A node.\\n")])
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


def run_phases(phases: Sequence[Callable[[], object]]) -> None:
    """
    Run phases in order. What they ask of the current host is read before, in one round trip.

    + phases: functions without arguments; the same ones for every host

    **Example:**

    .. code:: python

        run_phases([prepare_host, record_allocations, set_up_pod_network])
    """

    def run() -> None:
        in_lines(phases)

    prefetch(run)
    run()


def in_lines(calls: Iterable[Callable[[], object]]) -> None:
    """
    Call functions in order, each from a line of its own: pyinfra orders the operations of different
    hosts by the numbers of the lines that lead to them, and takes those of one line for the same.

    + calls: functions without arguments; as many for every host
    """

    for index, call in enumerate(calls):
        exec(compile("\n" * index + "call()", __file__, "exec"), {"call": call})


def explain(error: InputError) -> str:
    """
    Return every problem of an input as text, for people.

    + error: with the problems
    """

    count = len(error.problems)
    title = "One thing is" if count == 1 else f"{count} things are"
    lines = [f"{title} wrong with {error.about}; no host was touched:"]
    return "\n".join([*lines, *(f"  {problem}" for problem in error.problems)])
