"""
Many facts in one round trip, and no fact twice while nothing has changed.

pyinfra reads a fact once to prepare an operation and once more to execute it, each in a round
trip of its own. A host that no operation has changed since still has what it had: our operations
read through :func:`read`, which asks again only after a change. An execution that begins at once
goes on with what its preparation read; after somebody has thought about the plan, all that the
preparation had asked for is fetched anew, in one command.

No answer is never a blank host: what fails, hangs or prints what is not understood is an error of
that host, which :func:`read` raises.
"""

from __future__ import annotations

import base64
import binascii
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import click
from paramiko import SSHException
from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.exceptions import FactError, FactProcessError
from pyinfra.context import ctx_host, ctx_state
from typing_extensions import override

from pyinfra_kube.engine.tools import OWN_DOCKER, named, trials

T = TypeVar("T")

_MARK = "##pyinfra-kube"

# A user's own client may be told to print other tables.
_OWN_DOCKER = f"{OWN_DOCKER}export DOCKER_CONFIG=/nonexistent\n"

# Seconds that an execution may trust what its preparation read.
_FRESH = 15.0

# Seconds that one fact may take on a host, and all of a trip together.
_PATIENCE = 60
_TRIP_PATIENCE = 300

# Seconds in which the tools of the base system must answer.
_TRIAL_PATIENCE = 10

# Letters of one command, quoted for the shell that logs in, and of those around one fact's own:
# Linux takes 128 KiB in one argument.
_LENGTH = 100_000
_AROUND = 500

# Two reads are the same only when they run as the same user in the same shell.
_IDENTITY_KEYS = (
    "_sudo",
    "_sudo_user",
    "_su_user",
    "_doas",
    "_doas_user",
    "_dzdo",
    "_dzdo_user",
    "_shell_executable",
    "_chdir",
    "_env",
)


@dataclass(frozen=True)
class Subject:
    """
    One fact with its arguments, as :func:`expect` takes it.

    + fact: the fact's class
    + arguments: what it is asked with
    """

    fact: type[FactBase[Any]]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.fact.__module__}.{self.fact.__name__}({sorted(self.arguments.items())!r})"

    @override
    def __repr__(self) -> str:
        return ".".join(self.fact.name.split(".")[-2:])

    def command(self, fact: FactBase[Any]) -> str:
        command = _text(_call(fact.command, self.arguments))
        needed = _call(fact.requires_command, self.arguments)
        if needed:
            return f"if command -v {needed} >/dev/null 2>&1; then {command}\nfi"
        return command


@dataclass(frozen=True)
class Failure:
    """
    What stands in place of a fact that has no answer.

    + reason: what failed, for people
    """

    reason: str


def understood(subject: Subject, process: Callable[[], Any]) -> Any:
    """
    Return what a fact makes of its output, or the ``Failure`` to do so.

    + subject: the fact
    + process: reads the output
    """

    try:
        return process()
    except FactProcessError as error:
        return Failure(str(error))
    # What a host prints may be anything, and so may go wrong with it anywhere.
    except Exception as error:
        return Failure(f"{subject!r} is not understood: {type(error).__name__}: {error}")


def _call(attribute: Callable[..., Any] | str, arguments: dict[str, Any]) -> Any:
    return attribute(**arguments) if callable(attribute) else attribute


def _text(command: str | StringCommand) -> str:
    return command.get_raw_value() if isinstance(command, StringCommand) else command


