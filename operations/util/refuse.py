"""
Say no in the way that fits the moment.
"""

from __future__ import annotations

import shlex

from pyinfra.api import OperationError
from pyinfra.context import ctx_state

from pyinfra_kube.operations.util.script import Script


def refuse(problem: str) -> Script:
    """
    Raise ``OperationError`` while the run is prepared, before any host is touched; once it is
    under way return a script that fails, for an error raised then would end all hosts' run.

    + problem: what is wrong, and what to do

    **Example:**

    .. code:: python

        if clash:
            yield refuse(f"docker0: {clash}")
            return
    """

    if not ctx_state.get().is_executing:
        raise OperationError(problem)
    return Script(f"echo {shlex.quote(problem)} >&2\nexit 1", "say what is wrong")
