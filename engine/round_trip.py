"""
Several facts of a host in one command, and what each of them answered.

No answer is never a blank host: what fails, hangs or prints what is not understood becomes a
:class:`~pyinfra_kube.engine.subject.Failure`.
"""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from pyinfra_kube.engine.subject import Failure, Subject, understood
from pyinfra_kube.engine.tools import OWN_DOCKER, OWN_PATH, named, trials

MARK = "##pyinfra-kube"

# A user's own client may be configured to print other tables.
_OWN_TOOLS = f"{OWN_PATH}{OWN_DOCKER}export DOCKER_CONFIG=/nonexistent\n"

# Seconds that one fact may take on a host.
_PATIENCE = 60

# Seconds in which the tools of the base system must answer.
_TRIAL_PATIENCE = 10

# Linux takes 128 KiB in one argument: bytes of one command, quoted for the login shell, and of
# what stands around one fact's own text.
_LENGTH = 100_000
_AROUND = 250

# Exit statuses of timeout(1) when time is up.
_TIME_IS_UP = (124, 137)


class RoundTrip:
    """
    Several facts of a host, read by one command.

    + subjects: the facts and their arguments

    **Example:**

    .. code:: python

        trip = RoundTrip([Subject(Links), Subject(Units, {"units": ["docker.service"]})])
        values = trip.process(run(trip.command))
    """

    def __init__(self, subjects: Sequence[Subject]) -> None:
        # A fact may keep from its command what its processing needs.
        self.facts = [(subject, subject.fact()) for subject in subjects]
        # Random, so that it stands in no file and no answer.
        self.mark = f"{MARK}-{token_hex(8)}"
        self.command = self._command()

    def process(self, output: Iterable[str]) -> dict[str, Any]:
        """
        Return the value, or the ``Failure``, of each subject by its key.

        + output: the lines that the command printed
        """

        try:
            printed = self.printed(output)
        except FactProcessError as error:
            return {s.key: Failure(f"{s!r}: {error}") for s, _ in self.facts}
        return {
            subject.key: _value(subject, fact, one)
            for (subject, fact), one in zip(self.facts, printed, strict=True)
        }

    def printed(self, output: Iterable[str]) -> list[Printed]:
        """
        Return what each fact's command printed.

        + output: the lines that the command printed

        Raises ``FactProcessError`` where none of them can be told.
        """

        found: dict[str, dict[str, list[str]]] = {}
        index = ""
        for word, lines in _parts(_decoded(output, self.mark), f"{self.mark} "):
            index = word if word.isdigit() else index
            found.setdefault(index, {})[word] = lines
        return [Printed.of(str(i), found.get(str(i), {})) for i in range(len(self.facts))]

    def _command(self) -> str:
        commands = [subject.command(fact) for subject, fact in self.facts]
        tools = {tool for command in commands for tool in named(command)}
        functions = _functions(subject for subject, _ in self.facts)
        shared = "".join(f"export {name}={shlex.quote(one)}\n" for one, name in functions.items())
        parts = "\n".join(
            self._part(index, command, subject.functions, functions.get(subject.functions, ""))
            for index, (command, (subject, _)) in enumerate(zip(commands, self.facts, strict=True))
        )
        # Encoded, because facts may print any bytes; marked, because a login may print text first.
        return f"""\
echo; echo '{self.mark}'
{_OWN_TOOLS}{shared}\
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
# Standard error is kept apart, to be quoted where the fact fails.
fact() {{
echo "{self.mark} $1"
shift
have timeout "$@" || return 0
said=$({_within(_PATIENCE)} sh 2>&1 >&3 3>&-)
status=$?
printf '\n{self.mark} said\n%s\n{self.mark} status %s\n' "$said" "$status"
}}
export fact_done="printf '\n{self.mark} done\n'"
all() {{
exec 3>&1
{parts}
}}
if have timeout base64; then all | base64; fi
echo '{self.mark}'"""

    def _part(self, index: int, command: str, functions: str, name: str) -> str:
        own = f'eval "${name}"\n{command.removeprefix(functions)}' if name else command
        return f"""\
fact {" ".join([str(index), *named(command)])} <<'{self.mark} end'
(
{own}
) </dev/null && eval "$fact_done"
{self.mark} end"""


@dataclass(frozen=True)
class Printed:
    """
    What one fact's command printed.

    + answer: its lines; ``None`` where it did not run to its end
    + said: what its tools wrote to standard error
    + status: its exit status; ``None`` where that did not arrive
    + lacks: a tool of the base system that does not answer
    """

    answer: list[str] | None
    said: list[str]
    status: int | None
    lacks: str

    @classmethod
    def of(cls, index: str, parts: Mapping[str, list[str]]) -> Printed:
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


def trips(subjects: Iterable[Subject]) -> list[list[Subject]]:
    """
    Return the subjects of each round trip: one for all, or a few where a command would be too long.

    + subjects: the facts and their arguments
    """

    together: list[list[Subject]] = []
    room = 0
    for subject in subjects:
        length = _length(subject, together[-1] if together else [])
        if not together or length > room:
            together.append([])
            length, room = _length(subject, []), _LENGTH
        together[-1].append(subject)
        room -= length
    return together


def _length(subject: Subject, others: Iterable[Subject]) -> int:
    """The bytes that a fact adds to the command that asks others."""

    command = subject.command(subject.fact()).removeprefix(subject.functions)
    length = len(shlex.quote(command).encode()) + _AROUND
    known = subject.functions in _functions(others)
    return length if known else length + len(shlex.quote(shlex.quote(subject.functions)))


def _functions(subjects: Iterable[Subject]) -> dict[str, str]:
    """The shell variables that hold what commands begin with, each text once."""

    texts = dict.fromkeys(subject.functions for subject in subjects if subject.functions)
    return {text: f"functions_{number}" for number, text in enumerate(texts)}


def _within(seconds: float) -> str:
    """The words that end a command in time, even one that ignores SIGTERM."""

    return f"timeout -k 5 {seconds}"


def _decoded(output: Iterable[str], mark: str) -> list[str]:
    """The lines that were printed; what is not UTF-8 in them is replaced."""

    # A terminal (_get_pty) ends lines with a carriage return.
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
    # Read what is cut off as far as it goes.
    text = text if whole else text[: len(text) // 4 * 4]
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace").split("\n")
    except binascii.Error as error:
        raise FactProcessError("the host's answer is damaged") from error


def _parts(lines: Iterable[str], mark: str) -> Iterator[tuple[str, list[str]]]:
    """The lines between marks, by the word of the mark that begins them."""

    part: tuple[str, list[str]] = ("", [])
    for line in lines:
        if line.startswith(mark):
            yield part
            part = (line[len(mark) :], [])
        else:
            part[1].append(line)
    yield part


def _value(subject: Subject, fact: FactBase[Any], printed: Printed) -> Any:
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
