"""
docker, kubelet and kube-proxy as Fedora's units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyinfra_kube.cluster.components import NODE_COMPONENTS
from pyinfra_kube.cluster.fedora_variables import CONFIG, own_file
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.container_runtime import (
    HAIRPIN,
    asked,
    configure_docker,
    run_docker,
    set_container_runtime,
)
from pyinfra_kube.deploys.phases.credentials import (
    ca_file,
    give_fedora_credentials,
    keep_credentials,
    kubeconfig_file,
    serving_files,
)
from pyinfra_kube.deploys.phases.fedora_control_plane import run_fedora_etcd
from pyinfra_kube.deploys.phases.fedora_environment import component_files, limit_files
from pyinfra_kube.deploys.phases.fedora_flannel import run_flannel, set_flannel_network
from pyinfra_kube.deploys.phases.fedora_hosts import prepare_fedora_host
from pyinfra_kube.deploys.phases.fedora_units import set_node
from pyinfra_kube.deploys.phases.pod_network import set_up_pod_network
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import docker, environment, files, images, iptables, services

# Options that docker gets from flannel, or that conflict with those.
FLANNEL_GIVES = ("bip", "bridge", "fixed-cidr", "ip-masq", "mtu")


def set_up_fedora_network() -> None:
    """Make the bridge of pods, where it is not docker's own."""

    if current_cluster().runtime is not DOCKER:
        set_up_pod_network()


@phase("Container runtime")
def run_fedora_runtime() -> None:
    """Configure and run containerd or CRI-O on nodes, from 1.24 on."""

    cluster = current_cluster()
    if cluster.is_a("node") and cluster.runtime is not DOCKER and not cluster.in_turn("node"):
        set_container_runtime(cluster)


@phase("docker")
def configure_fedora_docker() -> None:
    """
    Configure docker, and forward pods' packets. docker runs later, when its network is known.
    """

    cluster = current_cluster()
    if not (cluster.is_a("node") and cluster.runtime is DOCKER):
        return
    options = {**asked(cluster), **HAIRPIN}
    if cluster.on_flannel:
        options |= dict.fromkeys(FLANNEL_GIVES)
    else:
        options["bip"] = cluster.node.bridge_address
        options |= {"mtu": cluster.spec.docker_mtu} if cluster.spec.docker_mtu else {}
    configure_docker(cluster, {**options, **cluster.spec.docker_options})
    iptables.forward(
        name="Forward the packets of pods",
        cluster_cidr=cluster.spec.cluster_cidr,
        runtime=cluster.runtime.name,
    )


@phase("docker")
def run_fedora_docker() -> None:
    """Run docker."""

    cluster = current_cluster()
    if cluster.is_a("node") and cluster.runtime is DOCKER:
        run_docker(cluster)
        docker.working(name="Check that docker works", tried=cluster.release.docker_versions)


@phase("Node")
def run_fedora_node() -> None:
    """Configure kubelet and kube-proxy, and run them."""

    cluster = current_cluster()
    if not cluster.is_a("node"):
        return
    if cluster.runtime is not DOCKER:
        if not cluster.in_turn("node"):
            set_node(cluster)
        return
    images.images(
        name="Load or pull the pause image",
        files=cluster.image("pause"),
        runtime=cluster.runtime.name,
        digests=cluster.spec.image_sha256,
    )
    settings = component_files(cluster, NODE_COMPONENTS)
    kubeconfigs = {name: kubeconfig_file(cluster, name) for name in NODE_COMPONENTS}
    serving = serving_files(cluster)
    folders = [
        files.File(file.path.rpartition("/")[0], kind="directory", mode="755")
        for file in kubeconfigs.values()
    ]
    closed = {file.path.rpartition("/")[0] for file in serving}
    folders += [files.File(path, kind="directory", mode="700") for path in sorted(closed)]
    files.files(
        name="Set the credentials of the node",
        files=[*folders, *kubeconfigs.values(), *serving],
    )
    environment.environment_files(name="Configure the node", files=settings)
    limits = limit_files(NODE_COMPONENTS)
    files.files(name="Set when kubelet and kube-proxy start again", files=limits)
    needs = {name: [CONFIG, own_file(name), file.path] for name, file in kubeconfigs.items()}
    needs["kubelet"] += [file.path for file in [ca_file(cluster), *serving]]
    units = [cluster.unit(component, config) for component, config in needs.items()]
    services.services(name="Run the node", units=units)


@phase("Node")
def bring_fedora_node() -> None:
    """Run nodes, with all the phases before."""

    network: Sequence[Callable[[], None]] = [record_allocations]
    if current_cluster().on_flannel:
        network = [run_fedora_etcd, set_flannel_network, run_flannel]
    run_phases(
        [
            prepare_fedora_host,
            keep_credentials,
            give_fedora_credentials,
            set_up_fedora_network,
            run_fedora_runtime,
            configure_fedora_docker,
            *network,
            run_fedora_docker,
            run_fedora_node,
        ]
    )


if "__name__" not in globals():
    bring_fedora_node()