class Snapshot(FactBase[dict[str, Any]]):
    """
    Returns several facts of a host, read by one command: ``{subject.key: value}``.

    + subjects: list of ``Subject``
    """

    default = dict

    @override
    def command(self, subjects: Sequence[Subject]) -> str:
        # A fact may keep from its command what its processing needs.
        self.facts = [(subject, subject.fact()) for subject in subjects]
        # What nobody knew before stands in no file and no answer.
        self.mark = f"{_MARK}-{token_hex(8)}"
        commands = [subject.command(fact) for subject, fact in self.facts]
        tools = {tool for command in commands for tool in named(command)}
        parts = "\n".join(self._part(index, command) for index, command in enumerate(commands))
        # Encoded, for what is printed may be any bytes; a login may print something before it.
        return f"""\
echo; echo '{self.mark}'
{_OWN_DOCKER}\
works=$({_within(min(_PATIENCE, _TRIAL_PATIENCE))} sh 2>/dev/null <<'{self.mark} end'
echo ' timeout '
{trials({*tools, "base64"})}
{self.mark} end
)
have() {{
for tool; do
case "$works" in *" $tool "*) ;; *) echo "{self.mark} lacks $tool"; return 1 ;; esac
done
}}
all() {{
exec 3>&1
{parts}
}}
if have timeout base64; then all | base64; fi
echo '{self.mark}'"""

    def _part(self, index: int, command: str) -> str:
        # What a fact's tools complain of goes its own way, to be said where the fact fails.
        return f"""\
echo '{self.mark} {index}'
if have {" ".join(["timeout", *named(command)])}; then
said=$({_within(_PATIENCE)} sh 2>&1 >&3 3>&- <<'{self.mark} end'
{{
{command}
}} </dev/null || exit
printf '\n{self.mark} done\n'
{self.mark} end
)
status=$?
printf '\n{self.mark} said\n%s\n{self.mark} status %s\n' "$said" "$status"
fi"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, Any]:
        try:
            printed = self.printed(output)
        except FactProcessError as error:
            return {s.key: Failure(f"{s!r}: {error}") for s, _ in self.facts}
        return {
            subject.key: _value(subject, fact, one)
            for (subject, fact), one in zip(self.facts, printed, strict=True)
        }

    def printed(self, output: Iterable[str]) -> list[_Printed]:
        """Return what each fact's command printed; raises ``FactProcessError`` where none did."""

        found: dict[str, dict[str, list[str]]] = {}
        index = ""
        for word, lines in _parts(_decoded(output, self.mark), f"{self.mark} "):
            index = word if word.isdigit() else index
            found.setdefault(index, {})[word] = lines
        return [_Printed.of(str(i), found.get(str(i), {})) for i in range(len(self.facts))]


def _within(seconds: float) -> str:
    """The words that end a command in time, also one that does not listen."""

    return f"timeout -k 5 {seconds}"


