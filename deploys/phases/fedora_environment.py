"""
The environment files of Fedora's units, from the same tables of flags as the other paths.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra_kube.cluster.components import (
    CONTROL_PLANE_COMPONENTS,
    NODE_COMPONENTS,
    command_line,
)
from pyinfra_kube.cluster.environment import FOLDER, environment, etcd_environment
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.operations.environment import EnvironmentFile

CONFIG = f"{FOLDER}/config"
ETCD = "/etc/etcd/etcd.conf"


def component_files(cluster: Cluster, components: Iterable[str]) -> list[EnvironmentFile]:
    """
    Return the files of components on the current host, and the one that all hosts share.

    + cluster: the cluster
    + components: those that run here
    """

    # The shared file is the same everywhere, so it takes every component, wherever it runs.
    lines = _lines(cluster, cluster.spec.control_plane[0].name, CONTROL_PLANE_COMPONENTS)
    lines |= _lines(cluster, cluster.spec.nodes[0].name, NODE_COMPONENTS)
    lines |= _lines(cluster, cluster.host_spec.name, components)
    files = environment(lines)
    own = [f"{FOLDER}/{component.removeprefix('kube-')}" for component in components]
    return [EnvironmentFile(path, files[path]) for path in (CONFIG, *own)]


def etcd_file(cluster: Cluster) -> EnvironmentFile:
    """
    Return /etc/etcd/etcd.conf of the current host: a member that others reach.

    + cluster: the cluster
    """

    port, address = cluster.spec.etcd_client_port, cluster.plan.addresses[cluster.host_spec.name]
    settings = cluster.settings(
        etcd_listen_client_urls=cluster.spec.etcd_listen_client_urls or f"http://0.0.0.0:{port}",
        etcd_advertise_client_urls=f"http://{address}:{port}",
    )
    flags = command_line("etcd", cluster.release, settings, cluster.spec.etcd_flags)
    return EnvironmentFile(ETCD, etcd_environment(flags))


def _lines(cluster: Cluster, host: str, components: Iterable[str]) -> dict[str, list[str]]:
    settings = cluster.settings(host)
    extra = {
        "kube-apiserver": cluster.spec.apiserver_flags,
        "kube-controller-manager": cluster.spec.controller_manager_flags,
        "kube-scheduler": cluster.spec.scheduler_flags,
        "kubelet": cluster.spec.kubelet_flags,
        "kube-proxy": cluster.spec.proxy_flags,
    }
    return {
        component: command_line(component, cluster.release, settings, extra[component])
        for component in components
    }
