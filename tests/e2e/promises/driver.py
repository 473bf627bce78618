"""
pyinfra's command line, watched: what a run manages and plans is noted, and at a given command it
is killed, or held until somebody has done harm.

    PROMISE_ORDERS='{"report": "/tmp/report"}' python -m tests.e2e.promises.driver INVENTORY …
"""

from __future__ import annotations

# pyinfra's command line patches the standard library as it is imported: it comes first.
from pyinfra_cli import cli as pyinfra_cli
from pyinfra_cli.main import main as pyinfra_main
from pyinfra_cli.prints import build_plan_json, build_results_json

# isort: split
import atexit
import functools
import importlib
import inspect
import json
import os
import pickle
import pkgutil
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
from pyinfra.api import command as pyinfra_command
from pyinfra.context import ctx_host, ctx_state
from pyinfra_cli.prints import pretty_op_name

ENVIRONMENT = "PROMISE_ORDERS"

# The package has a function of that name in its place.
pyinfra_operation: Any = importlib.import_module("pyinfra.api.operation")


@dataclass(frozen=True)
class Orders:
    """
    What to do besides running pyinfra.

    + report: where the :class:`Report` goes
    + at: the number of the command at which something happens, counted from 1; 0 for never
    + kind: what counts: commands of ``any`` kind, or each ``upload`` as it begins
    + what: ``kill`` this process and its children, ``hold`` the run until ``go`` is there
    + delay: how long after the command's begin; less than 0 means once it has ended
    + reached, go: files by which a held run and its tester talk
    """

    report: str = ""
    at: int = 0
    kind: str = "any"
    what: str = "kill"
    delay: float = -1.0
    reached: str = ""
    go: str = ""


@dataclass(frozen=True)
class Record:
    """One call of one of our operations, on one host, as it was prepared."""

    host: str
    operation: str
    name: str
    arguments: dict[str, Any]


