"""
pyinfra's ``operation``, quick to rehearse.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, cast

from pyinfra.api import operation as pyinfra_operation
from pyinfra.api.arguments import pop_global_arguments
from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import OperationMeta
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.facts.snapshot import rehearsing

P = ParamSpec("P")


def operation() -> Callable[[Callable[P, Generator[Any, None, None]]], PyinfraOperation[P]]:
    """
    Make a function an operation, as pyinfra's own decorator does.

    A rehearsal only asks it for its first command: it needs no place in the run, which pyinfra
    takes most of its time to find. One that cannot do with a blank host, and raises an error,
    does not keep those after it from being rehearsed.

    **Example:**

    .. code:: python

        @operation()
        def files(files: Sequence[File]) -> Generator[StringCommand, None, None]:
            ...
    """

    def decorate(function: Callable[P, Generator[Any, None, None]]) -> PyinfraOperation[P]:
        real = pyinfra_operation()(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> OperationMeta:
            return _rehearse(real._inner, args, kwargs) if rehearsing() else real(*args, **kwargs)

        call._inner = real._inner  # type: ignore[attr-defined]
        return cast("PyinfraOperation[P]", call)

    return decorate


def _rehearse(function: Any, args: Any, kwargs: dict[str, Any]) -> OperationMeta:
    host = ctx_host.get()
    given, _ = pop_global_arguments(ctx_state.get(), host, kwargs)
    host.current_op_global_arguments = given
    try:
        changes = next(function(*args, **kwargs), None) is not None
    except PyinfraError:
        changes = True
    finally:
        host.current_op_global_arguments = None
    return OperationMeta("", changes)
