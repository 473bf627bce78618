"""
Read all that a deploy will ask of a host in one round trip, before it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.facts.snapshot import catch_up, rehearsal

# An operation that cannot do with a blank host ends a rehearsal; the next one gets further.
_REHEARSALS = 5


def read_ahead(body: Callable[[], object]) -> None:
    """
    Call the deploy as on a blank host, to learn what it asks, and read that in one round trip;
    again with what is known by then, until it asks nothing new.

    A rehearsal leaves nothing behind: what it adds to the run is taken away again. An error in
    it is left to the real call, which meets it too or finds the host fit.

    + body: the deploy; it is called again by the caller, for good

    **Example:**

    .. code:: python

        @deploy("My cluster")
        def my_cluster():
            read_ahead(build)
            build()
    """

    _name_module(body.__code__.co_filename)
    for _ in range(_REHEARSALS):
        with rehearsal(), _undone(), suppress(PyinfraError):
            body()
        if not catch_up():
            return


def _name_module(file: str) -> None:
    """
    Make a module of an executed deploy file. For each operation pyinfra asks which modules the
    call stack is in, and Python looks through all there are for a file that is none.
    """

    name = f"deploy file {file}"
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__file__ = file


@contextmanager
def _undone() -> Iterator[None]:
    """Take away the operations that were added meanwhile."""

    state, host = ctx_state.get(), ctx_host.get()
    order, metas = list(host.op_hash_order), dict(state.op_meta)
    operations, meta = dict(state.ops[host]), dict(vars(state.meta[host]))
    noops, state.print_noop_info = state.print_noop_info, False
    checks, state.check_for_changes = state.check_for_changes, True
    try:
        yield
    finally:
        state.print_noop_info, state.check_for_changes = noops, checks
        host.op_hash_order[:] = order
        state.op_meta.clear()
        state.op_meta.update(metas)
        state.ops[host] = operations
        vars(state.meta[host]).clear()
        vars(state.meta[host]).update(meta)
