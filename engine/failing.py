"""
A host that cannot be planned: it is named and left alone, and the other hosts go on.
"""

from __future__ import annotations

import shlex

from pyinfra import logger
from pyinfra.api import OperationError
from pyinfra.api.exceptions import FactError, PyinfraError
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import internals
from pyinfra_kube.engine.script import Script


def is_of_host(error: BaseException) -> bool:
    """
    Return whether an error concerns one host: a fact without an answer, or an operation that the
    host does not allow. A wrong argument concerns all hosts.

    + error: the error
    """

    return isinstance(error, (FactError, OperationError)) and not isinstance(
        error, (ValueError, TypeError)
    )


def leave_out(error: BaseException) -> None:
    """
    Leave the current host out of the run: nothing is planned for it, and the run ends with an
    error.

    pyinfra's own ``fail_hosts`` would ask at once whether to go on, even in a dry run.

    + error: what is wrong

    Raises ``PyinfraError`` when no host is left.
    """

    state, host = ctx_state.get(), ctx_host.get()
    host.log_styled(f"Error: {error}", fg="red", log_func=logger.error)
    host.log_styled("Nothing is done to this host.", fg="red", log_func=logger.error)
    state.failed_hosts.add(host)
    state.active_hosts.discard(host)
    internals.forget_operations(host)
    if not state.active_hosts:
        # An empty plan would look as if there was nothing to do.
        raise PyinfraError("No host is left: what is wrong with each stands above")


def left_out() -> bool:
    """Return whether the current host is left out of the run."""

    return ctx_host.get() in ctx_state.get().failed_hosts


def failure(error: BaseException) -> Script:
    """
    Return a script that fails with an error on the current host. While a run executes, an exception
    would end it for all hosts.

    + error: what is wrong
    """

    return Script(f"echo {shlex.quote(str(error))} >&2\nexit 1", "say what is wrong")
