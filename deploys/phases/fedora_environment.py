"""
What Fedora's units read: environment files, from the same tables of flags as the other paths, and
drop-ins.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS, NODE_COMPONENTS
from pyinfra_kube.cluster.fedora_variables import CONFIG, environment, etcd_environment, own_file
from pyinfra_kube.deploys.run import host_facts
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations import files
from pyinfra_kube.operations.environment import EnvironmentFile

ETCD = host_facts.ETCD_CONF


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
    paths = [CONFIG, *(own_file(component) for component in components)]
    return [EnvironmentFile(path, files[path]) for path in paths]


def limit_files(components: Iterable[str]) -> list[files.File]:
    """
    Return the drop-ins of components' units, which say how long they take to start and to stop.

    + components: those that run here
    """

    return [
        files.File(
            f"/etc/systemd/system/{component}.service.d/kubernetes.conf",
            render(
                "etc/systemd/system/component.service.d/kubernetes.conf.j2", component=component
            ),
        )
        for component in components
    ]


def etcd_file(cluster: Cluster) -> EnvironmentFile:
    """
    Return /etc/etcd/etcd.conf of the current host: a member that others reach.

    + cluster: the cluster
    """

    scheme, port = "https" if cluster.spec.etcd_tls else "http", cluster.spec.etcd_client_port
    everywhere = f"{scheme}://0.0.0.0:{port}"
    flags = cluster.command_line(
        "etcd",
        etcd_listen_client_urls=cluster.spec.etcd_listen_client_urls or everywhere,
        etcd_advertise_client_urls=f"{scheme}://{cluster.own_address}:{port}",
    )
    return EnvironmentFile(ETCD, etcd_environment(flags))


def _lines(cluster: Cluster, host: str, components: Iterable[str]) -> dict[str, list[str]]:
    return {component: cluster.command_line(component, host) for component in components}