@dataclass
class Report:
    """
    + records: calls of operations, the last one of each
    + files: what each operation wants of files, with its host and name
    + plan, results: as ``--json`` gives them
    + commands: host and summary of each command that was run
    + secrets: of the run's credentials
    """

    records: list[Record] = field(default_factory=list)
    files: list[tuple[str, str, Any]] = field(default_factory=list)
    plan: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    commands: list[tuple[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


def main() -> None:
    orders = Orders(**json.loads(os.environ.pop(ENVIRONMENT, "{}")))
    report = Report()
    _record(report)
    _count(report, orders)
    _confirm(report)
    if orders.report:
        atexit.register(_write, report, Path(orders.report))
    pyinfra_main()


def _record(report: Report) -> None:
    """Note what operations are asked for, from within them."""

    wrap = pyinfra_operation._wrap_operation

    def watched(function: Callable[..., Any], **options: Any) -> Any:
        return wrap(_noting(function, report), **options)

    pyinfra_operation._wrap_operation = watched

    operations = importlib.import_module("pyinfra_kube.operations")
    names = [module.name for module in pkgutil.iter_modules(operations.__path__)]
    names = [f"operations.{name}" for name in names]
    modules: list[Any] = [importlib.import_module(f"pyinfra_kube.{name}") for name in names]
    for planner in ("plan_files", "plan_environment_files"):
        having = [module for module in modules if hasattr(module, planner)]
        noted = _noting_files(getattr(having[0], planner), report)
        for module in having:
            setattr(module, planner, noted)


def _noting_files(plan: Callable[..., Any], report: Report) -> Callable[..., Any]:
    def noting(wanted: Any, **options: Any) -> Any:
        if _preparing():
            report.files += [(ctx_host.get().name, _name(), _file(file)) for file in wanted]
        return plan(wanted, **options)

    return noting


def _file(wanted: Any) -> Any:
    """A file, whatever the words it was asked for in."""

    file_class = importlib.import_module("pyinfra_kube.operations.files").File
    if isinstance(wanted, file_class):
        return wanted
    return file_class(wanted.path, wanted.text, wanted.mode, wanted.user, wanted.group)


def _noting(function: Callable[..., Any], report: Report) -> Callable[..., Any]:
    @functools.wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        if _preparing() and function.__module__.startswith("pyinfra_kube."):
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            given = {k: v for k, v in bound.arguments.items() if not callable(v)}
            arguments = {k: _plain(v) for k, v in given.items()}
            operation = f"{function.__module__.rsplit('.', 1)[1]}.{function.__name__}"
            report.records.append(Record(ctx_host.get().name, operation, _name(), arguments))
        yield from function(*args, **kwargs)

    return noting


def _plain(value: Any) -> Any:
    """A value that can be kept: a text that is made when it is needed is made."""

    if isinstance(value, dict):
        return {key: one() if callable(one) else one for key, one in value.items()}
    return value


def _preparing() -> bool:
    from pyinfra_kube.engine.snapshot import discovering

    return not ctx_state.get().is_executing and not discovering()


def _name() -> str:
    """The name of the operation that is being prepared."""

    state, host = ctx_state.get(), ctx_host.get()
    return str(pretty_op_name(state.op_meta[host.current_op_hash]))


def _count(report: Report, orders: Orders) -> None:
    """Number the commands of the run, and strike at the one that was ordered."""

    counted = 0
    sending: Any = importlib.import_module("pyinfra_kube.engine.sending")
    if orders.kind == "upload":
        send = sending._send

        def dying(*args: Any) -> None:
            nonlocal counted
            counted += 1
            if counted == orders.at:
                gevent.spawn_later(orders.delay, _die)
            send(*args)

        sending._send = dying

    def wrap(cls: Any) -> None:
        execute = cls.execute

        def counting(self: Any, state: Any, host: Any, connector_arguments: Any) -> Any:
            nonlocal counted
            # What a command hands to its own class is no other command.
            if type(self).execute is not counting:
                return execute(self, state, host, connector_arguments)
            report.commands.append((host.name, str(getattr(self, "summary", self))))
            if orders.kind == "any":
                counted += 1
                if counted == orders.at:
                    return _strike(orders, host.name, execute, self, state, connector_arguments)
            return execute(self, state, host, connector_arguments)

        cls.execute = counting

    for cls in (
        pyinfra_command.StringCommand,
        pyinfra_command.FileUploadCommand,
        pyinfra_command.FunctionCommand,
        sending.Upload,
    ):
        wrap(cls)


def _strike(
    orders: Orders, name: str, execute: Any, command: Any, state: Any, arguments: Any
) -> Any:
    host = ctx_host.get()
    if orders.what == "kill":
        if orders.delay >= 0:
            gevent.spawn_later(orders.delay, _die)
        result = execute(command, state, host, arguments)
        if orders.delay < 0:
            _die()
        gevent.sleep(60)
        return result
    if orders.delay >= 0:
        greenlet = gevent.spawn(execute, command, state, host, arguments)
        gevent.sleep(orders.delay)
        _hold(orders, name)
        return greenlet.get()
    result = execute(command, state, host, arguments)
    _hold(orders, name)
    return result


def _die() -> None:
    os.killpg(0, signal.SIGKILL)


def _hold(orders: Orders, name: str) -> None:
    Path(orders.reached).write_text(name)
    while not Path(orders.go).exists():
        gevent.sleep(0.1)


def _confirm(report: Report) -> None:
    """Say yes where a person would, and keep what pyinfra knows at that moment and at the end."""

    def confirm(*_: Any, **__: Any) -> bool:
        report.plan = build_plan_json(ctx_state.get())
        return True

    def results(state: Any) -> None:
        report.results = build_results_json(state)
        print_results(state)

    print_results = pyinfra_cli.print_results
    pyinfra_cli._do_confirm = confirm
    pyinfra_cli.print_results = results


def _write(report: Report, path: Path) -> None:
    context = importlib.import_module("pyinfra_kube.deploys.run.context")
    for found in context._clusters.values():
        if not isinstance(found, Exception):
            report.secrets = found.credentials.secrets()
    report.records = list({(r.host, r.operation, r.name): r for r in report.records}.values())
    path.touch(mode=0o600)
    path.write_bytes(pickle.dumps(report))


if __name__ == "__main__":
    # What is pickled must be found under the module's own name.
    from tests.e2e.promises import driver

    driver.main()
