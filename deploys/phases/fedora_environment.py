"""
The environment files of Fedora's units, from the same tables of flags as everything else (F2–F4).
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra_kube.cluster.components import (
    MASTER_COMPONENTS,
    NODE_COMPONENTS,
    command_line,
)
from pyinfra_kube.cluster.environment import FOLDER, environment, etcd_environment
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.operations.environment import EnvironmentFile

CONFIG = f"{FOLDER}/config"
ETCD = "/etc/etcd/etcd.conf"


def component_files(it: Cluster, components: Iterable[str]) -> list[EnvironmentFile]:
    """
    Give the files of components on the current host, with the one that all hosts share.

    + it: the cluster
    + components: which of them run here
    """

    # What all read is the same everywhere: it is made of every component, wherever it runs.
    lines = _lines(it, it.spec.masters[0].name, MASTER_COMPONENTS)
    lines |= _lines(it, it.spec.nodes[0].name, NODE_COMPONENTS)
    lines |= _lines(it, it.me.name, components)
    files = environment(lines)
    own = [f"{FOLDER}/{component.removeprefix('kube-')}" for component in components]
    return [EnvironmentFile(path, files[path]) for path in (CONFIG, *own)]


def etcd_file(it: Cluster) -> EnvironmentFile:
    """
    Give /etc/etcd/etcd.conf of the current host: a member that others reach (F4).

    + it: the cluster
    """

    port, address = it.spec.etcd_client_port, it.plan.addresses[it.me.name]
    settings = it.settings(
        etcd_listen_client_urls=it.spec.etcd_listen_client_urls or f"http://0.0.0.0:{port}",
        etcd_advertise_client_urls=f"http://{address}:{port}",
    )
    flags = command_line("etcd", it.release, settings, it.spec.etcd_flags)
    return EnvironmentFile(ETCD, etcd_environment(flags))


def _lines(it: Cluster, host: str, components: Iterable[str]) -> dict[str, list[str]]:
    settings = it.settings(host)
    extra = {
        "kube-apiserver": it.spec.apiserver_flags,
        "kube-controller-manager": it.spec.controller_manager_flags,
        "kube-scheduler": it.spec.scheduler_flags,
        "kubelet": it.spec.kubelet_flags,
        "kube-proxy": it.spec.proxy_flags,
    }
    return {
        component: command_line(component, it.release, settings, extra[component])
        for component in components
    }
