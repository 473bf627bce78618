"""What no host answers is no blank host, and a host that cannot be planned is left out alone."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterable
from typing import Any

import pytest
from pyinfra.api import (
    Config,
    FactBase,
    Inventory,
    OperationError,
    OperationValueError,
    State,
    StringCommand,
)
from pyinfra.api.exceptions import FactError, FactProcessError
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state
from typing_extensions import override

from pyinfra_kube.engine import internals, round_trip
from pyinfra_kube.engine.failing import left_out
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.round_trip import RoundTrip
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.subject import Failure, Subject
from tests.unit import harness


class Shell(FactBase[str]):
    """A fact of any shell text; numbers are not understood."""

    default = str

    @override
    def command(self, text: str) -> str:
        return text

    @override
    def process(self, output: Iterable[str]) -> str:
        text = "\n".join(output)
        if text == "refused":
            raise FactProcessError("/etc/file: refused")
        return text if not text.isdigit() else {}[text]


def ask_shell(*texts: str) -> list[Any]:
    subjects = [Subject(Shell, {"text": text}) for text in texts]
    trip = RoundTrip(subjects)
    done = subprocess.run(["sh", "-c", trip.command], capture_output=True, text=True, check=False)
    found = trip.process(done.stdout.splitlines())
    return [found[subject.key] for subject in subjects]


def reason(value: Any) -> str:
    assert isinstance(value, Failure)
    return value.reason


def test_each_fact_has_its_own_fate() -> None:
    found = ask_shell(
        "echo one; echo noise >&2",
        "echo half; echo first >&2; echo 'ip: no such device' >&2; exit 1",
        "false",
        "echo refused",
        "echo 5",
        "printf 'no newline'",
        "cat; echo read nothing",
        "if",
        ":",
    )
    assert [found[0], found[5], found[6], found[8]] == ["one", "no newline", "read nothing", ""]
    assert "ip: no such device" in reason(found[1])
    assert "exit status 1" in reason(found[2])
    assert reason(found[3]) == "/etc/file: refused"
    assert "Shell is not understood: KeyError" in reason(found[4])
    assert isinstance(found[7], Failure)


def test_a_tool_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_trip, "_PATIENCE", 1)
    hangs, answers = ask_shell("sleep 60 & wait; sleep 60", "echo still here")
    assert "did not answer in 1 s" in reason(hangs)
    assert answers == "still here"


def test_a_terminal_ends_lines_in_its_own_way() -> None:
    subject = Subject(Shell, {"text": "echo one; echo two"})
    trip = RoundTrip([subject])
    command = ["sh", "-c", trip.command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = trip.process(f"{line}\r" for line in done.stdout.splitlines())
    assert found[subject.key] == "one\ntwo"


def test_an_answer_that_is_cut_off_is_none() -> None:
    subject = Subject(Shell, {"text": "echo one"})
    trip = RoundTrip([subject])
    for output in ([], ["##pyinfra-kube 0"], ["##pyinfra-kube 0", "one", "##pyinfra-kube said"]):
        assert "cut off" in reason(trip.process(output)[subject.key])


# A run


class Run:
    """Three hosts, of which ``bad`` is the one that is asked for."""

    def __init__(self) -> None:
        self.state = State(Inventory((["good", "bad", "other"], {})), Config())
        self.said: dict[str, list[str]] = {}
        for host in self.state.inventory:
            self.state.activate_host(host)
            lines = self.said[host.name] = []
            vars(host)["log"] = lambda text, *_, lines=lines: lines.append(text)
            vars(host)["log_styled"] = lambda text, lines=lines, **_: lines.append(text)

    def everywhere(self, deploy: Any) -> None:
        for host in self.state.inventory:
            with ctx_state.use(self.state), ctx_host.use(host):
                deploy()

    def planned(self) -> dict[str, int]:
        return {host.name: len(ops) for host, ops in self.state.ops.items()}


def only(name: str, error: Exception) -> None:
    if ctx_host.get().name == name:
        raise error


@operation()
def part(error: Exception) -> Generator[StringCommand, None, None]:
    only("bad", error)
    yield StringCommand("true")


@pytest.mark.parametrize("checking", [True, False], ids=["", "-y"])
@pytest.mark.parametrize("error", [OperationError("no"), FactError("no")])
def test_a_host_that_an_operation_cannot_plan_is_left_out(error: Exception, checking: bool) -> None:
    run = Run()
    run.state.check_for_changes = checking

    def deploy() -> None:
        part(name="Plan", error=error)
        part(name="Go on", error=error)

    run.everywhere(deploy)
    assert run.planned() == {"good": 2, "bad": 0, "other": 2}
    assert run.said == {
        "good": [],
        "bad": ["Error: no", "Nothing is done to this host."],
        "other": [],
    }
    assert {host.name for host in run.state.failed_hosts} == {"bad"}
    assert {host.name for host in run.state.active_hosts} == {"good", "other"}


def test_a_wrong_argument_is_everybodys() -> None:
    run = Run()
    with pytest.raises(OperationValueError):
        run.everywhere(lambda: part(name="Plan", error=OperationValueError("wrong")))
    assert not run.state.failed_hosts


def test_a_host_that_a_phase_cannot_read_is_left_out() -> None:
    run = Run()
    seen: list[str] = []

    @phase("A phase")
    def looks() -> str:
        only("bad", FactError("silent"))
        return "looked"

    def deploy() -> None:
        seen.append(f"{looks()} {left_out()}")
        later()

    @phase("Another")
    def later() -> None:
        seen.append(ctx_host.get().name)

    run.everywhere(deploy)
    assert seen == ["looked False", "good", "None True", "looked False", "other"]


@operation()
def fails_later() -> Generator[StringCommand, None, None]:
    if ctx_state.get().is_executing:
        raise OperationError("no more")
    yield StringCommand("true")


def test_an_error_under_way_fails_its_host_only() -> None:
    with harness.fake_host({}) as (host, _, _):
        host.state.activate_host(host)
        fails_later(name="Fail")
        host.state.is_executing = True
        (planned,) = host.state.ops[host].values()
        (command,) = planned.command_generator()
    assert isinstance(command, Script)
    assert "echo 'no more' >&2\nexit 1" in command.text


# What the host says


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([("stderr", "sudo: a password is required")], "sudo: a password is required; see that"),
        ([("stdout", "This account is not available.")], "This account is not available.; see"),
        ([("stdout", "##pyinfra-kube 0"), ("stdout", "a secret")], "no reason given; see that"),
        ([], "no reason given; see that a command can be run there as root"),
    ],
)
def test_a_host_that_cannot_be_asked_says_why(lines: list[tuple[str, str]], said: str) -> None:
    with harness.fake_host({}) as (host, _, _):
        output = CommandOutput([OutputLine(*line) for line in lines])
        vars(host)["run_shell_command"] = lambda *_, **__: (False, output)
        with pytest.raises(FactError, match=said):
            harness.asked_by_ssh(host, [Subject(Shell, {"text": "true"})])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError, "the host does not answer"),
        # As getpass does where nobody sits at a terminal.
        (EOFError, "sudo wants a password, and there is no terminal"),
    ],
)
def test_a_host_that_is_silent_is_named_so(error: type[Exception], said: str) -> None:
    def silent(*_: Any, **__: Any) -> Any:
        raise error

    with harness.fake_host({}) as (host, _, _):
        vars(host)["run_shell_command"] = silent
        with pytest.raises(FactError, match=said):
            harness.asked_by_ssh(host, [Subject(Shell, {"text": "true"})])


def test_a_login_by_sudo_names_the_way_out() -> None:
    with harness.fake_host({}) as (host, _, _):
        vars(host)["run_shell_command"] = lambda *_, **__: (False, CommandOutput([]))
        told = {"_sudo": True, "_use_sudo_login": True}
        with (
            internals.called_with(told),
            pytest.raises(FactError, match="set _use_sudo_login to False"),
        ):
            harness.asked_by_ssh(host, [Subject(Shell, {"text": "true"})])


def test_another_host_is_asked_as_the_deploy_was_called() -> None:
    state = State(
        Inventory(([("one", {"_chdir": "/one"}), ("two", {"_chdir": "/two"})], {})), Config()
    )
    one, two = (state.inventory.get_host(name) for name in ("one", "two"))
    seen: dict[str, Any] = {}

    @phase("A deploy")
    def deploy() -> None:
        told = internals.deploy_arguments()
        with ctx_host.use(two), internals.called_with(told):
            seen.update(internals.current_arguments())

    with ctx_state.use(state), ctx_host.use(one):
        deploy(_sudo=True)  # type: ignore[call-arg]
        assert (seen["_sudo"], seen["_chdir"]) == (True, "/two")
        deploy()
        assert (seen["_sudo"], seen["_chdir"]) == (False, "/two")
