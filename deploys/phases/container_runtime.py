"""
The container runtime: docker, configured for a cluster before it starts for the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases import pod_network
from pyinfra_kube.deploys.phases.host_preparation import distribution_packages
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.facts.docker import DATA_ROOT
from pyinfra_kube.operations import docker, packages, services

# Without its userland proxy, docker lets a pod reach itself through a service.
HAIRPIN = {"userland-proxy": False}


@phase("Container runtime")
def run_container_runtime() -> None:
    """Configure, install and run the container runtime that the release needs."""

    cluster = current_cluster()
    _RUN[cluster.runtime.name](cluster)


def _run_docker(cluster: Cluster) -> None:
    """Configure docker before it is installed, run it, and remove its own network."""

    configure_docker(cluster, options())
    if cluster.spec.install_packages and not cluster.own_facts.foreign_docker:
        packages.packages(
            name="Install docker",
            packages=distribution_packages([cluster.runtime.packages]),
            removable=cluster.spec.removable_packages,
        )
    run_docker(cluster)
    docker.docker0_absent(name="Remove docker's own network")
    docker.working(name="Check that docker works", tried=cluster.release.docker_versions)


def run_docker(cluster: Cluster) -> None:
    """Run docker with its current configuration."""

    docker_unit = services.Unit(cluster.runtime.unit, config=docker.CONFIG)
    services.services(name="Run docker", units=[docker_unit])


# How each runtime is set up, by its name.
_RUN: dict[str, Callable[[Cluster], None]] = {DOCKER.name: _run_docker}


def options() -> dict[str, Any]:
    """Docker's options on the current host, by their keys in daemon.json."""

    cluster = current_cluster()
    wanted: dict[str, Any] = {
        "bridge": BRIDGE if pod_network.needs_bridge() else "none",
        "iptables": False,
        "ip-masq": False,
        **asked(cluster),
    }
    if cluster.is_a("node"):
        wanted["mtu"] = cluster.spec.docker_mtu or cluster.spec.bridge_mtu
        wanted |= HAIRPIN
    return {**wanted, **cluster.spec.docker_options}


def asked(cluster: Cluster) -> dict[str, Any]:
    """Docker's options that the inventory sets, on every path."""

    return {"data-root": cluster.spec.docker_root} if cluster.spec.docker_root else {}


def configure_docker(cluster: Cluster, options: dict[str, Any]) -> None:
    """
    Configure docker.

    + cluster: the cluster
    + options: of daemon.json, by key, beside those that every path sets
    """

    registries = cluster.spec.insecure_registries
    docker.docker(
        name="Configure docker",
        options=options,
        # Unless the host has its own.
        defaults={
            "exec-opts": [f"native.cgroupdriver={cluster.runtime.cgroup_driver}"],
            "data-root": DATA_ROOT,
            # Containers of a pod share the memory of its first one.
            "default-ipc-mode": "shareable",
            "insecure-registries": [cluster.spec.cluster_cidr],
        },
        added={"insecure-registries": registries} if registries else {},
        nofile=cluster.spec.docker_nofile,
    )


# Alone, it brings what it needs.
PHASES = (*pod_network.PHASES, run_container_runtime)

if "__name__" not in globals():
    run_phases(PHASES)
