"""
Static pods: the manifests that kubelet reads, and what runs of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.cluster.runtimes import PodContainer, runtime_named
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.times import NOW, Clock

__all__ = ["PodContainer", "StaticPodStates", "StaticPods"]


@dataclass(frozen=True)
class StaticPodStates(Printable):
    """
    What :class:`StaticPods` returns.

    + runtime: its name, ``missing`` if its client is not installed, ``down`` if it does not answer
    + now: the host's time, seconds since the epoch
    + manifests: SHA-256 by path
    + containers: of all pods on the host
    """

    runtime: str = "missing"
    now: float = 0.0
    manifests: dict[str, str] = field(default_factory=dict)
    containers: list[PodContainer] = field(default_factory=list)

    def of(self, pod: str, namespace: str = "kube-system") -> list[PodContainer]:
        """
        Return the containers of one static pod, newest first.

        + pod: its name in the manifest
        + namespace: of the pod
        """

        found = [
            item
            for item in self.containers
            if item.namespace == namespace and item.pod.startswith(f"{pod}-")
        ]
        return sorted(found, key=lambda item: item.started, reverse=True)


class StaticPods(FactBase[StaticPodStates]):
    """
    Returns the manifests in kubelet's directory and the containers of the host's pods.

    + directory: kubelet's manifest directory
    + runtime: name of the container runtime

    .. code:: python

        StaticPodStates(
            runtime="docker",
            now=1700000100.0,
            manifests={"/etc/kubernetes/manifests/etcd.yaml": "9f86d0…"},
            containers=[
                PodContainer(
                    id="3e8a…", pod="etcd-m1", namespace="kube-system", container="etcd",
                    image="k8s.gcr.io/etcd:3.4.13-0", running=True, started=1700000000.25,
                    restarts=0,
                ),
            ],
        )
    """

    default = StaticPodStates

    @override
    def command(self, directory: str = "/etc/kubernetes/manifests", runtime: str = "docker") -> str:
        self.runtime = runtime_named(runtime)
        # kubelet reads every file whose name does not begin with a dot.
        manifests = (
            f"find -L {shlex.quote(directory)} -maxdepth 1 -type f ! -name '.*' "
            "-exec sha256sum {} + 2>/dev/null"
        )
        containers = self.runtime.asked(self.runtime.containers, self.runtime.containers_more)
        return f"{manifests}\n{containers}\n{NOW}"

    @override
    def process(self, output: Iterable[str]) -> StaticPodStates:
        manifests: dict[str, str] = {}
        answer: list[str] = []
        told, now = "", ""
        for line in output:
            word, _, rest = line.partition(" ")
            if re.fullmatch(r"[0-9a-f]{64}", word) and rest.startswith(" /"):
                manifests[rest.strip()] = word
            elif word == "runtime":
                told = rest
            elif word == "now":
                now = line
            else:
                answer.append(line)
        if told not in (self.runtime.name, "missing", "down") or not now:
            raise FactProcessError("the host does not tell what runs its pods")
        with understanding(self.runtime.client):
            clock = Clock.parse(now)
            runs = told == self.runtime.name
            found = self.runtime.read_containers(answer, clock.started) if runs else []
            # The one that holds a pod's network is no container of the manifest.
            containers = [sound(item) for item in found if item.container != "POD"]
        return StaticPodStates(told, clock.now, manifests, containers)
