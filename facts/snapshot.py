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

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from paramiko import SSHException
from pyinfra.api import FactBase, Host, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments
from pyinfra.api.exceptions import FactError, FactProcessError
from pyinfra.context import ctx_host, ctx_state
from typing_extensions import override

T = TypeVar("T")

_MARK = "##pyinfra-kube"

# Seconds that an execution may trust what its preparation read.
_FRESH = 15.0

# Seconds that one fact may take on a host, and all of a trip together.
_PATIENCE = 60
_TRIP_PATIENCE = 300

# Letters of one command, quoted for the shell that logs in: Linux takes 128 KiB in one argument.
_LENGTH = 100_000

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
        return self.fact.name.removeprefix("pyinfra_kube.facts.")

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
        # What a fact's tools complain of goes its own way, to be said where the fact fails.
        return "exec 3>&1\n" + "\n".join(
            f"""printf '\\n{_MARK} {index}\\n'
said=$(timeout {_PATIENCE} sh 2>&1 >&3 3>&- <<'{_MARK} end'
{{
{subject.command(fact)}
}} </dev/null
{_MARK} end
)
status=$?
printf '\\n{_MARK} said\\n%s\\n{_MARK} status %s\\n' "$said" "$status\""""
            for index, (subject, fact) in enumerate(self.facts)
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: list[str] = []
        answer: list[str] = []
        index = 0
        for line in output:
            if not line.startswith(_MARK):
                lines.append(line)
                continue
            word = line[len(_MARK) :].split()
            if word[0] == "said":
                answer = lines
            elif word[0] == "status":
                subject, fact = self.facts[index]
                values[subject.key] = _value(subject, fact, answer, lines, int(word[1]))
            else:
                index = int(word[0])
            lines = []
        missing = [s for s, _ in self.facts if s.key not in values]
        return values | {s.key: Failure(f"{s!r}: the answer was cut off") for s in missing}


# What timeout(1) ends with when time is up.
_TIME_IS_UP = (124, 137)


def _value(
    subject: Subject, fact: FactBase[Any], answer: list[str], said: list[str], status: int
) -> Any:
    if status in _TIME_IS_UP:
        return Failure(f"{subject!r} did not answer in {_PATIENCE} s")
    if status:
        last = next((line for line in reversed(said) if line.strip()), f"exit status {status}")
        return Failure(f"{subject!r}: {last.strip()}")
    # The mark begins a line of its own, so one empty line before it is ours.
    lines = answer[:-1] if answer and answer[-1] == "" else answer
    return understood(subject, lambda: fact.process(lines) if lines else fact.default())


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
            print_output=state.print_fact_output and not any(_is_secret(s) for s in subjects),
            print_input=state.print_fact_input,
            **connector,
        )
    except (TimeoutError, OSError, SSHException) as error:
        raise FactError(f"the host does not answer: {error or type(error).__name__}") from error
    if not status:
        # What facts have printed may be a secret.
        began = any(line.startswith(_MARK) for line in output.stdout_lines)
        lines = [*([] if began else output.stdout_lines), *output.stderr_lines]
        said = [line for line in lines if line.strip()]
        user = connector.get("_sudo_user") or connector.get("_su_user") or "root"
        fix = f"see that a command can be run there as {user}"
        raise FactError(
            f"the host cannot be asked: {said[-1] if said else 'no reason given'}; {fix}"
        )
    return fact.process(output.stdout_lines)


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
    rehearsing: bool = False
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
    if memory.rehearsing:
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
    if "down" in (getattr(value, "status", ""), getattr(value, "runtime", "")):
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


def foresee(fact: type[FactBase[Any]], **arguments: Any) -> None:
    """
    Note what an operation will ask when it is executed and its plan need not know. On a host that
    nothing has changed, the first of them reads all of this in one round trip.

    + fact: the fact's class
    + arguments: its arguments

    **Example:**

    .. code:: python

        foresee(Checks, commands={"docker answers": "docker info"})
    """

    subject = Subject(fact, arguments)
    memory, key, identity = _current(subject)
    if key not in memory.asked:
        memory.asked[key] = (identity, subject)
        memory.later.add(key)


@contextmanager
def rehearsal() -> Iterator[None]:
    """
    Let :func:`read` ask nothing: what is not known yet seems to be as on a blank host, and is
    noted for :func:`catch_up`.
    """

    memory = _memory()
    memory.rehearsing = True
    # A rehearsal that knows more foresees better.
    while memory.later:
        del memory.asked[memory.later.pop()]
    try:
        yield
    finally:
        memory.rehearsing = False


def catch_up() -> bool:
    """Read in one round trip what was asked for and is not known; return whether there was any."""

    memory, identity = _memory(), _identity()
    return _fetch(memory, identity, _asked(memory, identity, later=False))


def rehearsing() -> bool:
    """Whether the current host only seems blank."""

    return _memory().rehearsing


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
        length = len(shlex.quote(Snapshot().command([subject])))
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
    if memory.changes != changes and not memory.rehearsing:
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
    return given or pop_global_arguments(ctx_state.get(), host, {})[0]


def _host() -> Host:
    return cast(Host, ctx_host.get())
