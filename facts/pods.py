"""
What kubelet left of pods on a host.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.cluster.runtimes import runtime_named
from pyinfra_kube.engine.tools import understanding


class PodContainers(FactBase["list[str] | None"]):
    """
    Returns the ids of all containers of pods, running or ended; ``None`` if the container runtime
    is not installed. It fails if the runtime does not answer.

    + runtime: name of the container runtime

    .. code:: python

        ["3e8a5c…", "9b01f2…"]
    """

    @override
    def command(self, runtime: str = "docker") -> str:
        self.runtime = runtime_named(runtime)
        return f"""\
if command -v {self.runtime.client} >/dev/null 2>&1; then
echo {self.runtime.name}
{self.runtime.pods}
fi"""

    @override
    def process(self, output: Iterable[str]) -> list[str]:
        with understanding(self.runtime.client):
            return self.runtime.read_pods(list(output)[1:])
