"""
What shell commands print, each in a time of its own.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

# Exit statuses of timeout(1) when time is up.
_TIME_IS_UP = (124, 137)
# What one command may print, in bytes.
_MOST = 4_000_000
# Each line is written at once, so lines of several commands do not mix. Nothing is kept in a file,
# for a disk may be full.
_ASK = f"""\
ask() {{
{{ timeout -k 1 "$2" sh -c "$3" 2>&1 </dev/null; printf '\\nstatus %s' "$?"; }} |
tail -c {_MOST} | base64 -w 2000 | sed -u "s/^/$1 /; $ s/$/\\n$1 end/"
}}"""


@dataclass(frozen=True)
class Answer(Printable):
    """
    What one command did.

    + code: its exit status; ``None`` where it did not end in time
    + text: what it printed
    """

    code: int | None = None
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether it succeeded."""

        return self.code == 0


class Answers(FactBase[dict[str, Answer]]):
    """
    Returns what shell commands print. They run side by side, and one that hangs keeps no other from
    its answer.

    + commands: name → command
    + patience: seconds that each of them may take

    .. code:: python

        {"forwarding": Answer(0, "1"), "etcd": Answer(None, "")}
    """

    default = dict
    # The answers may depend on any host.
    shared = True

    @override
    def command(self, commands: Mapping[str, str], patience: int = 8) -> str:
        self.names = list(commands)
        asked = [
            f"ask {number} {patience} {shlex.quote(command)} &"
            for number, command in enumerate(commands.values())
        ]
        return "\n".join([_ASK, *asked, "wait"])

    @override
    def process(self, output: Iterable[str]) -> dict[str, Answer]:
        parts: dict[str, list[str]] = {}
        for line in output:
            number, _, rest = line.partition(" ")
            parts.setdefault(number, []).append(rest)
        found = {}
        for index, name in enumerate(self.names):
            *lines, end = parts.get(str(index), [""])
            if end != "end":
                raise FactProcessError(f"no answer to {name}")
            found[name] = _answer(base64.b64decode("".join(lines)).decode(errors="replace"))
        return found


def _answer(text: str) -> Answer:
    said, _, status = text.rpartition("\nstatus ")
    code = int(status)
    return Answer(None if code in _TIME_IS_UP else code, said.rstrip("\n"))
