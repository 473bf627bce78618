"""
Environment files: assignments that systemd reads for a unit, and the user's own lines among them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.facts.systemd import COMMENTS_END

# Goes through a file by systemd's grammar, as facts/systemd.py does, but on the host. An assignment
# of a name that is not managed is the user's own, and kept letter by letter; its value may be a
# secret, so with show=1 it is left out. What etcd's file names as other flags was managed before.
# A backslash at the end of a comment made the next line one too until systemd 254: joins=1.
_AWK = r"""
function at() { return substr(text, i, 1) }
function ended() { return i > size || at() ~ /[\n\r]/ }
function quoted(quote) {
  for (i++; i <= size && at() != quote; i++) if (quote == "\"" && at() == "\\") i++
  i++
}
function value() {
  while (!ended() && at() ~ /["' \t]/) if (at() ~ /[ \t]/) i++; else quoted(at())
  for (; !ended(); i++) if (at() == "\\") i++
}
function commented() {
  for (; !ended(); i++) if (at() == "\\" && (joins || substr(text, i + 1, 1) !~ /[\n\r]/)) i++
}
function assigned() {
  for (i++; !ended() && at() != "="; i++);
  if (ended()) return ""
  name = substr(text, start, i++ - start)
  sub(/^[ \t]*(export[ \t]+)?/, "", name); sub(/[ \t]+$/, "", name)
  return name
}
function lines(kind, piece,   part, count, n) {
  count = split(piece, part, "\n")
  for (n = 1; n <= count; n++) print kind "\t" part[n]
  if (!count) print kind "\t"
}
function described(   words, count, n) {
  piece = substr(text, start, i - start)
  if (piece ~ /^# All other flags:/) {
    count = split(piece, words, " ")
    for (n = 5; n <= count; n++) managed[words[n]] = 1
  }
  name = piece
  if (name !~ /^[ \t]*[#;][ \t]*(export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*=/) return ""
  sub(/=.*/, "", name); sub(/.*[ \t#;]/, "", name)
  return name in managed ? "" : name
}
function piece_ends() {
  piece = substr(text, start, i - start)
  if (i > size) sub(/\n$/, "", piece)
  if (at() == "\r" && substr(text, i + 1, 1) == "\n") i++
  i++
}
BEGIN { count = split(names, list, " "); for (n = 1; n <= count; n++) managed[list[n]] = 1 }
{ text = text $0 "\n" }
END {
  size = length(text)
  for (i = 1; i <= size;) {
    start = i
    while (i <= size && at() ~ /[ \t]/) i++
    kind = "line"
    if (at() ~ /[#;]/) {
      commented()
      if (described() != "") kind = "comment"
    } else if (!ended()) {
      name = assigned()
      if (name != "") {
        value()
        if (!(name in managed)) kind = "own"
      }
    }
    piece_ends()
    if (!show && kind == "own") print piece
    else if (show && kind == "line") lines(kind, piece)
    else if (show) print kind "\t" name
  }
}
"""

# For a shell: ``kept MODE NAMES < FILE``, where MODE is show=1 or show=0.
KEPT = f"""\
kept() {{
  release=$(systemctl --version 2>/dev/null | sed -n '1s/^[^0-9]*\\([0-9]*\\).*/\\1/p')
  awk -v "$1" -v "joins=$((${{release:-{COMMENTS_END}}} < {COMMENTS_END}))" -v "names=$2" \\
    {shlex.quote(_AWK)}
}}
"""


@dataclass(frozen=True)
class EnvironmentText(Printable):
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
        calls = "\n".join(
            f"show {shlex.quote(path)} {shlex.quote(' '.join(names))}"
            for path, names in files.items()
        )
        kept = 'printf "file\\t%s\\n" "$1" && kept show=1 "$2" < "$1"'
        show = f'[ ! -f "$1" ] || {{ {kept}; }} || exit 1'
        return f"{KEPT}show() {{ {show}; }}\n{calls}\ntrue"

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
