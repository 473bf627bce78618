"""
Components from 1.24 on as units of our own, which run the programs of Fedora's packages. What the
packages have in /etc stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.components.rendering import named_files, reread_files
from pyinfra_kube.deploys.phases import kube_proxy, kubelet
from pyinfra_kube.deploys.phases.control_plane import KUBECTL, component_files
from pyinfra_kube.deploys.phases.credentials import ETCD_GROUP, credential_files
from pyinfra_kube.deploys.phases.verification import answers, wait_until
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.operations import component_unit, files, services

_BIN = "/usr/bin"


def set_etcd(cluster: Cluster) -> None:
    """
    Run etcd on the current host.

    + cluster: the cluster
    """

    data = files.File(
        cluster.spec.etcd_data_dir, kind="directory", mode="700", user="etcd", group=ETCD_GROUP
    )
    files.files(name="Set etcd's unit and folder", files=[data, _unit(cluster, "etcd", "etcd")])
    services.services(name="Run etcd", units=[_running(cluster, "etcd")])


def set_control_plane(
    cluster: Cluster, components: Sequence[str] = CONTROL_PLANE_COMPONENTS
) -> None:
    """
    Run the apiserver, the controller manager and the scheduler on the current host.

    + cluster: the cluster
    + components: which of them
    """

    needs = [f for one in components for f in component_files(cluster, one)]
    units = [_unit(cluster, one) for one in components]
    # Where kubectl is on other paths.
    link = files.File(KUBECTL, kind="link", target=f"{_BIN}/kubectl", if_absent=True)
    files.files(name="Set the units of the control plane", files=[*needs, *units, link])
    run_in_order(cluster, {one: _running(cluster, one) for one in components})


def run_in_order(cluster: Cluster, units: Mapping[str, services.Unit]) -> None:
    """
    Run the units of the control plane.

    + cluster: the cluster
    + units: by component
    """

    if "kube-apiserver" in units:
        services.services(name="Run the apiserver", units=[units["kube-apiserver"]])
        # The others exit again and again until it answers.
        apiserver = answers(cluster, "kube-apiserver", "unit")
        wait_until(cluster, "Wait for the apiserver to answer", [apiserver])
    if others := [unit for one, unit in units.items() if one != "kube-apiserver"]:
        services.services(name="Run the controller manager and the scheduler", units=others)


def set_node(cluster: Cluster) -> None:
    """
    Run kubelet and kube-proxy on the current host.

    + cluster: the cluster
    """

    kubelet.set_kubelet(cluster, packaged=f"{_BIN}/kubelet")
    kube_proxy.set_kube_proxy(cluster, packaged=f"{_BIN}/kube-proxy")


def _unit(cluster: Cluster, component: str, user: str = "root") -> files.File:
    return component_unit.unit_file(
        component,
        flags=cluster.command_line(component),
        binary=f"{_BIN}/{component}",
        after=["etcd.service"] if component == "kube-apiserver" else [],
        user=user,
    )


def _running(cluster: Cluster, component: str) -> services.Unit:
    """The running unit of a component, with what it reads only when it starts."""

    again = reread_files(component, cluster.release, cluster.settings())
    named = _named(cluster, component, again)
    return cluster.unit(component, [f"{_BIN}/{component}", *named])


def _named(cluster: Cluster, component: str, again: Iterable[str]) -> list[str]:
    known = [*credential_files(cluster), *component_files(cluster, component)]
    own = [file.path for file in known if file.kind == "file"]
    return [one for one in named_files(cluster.command_line(component), own) if one not in again]
