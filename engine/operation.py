"""
pyinfra's ``operation``, but quick in a discovery pass, planned even with ``-y``, and with errors of
one host kept to that host.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, ParamSpec, Union, cast, get_args, get_origin, get_type_hints

from pyinfra.api import OperationValueError
from pyinfra.api import operation as pyinfra_operation
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import OperationMeta
from pyinfra.context import ctx_state

from pyinfra_kube.engine import internals, sending
from pyinfra_kube.engine.failing import failure, is_of_host, leave_out, left_out
from pyinfra_kube.engine.internals import PyinfraOperation
from pyinfra_kube.engine.snapshot import discovering

P = ParamSpec("P")


def operation() -> Callable[[Callable[P, Generator[Any, None, None]]], PyinfraOperation[P]]:
    """
    Make a function an operation, as pyinfra's own decorator does.

    It is planned with ``-y`` too, so that a refusal comes before the first change. A host that it
    cannot be planned for is left out of the run. A host that refuses it later fails alone.

    A discovery pass only asks for its first command, without a place in the run, which pyinfra
    needs most of its time to find. An error in it does not end the pass: a blank host may lack what
    the operation needs.

    A list of objects (``Sequence[File]``) may be given as mappings of their fields, because the
    command line has nothing else.

    **Example:**

    .. code:: python

        @operation()
        def files(files: Sequence[File]) -> Generator[StringCommand, None, None]:
            ...
    """

    def decorate(function: Callable[P, Generator[Any, None, None]]) -> PyinfraOperation[P]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, None, None]:
            if ctx_state.get().is_executing:
                sending.begin()
            try:
                yield from function(*args, **kwargs)
            except PyinfraError as error:
                if not (ctx_state.get().is_executing and is_of_host(error)):
                    raise
                yield failure(error)

        real = pyinfra_operation()(guarded)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> OperationMeta:
            given = dict(zip(inspect.signature(function).parameters, args, strict=False)) | kwargs
            for name, value in given.items():
                _check(_hints(function).get(name, Any), name, value)
            kwargs = {name: _objects(function, name, value) for name, value in kwargs.items()}
            if discovering():
                return _discover(function, args, kwargs)
            if left_out():
                return internals.unplanned(changes=False)
            try:
                meta = real(*args, **kwargs)
                if not ctx_state.get().is_executing:
                    # To ask is to plan, where pyinfra has not done so (with ``-y``).
                    _ = meta.will_change
                return meta
            except PyinfraError as error:
                if ctx_state.get().is_executing or not is_of_host(error):
                    raise
                leave_out(error)
                return internals.unplanned(changes=False)

        return internals.stand_in(real, call)

    return decorate


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def _check(hint: Any, name: str, value: Any) -> None:
    """Refuse a string where none is meant: ``"no"`` is true, and ``list("ab")`` is its letters."""

    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if not isinstance(value, str) or value in words or {str, Any} & {*kinds}:
        return
    allowed = [repr(word) for word in words] or [_KINDS.get(get_origin(k) or k, "") for k in kinds]
    raise OperationValueError(f"{name}: {value!r} is not {' or '.join(filter(None, allowed))}")


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Sequence: 'a list, as ["…"]',
    Mapping: 'a mapping, as {"…": …}',
    type(None): "nothing",
}


def _objects(function: Callable[..., Any], name: str, value: Any) -> Any:
    """A list with its mappings made into the objects that the argument takes; else the value."""

    if not isinstance(value, list) or not any(isinstance(item, Mapping) for item in value):
        return value
    kinds = [kind for kind in get_args(_hints(function).get(name)) if is_dataclass(kind)]
    try:
        build = cast("type[Any]", kinds[0]) if kinds else dict
        return [build(**item) if isinstance(item, Mapping) else item for item in value]
    except (TypeError, ValueError) as error:
        raise OperationValueError(f"{name}: {error}") from None


def _discover(function: Any, args: Any, kwargs: dict[str, Any]) -> OperationMeta:
    with internals.operation_arguments(kwargs) as own:
        try:
            changes = next(function(*args, **own), None) is not None
        except PyinfraError:
            changes = True
    return internals.unplanned(changes)
