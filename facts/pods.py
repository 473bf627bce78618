"""
Containers that kubelet made, whatever pod they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override


class PodContainers(FactBase["list[str] | None"]):
    """
    Returns the ids of all containers of pods, running or ended; ``None`` where docker is not
    installed. It fails where docker does not answer.

    .. code:: python

        ["3e8a5c…", "9b01f2…"]
    """

    @override
    def command(self) -> str:
        return """\
if command -v docker >/dev/null 2>&1; then
echo docker
timeout 20 docker ps --all --no-trunc --filter label=io.kubernetes.pod.name
fi"""

    @override
    def process(self, output: Iterable[str]) -> list[str]:
        lines = [line.split() for line in output if line.strip()]
        if len(lines) < 2 or lines[1][:2] != ["CONTAINER", "ID"]:
            raise FactProcessError("docker does not tell its containers: it prints no table")
        return [words[0] for words in lines[2:]]
