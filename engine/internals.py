"""
Everything that we use of pyinfra beyond what it documents, and of the gevent that it runs on.

Public, and used anywhere: the modules of its API reference, :mod:`pyinfra.context`, facts and
operations with their ``_inner``, and of a state ``config``, ``inventory``, ``is_executing`` and the
sets of hosts. ``tests/unit/test_internals.py`` pins the rest against the pyinfra that is installed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult as Arrival
from gevent.lock import RLock as Lock
from paramiko import Channel, SFTPClient, SSHException
from pyinfra.api import Config, Host, Inventory, State, StringCommand, util
from pyinfra.api import arguments as global_arguments
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import BaseStateCallback, StateHostMeta
from pyinfra.context import ctx_config, ctx_host, ctx_state
from pyinfra.operations.util.files import generate_color_diff
from typing_extensions import override

__all__ = ["Arrival", "Lock", "PyinfraOperation", "SFTPClient", "SSHException"]

TRANSFER_ERRORS = (OSError, EOFError, SSHException)
"""What a connection for files raises where it ends or is refused."""

P = ParamSpec("P")
T = TypeVar("T")

# Else each operation of each host works out the types of pyinfra's own arguments.
global_arguments.all_global_arguments = cache(global_arguments.all_global_arguments)
# Else each operation of each host reads the lines of source of its whole stack, which nobody uses.
vars(util).update(
    stack=partial(inspect.stack, 0), getframeinfo=partial(inspect.getframeinfo, context=0)
)


# How commands are run: as whom, in which shell


def own_arguments() -> dict[str, Any]:
    """Return the global arguments of the current host: of its deploy, its data, the defaults."""

    return dict(pop_global_arguments(ctx_state.get(), _host(), {})[0])


def current_arguments() -> dict[str, Any]:
    """Return the global arguments of the operation that runs now, else the host's own."""

    given = _host().current_op_global_arguments
    return dict(given) if given else own_arguments()


def connector_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return those that ``host.run_shell_command`` takes.

    + arguments: global arguments
    """

    return {key: arguments[key] for key in CONNECTOR_ARGUMENT_KEYS if key in arguments}


def deploy_arguments() -> dict[str, Any]:
    """Return the connector arguments that the current deploy was called with (``_sudo=True``)."""

    host = _host()
    given: Mapping[str, Any] = host.current_deploy_kwargs or {}
    with host.deploy("", None, None):
        own = own_arguments()
    return {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if given.get(key) != own.get(key)}


@contextmanager
def called_with(arguments: Mapping[str, Any]) -> Iterator[None]:
    """
    Run commands on the current host as in a deploy that is called with these arguments.

    + arguments: by :func:`deploy_arguments`, perhaps of another host
    """

    everything: Any = {**own_arguments(), **arguments}
    with _host().deploy("", everything, None):
        yield


# Operations


@contextmanager
def operation_arguments(kwargs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """
    Run commands on the current host as an operation that is called with these arguments would.

    + kwargs: its keyword arguments; those of its own are yielded
    """

    host, own = _host(), dict(kwargs)
    host.current_op_global_arguments = pop_global_arguments(ctx_state.get(), host, own)[0]
    try:
        yield own
    finally:
        host.current_op_global_arguments = None


def current_operation() -> str:
    """Return what names the operation that is planned or executed now; empty for none."""

    host = _host()
    return host.executing_op_hash or host.current_op_hash or ""


def unplanned(changes: bool) -> OperationMeta:
    """
    Return what an operation gives back that takes no part in the run.

    + changes: whether it would change something
    """

    return OperationMeta("", changes)


def stand_in(operation: PyinfraOperation[P], call: Callable[..., Any]) -> PyinfraOperation[P]:
    """
    Return a function that takes the place of an operation.

    + operation: the operation
    + call: the function
    """

    call._inner = operation._inner  # type: ignore[attr-defined]
    return cast("PyinfraOperation[P]", call)


def forget_operations(host: Host) -> None:
    """
    Take a host's operations out of the run.

    + host: the host
    """

    host.op_hash_order.clear()
    host.state.ops[host].clear()
    host.state.meta[host] = StateHostMeta()


def has_operations(host: Host) -> bool:
    """
    Return whether the run has any operation for a host.

    + host: the host
    """

    return bool(host.state.ops[host])


def executed(state: State, hosts: Iterable[Host]) -> int:
    """
    Return how many operations of this run have run a command.

    + state: of the run
    + hosts: on these hosts
    """

    return sum(op.operation_meta.executed for host in hosts for op in state.ops[host].values())


def any_changes(state: State) -> bool:
    """
    Return whether the plan of a run changes anything.

    + state: of the run
    """

    planned = (op for host in state.active_hosts for op in state.ops[host].values())
    return any(op.operation_meta.will_change for op in planned)


def watch_operations(
    state: State,
    begins: Callable[[str], None],
    ends: Callable[[str, str, str], None],
) -> None:
    """
    Be told of the operations of a run.

    + state: of the run
    + begins: called with the name of a host on which one begins
    + ends: called when it has ended, with the names of the host, its phase and itself
    """

    class Watch(BaseStateCallback):
        @staticmethod
        @override
        def operation_host_start(state: State, host: Host, op_hash: str) -> None:
            begins(host.name)

        @staticmethod
        @override
        def operation_host_success(
            state: State, host: Host, op_hash: str, retry_count: int = 0
        ) -> None:
            *_, phase, step = ["", *next(iter(state.op_meta[op_hash].names)).split(" | ")]
            ends(host.name, phase, step)

        @staticmethod
        @override
        def operation_host_error(
            state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
        ) -> None:
            Watch.operation_host_success(state, host, op_hash)

    state.add_callback_handler(Watch())


@contextmanager
def undone() -> Iterator[None]:
    """
    Take away again what is added to the run for the current host meanwhile, and print nothing of
    it. What other hosts add stays.
    """

    state, host = ctx_state.get(), _host()
    order, operations = list(host.op_hash_order), dict(state.ops[host])
    counts = dict(vars(state.meta[host]))
    try:
        with _quiet(state):
            yield
    finally:
        added = state.ops[host].keys() - operations.keys()
        host.op_hash_order[:] = order
        state.ops[host] = operations
        vars(state.meta[host]).clear()
        vars(state.meta[host]).update(counts)
        for name in added:
            if not any(name in others for others in state.ops.values()):
                state.op_meta.pop(name, None)


# How many hosts do so at once, and what a run's flags were before the first of them.
_quiet_hosts: WeakKeyDictionary[State, tuple[int, tuple[bool, bool]]] = WeakKeyDictionary()


@contextmanager
def _quiet(state: State) -> Iterator[None]:
    """Set the run's flags until the last of the hosts that do so side by side is done."""

    flags = (state.print_noop_info, state.check_for_changes)
    count, flags = _quiet_hosts.get(state, (0, flags))
    _quiet_hosts[state] = (count + 1, flags)
    state.print_noop_info, state.check_for_changes = False, True
    try:
        yield
    finally:
        count, _ = _quiet_hosts[state]
        _quiet_hosts[state] = (count - 1, flags)
        if count == 1:
            del _quiet_hosts[state]
            state.print_noop_info, state.check_for_changes = flags


