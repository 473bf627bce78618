"""
What the commands of facts share: tools of the base system, the content of files, and answers that
may be damaged.

A tool that is missing, fails or hangs prints as little as one that has nothing to tell. So each
tool is tried once a round trip on input whose result is known, and no fact has to check it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter
from pyinfra.api.exceptions import FactProcessError

from pyinfra_kube.cluster.runtimes import IncompleteAnswer

T = TypeVar("T")

# The host's own docker, even where the user's shell is set up for another one.
OWN_DOCKER = """\
unset DOCKER_API_VERSION DOCKER_CERT_PATH DOCKER_CONTEXT DOCKER_TLS_VERIFY
export DOCKER_HOST=unix:///var/run/docker.sock
"""

# Where sudo, by its secure_path, or a system does not look: what we install is there.
OWN_PATH = 'export PATH="$PATH:/usr/local/sbin:/usr/local/bin"\n'

# What each tool is tried with, and the shell pattern of what it must print. Options are those that
# facts use.
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
    "gzip": ("printf ab | gzip | gzip -d", "ab"),
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


@lru_cache(maxsize=4096)
def named(text: str) -> tuple[str, ...]:
    """
    Return the tools of the base system that a command names.

    + text: shell text
    """

    words = set(re.findall(r"[a-z0-9]+", text))
    return tuple(tool for tool in _TRIALS if tool in words)


def trials(tools: Iterable[str]) -> str:
    """
    Return shell text that prints every tool that works, each on a line between two spaces.

    + tools: as :func:`named` gives them
    """

    lines = [
        f'case "$({shell})" in {pattern}) echo " {tool} " ;; esac &'
        for tool, (shell, pattern) in _TRIALS.items()
        if tool in tools
    ]
    return "\n".join([*lines, "wait"])


# show UNIT PROPERTIES: sets $shown, or ends with what systemctl said instead.
SHOW = """\
show() {
shown=$(systemctl show --property="LoadState,ActiveState,$2" -- "$1" 2>&1)
case $shown in *LoadState=*) ;; *)
echo "systemctl does not tell whether $1 runs: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1 ;; esac
}
"""


def by_word(output: Iterable[str]) -> dict[str, list[str]]:
    """
    Return lines by their first words, each without that.

    + output: the lines
    """

    found: dict[str, list[str]] = {}
    for line in output:
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest)
    return found


def content(word: str, path: str) -> str:
    """
    Return shell text that prints any file's content as one line.

    + word: what the line begins with
    + path: a shell word
    """

    return f"text=$(base64 -w 0 < {path}) || exit 1\nprintf '%s %s\\n' {word} \"$text\""


def decoded(text: str, path: str) -> str:
    """
    Return the text that ``content`` printed; what is not UTF-8 is replaced.

    + text: what follows the word
    + path: path of the file, for the error
    """

    with understanding(path):
        return base64.b64decode(text, validate=True).decode(errors="replace")


def sound(value: T) -> T:
    """
    Return a dataclass when all its fields have values of their types. A damaged answer may have
    given it others.

    + value: the dataclass

    Raises ``ValueError``.
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
    Make any exception in reading an answer an error of the host, which names where it came from.

    + who: a tool or a file

    Raises ``FactProcessError``.

    **Example:**

    .. code:: python

        with understanding("ip"):
            links = [_link(item) for item in json.loads(text)]
    """

    try:
        yield
    except FactProcessError:
        raise
    except IncompleteAnswer as error:
        raise FactProcessError(str(error)) from error
    # A damaged answer may raise anything.
    except Exception as error:
        said = str(error).partition("\n")[0]
        problem = f"{who} gives what is not understood: {type(error).__name__}: {said}"
        raise FactProcessError(problem) from error
