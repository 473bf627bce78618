"""
How a host is asked: in one round trip, as whom, and what becomes of a host that cannot be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click
from pyinfra.api import Host, StringCommand
from pyinfra.api.exceptions import FactError, FactProcessError

from pyinfra_kube.engine import internals
from pyinfra_kube.engine.profile import reading
from pyinfra_kube.engine.round_trip import MARK, RoundTrip
from pyinfra_kube.engine.subject import Subject

# Seconds that all facts of a trip may take together.
_TRIP_PATIENCE = 300

# Two answers are of the same question only where the same user asked in the same shell.
_IDENTITY_KEYS = (
    *("_sudo", "_sudo_user", "_su_user", "_doas", "_doas_user", "_dzdo", "_dzdo_user"),
    *("_shell_executable", "_chdir", "_env"),
)

_NO_PASSWORD = (
    "the host cannot be asked: sudo wants a password, and there is no terminal to ask for it; set "
    "_sudo_password, or let sudo ask for none (NOPASSWD in /etc/sudoers.d)"
)


def ask(host: Host, subjects: Sequence[Subject]) -> dict[str, Any]:
    """
    Ask a host in one round trip; return the value, or the ``Failure``, of each subject by its key.

    pyinfra's ``get_fact`` takes a host that cannot be asked (sudo refuses) for a blank one.

    + host: the host
    + subjects: the facts and their arguments

    Raises ``FactError`` with what the host said when it cannot be asked at all.
    """

    trip = RoundTrip(subjects)
    arguments = internals.connector_arguments(internals.current_arguments())
    arguments["_timeout"] = arguments.get("_timeout") or _TRIP_PATIENCE
    try:
        with reading(host):
            works, output = host.run_shell_command(
                StringCommand(trip.command),
                print_output=False,
                print_input=internals.prints_fact_input(),
                **arguments,
            )
    except (TimeoutError, OSError, internals.SSHException) as error:
        raise FactError(f"the host does not answer: {error or type(error).__name__}") from error
    except EOFError as error:
        raise FactError(_NO_PASSWORD) from error
    if not works:
        raise FactError(_refusal(output.stdout_lines, output.stderr_lines, arguments))
    if internals.prints_fact_output():
        _print(host, trip, output.stdout_lines)
    return trip.process(output.stdout_lines)


def identity() -> str:
    """Return who asks the current host at this point."""

    arguments = internals.current_arguments()
    return repr([arguments.get(key) for key in _IDENTITY_KEYS])


def _refusal(stdout: Sequence[str], stderr: Sequence[str], arguments: dict[str, Any]) -> str:
    """Why a command could not be run, and the fix."""

    # What facts have printed may be a secret.
    began = any(line.startswith(MARK) for line in stdout)
    said = [line for line in [*([] if began else stdout), *stderr] if line.strip()]
    user = arguments.get("_sudo_user") or arguments.get("_su_user") or "root"
    fix = f"see that a command can be run there as {user}"
    if arguments.get("_use_sudo_login"):
        fix = "set _use_sudo_login to False: sudo -i takes only commands of one line"
    return f"the host cannot be asked: {said[-1] if said else 'no reason given'}; {fix}"


def _print(host: Host, trip: RoundTrip, output: Sequence[str]) -> None:
    """Print for ``-vvv`` what was asked and answered, but no secrets."""

    with suppress(FactProcessError):
        for (subject, _), one in zip(trip.facts, trip.printed(output), strict=True):
            lines = ["(hidden)"] if subject.secret else [*(one.answer or ()), *one.said]
            for line in [f"{subject!r}:", *lines]:
                click.echo(f"{host.print_prefix}{line}", err=True)
