"""
The components of a cluster, a module each: which setting becomes which flag in which releases, how
a component is asked whether it lives, who it is, and what its pod or its unit needs.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra_kube.cluster.components import (
    etcd,
    kube_apiserver,
    kube_controller_manager,
    kube_proxy,
    kube_scheduler,
    kubelet,
)
from pyinfra_kube.cluster.components.rows import Component, Pod

_MODULES = (etcd, kube_apiserver, kube_controller_manager, kube_scheduler, kubelet, kube_proxy)

COMPONENTS: dict[str, Component] = {one.COMPONENT.name: one.COMPONENT for one in _MODULES}
"""Every component by its name, in the order in which they start."""

CONTROL_PLANE_COMPONENTS = tuple(
    name for name, one in COMPONENTS.items() if one.role == "control_plane"
)
NODE_COMPONENTS = tuple(name for name, one in COMPONENTS.items() if one.role == "node")

PODS: dict[str, Pod] = {name: one.pod for name, one in COMPONENTS.items() if one.pod}
"""What the static pod of each component that has one needs."""


def components_on(roles: Iterable[str]) -> list[str]:
    """
    Give the components on a host, in the order in which they start.

    + roles: of the host

    ```
    >>> components_on({"node"})
    ['kubelet', 'kube-proxy']
    ```
    """
    return [name for name, one in COMPONENTS.items() if one.role in roles]
