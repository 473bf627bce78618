"""
Manage what is kept on the control machine itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from pyinfra.api import FunctionCommand
from pyinfra.context import ctx_host

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation


@operation()
def save(
    pending: Callable[[], Sequence[str]], write: Callable[[], object]
) -> Generator[FunctionCommand, None, None]:
    """
    Write something on the control machine, as an operation of its own, and in a real run only.

    + pending: returns one line for each thing to write, and is called just before; nothing is done
      without any
    + write: what writes it; it must not fail half-way

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import control_machine

        credentials = store.plan(spec, plan)
        control_machine.save(
            name="Keep the credentials on the control machine",
            pending=lambda: credentials.changes,
            write=store.save,
        )
    """

    lines = pending()
    if not lines:
        ctx_host.get().noop("the control machine keeps everything already")
        return
    for line in lines:
        changes.show(line)
    yield FunctionCommand(lambda: write() and None, (), {})
