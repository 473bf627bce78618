"""
The discovery pass: a deploy is called as on a blank host to learn what it asks, and all of that is
read in one round trip before the deploy is called for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyinfra.api.exceptions import PyinfraError

from pyinfra_kube.engine import internals
from pyinfra_kube.engine.memory import current_memory
from pyinfra_kube.engine.snapshot import read_asked

# An operation that cannot do with a blank host ends a pass; the next one gets further.
_PASSES = 5


def prefetch(body: Callable[[], object]) -> None:
    """
    Call the deploy as on a blank host, to learn what it asks, and read that in one round trip;
    again with what is known by then, until it asks nothing new.

    A pass leaves nothing behind: what it adds to the run is taken away again. An error in it is
    left to the real call, which meets it too or finds the host fit.

    + body: the deploy; the caller calls it again, for good

    """

    for _ in range(_PASSES):
        with discovery_pass(), internals.undone(), suppress(PyinfraError):
            body()
        if not read_asked():
            return


@contextmanager
def discovery_pass() -> Iterator[None]:
    """
    Let ``read`` ask nothing: what is not known yet seems to be as on a blank host, and is noted for
    ``read_asked``.
    """

    memory = current_memory()
    memory.discovering = True
    memory.forget_later()
    try:
        yield
    finally:
        memory.discovering = False
