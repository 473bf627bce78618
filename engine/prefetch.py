"""
Read all that a deploy will ask of a host in one round trip, before it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from weakref import WeakKeyDictionary

from pyinfra.api import State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine.snapshot import discovery_pass, read_asked

# An operation that cannot do with a blank host ends a rehearsal; the next one gets further.
_PASSES = 5


def prefetch(body: Callable[[], object]) -> None:
    """
    Call the deploy as on a blank host, to learn what it asks, and read that in one round trip;
    again with what is known by then, until it asks nothing new.

    A rehearsal leaves nothing behind: what it adds to the run is taken away again. An error in
    it is left to the real call, which meets it too or finds the host fit.

    + body: the deploy; it is called again by the caller, for good

    """

    for _ in range(_PASSES):
        with discovery_pass(), _undone(), suppress(PyinfraError):
            body()
        if not read_asked():
            return


def name_module(file: str) -> None:
    """
    Make a module of an executed deploy file. For each operation pyinfra asks which modules the
    call stack is in, and Python looks through all there are for a file that is none.

    + file: path of the deploy file
    """

    name = f"deploy file {file}"
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__file__ = file


@contextmanager
def _undone() -> Iterator[None]:
    """Take away the operations that were added meanwhile, but what other hosts added."""

    state, host = ctx_state.get(), ctx_host.get()
    order, operations = list(host.op_hash_order), dict(state.ops[host])
    meta = dict(vars(state.meta[host]))
    try:
        with _quiet(state):
            yield
    finally:
        added = state.ops[host].keys() - operations.keys()
        host.op_hash_order[:] = order
        state.ops[host] = operations
        vars(state.meta[host]).clear()
        vars(state.meta[host]).update(meta)
        for name in added:
            if not any(name in others for others in state.ops.values()):
                state.op_meta.pop(name, None)


# How many hosts rehearse, and what a run's flags were before the first of them.
_discovering: WeakKeyDictionary[State, tuple[int, tuple[bool, bool]]] = WeakKeyDictionary()


@contextmanager
def _quiet(state: State) -> Iterator[None]:
    """Have pyinfra prepare operations without a word; hosts that ask something take turns."""

    flags = (state.print_noop_info, state.check_for_changes)
    count, flags = _discovering.get(state, (0, flags))
    _discovering[state] = (count + 1, flags)
    state.print_noop_info, state.check_for_changes = False, True
    try:
        yield
    finally:
        count, _ = _discovering[state]
        _discovering[state] = (count - 1, flags)
        if count == 1:
            del _discovering[state]
            state.print_noop_info, state.check_for_changes = flags
