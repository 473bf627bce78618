"""
Manage what is kept on the control machine itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, MutableMapping, Sequence

from pyinfra.api import FunctionCommand, OperationError
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.internals import Lock, any_changes
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


_asking = Lock()


@operation()
def confirmed(
    question: str, word: str, fix: str, answers: MutableMapping[str, str], given: bool = False
) -> Generator[FunctionCommand, None, None]:
    """
    Ask, once for all hosts, whether a run may change what its plan shows. It is the first operation
    of a run, changes nothing itself, and asks nothing where there is nothing to change.

    + question: what is asked on the terminal
    + word: the answer that lets the run go on
    + fix: what a run without a terminal needs instead
    + answers: a mapping that all hosts of the run share
    + given: whether the answer was given already

    Fails on every host for any other answer, and where there is no terminal.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import control_machine

        control_machine.confirmed(
            name="Ask before the cluster is removed",
            question="Type its name to remove it",
            word="kubernetes",
            fix="--data reset=kubernetes",
            answers=cluster.notes("confirmed"),
        )
    """

    host, state = ctx_host.get(), ctx_state.get()
    if state.is_executing and not given and any_changes(state):
        with _asking:
            if "said" not in answers:
                there = sys.stdin.isatty()
                answers["said"] = input(f"    {question}: ").strip() if there else ""
        if answers["said"] != word:
            said = repr(answers["said"]) if answers["said"] else "nobody said so"
            raise OperationError(f"nothing is done, for {said}: type {word}, or give {fix}")
    host.noop("it was asked for, or will be asked")
    yield from ()
