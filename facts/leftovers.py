"""
What kubelets, kube-proxies, CNI and pods left on a host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

# Whatever else is in a pod's folder comes from the API, and some of it is secret.
_FROM_API = ("configmap", "downward-api", "projected", "secret")
_OF_KUBE = "KUBE-|CNI-HOSTPORT-"


@dataclass(frozen=True)
class Left(Printable):
    """
    + entries: how many files and empty folders
    + mounts: how many file systems are mounted there
    """

    entries: int = 0
    mounts: int = 0


class Leftovers(FactBase[dict[str, Left]]):
    """
    Returns what is left in folders. One in which nothing goes is left out.

    + paths: absolute paths
    + volumes: those of them whose volumes of pods do not count
    + whole: folders that go themselves
    + hollow: folders of which only empty ones go

    .. code:: python

        {"/var/lib/kubelet": Left(entries=120, mounts=4)}
    """

    default = dict

    @override
    def command(
        self,
        paths: Sequence[str],
        volumes: Sequence[str] = (),
        whole: Sequence[str] = (),
        hollow: Sequence[str] = (),
    ) -> str:
        finds = {path: files_in(path, keeps=path in volumes) for path in paths}
        finds |= {path: files_in(path, whole=True) for path in whole}
        finds |= {path: folders_in(path, whole=True) for path in hollow}
        return "\n".join([*(_look(path, find) for path, find in finds.items()), "true"])

    @override
    def process(self, output: Iterable[str]) -> dict[str, Left]:
        found = {}
        for line in output:
            said = re.fullmatch(r"r(\.*) (m*) (/.*)", line)
            if not said:
                raise FactProcessError("find does not tell what is left in folders")
            if said[1] or said[2]:
                found[said[3]] = Left(len(said[1]), len(said[2]))
        return found


def _look(path: str, find: str) -> str:
    """Its line: a letter for the folder, a dot for each entry, a letter for each mount."""

    name = shlex.quote(path)
    # What runs there may come and go meanwhile; the first letter shows that find(1) works.
    rooted = find.replace(" -xdev", f" -xdev \\( -path {name}/ -printf r \\) ,", 1)
    return f"""\
if [ -d {name} ]; then
{mounts_in(path)}
echo "$({rooted} -printf . 2>/dev/null)" "$(for one in $mounts; do printf m; done)" {name}
fi"""


def folders_in(path: str, whole: bool = False) -> str:
    """
    Return the ``find`` that tells the empty folders in a folder.

    + path: of the folder
    + whole: count the folder itself, too
    """

    return f"{_find(path, whole)} -type d -empty"


def files_in(path: str, whole: bool = False, keeps: bool = False) -> str:
    """
    Return the ``find`` that tells the files and empty folders in a folder.

    + path: of the folder
    + whole: count the folder itself, too
    + keeps: leave out what pods wrote to volumes
    """

    of_api = " ".join(f"! -path '*/kubernetes.io~{kind}/*'" for kind in _FROM_API)
    kept = f" ! \\( -path '*/pods/*/volumes/*' {of_api} \\)" if keeps else ""
    return f"{_find(path, whole)} \\( ! -type d{kept} -o -type d -empty \\)"


def _find(path: str, whole: bool) -> str:
    name = f"{shlex.quote(path)}/"
    return f"find {name} -xdev" + ("" if whole else f" ! -path {name}")


def mounts_in(path: str) -> str:
    """
    Return shell text that sets ``mounts``: what is mounted in a folder, the innermost first.

    + path: of the folder
    """

    return f"""\
real=$(cd -P {shlex.quote(path)} && pwd)
mounts=
while read -r _ _ _ _ point _; do
case $point in "$real"/*) mounts="$point $mounts" ;; esac
done < /proc/self/mountinfo"""


class KubeRules(FactBase["dict[str, int] | None"]):
    """
    Returns how many chains kubelets, kube-proxies and CNI left, by the tool that has them; ``None``
    if iptables is not installed.

    .. code:: python

        {"iptables": 6}
    """

    @override
    def command(self) -> str:
        # It prints nothing without a table, and nothing if it does not work.
        return """\
for tool in iptables ip6tables; do
command -v $tool-save >/dev/null 2>&1 || continue
echo "tool $tool"
case $($tool-save --version 2>&1) in ip*tables*) ;; *) echo failed ;; esac
$tool-save 2>/dev/null || echo failed
done"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, int] | None:
        found: dict[str, int] = {}
        tool = ""
        for line in output:
            if line.startswith("tool "):
                tool = line[5:]
                found[tool] = 0
            elif line == "failed":
                raise FactProcessError(f"{tool}-save does not tell which rules there are")
            elif re.match(f":({_OF_KUBE})", line):
                found[tool] += 1
        return {tool: count for tool, count in found.items() if count} if tool else None


# One transaction a table: the ways into the chains, the chains emptied, the chains.
KUBE_RULES = f"""\
$tool-save | awk '
/^[*]/ {{ table = $0; ways = ""; empty = ""; gone = "" }}
/^:({_OF_KUBE})/ {{
  chain = substr($1, 2)
  empty = empty ":" chain " - [0:0]\\n"; gone = gone "-X " chain "\\n"
}}
/^-A / && $2 !~ /^({_OF_KUBE})/ && / -j ({_OF_KUBE})/ {{ sub(/^-A/, "-D"); ways = ways $0 "\\n" }}
/^COMMIT/ && gone {{ printf "%s\\n%s%s%sCOMMIT\\n", table, ways, empty, gone }}
' | $tool-restore --noflush"""
