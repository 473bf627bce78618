"""
Manage what kubelet leaves on a host that is no longer a node.
"""

from __future__ import annotations

from collections.abc import Generator

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.runtimes import runtime_named
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.pods import PodContainers


@operation()
def pods_absent(runtime: str = "docker") -> Generator[StringCommand, None, None]:
    """
    Remove every container of a pod; other containers stay. Stop kubelet first.

    + runtime: name of the container runtime

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import pods

        pods.pods_absent(name="Remove the pods that kubelet left")
    """

    containers = read(PodContainers, runtime=runtime)
    if not containers:
        ctx_host.get().noop("no container of a pod is left")
        return
    changes.show(f"{len(containers)} containers of pods: present → absent")
    yield Script(
        runtime_named(runtime).remove_pods.format(ids=" ".join(containers)),
        summary=f"remove {len(containers)} containers of pods",
    )
