"""
kubelet on every host: as a node, or alone for the control plane's static pods.
"""

from __future__ import annotations

from pyinfra_kube.cluster.components import COMPONENTS, PODS, components_on
from pyinfra_kube.deploys.phases.container_runtime import run_container_runtime
from pyinfra_kube.deploys.phases.credentials import ca_file, cloud_files, keep_credentials
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.phases.pod_network import set_up_pod_network
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations import binaries, files, images, kubelet, services

BINARY = "/usr/local/bin/kubelet"


@phase("kubelet")
def run_kubelet() -> None:
    """Install kubelet with what it needs, and run it as fresh as its configuration."""

    cluster = current_cluster()
    source, digest = cluster.artifacts.binary("kubelet")
    binaries.binaries(name="Install kubelet", binaries=[binaries.Binary(BINARY, source, digest)])
    images.images(
        name="Have the image that holds a pod's network",
        files=cluster.image("pause"),
        runtime=cluster.runtime.name,
    )
    read_files = kubelet_files(cluster)
    files.files(name="Set kubelet's kubeconfig and folders", files=[*folders(cluster), *read_files])
    _say_other_pods(cluster)
    kubelet.kubelet(
        name="Set kubelet's unit",
        flags=cluster.command_line("kubelet"),
        binary=BINARY,
        after=[cluster.runtime.unit],
    )
    logs = cluster.runtime.container_logs.format(root=cluster.settings()["docker_root"])
    kubelet.log_rotation(name="Rotate the logs", paths=[*kubelet.LOGS, *([logs] if logs else [])])
    services.services(
        name="Run kubelet",
        units=[
            services.Unit(
                "kubelet.service",
                config=[BINARY, *(file.path for file in read_files), ca_file(cluster).path],
                own=True,
                take_over=cluster.spec.take_over_units,
            )
        ],
    )


def folders(cluster: Cluster) -> list[files.File]:
    """The folders that kubelet looks into."""

    return [
        files.File("/etc/kubernetes", kind="directory", mode="755"),
        files.File(cluster.spec.manifest_dir, kind="directory", mode="700"),
        files.File(cluster.spec.kubelet_root, kind="directory", mode="700"),
    ]


def _say_other_pods(cluster: Cluster) -> None:
    """Say which pods somebody else has put there: kubelet runs them beside ours."""

    directory = cluster.spec.manifest_dir
    own = [name for name in components_on(cluster.host_spec.roles) if name in PODS]
    ours = {f"{directory}/{name}.yaml" for name in own}
    found = read(StaticPods, directory=directory, runtime=cluster.runtime.name).manifests
    for path in sorted({*found} - ours):
        changes.say(f"{path} is not ours and stays; kubelet runs its pod, so see whether it shall")


def kubelet_files(cluster: Cluster) -> list[files.File]:
    """What a node's kubelet reads when it starts; one that stands alone reads nothing."""

    if not cluster.is_a("node"):
        return []
    text = cluster.credentials.kubeconfig("kubelet", cluster.host_spec.name)
    return [
        files.File(COMPONENTS["kubelet"].kubeconfig, text, mode="600", secret=True),
        *cloud_files(cluster),
    ]


# Alone, it brings what it needs.
if "__name__" not in globals():
    prepare_host()
    set_up_pod_network()
    run_container_runtime()
    keep_credentials()
    run_kubelet()
