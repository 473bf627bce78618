"""
Container runtimes, a file each. ``RUNTIMES`` has those that a cluster can be built with.
"""

from __future__ import annotations

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.runtimes.containerd import CONTAINERD
from pyinfra_kube.cluster.runtimes.crio import CRIO
from pyinfra_kube.cluster.runtimes.docker import DOCKER
from pyinfra_kube.cluster.runtimes.runtime import IncompleteAnswer, PodContainer, Runtime

__all__ = [
    "CONTAINERD",
    "CRIO",
    "DOCKER",
    "RUNTIMES",
    "IncompleteAnswer",
    "PodContainer",
    "Runtime",
    "runtime_named",
]

RUNTIMES = {one.name: one for one in (DOCKER, CONTAINERD, CRIO)}


def runtime_named(name: str) -> Runtime:
    """
    Return a runtime.

    + name: as the release table calls it, such as ``docker``

    Raises ``InputError`` for a name that is not in ``RUNTIMES``.
    """

    if name not in RUNTIMES:
        raise InputError([Problem("runtime", name, None, ", ".join(RUNTIMES))])
    return RUNTIMES[name]
