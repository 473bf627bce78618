"""
kube-proxy on every node.
"""

from __future__ import annotations

from typing import Literal

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.releases import value_at
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases.credentials import (
    give_credentials,
    keep_credentials,
    kubeconfig_file,
)
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import FileContents, Files
from pyinfra_kube.operations import binaries, component_unit, files, proxy_rules, services

BINARY = "/usr/local/bin/kube-proxy"
_PACKAGED = "/usr/bin/kube-proxy"
# Where releases did with another unit, a cluster that runs keeps that.
_CONFINED = {"1.24-": True}


@phase("kube-proxy")
def run_kube_proxy() -> None:
    """Install kube-proxy on nodes, and run it with its current configuration."""

    cluster = current_cluster()
    if not cluster.in_turn("node"):
        set_kube_proxy(cluster)


def set_kube_proxy(cluster: Cluster, packaged: str = "") -> None:
    """
    Install the current host's kube-proxy and run it, or remove it where there is to be none.

    + cluster: the cluster
    + packaged: path of a kube-proxy that a package brought
    """

    if "kube-proxy" not in cluster.units:
        remove_kube_proxy(cluster)
        return
    if not packaged:
        source, digest = cluster.artifacts.binary("kube-proxy")
        program = binaries.Binary(BINARY, source, digest)
        binaries.binaries(name="Install kube-proxy", binaries=[program])
    read_files = [kubeconfig_file(cluster, "kube-proxy"), *cluster.configuration("kube-proxy")]
    folder = files.File(read_files[0].path.rpartition("/")[0], kind="directory", mode="700")
    files.files(name="Set what kube-proxy reads", files=[folder, *read_files])
    component_unit.component_unit(
        name="Set kube-proxy's unit",
        component="kube-proxy",
        flags=cluster.command_line("kube-proxy"),
        binary=packaged or BINARY,
        confined=bool(value_at(_CONFINED, cluster.release.minor)),
    )
    # It does not notice a file that is replaced whole.
    config = [packaged or BINARY, *(file.path for file in read_files)]
    services.services(name="Run kube-proxy", units=[cluster.unit("kube-proxy", config)])


def remove_kube_proxy(cluster: Cluster) -> None:
    """
    Stop and remove the current host's kube-proxy and its rules, where it is one of ours.

    + cluster: the cluster
    """

    component, unit = COMPONENTS["kube-proxy"], component_unit.UNITS["kube-proxy"]
    if _DESCRIPTION not in read(FileContents, paths=[unit]).get(unit, b""):
        return
    stopped = services.Unit("kube-proxy.service", running=False, enabled=False)
    services.services(name="Stop kube-proxy", units=[stopped])
    remove_rules(cluster)
    # The unit, by which ours is known, goes last.
    paths = [component.kubeconfig, component.configuration, BINARY, unit]
    gone = [files.File(path, kind="absent") for path in paths if path]
    files.files(name="Remove kube-proxy's files", files=gone)


# Of our unit. A kube-proxy of the cluster's owner may have the same name, and the same files.
_DESCRIPTION = b"Description=kube-proxy: leads the addresses of services to pods"


def remove_rules(cluster: Cluster) -> None:
    """
    Remove the rules of the current host's kube-proxy, which has stopped.

    + cluster: the cluster
    """

    known = cluster.release.has_flag("kube-proxy", "cleanup")
    flag: Literal["cleanup", "cleanup-iptables"] = "cleanup" if known else "cleanup-iptables"
    # A package's program stays: our unit tells that there is something to remove.
    packaged = [_PACKAGED, component_unit.UNITS["kube-proxy"]]
    of_package = cluster.runtime is not DOCKER and all(
        path in read(Files, paths=packaged, digest=False) for path in packaged
    )
    binary = _PACKAGED if of_package else BINARY
    proxy_rules.proxy_rules_absent(name="Remove kube-proxy's rules", binary=binary, flag=flag)


# Alone, it brings what it needs.
if "__name__" not in globals():
    run_phases([prepare_host, keep_credentials, give_credentials, run_kube_proxy])
