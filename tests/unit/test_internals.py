"""
What ``engine.internals`` relies on in the pyinfra that is installed, and that nothing else does.

A test that fails here says what pyinfra has changed: mend ``engine/internals.py``.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import paramiko
import pyinfra.api.facts
import pyinfra.api.util
import pytest
from pyinfra.api import Config, Inventory, State, StringCommand, arguments, deploy, operation
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.context import ctx_config, ctx_host, ctx_state
from pyinfra.operations import server

from pyinfra_kube.engine import asking, internals

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def state() -> Iterator[State]:
    made = State(Inventory((["one", ("two", {"_chdir": "/two"})], {})), Config())
    with ctx_state.use(made), ctx_host.use(made.inventory.get_host("one")):
        yield made


def bookkeeping(thing: object) -> dict[str, str]:
    """Every attribute of a host or a state as text."""

    values = {**vars(type(thing)), **vars(thing)}
    return {name: _text(value) for name, value in values.items() if not callable(value)}


def _text(value: Any) -> str:
    items = value.items() if isinstance(value, dict) else ()
    return f"{value if not items else ''}{[(key, getattr(v, '__dict__', v)) for key, v in items]}"


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name, value in after.items() if before.get(name) != value}


# How commands are run


def test_arguments_come_from_the_operation_else_from_the_host(state: State) -> None:
    seen: list[dict[str, Any]] = []

    @operation()
    def look() -> Iterator[StringCommand]:
        seen.append(internals.current_arguments())
        yield StringCommand("true")

    with ctx_host.use(state.inventory.get_host("two")):
        assert internals.own_arguments()["_chdir"] == "/two"
        assert internals.current_arguments() == internals.own_arguments()
        look(_sudo=True)
    (given,) = seen
    assert (given["_sudo"], given["_chdir"]) == (True, "/two")


def test_an_operation_has_one_name_when_it_is_planned_and_executed() -> None:
    seen: list[str] = []

    @operation()
    def look() -> Iterator[StringCommand]:
        seen.append(internals.current_operation())
        yield StringCommand("true")

    state = State(Inventory((["@local"], {})), Config())
    connect_all(state)
    metas = [add_op(state, look)[state.inventory.get_host("@local")] for _ in range(2)]
    assert all(meta.will_change for meta in metas)
    planned = list(dict.fromkeys(seen))
    run_ops(state)
    disconnect_all(state)
    with ctx_state.use(state), ctx_host.use(state.inventory.get_host("@local")):
        assert internals.current_operation() == ""
    assert len(planned) == 2
    assert seen[-2:] == planned


def test_every_argument_that_we_name_is_one_of_a_connector(state: State) -> None:
    own = internals.own_arguments()
    named = {*asking._IDENTITY_KEYS, "_timeout", "_use_sudo_login", "_sudo_password", "_stdin"}
    assert named <= internals.connector_arguments({**own, "_stdin": ""}).keys()
    assert "_if" in own
    assert "_if" not in internals.connector_arguments(own)


def test_the_types_of_arguments_are_worked_out_once(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    internals.own_arguments()
    monkeypatch.setattr(arguments, "get_type_hints", None)
    internals.own_arguments()


def test_a_deploy_says_how_it_was_called(state: State) -> None:
    seen: list[dict[str, Any]] = []

    @deploy("A deploy")
    def look() -> None:
        seen.append(internals.deploy_arguments())

    look()
    look(_sudo=True)
    assert seen == [{}, {"_sudo": True}]
    with internals.called_with({"_sudo": True}):
        assert internals.own_arguments()["_sudo"] is True
    assert internals.own_arguments()["_sudo"] is False


# Operations


def test_an_operation_changes_only_the_bookkeeping_that_is_undone(
    state: State,
) -> None:
    host = ctx_host.get()
    before = bookkeeping(state), bookkeeping(host)
    with internals.undone():
        server.shell(name="Try", commands=["true"])
    assert changed(before[0], bookkeeping(state)) == set()
    assert changed(before[1], bookkeeping(host)) == set()
    server.shell(name="Plan", commands=["true"])
    assert changed(before[0], bookkeeping(state)) == {"ops", "meta", "op_meta"}
    assert changed(before[1], bookkeeping(host)) == {"op_hash_order"}


def test_operations_are_forgotten(state: State) -> None:
    host = ctx_host.get()
    before = {**bookkeeping(state), "op_meta": ""}, bookkeeping(host)
    server.shell(name="Plan", commands=["true"])
    assert internals.has_operations(host)
    internals.forget_operations(host)
    assert not internals.has_operations(host)
    assert ({**bookkeeping(state), "op_meta": ""}, bookkeeping(host)) == before


def test_an_operation_that_takes_no_part_says_whether_it_changes_something() -> None:
    assert internals.unplanned(changes=True).will_change
    assert not internals.unplanned(changes=False).will_change


def test_another_function_stands_in_for_an_operation() -> None:
    @operation()
    def some() -> Iterator[StringCommand]:
        yield StringCommand("true")

    other = internals.stand_in(some, lambda: None)
    assert [*other._inner()] == [*some._inner()] == [StringCommand("true")]


def test_arguments_of_an_operation_that_is_only_called(state: State) -> None:
    with internals.operation_arguments({"_sudo": True, "name": "Try", "path": "/x"}) as own:
        assert own == {"path": "/x"}
        assert internals.current_arguments()["_sudo"] is True
    assert internals.current_arguments()["_sudo"] is False


def test_operations_that_ran_a_command_are_counted() -> None:
    @operation()
    def nothing() -> Iterator[StringCommand]:
        yield from ()

    state = State(Inventory((["@local"], {})), Config())
    connect_all(state)
    add_op(state, server.shell, name="Run", commands=["true"])
    add_op(state, nothing, name="Do nothing")
    assert internals.executed(state, state.inventory) == 0
    run_ops(state)
    disconnect_all(state)
    assert internals.executed(state, state.inventory) == 1


def test_the_operations_of_a_run_are_told() -> None:
    state = State(Inventory((["@local"], {})), Config())
    told: list[tuple[str, ...]] = []
    internals.watch_operations(
        state, lambda host: told.append((host,)), lambda *of: told.append(of)
    )
    connect_all(state)
    add_op(state, server.shell, name="All | Phase | Run", commands=["true"])
    add_op(state, server.shell, name="Fail", commands=["false"])
    with suppress(PyinfraError):
        run_ops(state)
    disconnect_all(state)
    ends = [("@local", "Phase", "Run"), ("@local", "", "Fail")]
    assert told == [("@local",), ends[0], ("@local",), ends[1]]


def test_the_order_of_operations_needs_no_source(state: State) -> None:
    quick = pyinfra.api.util.get_operation_order_from_stack(state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyinfra.api.util, "stack", inspect.stack)
        patch.setattr(pyinfra.api.util, "getframeinfo", inspect.getframeinfo)
        slow = pyinfra.api.util.get_operation_order_from_stack(state)
    assert [quick[:-1], quick[-1] + 4] == [slow[:-1], slow[-1]]


# The run


def test_the_flags_of_a_run(state: State) -> None:
    assert not internals.prints_fact_input()
    assert not internals.prints_fact_output()
    state.print_fact_input = state.print_fact_output = True
    assert internals.prints_fact_input()
    assert internals.prints_fact_output()


def test_a_diff_names_lines() -> None:
    said = "\n".join(internals.diff(["same\n", "old\n"], ["same\n", "new\n"]))
    assert all(line in said for line in ("  same", "- old", "+ new"))


def test_the_address_of_a_connection(state: State) -> None:
    assert internals.connected_address(ctx_host.get()) == ""
    assert SSHConnector.__annotations__["client"], "an SSH connector has no client"
    assert callable(paramiko.SSHClient.get_transport)
    assert pyinfra.api.facts.SSHException is internals.SSHException


def test_all_hosts_are_asked_at_once(state: State) -> None:
    config = Config()
    order: list[str] = []

    def ask() -> str:
        name = ctx_host.get().name
        ctx_config.get().SUDO = name == "one"
        order.append(f"{name} begins")
        internals.sleep(0.01)
        order.append(f"{name} ends")
        return f"{name} {ctx_config.get().SUDO}"

    with ctx_config.use(config):
        found = internals.on_each(state.inventory, ask)
    assert found == {"one": "one True", "two": "two False"}
    assert order == ["one begins", "two begins", "one ends", "two ends"]
    assert not config.SUDO


def test_a_lock_lets_one_host_in_at_a_time() -> None:
    lock = internals.Lock()
    held: list[int] = []

    def hold(number: int) -> None:
        with lock, lock:
            held.append(number)
            internals.sleep(0.01)
            assert held[-1] == number

    gevent.joinall([gevent.spawn(hold, number) for number in range(3)], raise_error=True)


def test_an_inventory_is_read_as_the_command_line_does(tmp_path: Path) -> None:
    file = tmp_path / "inventory.py"
    file.write_text("nodes = [('one', {'a': 1}), 'two']\n")
    with internals.inventory_state(str(file), str(tmp_path)) as state:
        assert ctx_state.get() is state
        groups = {name: [h.name for h in hosts] for name, hosts in state.inventory.groups.items()}
    assert groups["nodes"] == ["one", "two"]
    assert state.inventory.get_host("one").data.get("a") == 1


# Nothing else

PUBLIC = {
    "pyinfra",
    "pyinfra.context",
    "pyinfra.api",
    *(
        f"pyinfra.api.{name}"
        for name in ("command", "deploy", "exceptions", "facts", "host", "operation", "state")
    ),
}
NOT_PUBLIC = ("gevent", "paramiko", "pyinfra_cli")
ATTRIBUTES = {
    *("op_hash_order", "op_meta", "ops", "meta", "connector"),
    *("print_fact_input", "print_fact_output", "print_noop_info", "check_for_changes"),
    *("current_op_hash", "current_op_global_arguments", "current_op_deploy_data"),
    *("current_deploy_name", "current_deploy_kwargs", "current_deploy_data"),
}


def _is_public(module: str) -> bool:
    kind, _, name = module.removeprefix("pyinfra.").partition(".")
    return module in PUBLIC or (kind in ("facts", "operations") and "." not in name)


def _uses(file: Path) -> Iterator[str]:
    """The internals of pyinfra that a module names."""

    for node in ast.walk(ast.parse(file.read_text())):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            top = module.partition(".")[0]
            if top in NOT_PUBLIC or (top == "pyinfra" and not _is_public(module)):
                yield module
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            yield f".{node.attr}"


def test_internals_are_used_in_one_module() -> None:
    folders = ("cluster", "ansible_2016", "engine", "facts", "checks", "operations", "deploys")
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]
    found = {str(file.relative_to(REPOSITORY)): sorted(set(_uses(file))) for file in files}
    assert found.pop("engine/internals.py")
    assert {file: names for file, names in found.items() if names} == {}
