"""
docker on a host with flannel: how its unit starts it, and how the one that runs was started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import SHOW, by_word


@dataclass(frozen=True)
class DockerOnFlannelState(Printable):
    """
    What :class:`DockerOnFlannel` returns.

    + start: the command line of docker's unit, variables unexpanded; empty for no docker
    + words: the command line of the docker that runs; empty where none does
    + follows: whether docker's unit requires flannel's, and so restarts along with it
    """

    start: str = ""
    words: tuple[str, ...] = ()
    follows: bool = False


class DockerOnFlannel(FactBase[DockerOnFlannelState]):
    """
    Returns what docker was told of flannel's subnet.

    .. code:: python

        DockerOnFlannelState(
            start="/usr/bin/dockerd -H fd:// $OPTIONS $DOCKER_NETWORK_OPTIONS",
            words=("/usr/bin/dockerd", "-H", "fd://", "--bip=18.16.29.1/24"),
            follows=True,
        )
    """

    default = DockerOnFlannelState

    @override
    def command(self) -> str:
        return f"""\
{SHOW}
show docker.service ExecStart,MainPID,Requires
printf '%s\\n' "$shown" | sed -n 's/^ExecStart=.*argv\\[\\]=\\(.*\\) ; ignore_errors=.*/start \\1/p'
printf '%s\\n' "$shown" | sed -n 's/^Requires=.*flanneld[.]service.*/follows/p'
pid=$(printf '%s\\n' "$shown" | sed -n 's/^MainPID=//p')
if [ "${{pid:-0}}" != 0 ] && [ -r "/proc/$pid/cmdline" ]; then
tr '\\n\\0' ' \\n' < "/proc/$pid/cmdline" | sed 's/^/word /'
fi"""

    @override
    def process(self, output: Iterable[str]) -> DockerOnFlannelState:
        lines = by_word(output)
        return DockerOnFlannelState(
            start="".join(lines.get("start", [])),
            words=tuple(lines.get("word", [])),
            follows="follows" in lines,
        )
