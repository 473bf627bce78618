"""
When processes started and files changed, on one clock.

The wall clock may be set while a service runs. So the age of a process is taken from the kernel and
counted back from now, and both sides of "started before its configuration changed" agree.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.tools import understanding

# A process that has just started tells the kernel's time: containers fake the uptime. On a busy
# host much time may pass between reading the two clocks: they are read again until it did not.
NOW = """\
ticks() { shift 21; echo "$1"; }
for try in 1 2 3 4 5 6 7 8 9 10; do
kernel=$(cat /proc/self/stat)
wall=$(date +%s.%N)
[ "$(ticks $(cat /proc/self/stat))" -gt $(($(ticks $kernel) + 1)) ] || break
done
echo "now $wall $kernel\""""

_TICKS_PER_SECOND = 100

# Seconds that both readings of the kernel's clock may be off together.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Clock:
    """
    A host's time at one moment.

    + now: seconds since the epoch
    + ticks: the kernel's clock at that moment
    """

    now: float
    ticks: int

    @classmethod
    def parse(cls, line: str) -> Clock:
        """Read the line that ``NOW`` prints."""

        _, now, stat = line.split(" ", 2)
        return cls(float(now), _start_ticks(stat))

    def started(self, stat: str) -> float:
        """Return when a process started, from its ``/proc/PID/stat``, never too early."""

        return round(self.at(_start_ticks(stat) / _TICKS_PER_SECOND) + _TOLERANCE, 3)

    def at(self, seconds: float) -> float:
        """Return the time at which the kernel's clock showed so many seconds."""

        return round(self.now - self.ticks / _TICKS_PER_SECOND + seconds, 3)


class Mtimes(FactBase[dict[str, float]]):
    """
    Returns when files last changed, in seconds since the epoch. Links are followed. A path that
    does not exist is left out.

    + paths: absolute paths

    .. code:: python

        {"/srv/kubernetes/ca.crt": 1700000000.25}
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        return mtimes_command(paths) if paths else "true"

    @override
    def process(self, output: Iterable[str]) -> dict[str, float]:
        with understanding("find"):
            return dict(parse_mtime(line) for line in output)


def mtimes_command(paths: Sequence[str], more: str = "") -> str:
    """
    Return shell text that prints when files last changed, following links.

    + paths: absolute paths; what does not exist is left out
    + more: shell words that expand to further paths
    """

    names = " ".join([*(shlex.quote(path) for path in paths), *([more] if more else [])])
    return f"find -L {names} -maxdepth 0 -printf 'mtime\\t%T@\\t%p\\n' 2>/dev/null || true"


def parse_mtime(line: str) -> tuple[str, float]:
    """Read one line that ``mtimes_command`` printed: the path and its time."""

    _, mtime, path = line.split("\t", 2)
    return path, float(mtime)


def _start_ticks(stat: str) -> int:
    # The second field, a name in brackets, may hold anything. The start time is the 22nd field.
    return int(stat.rpartition(")")[2].split()[19])
