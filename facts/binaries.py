"""
Programs, and what they say of themselves.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable


class Versions(FactBase[dict[str, str]]):
    """
    Returns the first line that each program prints for ``--version``. One that is not there, or
    does not run, is left out.

    + paths: of the programs

    .. code:: python

        {"/usr/local/bin/crictl": "crictl version 1.37.0"}
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        return f"""\
for program in {shlex.join(paths)}; do
[ -x "$program" ] && said=$("$program" --version 2>/dev/null) || continue
printf '%s %s\\n' "$program" "$(printf '%s\\n' "$said" | head -n 1)"
done"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        found = (line.partition(" ") for line in output)
        return {path: said for path, _, said in found if said}


@dataclass(frozen=True)
class Running(Printable):
    """
    What the program of a unit says of itself.

    + said: the first line that it prints for ``--version``
    + of_file: whether it is the file that is there now, not one that it has replaced
    """

    said: str
    of_file: bool = True


class RunningVersions(FactBase[dict[str, Running]]):
    """
    Returns what the program of each unit says of its version: that of the process that runs, which
    may be older than the file by now, or else the file. A unit whose file is not there, or does not
    run, is left out.

    + programs: path of the program by the unit's full name

    .. code:: python

        {"kubelet.service": Running("Kubernetes v1.37.2", of_file=True)}
    """

    default = dict

    @override
    def command(self, programs: Mapping[str, str]) -> str:
        asked = "\n".join(f"ask {shlex.quote(u)} {shlex.quote(p)}" for u, p in programs.items())
        return f"""\
ask() {{
[ -x "$2" ] || return 0
pid=$(systemctl show --property=MainPID -- "$1" 2>/dev/null | sed 's/^MainPID=//')
for program in "/proc/${{pid:-0}}/exe" "$2"; do
said=$("$program" --version 2>/dev/null) || continue
[ "$program" -ef "$2" ] && file=yes || file=no
printf '%s %s %s\\n' "$1" "$file" "$(printf '%s\\n' "$said" | head -n 1)"
return 0
done
}}
{asked}
:"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, Running]:
        found = {}
        for line in output:
            unit, file, said = line.split(" ", 2)
            if not said:
                raise FactProcessError(f"the host does not tell the version of {unit}")
            found[unit] = Running(said, file == "yes")
        return found
