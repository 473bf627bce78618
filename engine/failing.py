"""
A host that cannot be planned: it is named, nothing is done to it, and the others go on.
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
    Whether an error says something of one host: a fact without an answer, an operation that the
    host does not allow. A wrong argument is everybody's.

    + error: as it was raised
    """

    return isinstance(error, (FactError, OperationError)) and not isinstance(
        error, (ValueError, TypeError)
    )


def leave_out(error: BaseException) -> None:
    """
    Let the current host take no part in the run: nothing of it is planned, and the run ends with
    an error.

    Not through pyinfra's ``fail_hosts``, which asks at once whether to go on, even in a dry run:
    the question comes with the plan.

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
        # A plan of nothing would look like one in which nothing is to do.
        raise PyinfraError("No host is left: what is wrong with each stands above")


def left_out() -> bool:
    """Whether the current host takes no part in the run."""

    return ctx_host.get() in ctx_state.get().failed_hosts


def failure(error: BaseException) -> Script:
    """
    Return a script that fails with an error on the current host. For a run that is under way:
    raised there, it would end the run of all hosts.

    + error: what is wrong
    """

    return Script(f"echo {shlex.quote(str(error))} >&2\nexit 1", "say what is wrong")
