"""
Manage the systemd units of components.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal

from pyinfra.api import StringCommand

from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations.files import File, plan_files

SYSTEM = "/etc/systemd/system"
UNITS = {
    component: f"{SYSTEM}/{component}.service"
    for component in ("kubelet", "kube-proxy", "flanneld")
}
_TEMPLATES = {component: f"{path[1:]}.j2" for component, path in UNITS.items()}
# Another one is the unit of a flanneld that keeps its network in etcd.
_TEMPLATES["flanneld"] = "etc/systemd/system/flanneld-on-api.service.j2"
_CONTROL_PLANE = "etc/systemd/system/control-plane.service.j2"


@operation()
def component_unit(
    component: Literal["kubelet", "kube-proxy", "flanneld"],
    flags: Sequence[str],
    binary: str | None = None,
    after: Sequence[str] = (),
    node: str = "",
    confined: bool = True,
    watchdog: int = 0,
) -> Generator[StringCommand, None, None]:
    """
    Set the unit that runs a component, one flag a line. systemd restarts the component whenever
    it ends.

    Running it is left to ``services``, which restarts it when the unit has changed.

    + component: ``kubelet``, ``kube-proxy`` or ``flanneld``; its unit is in
      ``templates/etc/systemd/system/``
    + flags: the whole command line, in this order
    + binary: absolute path of the program; by default in ``/usr/local/bin``
    + after: units that start before it; kubelet starts its own too, the container runtime
    + node: the node's name, which flanneld must know
    + confined: whether systemd keeps kube-proxy from what it does not need; flanneld always is
      confined, and kubelet cannot be
    + watchdog: seconds after which systemd restarts a kubelet that does not tell that it is well;
      it tells from 1.32 on. 0 waits for ever

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import component_unit, services

        component_unit.component_unit(
            name="Set kubelet's unit",
            component="kubelet",
            flags=["--api-servers=http://192.0.2.10:8080", "--config=/etc/kubernetes/manifests"],
            after=["docker.service"],
        )
        services.services(
            name="Run kubelet",
            units=[services.Unit("kubelet.service", config=["/usr/local/bin/kubelet"])],
        )
    """

    file = unit_file(component, flags, binary, after, node, confined, watchdog)
    yield from run_or_noop(plan_files([file]), f"{component}'s unit is as wanted")


def unit_file(
    component: str,
    flags: Sequence[str],
    binary: str | None = None,
    after: Sequence[str] = (),
    node: str = "",
    confined: bool = True,
    watchdog: int = 0,
    user: str = "root",
) -> File:
    """
    Return the unit of a component. It stands before one of that name that a package brings.

    + component: such as ``kubelet`` or ``kube-apiserver``
    + user: who runs a component of the control plane
    + flags, binary, after, node, confined, watchdog: as of ``component_unit``
    """

    path = f"{SYSTEM}/{component}.service"
    text = render(
        _TEMPLATES.get(component, _CONTROL_PLANE),
        component=component,
        user=user,
        binary=binary or f"/usr/local/bin/{component}",
        flags=list(flags),
        after=list(after),
        node=node,
        confined=confined,
        watchdog=watchdog,
    )
    return File(path, text)
