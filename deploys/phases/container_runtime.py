"""
The container runtime, docker, containerd or CRI-O: configured for a cluster before it starts for
the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyinfra_kube.cluster.components import PODS, components_on
from pyinfra_kube.cluster.containerd_versions import of_distribution
from pyinfra_kube.cluster.fitness.checks import SELINUX_POLICY
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.packages import (
    BY_MINOR,
    NO_LOCAL_SBIN,
    find,
    packages_of,
    ships,
)
from pyinfra_kube.cluster.runtimes import CONTAINERD, CRIO, DOCKER
from pyinfra_kube.deploys.phases import pod_network
from pyinfra_kube.deploys.phases.host_preparation import distribution_packages
from pyinfra_kube.deploys.run.artifacts import CNI_PLUGINS, crictl_archive
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.containerd import LOCAL, PACKAGED, Containerd
from pyinfra_kube.facts.docker import DATA_ROOT
from pyinfra_kube.facts.packages import Packages
from pyinfra_kube.operations import binaries, cni, containerd, crio, docker, packages, services

_LOCAL_BIN = "/usr/local/bin"
PACKAGED_CRIO = "/usr/bin/crio"
CRICTL = f"{_LOCAL_BIN}/crictl"
# Before that of a package, in the order in which programs are looked for.
RUNC = "/usr/local/sbin/runc"
# Of plugins that no package brings.
CNI_BIN_DIR = "/opt/cni/bin"

# Without its userland proxy, docker lets a pod reach itself through a service.
HAIRPIN = {"userland-proxy": False}

# As much as a kubelet keeps that rotates logs itself; one that runs docker leaves that to docker.
LOGS = {"max-size": "10m", "max-file": "5"}


@phase("Container runtime")
def run_container_runtime() -> None:
    """Configure, install and run the container runtime that the release needs."""

    cluster = current_cluster()
    if not cluster.in_turn("node"):
        set_container_runtime(cluster)


def set_container_runtime(cluster: Cluster) -> None:
    """
    Configure, install and run the current host's container runtime.

    + cluster: the cluster
    """

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


def _run_containerd(cluster: Cluster) -> None:
    """Configure containerd before it is installed, have the pod network described, and run it."""

    source = cluster.artifacts.runtime
    if cluster.own_facts.docker:
        changes.say(
            "docker is there too: containerd.service runs the containers of both, and they live "
            "on when it is restarted"
        )
    here = cluster.own_facts
    distribution = here.containerd or of_distribution(here.system, here.release)
    containerd.containerd(
        name="Configure containerd",
        sandbox_image=image_of("pause", cluster.spec).name,
        cni_bin_dir=cni_bin_dir(cluster),
        version=cluster.spec.containerd_version or distribution,
        program=LOCAL if source else "",
        mirrors=cluster.spec.registry_mirrors,
        selinux=_confines(cluster),
    )
    _describe_network(cluster)
    _install(cluster, "containerd", [] if source else _missing_parts())
    programs = [LOCAL] if source else []
    unit = services.Unit(cluster.runtime.unit, config=[*containerd.CONFIG_FILES, *programs])
    services.services(name="Run containerd", units=[unit])


def _run_crio(cluster: Cluster) -> None:
    """Configure CRI-O before it is installed, have the pod network described, and run it."""

    source = cluster.artifacts.runtime
    program = f"{_LOCAL_BIN}/crio" if source else ""
    archives = _archives(cluster)
    crio.crio(
        name="Configure CRI-O",
        sandbox_image=image_of("pause", cluster.spec).name,
        cni_bin_dir=cni_bin_dir(cluster),
        network=cni.NETWORK if _has_network(cluster) else "",
        program=program,
        pinned=archives,
        mirrors=cluster.spec.registry_mirrors,
        selinux=bool(source) and _confines(cluster),
    )
    _describe_network(cluster)
    # CRI-O loads no archives itself.
    loads = ["skopeo"] if archives else []
    _install(cluster, "CRI-O", [*([] if source else ["cri-o", "cni"]), *loads])
    config = [*crio.CONFIG_FILES, program or PACKAGED_CRIO]
    services.services(name="Run CRI-O", units=[services.Unit(cluster.runtime.unit, config=config)])


def _confines(cluster: Cluster) -> bool:
    """Whether SELinux is on, and has the policy of containers, or gets it."""

    here = cluster.own_facts
    comes = cluster.spec.install_packages and ships("selinux", here.system, here.release)
    return bool(here.fit.state.selinux) and (comes or SELINUX_POLICY in here.fit.state.there)


def _archives(cluster: Cluster) -> list[str]:
    """The images that the current host is to have from archives."""

    parts = [name for name in components_on(cluster.host_spec.roles) if name in PODS]
    has_dns = cluster.spec.dns and cluster.release.fact("coredns")
    parts += ["pause", *(["coredns"] if has_dns else [])]
    found = [cluster.image(part) for part in parts]
    return [name for one in found for name, archive in one.items() if archive]


def _has_network(cluster: Cluster) -> bool:
    return cluster.is_a("node") and cluster.spec.network != "none"


def _describe_network(cluster: Cluster) -> None:
    """Have pods of the current host get addresses, on a node whose network is ours."""

    if _has_network(cluster):
        brought = cluster.artifacts.runtime or cluster.spec.install_packages
        cni.pod_network(
            name="Describe the pod network",
            subnet=cluster.node.pod_cidr,
            bridge=BRIDGE,
            mtu=cluster.spec.bridge_mtu,
            bin_dir=cni_bin_dir(cluster),
            required=() if brought else cni.PLUGINS,
            by_name=cluster.runtime is CRIO,
        )


def cni_bin_dir(cluster: Cluster) -> str:
    """
    Return the folder of CNI's plugins on the current host: the distribution's, or that of a source.

    + cluster: the cluster
    """

    return CNI_BIN_DIR if cluster.artifacts.runtime else str(cluster.settings()["cni_bin_dir"])


def _install(cluster: Cluster, whole: str, parts: list[str]) -> None:
    """
    Install the runtime: from a source, or else from packages.

    + whole: what a person calls it
    + parts: what packages must bring here
    """

    source, here = cluster.artifacts.runtime, cluster.own_facts
    packaged = not source and ships("crictl", here.system, here.release)
    parts = [*parts, *(["crictl"] if packaged else [])]
    if here.packaged and cluster.in_turn("node"):
        # These move together with the others of their minor release.
        parts = [part for part in parts if part not in BY_MINOR]
    if cluster.spec.install_packages and parts:
        packages.packages(
            name=f"Install {' and '.join(parts) if source else whole}",
            packages=distribution_packages(parts),
            removable=cluster.spec.removable_packages,
        )
    wanted = []
    if source:
        programs = [*cluster.runtime.programs, "crictl", *source.helpers]
        paths = {name: f"{_LOCAL_BIN}/{name}" for name in programs}
        here = cluster.own_facts
        if not find(NO_LOCAL_SBIN.get(here.system, {}), here.release):
            paths |= {name: RUNC for name in paths if name == "runc"}
        paths |= {name: f"{CNI_BIN_DIR}/{name}" for name in CNI_PLUGINS}
        wanted = [binaries.Binary(path, *source.program(name)) for name, path in paths.items()]
    elif not packaged and read(Containerd).crictl in ("", CRICTL):
        archive = crictl_archive(cluster.release, cluster.spec.runtime_sha256)
        wanted = [binaries.Binary(CRICTL, *archive, member="crictl")]
    if wanted:
        name = f"Install {whole} and CNI plugins" if source else "Install crictl"
        binaries.binaries(name=name, binaries=wanted)


def packaged_parts(cluster: Cluster) -> list[str]:
    """
    Return what of the current host's container runtime packages bring, without what it calls.

    + cluster: the cluster
    """

    if cluster.runtime is DOCKER:
        return [] if cluster.own_facts.foreign_docker else [DOCKER.packages]
    if cluster.artifacts.runtime:
        return []
    here = cluster.own_facts
    crictl = ["crictl"] if ships("crictl", here.system, here.release) else []
    return [*(_missing_parts() if cluster.runtime is CONTAINERD else ["cri-o"]), *crictl]


def _missing_parts() -> list[str]:
    """What packages must bring: not a containerd that the host's owner installed without one."""

    state, found = read(Containerd), read(Packages, names=packages_of("containerd"))
    others = state.versions.keys() & {LOCAL, PACKAGED} and not (found.versions or found.partial)
    ours = state.unit and containerd.is_ours(state.unit)
    return ["cni"] if others and not ours else ["containerd", "cni"]


# How each runtime is set up, by its name.
_RUN: dict[str, Callable[[Cluster], None]] = {
    DOCKER.name: _run_docker,
    CONTAINERD.name: _run_containerd,
    CRIO.name: _run_crio,
}


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
    here = cluster.own_facts
    # Fedora's package has docker log to the journal, by a file that comes with the package.
    to_files = here.foreign_docker or here.system != "fedora"
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
            **({"log-opts": LOGS} if to_files else {}),
        },
        added={"insecure-registries": registries} if registries else {},
        nofile=cluster.spec.docker_nofile,
    )


# Alone, it brings what it needs.
PHASES = (*pod_network.PHASES, run_container_runtime)

if "__name__" not in globals():
    run_phases(PHASES)
