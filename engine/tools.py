"""
What facts are read with: tools of the base system, tried on something whose answer is known, the
content of files, whatever it is, and answers that may be damaged.

A tool that is missing, fails, hangs or is another than it should be prints as little as one that
has nothing to tell. Tried once a trip, it is known to answer, and no fact needs to ask again.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter
from pyinfra.api.exceptions import FactProcessError

T = TypeVar("T")

# Whatever the user's shell is told of a docker elsewhere, the one that is meant is the host's own.
OWN_DOCKER = """\
unset DOCKER_API_VERSION DOCKER_CERT_PATH DOCKER_CONTEXT DOCKER_TLS_VERIFY
export DOCKER_HOST=unix:///var/run/docker.sock
"""

# Shell by tool, and what it must print, as a pattern of case. Options are those that facts use.
_TRIALS = {
    "awk": ("printf 'a b\\n' | awk -v n=2 '{ print $n }'", "b"),
    "base64": ("printf ab | base64 -w 0", "YWI="),
    "cat": ("printf 'ab\\n' | cat", "ab"),
    "cut": ("printf 'a b\\n' | cut -d ' ' -f 2", "b"),
    "date": ("date +%s.%N", "[1-9]*[0-9].[0-9]*[0-9]"),
    "env": ("env a=b sh -c 'echo \"$a\"'", "b"),
    "find": ("find -L / -maxdepth 0 -printf '%T@ %p\\n'", "[0-9]*.[0-9]*' /'"),
    "getent": ("getent passwd 0", "root:*:0:*"),
    "grep": ("printf 'x=a\\0x=ab' | grep -szxE '(x|y)=a' | tr -d '\\0'", "x=a"),
    "head": ("printf 'a\\nb\\n' | head -n 1", "a"),
    "readlink": ("readlink -f -- /", "/"),
    "sed": ("printf 'ab\\nc\\n' | sed -n 's/^\\(a\\).*/x\\1/p'", "xa"),
    "sha256sum": (
        "printf ab | sha256sum",
        "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b850*",
    ),
    "sort": ("printf 'b\\na\\n' | sort | tr -d '\\n'", "ab"),
    "tail": ("printf 'a\\nb\\n' | tail -n 1", "b"),
    "tr": ("printf 'a  a' | tr -s 'a ' 'b-'", "b-b"),
    "uname": ('read -r release < /proc/sys/kernel/osrelease; uname -r | grep -xF "$release"', "?*"),
}


def named(text: str) -> list[str]:
    """
    Return the tools of the base system that a shell text names.

    + text: of a fact's command
    """

    words = set(re.findall(r"[a-z0-9]+", text))
    return [tool for tool in _TRIALS if tool in words]


def trials(tools: Iterable[str]) -> str:
    """
    Return the shell text that prints, on a line with a space on each side, every tool that answers.

    + tools: as :func:`named` gives them
    """

    lines = [
        f'case "$({shell})" in {pattern}) echo " {tool} " ;; esac &'
        for tool, (shell, pattern) in _TRIALS.items()
        if tool in tools
    ]
    return "\n".join([*lines, "wait"])


# Sets $shown to what systemd has of a unit, or ends with what systemctl said instead.
SHOW = """\
show() {
shown=$(systemctl show --property="LoadState,ActiveState,$2" -- "$1" 2>&1)
case $shown in *LoadState=*) ;; *)
echo "systemctl does not tell whether $1 runs: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1 ;; esac
}
"""


def content(word: str, path: str) -> str:
    """
    Return the shell text that prints a file's content as one line, whatever is in it.

    + word: what the line begins with
    + path: a shell word
    """

    return f"text=$(base64 -w 0 < {path}) || exit 1\nprintf '%s %s\\n' {word} \"$text\""


def decoded(text: str, path: str) -> str:
    """
    Return the text that ``content`` printed; what is not UTF-8 is replaced.

    + text: what follows the word
    + path: of the file, for the error
    """

    with understanding(path):
        return base64.b64decode(text, validate=True).decode(errors="replace")


def sound(value: T) -> T:
    """
    Return a dataclass whose fields are of their types; raises ``ValueError`` for one that a damaged
    answer gave a value of another.

    + value: the dataclass
    """

    kind: Any = type(value)
    for name, adapter in _adapters(kind).items():
        adapter.validate_python(getattr(value, name), strict=True)
    return value


@cache
def _adapters(kind: Any) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(kind).items()}


@contextmanager
def understanding(who: str) -> Iterator[None]:
    """
    Let what goes wrong as an answer is read be an error of the host, which names who gave it.

    + who: a tool or a file

    **Example:**

    .. code:: python

        with understanding("ip"):
            links = [_link(item) for item in json.loads(text)]
    """

    try:
        yield
    except FactProcessError:
        raise
    # What a damaged answer does to whoever reads it cannot be told before.
    except Exception as error:
        said = str(error).partition("\n")[0]
        problem = f"{who} gives what is not understood: {type(error).__name__}: {said}"
        raise FactProcessError(problem) from error
