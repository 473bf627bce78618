"""
Components from 1.24 on as units of our own, which run the programs of Fedora's packages. What the
packages have in /etc stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.components.rendering import named_files, reread_files
from pyinfra_kube.cluster.releases import minor_of
from pyinfra_kube.deploys.phases import kube_proxy, kubelet
from pyinfra_kube.deploys.phases.control_plane import KUBECTL, component_files
from pyinfra_kube.deploys.phases.credentials import ETCD_GROUP, credential_files
from pyinfra_kube.deploys.phases.verification import answers, wait_until
from pyinfra_kube.deploys.run.artifacts import lone_program
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.operations import binaries, component_unit, files, services, verify

_BIN = "/usr/bin"
PACKAGED_ETCD = f"{_BIN}/etcd"
_OWN_ETCD = "/usr/local/bin/etcd"


def set_etcd(cluster: Cluster) -> None:
    """
    Run etcd on the current host.

    + cluster: the cluster
    """

    binary = _own_etcd(cluster) if cluster.spec.etcd_source else PACKAGED_ETCD
    data = files.File(
        cluster.spec.etcd_data_dir, kind="directory", mode="700", user="etcd", group=ETCD_GROUP
    )
    unit = _unit(cluster, "etcd", binary, user="etcd")
    files.files(name="Set etcd's unit and folder", files=[data, unit])
    services.services(name="Run etcd", units=[_running(cluster, "etcd", binary)])


def brings_etcd(cluster: Cluster, binary: str, hint: str) -> verify.Check:
    """
    Return the check that refuses an etcd of another minor release, which would not know some of the
    flags.

    + cluster: the cluster
    + binary: the program
    + hint: what to do about another one
    """

    major, minor = minor_of(cluster.spec.etcd_version or cluster.release.etcd_version)
    return verify.Check(
        f"etcd is of {major}.{minor}",
        command=f"{binary} --version | grep -qF 'etcd Version: {major}.{minor}.'",
        log=f"{binary} --version",
        hint=f"set etcd_version to its version, or {hint}",
    )


def _own_etcd(cluster: Cluster) -> str:
    """Have the etcd of the inventory's source beside the package's, and return where."""

    program = binaries.Binary(_OWN_ETCD, *lone_program(cluster.spec, "etcd", "etcd"))
    installed = binaries.binaries(name="Install etcd", binaries=[program])
    if installed.will_change:
        check = brings_etcd(cluster, _OWN_ETCD, "give another etcd_source")
        verify.verified(name="Check that etcd is of its release", checks=[check], timeout=1)
    return _OWN_ETCD


def set_control_plane(
    cluster: Cluster, components: Sequence[str] = CONTROL_PLANE_COMPONENTS
) -> None:
    """
    Run the apiserver, the controller manager and the scheduler on the current host.

    + cluster: the cluster
    + components: which of them
    """

    needs = [f for one in components for f in component_files(cluster, one)]
    units = [_unit(cluster, one, f"{_BIN}/{one}") for one in components]
    # Where kubectl is on other paths.
    link = files.File(KUBECTL, kind="link", target=f"{_BIN}/kubectl", if_absent=True)
    files.files(name="Set the units of the control plane", files=[*needs, *units, link])
    run_in_order(cluster, {one: _running(cluster, one, f"{_BIN}/{one}") for one in components})


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


def _unit(cluster: Cluster, component: str, binary: str, user: str = "root") -> files.File:
    return component_unit.unit_file(
        component,
        flags=cluster.command_line(component),
        binary=binary,
        after=["etcd.service"] if component == "kube-apiserver" else [],
        user=user,
    )


def _running(cluster: Cluster, component: str, binary: str) -> services.Unit:
    """The running unit of a component, with what it reads only when it starts."""

    again = reread_files(component, cluster.release, cluster.settings())
    named = _named(cluster, component, again)
    return cluster.unit(component, [binary, *named])


def _named(cluster: Cluster, component: str, again: Iterable[str]) -> list[str]:
    known = [*credential_files(cluster), *component_files(cluster, component)]
    own = [file.path for file in known if file.kind == "file"]
    return [one for one in named_files(cluster.command_line(component), own) if one not in again]
