"""
systemd's grammar: environment files, the words of a command line, and a unit with its drop-ins.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

_SPACE = " \t\n\r"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# From this release on, a backslash at the end of a comment does not continue it.
COMMENTS_END = 254


@dataclass(frozen=True)
class Assignment:
    """
    One assignment of an environment file, with its place in the text.

    + name: as written, which systemd may not accept: ``export A``
    + value: without quotes and escapes
    + start, end: positions of its first letter and of the end of its last line
    + closed: whether it ends before the text does
    """

    name: str
    value: str
    start: int
    end: int
    closed: bool = True

    @property
    def valid(self) -> bool:
        """Whether systemd accepts it."""
        return bool(_NAME.fullmatch(self.name))


# Quoted parts begin a value. From its first bare letter on, quotes mean nothing.
_QUOTED = r"""'([^']*)(?:'|\Z)|"((?:\\.|[^"\\])*)(?:"|\\?\Z)"""
_ASSIGNMENT = rf"""(?P<name>.[^=\n\r]*)=(?P<quoted>(?:{_QUOTED}|[ \t])*)
    (?P<bare>(?:[ \t]*(?:\\.|\\\Z|[^\\ \t\n\r]))*)[ \t]*"""
_COMMENT = r"[#;](?:\\{}|[^\\\n\r])*\\?(?:[\n\r]|\Z)"


@cache
def _pieces(systemd: int) -> re.Pattern[str]:
    """A blank, a comment, an assignment, or a line that is none."""

    comment = _COMMENT.format(r"[^\n\r]" if systemd >= COMMENTS_END else ".")
    return re.compile(rf"[ \t\n\r]+|{comment}|{_ASSIGNMENT}|[^\n\r]+", re.S | re.X)


def _value(quoted: str, bare: str) -> str:
    parts = [
        single + re.sub(r'\\(?:\n|(["\\`$]))', r"\1", double)
        for single, double in re.findall(_QUOTED, quoted, re.S)
    ]
    return "".join([*parts, re.sub(r"\\(?:[\n\r]|\Z|(.))", r"\1", bare, flags=re.S)])


def assignments(text: str, systemd: int = COMMENTS_END) -> list[Assignment]:
    """
    Return the assignments that systemd sees in an environment file, also those with names that it
    does not accept.

    + text: of the file
    + systemd: its release

    ```
    >>> [(a.name, a.value) for a in assignments('A="b c" \\n; D=e\\nF=g \\\\\\n  h')]
    [('A', 'b c'), ('F', 'g   h')]
    ```
    """

    # systemd reads no further than a zero.
    text = text.partition("\0")[0]
    return [
        Assignment(
            name=found["name"].rstrip(_SPACE),
            value=_value(found["quoted"], found["bare"]),
            start=found.start(),
            end=found.end(),
            closed=found.end() < len(text),
        )
        for found in _pieces(systemd).finditer(text)
        if found["name"] is not None
    ]


def variables(text: str, systemd: int = COMMENTS_END) -> dict[str, str]:
    """
    Return the variables that a unit gets from an environment file: name → value.

    + text: of the file
    + systemd: its release
    """

    return {a.name: a.value for a in assignments(text, systemd) if a.valid}


def assignment(name: str, value: str) -> str:
    """
    Return an assignment that systemd and a shell read alike.

    + name: of the variable
    + value: any text without a zero

    ```
    >>> print(assignment("A", 'say "$x"'))
    A="say \\"\\$x\\""
    ```
    """

    if not _NAME.fullmatch(name) or "\0" in value:
        raise ValueError(f"{name}={value!r} can be no variable of a unit")
    return '{}="{}"'.format(name, re.sub(r'(["\\`$])', r"\\\1", value))


def set_variable(text: str, name: str, value: str, systemd: int = COMMENTS_END) -> str:
    """
    Return the text of an environment file with a variable set, and everything else unchanged.

    + text: of the file
    + name, value: replaces the last assignment of this name
    + systemd: its release
    """

    text = text.partition("\0")[0]
    found = assignments(text, systemd)
    last = next((a for a in reversed(found) if a.name == name), None)
    if last:
        return text[: last.start] + assignment(name, value) + text[last.end :]
    line = f"{assignment(name, value)}\n"
    # An assignment that is open at the end of the text would swallow a line after it.
    open_end = (found and not found[-1].closed) or not text.endswith("\n") or "\\" in text[-3:]
    return line + text if text and open_end else text + line


def split_words(text: str) -> list[str]:
    """
    Split the value of a variable as systemd does for ``$NAME`` in a command line.

    + text: the value

    ```
    >>> split_words('--tag="{{.Name}} x" --b')
    ['--tag={{.Name}} x', '--b']
    ```
    """

    words: list[str] = []
    word: str | None = None
    quote = ""
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            word = (word or "") + next(letters, "")
        elif quote:
            quote, letter = ("", "") if letter == quote else (quote, letter)
            word = (word or "") + letter
        elif letter in "'\"":
            quote, word = letter, word or ""
        elif letter in _SPACE:
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + letter
    return words if word is None else [*words, word]


def join_words(words: Iterable[str]) -> str:
    """
    Return the value that ``split_words`` splits into these words.

    + words: of a command line
    """

    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    escaped = re.sub(r"([\"'\\])", r"\\\1", word)
    return f'"{escaped}"' if not word or re.search(r"\s", word) else escaped


@dataclass(frozen=True)
class Word:
    """
    One word of a command line.

    + text: with variables filled in
    + variable: the variable whose value it comes from, for a word of ``$NAME``
    + within: the variables that are filled in inside it, for ``${NAME}``
    """

    text: str
    variable: str = ""
    within: tuple[str, ...] = ()


def expand(words: Iterable[str], values: Mapping[str, str]) -> list[Word]:
    """
    Fill in variables as systemd does: a bare ``$NAME`` becomes words, ``${NAME}`` stays in one.

    + words: of the unit's command line
    + values: of the variables
    """

    expanded: list[Word] = []
    for word in words:
        if re.match(r"\$[^{$]", word):
            name = word[1:]
            expanded += [Word(text, name) for text in split_words(values.get(name, ""))]
        else:
            names = tuple(re.findall(r"(?<!\$)\$\{(\w+)\}", word))
            filled = re.sub(
                r"\$\$|\$\{(\w+)\}", lambda m: values.get(m[1], "") if m[1] else "$", word
            )
            expanded.append(Word(filled, within=names))
    return expanded


@dataclass(frozen=True)
class Unit:
    """
    What systemd makes of a service's file and drop-ins.

    + load: ``loaded``, ``not-found``, ``masked`` …; ``unknown`` where systemctl fails
    + pid: of its main process, 0 for none
    + words: its command line, the program first, variables as they are written
    + environment: its own variables
    + files: text by path of its environment files that exist, in the order in which it reads them
    + systemd: the release
    """

    load: str = "not-found"
    pid: int = 0
    words: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    systemd: int = COMMENTS_END

    @property
    def loaded(self) -> bool:
        """Whether there is such a unit."""
        return self.load == "loaded"

    @property
    def sources(self) -> dict[str, str]:
        """The environment file that sets each of its variables; empty for none."""
        places = dict.fromkeys(self.environment, "")
        for path, text in self.files.items():
            places |= dict.fromkeys(variables(text, self.systemd), path)
        return places

    @property
    def variables(self) -> dict[str, str]:
        """The values of its variables; those in files win."""
        values = dict(self.environment)
        for text in self.files.values():
            values |= variables(text, self.systemd)
        return values

    def expanded(self) -> list[Word]:
        """Its command line, as it would start now."""
        return expand(self.words, self.variables)


def unit_command(unit: str) -> str:
    """
    Return shell text that prints what ``read_unit`` reads.

    + unit: its full name
    """

    name = shlex.quote(unit)
    escaped = "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in unit)
    of = f"/org/freedesktop/systemd1/unit/{escaped} org.freedesktop.systemd1.Service"
    properties = "LoadState,MainPID,ExecStart,Environment,EnvironmentFiles"
    # Only the bus tells where a word ends; not every host has busctl.
    return f"""\
if command -v systemctl >/dev/null 2>&1; then
systemctl --version 2>/dev/null | sed -n '1s/^/version /p'
shown=$(systemctl show --property={properties} {name} 2>/dev/null)
printf '%s\\n' "$shown" | sed 's/^/unit /'
busctl get-property org.freedesktop.systemd1 {of} ExecStart Environment 2>/dev/null |
sed 's/^/bus /'
printf '%s\\n' "$shown" |
sed -n 's/^EnvironmentFiles\\{{0,1\\}}=\\(.*\\) (ignore_errors=.*/\\1/p' |
while IFS= read -r pattern; do
IFS=
for path in $pattern; do
[ -f "$path" ] && [ -r "$path" ] && printf 'read %s %s\\n' "$(base64 -w 0 < "$path")" "$path"
done
done
fi
true"""


def read_unit(lines: Sequence[str]) -> Unit:
    """
    Read what ``unit_command`` printed.

    + lines: its lines that begin with ``version``, ``unit``, ``bus`` or ``read``

    Raises ``ValueError`` with the path of an environment file that systemd does not read.
    """

    shown: dict[str, str] = {}
    bus: list[str] = []
    files: dict[str, str] = {}
    systemd, key = COMMENTS_END, ""
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "version":
            found = re.search(r"\d+", rest)
            systemd = int(found[0]) if found else COMMENTS_END
        elif word == "bus":
            bus.append(rest)
        elif word == "read":
            data, _, path = rest.partition(" ")
            # What is read again wins again.
            files.pop(path, None)
            files[path] = decoded(path, data)
        elif word == "unit" and re.match(r"[A-Z]\w*=", rest):
            key, _, value = rest.partition("=")
            shown[key] = value
        elif word == "unit" and shown:
            # A value may go over several lines.
            shown[key] += f"\n{rest}"
    words = [text for line in bus if line.startswith("a(") for text in _bus_words(line)]
    environment = [text for line in bus if line.startswith("as ") for text in _strings(line)]
    return Unit(
        load=shown.get("LoadState", "unknown" if lines else "not-found"),
        pid=int(shown.get("MainPID") or 0),
        words=tuple(words or _shown_words(shown.get("ExecStart", ""))),
        environment=_named(environment or _shown_environment(shown.get("Environment", ""))),
        files=files,
        systemd=systemd,
    )


def decoded(path: str, data: str) -> str:
    """
    Return a file's text.

    + path: of the file
    + data: its content in base64

    Raises ``ValueError``.
    """

    try:
        return base64.b64decode(data).decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: {error.object[error.start : error.end]!r} is not UTF-8, and is not read by "
            "what the file is for; write it anew"
        ) from error