def _decoded(output: Iterable[str], mark: str) -> list[str]:
    """The lines that were printed; what is not UTF-8 in them is replaced."""

    # A terminal, as of _get_pty, ends lines in its own way.
    lines = [line.rstrip("\r") for line in output]
    if mark not in lines:
        raise FactProcessError(
            "the answer was cut off before it began; see what the login shell runs (as ~/.bashrc)"
        )
    lines = lines[lines.index(mark) + 1 :]
    whole = mark in lines
    text = "".join(lines[: lines.index(mark)] if whole else lines)
    if lacks := text.partition(f"{mark} lacks ")[2]:
        raise FactProcessError(f"{lacks} is missing on the host, or does not work")
    # What is cut off is read as far as it goes.
    text = text if whole else text[: len(text) // 4 * 4]
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace").split("\n")
    except binascii.Error as error:
        raise FactProcessError("the host's answer is damaged") from error


def _parts(lines: Iterable[str], mark: str) -> Iterator[tuple[str, list[str]]]:
    """What stands between marks, by the word of the mark that begins it."""

    part: tuple[str, list[str]] = ("", [])
    for line in lines:
        if line.startswith(mark):
            yield part
            part = (line[len(mark) :], [])
        else:
            part[1].append(line)
    yield part


@dataclass(frozen=True)
class _Printed:
    """
    What one fact's command printed.

    + answer: its lines; ``None`` where it did not come to its end
    + said: what its tools complained of
    + status: what it ended with; ``None`` where that did not arrive
    + lacks: a tool of the base system that does not answer
    """

    answer: list[str] | None
    said: list[str]
    status: int | None
    lacks: str

    @classmethod
    def of(cls, index: str, parts: Mapping[str, list[str]]) -> _Printed:
        """Read the parts between the marks of one fact."""

        # A mark begins a line of its own, so one empty line before it is ours.
        lines = parts.get(index, [])
        lines = lines[:-1] if lines[-1:] == [""] else lines
        words = {word.partition(" ")[0]: word.partition(" ")[2] for word in parts}
        return cls(
            answer=lines if "done" in parts else None,
            said=[line.strip() for line in parts.get("said", []) if line.strip()],
            status=int(words["status"]) if words.get("status") else None,
            lacks=words.get("lacks", ""),
        )


# What timeout(1) ends with when time is up.
_TIME_IS_UP = (124, 137)


def _value(subject: Subject, fact: FactBase[Any], printed: _Printed) -> Any:
    if printed.lacks:
        return Failure(f"{subject!r}: {printed.lacks} is missing on the host, or does not work")
    if printed.status in _TIME_IS_UP:
        return Failure(f"{subject!r} did not answer in {_PATIENCE} s")
    if printed.status:
        last = printed.said[-1] if printed.said else f"exit status {printed.status}"
        return Failure(f"{subject!r}: {last}")
    if printed.status is None or printed.answer is None:
        return Failure(f"{subject!r}: the answer was cut off")
    lines = printed.answer
    return understood(subject, lambda: fact.process(lines) if lines else fact.default())


_NO_PASSWORD = (
    "the host cannot be asked: sudo wants a password, and there is no terminal to ask for it; set "
    "_sudo_password, or let sudo ask for none (NOPASSWD in /etc/sudoers.d)"
)


def ask(host: Host, subjects: Sequence[Subject]) -> dict[str, Any]:
    """
    Ask a host in one round trip; return the value, or the ``Failure``, of each subject by its key.

    pyinfra's ``get_fact`` takes a host that cannot be asked, as without its sudo, for a blank one.

    + host: the host
    + subjects: the facts and their arguments

    Raises ``FactError`` with what the host said when it cannot be asked at all.
    """

    state, fact = ctx_state.get(), Snapshot()
    given = _arguments(host)
    connector = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    connector["_timeout"] = connector.get("_timeout") or _TRIP_PATIENCE
    try:
        status, output = host.run_shell_command(
            StringCommand(fact.command(subjects)),
            print_output=False,
            print_input=state.print_fact_input,
            **connector,
        )
    except (TimeoutError, OSError, SSHException) as error:
        raise FactError(f"the host does not answer: {error or type(error).__name__}") from error
    except EOFError as error:
        raise FactError(_NO_PASSWORD) from error
    if not status:
        # What facts have printed may be a secret.
        began = any(line.startswith(_MARK) for line in output.stdout_lines)
        lines = [*([] if began else output.stdout_lines), *output.stderr_lines]
        said = [line for line in lines if line.strip()]
        user = connector.get("_sudo_user") or connector.get("_su_user") or "root"
        fix = f"see that a command can be run there as {user}"
        if connector.get("_use_sudo_login"):
            fix = "set _use_sudo_login to False: sudo -i takes only commands of one line"
        raise FactError(
            f"the host cannot be asked: {said[-1] if said else 'no reason given'}; {fix}"
        )
    if state.print_fact_output:
        _print(host, fact, output.stdout_lines)
    return fact.process(output.stdout_lines)


def _print(host: Host, fact: Snapshot, output: Sequence[str]) -> None:
    """Print for -vvv what was asked and answered, but what may hold secrets."""

    with suppress(FactProcessError):
        for (subject, _), one in zip(fact.facts, fact.printed(output), strict=True):
            lines = ["(hidden)"] if _is_secret(subject) else [*(one.answer or ()), *one.said]
            for line in [f"{subject!r}:", *lines]:
                click.echo(f"{host.print_prefix}{line}", err=True)


def _is_secret(subject: Subject) -> bool:
    """Whether a fact's class says ``secret = True``: what it reads may hold somebody's secrets."""

    return getattr(subject.fact, "secret", False)


def ask_now(fact: type[FactBase[T]], **arguments: Any) -> T:
    """
    Return a fact of the current host as it is at this moment, whatever is known.

    + fact: the fact's class
    + arguments: its arguments
    """

    subject = Subject(fact, arguments)
    return cast(T, _answer(ask(_host(), [subject])[subject.key]))


def _answer(value: Any) -> Any:
    if isinstance(value, Failure):
        raise FactError(value.reason)
    return value


@dataclass
class _Memory:
    """
    What is known of one host, since when, and at which count of changes, there or anywhere, it was
    read; what was asked, and what of it only the execution needs.
    """

    changes: tuple[bool, int] = (False, 0)
    values: dict[str, Any] = field(default_factory=dict)
    everywhere: dict[str, int] = field(default_factory=dict)
    asked: dict[str, tuple[str, Subject]] = field(default_factory=dict)
    later: set[str] = field(default_factory=set)
    discovering: bool = False
    since: float = field(default_factory=time.monotonic)

    def forget(self) -> None:
        self.values = {}
        self.since = time.monotonic()


_memories: WeakKeyDictionary[Host, _Memory] = WeakKeyDictionary()


def read(fact: type[FactBase[T]], **arguments: Any) -> T:
    """
    Return a fact of the current host, from what is known when nothing changed since it was read.

    Within one operation read everything before the first command is yielded. A fact whose class
    says ``shared = True`` is of what other hosts change too: it is asked again after a change
    anywhere.

    + fact: the fact's class
    + arguments: its arguments

    Raises ``FactError`` where there is no answer.

    **Example:**

    .. code:: python

        units = read(Units, units=["docker.service"])
    """

    subject = Subject(fact, arguments)
    memory, key, identity = _current(subject)
    memory.asked[key] = (identity, subject)
    if memory.discovering:
        return cast(T, _answer(memory.values.get(key, fact().default())))
    if key not in memory.values and memory.changes == (True, 0):
        _fetch(memory, identity, _asked(memory, identity, later=key in memory.later))
    if memory.changes[0] and key in memory.values and _may_differ(memory, key, fact):
        del memory.values[key]
    _fetch(memory, identity, [subject])
    return cast(T, _answer(memory.values[key]))


def _may_differ(memory: _Memory, key: str, fact: type[FactBase[Any]]) -> bool:
    """Whether others may have changed it since, or a service that did not answer now may."""

    value = memory.values[key]
    states = {getattr(value, name, "") for name in ("status", "runtime", "manager")}
    if states & {"down", "refused"}:
        return True
    return getattr(fact, "shared", False) and memory.everywhere.get(key) != _everywhere()


def _everywhere() -> int:
    """How many operations have changed any host in this run."""

    operations = ctx_state.get().ops.values()
    return sum(data.operation_meta.executed for host in operations for data in host.values())


def expect(subjects: Iterable[Subject]) -> None:
    """
    Read in one round trip what the operations to come will ask for; what is too long in a few.

    + subjects: the facts and their arguments

    **Example:**

    .. code:: python

        expect([Subject(Links), Subject(Units, {"units": ["docker.service"]})])
    """

    wanted = []
    memory, identity = _memory(), _identity()
    for subject in subjects:
        memory.asked[identity + subject.key] = (identity, subject)
        wanted.append(subject)
    _fetch(memory, identity, wanted)


def expect_at_execution(fact: type[FactBase[Any]], **arguments: Any) -> None:
    """
    Note what an operation will ask when it is executed and its plan need not know. On a host that
    nothing has changed, the first of them reads all of this in one round trip.

    + fact: the fact's class
    + arguments: its arguments

    **Example:**

    .. code:: python

        expect_at_execution(Checks, commands={"docker answers": "docker info"})
    """

    subject = Subject(fact, arguments)
    memory, key, identity = _current(subject)
    if key not in memory.asked:
        memory.asked[key] = (identity, subject)
        memory.later.add(key)


@contextmanager
def discovery_pass() -> Iterator[None]:
    """
    Let :func:`read` ask nothing: what is not known yet seems to be as on a blank host, and is
    noted for :func:`read_asked`.
    """

    memory = _memory()
    memory.discovering = True
    # A rehearsal that knows more foresees better.
    while memory.later:
        del memory.asked[memory.later.pop()]
    try:
        yield
    finally:
        memory.discovering = False


def read_asked() -> bool:
    """Read in one round trip what was asked for and is not known; return whether there was any."""

    memory, identity = _memory(), _identity()
    return _fetch(memory, identity, _asked(memory, identity, later=False))


def discovering() -> bool:
    """Whether the current host only seems blank."""

    return _memory().discovering


def _asked(memory: _Memory, identity: str, later: bool) -> list[Subject]:
    """What was asked; with what only the execution needs, or without."""

    return [
        subject
        for key, (asker, subject) in memory.asked.items()
        if asker == identity and (later or key not in memory.later)
    ]


def _fetch(memory: _Memory, identity: str, subjects: list[Subject]) -> bool:
    missing = [s for s in subjects if identity + s.key not in memory.values]
    for together in _trips(missing):
        # What others change while it is read may be missed by it.
        before = _everywhere()
        for key, value in ask(_host(), together).items():
            memory.values[identity + key] = value
            memory.everywhere[identity + key] = before
    return bool(missing)


def _trips(subjects: list[Subject]) -> list[list[Subject]]:
    """One trip for all of them, or a few where one would be too long for a command."""

    trips: list[list[Subject]] = []
    room = 0
    for subject in subjects:
        length = len(shlex.quote(subject.command(subject.fact()))) + _AROUND
        if not trips or length > room:
            trips.append([])
            room = _LENGTH
        trips[-1].append(subject)
        room -= length
    return trips


def _current(subject: Subject) -> tuple[_Memory, str, str]:
    identity = _identity()
    return _memory(), identity + subject.key, identity


def _memory() -> _Memory:
    host, state = _host(), ctx_state.get()
    memory = _memories.setdefault(host, _Memory())
    changed = sum(data.operation_meta.executed for data in state.ops[host].values())
    changes = (state.is_executing, changed)
    if memory.changes != changes and not memory.discovering:
        begins = (memory.changes, changes) == ((False, 0), (True, 0))
        if not begins or time.monotonic() - memory.since > _FRESH:
            memory.forget()
        memory.changes = changes
    return memory


def _identity() -> str:
    arguments = _arguments(_host())
    return repr([arguments.get(key) for key in _IDENTITY_KEYS])


def _arguments(host: Host) -> Any:
    """How commands are run there at this point: as whom, in which shell."""

    given: Any = host.current_op_global_arguments
    return given or _own_arguments(host)


def told_by_deploy() -> dict[str, Any]:
    """How commands are run as the current host's deploy was called, as with ``_sudo=True``."""

    host = _host()
    given: Mapping[str, Any] = host.current_deploy_kwargs or {}
    with host.deploy("", None, None):
        own = _own_arguments(host)
    return {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if given.get(key) != own.get(key)}


@contextmanager
def asked_as(told: Mapping[str, Any]) -> Iterator[None]:
    """
    Ask the current host as a deploy was called on another, and else as its own data say.

    + told: by ``told_by_deploy``
    """

    host = _host()
    arguments: Any = {**_own_arguments(host), **told}
    with host.deploy("", arguments, None):
        yield


def _own_arguments(host: Host) -> Any:
    return pop_global_arguments(ctx_state.get(), host, {})[0]


def _host() -> Host:
    return cast(Host, ctx_host.get())
