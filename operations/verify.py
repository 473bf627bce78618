"""
Check that a host does what it was set up for.
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

# Seconds between two tries, and between two lines of progress.
_PAUSE = 2
_PROGRESS = 10


@dataclass(frozen=True)
class Check:
    """
    One thing to check.

    + name: what holds if the command succeeds, such as ``kube-apiserver answers /healthz``
    + command: shell; it is run until it succeeds, and changes nothing
    + log: shell that prints the component's recent log lines
    + hint: what to try if the check fails
    + host: the host that it depends on, by its name in the inventory; if that host has failed in
      this run, the check is left out
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
    given: Mapping[str, str | Callable[[], str]] | None = None,
    seen: Callable[[], Collection[str]] | None = None,
    then: Callable[[], object] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Wait until every check holds.

    It changes nothing and never counts as a change. It checks only during a run: in a plan nothing
    has been done to the hosts yet.

    + checks: list of ``Check``
    + timeout: seconds to wait for all of them together
    + given: shell variables for all commands, by name the command that prints the value, so that
      many checks share one answer; a function returns the command when it is needed
    + seen: returns the names of checks that facts already show to hold
    + then: called once every check holds

    Fails with the checks that do not hold in time, their recent log lines, and what to try.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import verify

        verify.verified(
            name="Wait for kubelet to answer",
            checks=[
                verify.Check(
                    "kubelet answers",
                    command="curl --silent --fail http://127.0.0.1:10248/healthz",
                    log="journalctl --no-pager --lines=20 --unit=kubelet.service",
                    hint="systemctl status kubelet",
                ),
            ],
            timeout=60,
        )
    """

    host, checks = ctx_host.get(), _possible(checks)
    known = seen() if seen else ()
    open_checks = [check for check in checks if check.name not in known]
    shared = {name: one() if callable(one) else one for name, one in (given or {}).items()}
    questions = {"commands": {check.name: check.command for check in open_checks}, "given": shared}
    if not ctx_state.get().is_executing:
        if open_checks:
            expect_at_execution(Checks, **questions)
        host.noop(f"{len(checks)} checks wait for the run")
        return
    failing = _wait(open_checks, timeout, questions) if open_checks else []
    if failing:
        yield _report(failing, timeout)
    else:
        if then:
            then()
        host.noop(f"{len(checks)} checks hold")


@operation()
def say(text: Callable[[], str]) -> Generator[StringCommand, None, None]:
    """
    Print something at this point of a run; it changes nothing.

    + text: returns what to print

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
    Call a function once every host has come to this point of a run; it changes nothing.

    + at: reads facts with ``ask_now``, and notes them; ``None`` only waits

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
    Print a comparison during a run, and fail unless all of it agrees.

    + findings: returns the comparison as text, and whether all agrees

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
    """The checks that can hold; those of failed hosts are logged and left out."""

    state = ctx_state.get()
    failed = {host.name for host in state.failed_hosts}
    lost = [check for check in checks if check.host in failed]
    if lost and state.is_executing:
        names = ", ".join(f"{check.name} ({check.host} failed)" for check in lost)
        ctx_host.get().log(f"not waited for: {names}", logger.warning)
    return [check for check in checks if check not in lost]


def _wait(checks: Sequence[Check], timeout: int, questions: Mapping[str, Any]) -> list[Check]:
    """Try until every check holds or time is up; return those that do not hold."""

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
    """The script that fails on the host and prints what a person needs to know."""

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
