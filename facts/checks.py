"""
Yes-or-no questions to a host.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

_LOOK = """\
look() {
if timeout 10 sh -c "$2" >/dev/null 2>&1 </dev/null; then printf 'yes %s\\n' "$1"
else printf 'no %s\\n' "$1"
fi
}"""


class Checks(FactBase[dict[str, bool]]):
    """
    Returns which shell commands succeed, each within ten seconds. They run side by side.

    + commands: name → command
    + given: shell variables for all of them, name → command that prints its value

    .. code:: python

        {"healthz": True, "node kube-node-1 is Ready": False}
    """

    default = dict
    # The answers may depend on any host.
    shared = True

    @override
    def command(self, commands: Mapping[str, str], given: Mapping[str, str] | None = None) -> str:
        self.names = list(commands)
        variables = [
            f'export {name}="$(timeout 10 sh -c {shlex.quote(command)} 2>/dev/null </dev/null)"'
            for name, command in (given or {}).items()
        ]
        looks = [
            f"look {shlex.quote(name)} {shlex.quote(command)} &"
            for name, command in commands.items()
        ]
        return "\n".join([_LOOK, *variables, *looks, "wait"])

    @override
    def process(self, output: Iterable[str]) -> dict[str, bool]:
        answers = (line.partition(" ") for line in output)
        found = {name: answer == "yes" for answer, _, name in answers if answer in ("yes", "no")}
        silent = [name for name in self.names if name not in found]
        if silent:
            raise FactProcessError(f"no answer whether {', '.join(silent)}")
        return {name: found[name] for name in self.names}
