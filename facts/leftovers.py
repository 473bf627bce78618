"""
What kubelets, kube-proxies, CNI and pods left on a host.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

# Whatever else is in a pod's folder comes from the API, and some of it is secret.
_FROM_API = ("configmap", "downward-api", "projected", "secret")
_OF_KUBE = "KUBE-|CNI-HOSTPORT-"


@dataclass(frozen=True)
class Left:
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
        finds |= {path: files_in(path, least=0) for path in whole}
        finds |= {path: folders_in(path, least=0) for path in hollow}
        return "\n".join([*(_look(path, find) for path, find in finds.items()), "true"])

    @override
    def process(self, output: Iterable[str]) -> dict[str, Left]:
        rows = (line.split(" ", 2) for line in output)
        found = {path: Left(int(entries), int(mounts)) for entries, mounts, path in rows}
        return {path: left for path, left in found.items() if left != Left()}


def _look(path: str, find: str) -> str:
    name = shlex.quote(path)
    return (
        f'if [ -d {name} ]; then\necho "$({find} -printf . | wc -c)'
        f' $({mounts_in(path)} | wc -l)" {name}\nfi'
    )


def folders_in(path: str, least: int = 1) -> str:
    """
    Return the ``find`` that tells the empty folders in a folder.

    + path: of the folder
    + least: 0 for the folder itself, too
    """

    return f"find {shlex.quote(path)}/ -xdev -mindepth {least} -type d -empty"


def files_in(path: str, least: int = 1, keeps: bool = False) -> str:
    """
    Return the ``find`` that tells the files and empty folders in a folder.

    + path: of the folder
    + least: 0 for the folder itself, too
    + keeps: leave out what pods wrote to volumes
    """

    of_api = " ".join(f"! -path '*/kubernetes.io~{kind}/*'" for kind in _FROM_API)
    kept = f" ! \\( -path '*/pods/*/volumes/*' {of_api} \\)" if keeps else ""
    find = folders_in(path, least).removesuffix(" -type d -empty")
    return f"{find} \\( ! -type d{kept} -o -type d -empty \\)"


def mounts_in(path: str) -> str:
    """
    Return shell text that tells what is mounted below a folder, the innermost first.

    + path: of the folder
    """

    return (
        f'awk -v root="$(readlink -f {shlex.quote(path)})/" '
        "'index($5, root) == 1 { print $5 }' /proc/self/mountinfo | sort -r"
    )


class KubeRules(FactBase[dict[str, int]]):
    """
    Returns how many chains kubelets, kube-proxies and CNI left, by the tool that has them.

    .. code:: python

        {"iptables-nft": 6}
    """

    default = dict

    @override
    def command(self) -> str:
        return f"""\
for tool in iptables ip6tables; do for kind in nft legacy; do
[ "$kind" = nft ] || grep -q . /proc/net/${{tool%tables}}_tables_names 2>/dev/null || continue
command -v $tool-$kind-save >/dev/null 2>&1 || continue
echo "$tool-$kind $($tool-$kind-save 2>/dev/null | grep -cE '^:({_OF_KUBE})')"
done; done
if command -v nft >/dev/null 2>&1; then
echo "nft $(nft list tables 2>/dev/null | grep -cE ' kube-proxy$')"
fi"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, int]:
        rows = (line.split() for line in output)
        return {tool: int(count) for tool, count in rows if count != "0"}


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
