"""
kubelet on every host: as a node, or alone for the control plane's static pods.
"""

from __future__ import annotations

from pyinfra_kube.cluster.components import PODS, components_on
from pyinfra_kube.cluster.components.rendering import reread_files
from pyinfra_kube.deploys.phases import container_runtime
from pyinfra_kube.deploys.phases.credentials import (
    ca_file,
    cloud_files,
    give_credentials,
    keep_credentials,
    kubeconfig_file,
    serving_files,
)
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import KUBELET
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations import binaries, component_unit, files, images, log_rotation, services

BINARY = KUBELET


@phase("kubelet")
def run_kubelet() -> None:
    """Install kubelet and what it needs, and run it with its current configuration."""

    cluster = current_cluster()
    if not cluster.in_turn("node"):
        set_kubelet(cluster)


# A kubelet that asks in vain asks again only after seconds: on a new host it starts when it finds
# what it asks for, the static pods or the apiserver.


@phase("kubelet")
def install_kubelet() -> None:
    """Install kubelet and what it needs; run it where the host is part of the cluster already."""

    cluster = current_cluster()
    if not cluster.in_turn("node"):
        set_kubelet(cluster, starts=not _is_new(cluster))


@phase("kubelet")
def start_with_static_pods() -> None:
    """Run kubelet on a new host of the control plane."""

    cluster = current_cluster()
    if _is_new(cluster) and has_static_pods(cluster):
        start_kubelet(cluster)


@phase("kubelet")
def start_with_apiserver() -> None:
    """Run kubelet on a new host that is a node only."""

    cluster = current_cluster()
    if _is_new(cluster) and not has_static_pods(cluster):
        start_kubelet(cluster)


def _is_new(cluster: Cluster) -> bool:
    return not (cluster.own_facts.fit.ours or cluster.in_turn("node"))


def has_static_pods(cluster: Cluster) -> bool:
    """Whether components run as static pods on the current host."""

    return any(component in PODS for component in components_on(cluster.host_spec.roles))


def set_kubelet(cluster: Cluster, packaged: str = "", starts: bool = True) -> None:
    """
    Install the current host's kubelet and what it needs, and run it.

    + cluster: the cluster
    + packaged: path of a kubelet that a package brought
    + starts: whether to run it
    """

    if not packaged:
        source, digest = cluster.artifacts.binary("kubelet")
        program = binaries.Binary(BINARY, source, digest)
        binaries.binaries(name="Install kubelet", binaries=[program])
    images.images(
        name="Load or pull the pause image",
        files=cluster.image("pause"),
        runtime=cluster.runtime.name,
        digests=cluster.spec.image_sha256,
    )
    read_files = kubelet_files(cluster)
    files.files(
        name="Set what kubelet reads, and its folders", files=[*folders(cluster), *read_files]
    )
    _say_other_pods(cluster)
    component_unit.component_unit(
        name="Set kubelet's unit",
        component="kubelet",
        flags=cluster.command_line("kubelet"),
        binary=packaged or BINARY,
        after=[cluster.runtime.unit],
        watchdog=cluster.release.fact("kubelet_watchdog"),
    )
    logs = cluster.runtime.container_logs.format(root=cluster.settings()["docker_root"])
    paths = [*log_rotation.LOGS, *([logs] if logs else [])]
    log_rotation.log_rotation(name="Rotate the logs", paths=paths)
    if starts:
        start_kubelet(cluster, packaged)


def start_kubelet(cluster: Cluster, packaged: str = "") -> None:
    """
    Run the current host's kubelet with its current configuration.

    + cluster: the cluster
    + packaged: path of a kubelet that a package brought
    """

    services.services(name="Run kubelet", units=[kubelet_unit(cluster, packaged)])


def kubelet_unit(cluster: Cluster, packaged: str = "") -> services.Unit:
    """The running unit of the current host's kubelet."""

    again = reread_files("kubelet", cluster.release, cluster.settings())
    paths = [file.path for file in [*kubelet_files(cluster), ca_file(cluster)]]
    return cluster.unit(
        "kubelet", [packaged or BINARY, *(path for path in paths if path not in again)]
    )


def folders(cluster: Cluster) -> list[files.File]:
    """The folders that kubelet reads."""

    paths = {file.path.rpartition("/")[0] for file in serving_files(cluster)}
    return [
        files.File("/etc/kubernetes", kind="directory", mode="755"),
        files.File(cluster.spec.manifest_dir, kind="directory", mode="700"),
        files.File(cluster.spec.kubelet_root, kind="directory", mode="700"),
        *(files.File(path, kind="directory", mode="700") for path in sorted(paths)),
    ]


def _say_other_pods(cluster: Cluster) -> None:
    """Name the pods of others in the manifest folder, which kubelet runs beside ours."""

    directory, own = cluster.spec.manifest_dir, components_on(cluster.host_spec.roles)
    ours = {f"{directory}/{name}.yaml" for name in own if name in PODS}
    found = read(StaticPods, directory=directory, runtime=cluster.runtime.name).manifests
    for path in sorted({*found} - ours):
        changes.say(f"{path} is not ours and stays; kubelet runs its pod. Check whether it should")


def kubelet_files(cluster: Cluster) -> list[files.File]:
    """What the current host's kubelet reads when it starts, beside the CA."""

    configuration = cluster.configuration("kubelet")
    if not cluster.is_a("node"):
        return configuration
    kubeconfig = kubeconfig_file(cluster, "kubelet")
    return [*configuration, kubeconfig, *serving_files(cluster), *cloud_files(cluster)]


# Alone, it brings what it needs.
PHASES = (*container_runtime.PHASES, keep_credentials, give_credentials, run_kubelet)

if "__name__" not in globals():
    run_phases(PHASES)