# The run


def prints_fact_input() -> bool:
    """Return whether the run prints the commands of facts (``-vv``)."""

    return bool(ctx_state.get().print_fact_input)


def prints_fact_output() -> bool:
    """Return whether the run prints the answers of facts (``-vvv``)."""

    return bool(ctx_state.get().print_fact_output)


def diff(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """
    Return the lines of a unified diff, coloured as pyinfra's own.

    + before, after: lines with their ends
    """

    return list(generate_color_diff(list(before), list(after)))


def connected_address(host: Host) -> str:
    """
    Return the address that SSH is connected to; empty where it cannot be told.

    + host: the host
    """

    try:
        transport = cast(Any, host.connector).client.get_transport()
        return str(transport.getpeername()[0])
    # A local host has no client, and one behind a jump host no address.
    except (AttributeError, OSError, IndexError, TypeError):
        return ""


def on_each(hosts: Iterable[Host], ask: Callable[[], T]) -> dict[str, T]:
    """
    Return what a function returns on each host, by the host's name. It runs on all at once.

    + hosts: the hosts
    + ask: the function; the host is the current one
    """

    state = ctx_state.get()

    def call(host: Host) -> T:
        with ctx_config.use(state.config.copy()), ctx_host.use(host):
            return ask()

    greenlets = {host.name: gevent.spawn(call, host) for host in hosts}
    gevent.joinall(list(greenlets.values()), raise_error=True)
    return {name: greenlet.get() for name, greenlet in greenlets.items()}


@contextmanager
def file_transfer(host: Host) -> Iterator[SFTPClient]:
    """
    Open a channel for files in the connection to a host.

    + host: the host

    Raises one of ``TRANSFER_ERRORS``; ``OSError`` too where the connection is not of SSH.
    """

    try:
        transport = cast(Any, host.connector).client.get_transport()
    except AttributeError:
        raise OSError(f"{host.name} is not connected to by SSH") from None
    # While several use it, paramiko may lose a connection whose keys it changes, by default after
    # 512 MiB. AES may go on for 64 GiB (RFC 4344, 3.2).
    transport.packetizer.REKEY_BYTES = 1 << 35
    sftp = SFTPClient.from_transport(transport)
    if not sftp:
        raise OSError(f"{host.name} has no SFTP")
    try:
        yield sftp
    finally:
        sftp.close()


@contextmanager
def another_channel(sftp: SFTPClient) -> Iterator[Channel]:
    """
    Open a channel for a command beside one for files, in the same connection.

    + sftp: the one for files

    Raises one of ``TRANSFER_ERRORS``.
    """

    files = sftp.get_channel()
    if not files:
        raise OSError("the connection is lost")
    with closing(files.get_transport().open_session()) as channel:
        yield channel


def beside(call: Callable[[], object]) -> None:
    """
    Call a function while the run goes on. It ends with the run, done or not.

    + call: the function
    """

    gevent.spawn(call)


def run_elsewhere(host: Host, commands: Callable[[], Iterable[StringCommand]]) -> bool:
    """
    Run commands on a host that takes no part in the run; return whether all of them succeeded.

    + host: the host; it is connected to
    + commands: makes the commands; the host is the current one
    """

    def run() -> bool:
        for command in commands():
            arguments = {**connector_arguments(own_arguments()), **command.connector_arguments}
            works, _ = host.run_shell_command(command, print_output=True, **arguments)
            if not works:
                return False
        return True

    host.connect(raise_exceptions=True)
    return on_each([host], run)[host.name]


def sleep(seconds: float) -> None:
    """
    Wait, and let other hosts go on meanwhile.

    + seconds: how long
    """

    gevent.sleep(seconds)


@contextmanager
def inventory_state(path: str, folder: str) -> Iterator[State]:
    """
    Read an inventory file as the ``pyinfra`` command does; no host is connected to.

    + path: of the inventory file
    + folder: the working directory
    """

    # The command line patches Python as it is imported.
    from pyinfra_cli.inventory import make_inventory

    state = State()
    state.cwd = folder
    ctx_config.set(Config())
    with ctx_state.use(state):
        inventory: Inventory = make_inventory(path, cwd=folder)
        state.init(inventory, Config())
        yield state


def _host() -> Host:
    return cast(Host, ctx_host.get())
