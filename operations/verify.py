"""
See that a host does what it was set up for (A6, D2, M4, M5).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra import logger
from pyinfra.api import StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine.internals import sleep
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import ask_now, expect_at_execution, read
from pyinfra_kube.facts.checks import Checks

__all__ = ["Check", "agreed", "barrier", "say", "verified"]

# Seconds between two looks, and between two lines of progress.
_PAUSE = 2
_PROGRESS = 10


@dataclass(frozen=True)
class Check:
    """
    One thing to see.

    + name: what holds when the command succeeds, as ``kube-apiserver answers /healthz``
    + command: shell; it may be run again and again and changes nothing
    + log: shell that prints what the component last said
    + hint: what to try when it does not hold
    + host: whose doing it is, by its name in the inventory: when that host has failed in this run,
      nobody waits for it
    """

    name: str
    command: str
    log: str = ""
    hint: str = ""
    host: str = ""


@operation()
def verified(
    checks: Sequence[Check],
    timeout: int = 300,
    given: Mapping[str, str] | None = None,
    seen: Callable[[], Collection[str]] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Wait until every check holds; fail when one does not in time (A6).

    It changes nothing and so never counts as a change. It looks only in a real run: a dry run
    would look at hosts that nothing was done to.

    + checks: list of ``Check``
    + timeout: seconds to wait for all of them together
    + given: shell variables for all commands, name → command that prints its value, so that many
      checks may look at one answer
    + seen: gives the names of checks that facts show to hold, which need no look of their own

    Fails with the checks that do not hold, the last lines of their logs, and what to try.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import verify

        verify.verified(
            name="Check that docker works",
            checks=[
                verify.Check(
                    "docker answers",
                    command="docker info",
                    log="journalctl --no-pager --lines=20 --unit=docker.service",
                    hint="systemctl status docker",
                ),
            ],
            timeout=60,
        )
    """

    host, checks = ctx_host.get(), _possible(checks)
    known = seen() if seen else ()
    open_checks = [check for check in checks if check.name not in known]
    questions = {"commands": {check.name: check.command for check in open_checks}, "given": given}
    if not ctx_state.get().is_executing:
        if open_checks:
            expect_at_execution(Checks, **questions)
        host.noop(f"{len(checks)} checks wait for the run")
        return
    failing = _wait(open_checks, timeout, questions) if open_checks else []
    if failing:
        yield _report(failing, timeout)
    else:
        host.noop(f"{len(checks)} checks hold")


@operation()
def say(text: Callable[[], str]) -> Generator[StringCommand, None, None]:
    """
    Print something at this point of a real run; it changes nothing.

    + text: gives what to print, when its turn has come

    **Example:**

    .. code:: python

        verify.say(name="Where to go on", text=lambda: "kubectl get nodes")
    """

    if ctx_state.get().is_executing:
        for line in text().splitlines():
            logger.info(f"    {line}".rstrip())
    ctx_host.get().noop("it only says something")
    yield from ()


@operation()
def barrier(at: Callable[[], object] | None) -> Generator[StringCommand, None, None]:
    """
    Look at something when its turn has come in a real run; it changes nothing.

    + at: what looks, with ``ask_now``, and notes what it saw; ``None`` looks at nothing

    **Example:**

    .. code:: python

        seen = {}
        verify.barrier(name="Look", at=lambda: seen.update(links=ask_now(Links)))
    """

    if ctx_state.get().is_executing and at:
        at()
    ctx_host.get().noop("it only looks")
    yield from ()


@operation()
def agreed(findings: Callable[[], tuple[str, bool]]) -> Generator[StringCommand, None, None]:
    """
    Print a comparison in a real run, and fail when not all of it agrees (M4).

    + findings: gives the comparison as text, and whether all agrees

    **Example:**

    .. code:: python

        verify.agreed(name="Check that leases and hosts agree", findings=compare_them)
    """

    host = ctx_host.get()
    if ctx_state.get().is_executing:
        text, agrees = findings()
        for line in text.splitlines():
            logger.info(f"    {line}".rstrip())
        if not agrees:
            yield Script("echo 'not all agrees: see the table' >&2; exit 1", summary="disagreement")
            return
    host.noop("all agrees, or will be compared in the run")


def _possible(checks: Sequence[Check]) -> list[Check]:
    """The checks that can hold; those of hosts that have failed are named."""

    state = ctx_state.get()
    failed = {host.name for host in state.failed_hosts}
    lost = [check for check in checks if check.host in failed]
    if lost and state.is_executing:
        names = ", ".join(f"{check.name} ({check.host} failed)" for check in lost)
        ctx_host.get().log(f"not waited for: {names}", logger.warning)
    return [check for check in checks if check not in lost]


def _wait(checks: Sequence[Check], timeout: int, questions: Mapping[str, Any]) -> list[Check]:
    """Look until every check holds or time is up; return those that do not hold."""

    host = ctx_host.get()
    start = said = time.monotonic()
    answers = read(Checks, **questions)
    while True:
        failing = [check for check in checks if not answers.get(check.name)]
        now = time.monotonic()
        if not failing or now - start > timeout:
            return failing
        if now - said >= _PROGRESS:
            said = now
            names = ", ".join(check.name for check in failing)
            host.log(f"waiting ({now - start:.0f} s of at most {timeout} s) until: {names}")
        sleep(_PAUSE)
        answers = ask_now(Checks, **questions)


def _report(failing: Sequence[Check], timeout: int) -> Script:
    """A command that fails on the host, and says there what a person needs."""

    lines = []
    for check in failing:
        lines.append(f"echo {shlex.quote(f'✗ {check.name}: not so after {timeout} s')}")
        if check.log:
            lines.append("echo '  its log ended with:'")
            lines.append(f"{{ {check.log}\n}} 2>&1 | tail -n 15 | sed 's/^/    /' || true")
        if check.hint:
            lines.append(f"echo {shlex.quote(f'  try: {check.hint}')}")
    text = "{\n" + "\n".join(lines) + "\n} >&2\nexit 1"
    return Script(text, summary="report " + ", ".join(check.name for check in failing))
