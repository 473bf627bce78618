"""
docker, configured for a cluster before it starts for the first time.
"""

from __future__ import annotations

from typing import Any

from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.host_preparation import distribution_packages, prepare_host
from pyinfra_kube.deploys.phases.pod_network import needs_bridge, set_up_pod_network
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.facts.docker import DATA_ROOT
from pyinfra_kube.operations import docker, packages, services

# Without its proxy docker lets a pod reach itself through a service.
HAIRPIN = {"userland-proxy": False}


@phase("Container runtime")
def run_docker() -> None:
    """Configure docker, install it where there is none, run it, and remove its own network."""

    cluster = current_cluster()
    docker.docker(
        name="Configure docker",
        options=options(),
        defaults=defaults(cluster),
        added=added(cluster),
        nofile=cluster.spec.docker_nofile,
    )
    if (
        cluster.spec.install_packages
        and not cluster.host_facts[cluster.host_spec.name].foreign_docker
    ):
        packages.packages(
            name="Install docker",
            packages=distribution_packages(["docker"]),
            removable=cluster.spec.removable_packages,
        )
    services.services(
        name="Run docker",
        units=[services.Unit("docker.service", config=docker.CONFIG)],
    )
    docker.docker0_absent(name="Remove docker's own network")
    docker.working(name="Check that docker works", tried=cluster.release.docker_versions)


def options() -> dict[str, Any]:
    """What docker is told on the current host, as keys of its daemon.json."""

    cluster = current_cluster()
    wanted: dict[str, Any] = {
        "bridge": BRIDGE if needs_bridge() else "none",
        "iptables": False,
        "ip-masq": False,
        **asked(cluster),
    }
    if cluster.is_a("node"):
        wanted["mtu"] = cluster.spec.docker_mtu or cluster.spec.bridge_mtu
        wanted |= HAIRPIN
    return {**wanted, **cluster.spec.docker_options}


def asked(cluster: Cluster) -> dict[str, Any]:
    """What the inventory asks of docker on every path, whatever network it has."""

    return {"data-root": cluster.spec.docker_root} if cluster.spec.docker_root else {}


def defaults(cluster: Cluster) -> dict[str, Any]:
    """What docker is told on every path, where the host tells it nothing else."""

    return {
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "data-root": DATA_ROOT,
        # Containers of a pod share the memory segments of its first one.
        "default-ipc-mode": "shareable",
        "insecure-registries": [cluster.plan.cluster_cidr],
    }


def added(cluster: Cluster) -> dict[str, Any]:
    """What docker's lists must have beside what the host has."""

    registries = cluster.spec.insecure_registries
    return {"insecure-registries": registries} if registries else {}


# Alone, it brings what it needs.
if "__name__" not in globals():
    run_phases([prepare_host, record_allocations, set_up_pod_network, run_docker])
