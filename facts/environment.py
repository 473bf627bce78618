"""
Environment files: assignments that systemd reads for a unit, and what a user keeps among them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

# Goes through a file by what systemd takes for one line: a backslash at the end joins the next.
# An assignment of a name that is not managed is the user's own. Its value may be a secret, so
# with show=1 it is printed without. What etcd's file names as other flags was managed before.
AWK = r"""
function assigned(line) {
  if (line !~ /^[ \t]*[#;]?[ \t]*(export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*=/) return ""
  sub(/=.*/, "", line); sub(/.*[ \t#;]/, "", line)
  return line
}
BEGIN { count = split(names, list, " "); for (i = 1; i <= count; i++) managed[list[i]] = 1 }
/^# All other flags:/ { for (i = 5; i <= NF; i++) managed[$i] = 1 }
!joined {
  name = assigned($0)
  own = name != "" && !(name in managed)
  comment = $0 ~ /^[ \t]*[#;]/
}
show && !joined && own { print (comment ? "comment\t" : "own\t") name }
show && !own { print "line\t" $0 }
!show && own && !comment { print }
{ joined = !comment && $0 ~ /\\$/ }
"""


@dataclass(frozen=True)
class EnvironmentText:
    """
    What an environment file holds.

    + lines: its lines; an assignment of the user's own is ``("own", name)``, one that is
      commented out ``("comment", name)``, any other line ``("line", text)``
    """

    lines: tuple[tuple[str, str], ...] = ()

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the user's own variables, in their order."""
        return tuple(name for kind, name in self.lines if kind == "own")


class EnvironmentFiles(FactBase[dict[str, EnvironmentText]]):
    """
    Returns what environment files hold, with the values of all variables that are not managed
    left out; a file that does not exist is left out.

    + files: absolute path → the names of its managed variables

    .. code:: python

        {
            "/etc/kubernetes/proxy": EnvironmentText(
                lines=(("line", 'KUBE_PROXY_ARGS=""'), ("own", "HTTP_PROXY")),
            ),
        }
    """

    default = dict

    @override
    def command(self, files: Mapping[str, Sequence[str]]) -> str:
        show = f'awk -v show=1 -v names="$2" {shlex.quote(AWK)} < "$1"'
        calls = "\n".join(
            f"show {shlex.quote(path)} {shlex.quote(' '.join(names))}"
            for path, names in files.items()
        )
        show = f'[ ! -f "$1" ] || {{ printf "file\\t%s\\n" "$1" && {show}; }} || exit 1'
        return f"show() {{ {show}; }}\n{calls}\ntrue"

    @override
    def process(self, output: Iterable[str]) -> dict[str, EnvironmentText]:
        found: dict[str, list[tuple[str, str]]] = {}
        lines: list[tuple[str, str]] = []
        for line in output:
            kind, _, text = line.partition("\t")
            if kind == "file":
                lines = found[text] = []
            else:
                lines.append((kind, text))
        return {path: EnvironmentText(tuple(lines)) for path, lines in found.items()}