def _shown_words(text: str) -> tuple[str, ...]:
    """The words of ``{ path=… ; argv[]=/usr/bin/dockerd -H fd:// ; ignore_errors=no ; … }``."""

    match = re.search(r"argv\[\]=(.*?) ; ignore_errors=", text, re.S)
    return tuple(match[1].split(" ")) if match else ()


def _shown_environment(text: str) -> list[str]:
    """The assignments of ``A=b "C=d e"``; releases before 2015 wrote no quotes."""

    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', text)
    found: list[str] = []
    for quoted, bare in words:
        word = _plain(quoted or bare)
        if _NAME.match(word) and "=" in word:
            found.append(word)
        elif found:
            found[-1] += f" {word}"
    return found


def _named(words: Iterable[str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in words)
    return {name: value for name, _, value in pairs}


def _bus_words(line: str) -> list[str]:
    """The words of ``a(sasbttttuii) 1 "/usr/bin/dockerd" 2 "/usr/bin/dockerd" "-H" false …``."""

    match = re.match(rf"a\(sasb\w*\) [1-9]\d* {_STRING} (\d+) (.*)", line)
    return _strings(match[3])[: int(match[2])] if match else []


_STRING = r'"((?:[^"\\]|\\.)*)"'


def _strings(line: str) -> list[str]:
    return [_plain(text) for text in re.findall(_STRING, line)]


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _plain(text: str) -> str:
    """A text without C's escapes."""

    def letter(match: re.Match[str]) -> str:
        octal, digits, other = match.groups()
        if other:
            return _ESCAPES.get(other, other)
        return chr(int(octal, 8) if octal else int(digits, 16))

    data = text.encode().decode("latin-1")
    plain = re.sub(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|(.))", letter, data, flags=re.S)
    return plain.encode("latin-1").decode(errors="replace")
