"""
etcd's v3 interface through etcdctl. Over HTTP etcd does not learn the common name of a client's
certificate, which its roles go by; from etcdctl it does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# What it prints in place of an answer where it is not installed.
MISSING = "etcdctl missing"


class Reply(NamedTuple):
    """
    What etcdctl said to one question.

    + ok: whether it has an answer
    + text: the answer as JSON, or else the error
    """

    ok: bool
    text: str


def etcdctl(endpoint: str, ca: str = "", cert: str = "", key: str = "") -> str:
    """
    Return the command line of etcdctl.

    + endpoint: URL
    + ca, cert, key: files on the host, for TLS
    """

    words = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={endpoint.rstrip('/')}"]
    for option, path in (("cacert", ca), ("cert", cert), ("key", key)):
        words += [f"--{option}={path}"] if path else []
    return shlex.join([*words, "--command-timeout=5s", "--write-out=json"])


def asking(questions: Sequence[str]) -> str:
    """
    Return shell text that asks questions, one after another.

    + questions: command lines

    ``replies`` reads what it prints.
    """

    return (
        f"if ! command -v etcdctl >/dev/null 2>&1; then echo '{MISSING}'; else\n"
        'ask() { timeout 20 "$@" 2>&1; echo "answer $?"; }\n'
        + "\n".join([*(f"ask {question}" for question in questions), "fi"])
    )


def replies(output: Iterable[str]) -> list[Reply] | None:
    """
    Return what was said to each question, in their order; ``None`` where etcdctl is missing.

    + output: the lines that the text of ``asking`` printed
    """

    found: list[Reply] = []
    said: list[str] = []
    for line in output:
        if line == MISSING:
            return None
        if match := re.fullmatch(r"answer (\d+)", line):
            # Log lines come before.
            last = next((text for text in reversed(said) if text.strip()), "")
            found.append(Reply(match[1] == "0", last.removeprefix("Error: ")))
            said = []
        else:
            said.append(line)
    return found
