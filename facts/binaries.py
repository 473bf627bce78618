"""
Programs, and what they say of themselves.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from pyinfra.api import FactBase
from typing_extensions import override


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
