"""
The container runtime of a cluster whose inventory names none.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra_kube.cluster.packages import ships
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.runtimes import CRIO, DOCKER, RUNTIMES
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.host_facts import HostFacts


def with_runtime(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> ClusterSpec:
    """
    Return the spec with the runtime that hosts run pods with, or else CRI-O where the distribution
    of all of them brings it. It stays as it is where it names a runtime or says where one comes
    from, and up to 1.23.

    + spec: the cluster
    + host_facts: gathered facts of each connected host
    """

    given = spec.container_runtime or spec.runtime_source or spec.containerd_version
    default = Release.of(spec.kubernetes_version).container_runtime
    if given or default == DOCKER.name or not host_facts:
        return spec
    running = {seen.kubelet_runtime for seen in host_facts.values()} & RUNTIMES.keys()
    if running - {DOCKER.name}:
        default = min(running - {DOCKER.name})
    elif all(ships(CRIO.packages, seen.system, seen.release) for seen in host_facts.values()):
        default = CRIO.name
    return spec.model_copy(update={"container_runtime": default})
