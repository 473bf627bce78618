"""
The control plane as static pods, one phase a pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pyinfra.api import OperationError

from pyinfra_kube.cluster.components import KUBECONFIGS, command_line, probe
from pyinfra_kube.deploys.phases.allocations import record_allocations
from pyinfra_kube.deploys.phases.container_runtime import run_docker
from pyinfra_kube.deploys.phases.credentials import (
    control_plane_files,
    give_credentials,
    keep_credentials,
)
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.phases.kubelet import run_kubelet
from pyinfra_kube.deploys.phases.pod_network import set_up_pod_network
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.processes import Listeners
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations import binaries, files, images, static_pods
from pyinfra_kube.operations.hosts import PATH as HOSTS

Component = Literal["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]

KUBECTL = "/usr/local/bin/kubectl"

# The files that each component reads when it starts, by the ends of their names.
READS = {
    "etcd": (),
    "kube-apiserver": (".crt", ".key", ".pub", ".csv", "cloud.conf"),
    "kube-controller-manager": (
        "ca.crt",
        "service-account.key",
        "cloud.conf",
        KUBECONFIGS["kube-controller-manager"],
    ),
    "kube-scheduler": (KUBECONFIGS["kube-scheduler"],),
}


@phase("etcd pod")
def run_etcd() -> None:
    """Run the current host's member of etcd."""

    cluster = current_cluster()
    if cluster.is_a("etcd"):
        data = files.File(cluster.spec.etcd_data_dir, kind="directory", mode="700")
        files.files(name="Make etcd's data folder", files=[data])
        _run(cluster, "etcd", cluster.spec.etcd_flags)


@phase("apiserver pod")
def run_apiserver() -> None:
    """Run the apiserver, with kubectl beside it."""

    cluster = current_cluster()
    if cluster.is_a("control_plane"):
        source, digest = cluster.artifacts.binary("kubectl")
        binaries.binaries(
            name="Install kubectl", binaries=[binaries.Binary(KUBECTL, source, digest)]
        )
        _run(cluster, "kube-apiserver", cluster.spec.apiserver_flags)


@phase("controller-manager pod")
def run_controller_manager() -> None:
    """Run the controller manager."""

    cluster = current_cluster()
    if cluster.is_a("control_plane"):
        _run(cluster, "kube-controller-manager", cluster.spec.controller_manager_flags)


@phase("scheduler pod")
def run_scheduler() -> None:
    """Run the scheduler."""

    cluster = current_cluster()
    if cluster.is_a("control_plane"):
        _run(cluster, "kube-scheduler", cluster.spec.scheduler_flags)


def _run(cluster: Cluster, component: Component, flags: Mapping[str, Any]) -> None:
    _refuse_others(cluster, component)
    image, archive = _image(cluster, component)
    images.images(name=f"Load or pull the image of {component}", files={image: archive or None})
    own = [f.path for f in control_plane_files(cluster) if f.kind == "file"]
    reads = [path for path in own if path.endswith(READS[component])]
    reads += [mount.path for mount in mounts(cluster, component)]
    pod = static_pods.StaticPod(
        component,
        manifest=manifest(cluster, component, flags),
        config=reads,
    )
    static_pods.static_pods(
        name=f"Run {component} as a static pod", pods=[pod], directory=cluster.spec.manifest_dir
    )


def _refuse_others(cluster: Cluster, component: Component) -> None:
    """Refuse a port that another program listens on, which would be taken for our pod."""

    port = int(probe(component, cluster.release, cluster.settings()).port)
    listening = read(Listeners, ports=[port]).get(port, [])
    pods = read(StaticPods, directory=cluster.spec.manifest_dir)
    others = [
        one for one in listening if not any(item.id in one.groups for item in pods.containers)
    ]
    if others and pods.runtime != "down":
        raise OperationError(
            f"port {port}: {others[0].program or 'the kernel'} (pid {others[0].pid}) listens "
            f"there, and {component} of the cluster needs it; see systemctl status "
            f"{others[0].pid}, stop it, and keep it from starting at boot"
        )


def manifest(cluster: Cluster, component: Component, flags: Mapping[str, Any]) -> str:
    """
    Return the manifest of a component on the current host.

    + cluster: the cluster
    + component: which one
    + flags: extra flags from the inventory
    """

    settings = cluster.settings()
    asked = probe(component, cluster.release, settings)
    return static_pods.manifest(
        component,
        image=_image(cluster, component)[0],
        command=cluster.release.program(component, hyperkube=cluster.spec.hyperkube),
        flags=command_line(component, cluster.release, settings, flags),
        probe=static_pods.Probe(
            port=int(asked.port),
            path=asked.path,
            scheme="HTTPS" if asked.scheme == "HTTPS" else "HTTP",
            host=asked.host,
        ),
        credentials_dir="" if component == "etcd" else "/srv/kubernetes",
        mounts=mounts(cluster, component),
        data_dir=cluster.spec.etcd_data_dir,
        log_dir=cluster.spec.log_to_host and component != "etcd",
    )


def mounts(cluster: Cluster, component: Component) -> list[static_pods.Mount]:
    """
    Return what a component must see of the host besides its folders.

    + cluster: the cluster
    + component: which one
    """

    # An apiserver that cannot be told to use addresses finds nodes by name, and docker's own copy
    # of the file is as old as the pod.
    by_name = not cluster.release.has_flag(component, "kubelet-preferred-address-types")
    return [static_pods.Mount(HOSTS)] if component == "kube-apiserver" and by_name else []


def _image(cluster: Cluster, component: Component) -> tuple[str, str]:
    """The image of a component, and its archive where there is one."""

    if cluster.spec.hyperkube and component != "etcd" and cluster.release.hyperkube_image:
        return cluster.release.hyperkube_image, cluster.artifacts.image("hyperkube")
    if component == "etcd" and cluster.spec.etcd_version:
        name = cluster.release.etcd_image.rpartition(":")[0]
        return f"{name}:{cluster.spec.etcd_version}", cluster.artifacts.image("etcd")
    return cluster.release.image(component), cluster.artifacts.image(component)


# Alone, it brings what it needs.
if "__name__" not in globals():
    run_phases(
        [
            prepare_host,
            record_allocations,
            set_up_pod_network,
            run_docker,
            keep_credentials,
            give_credentials,
            run_kubelet,
            run_etcd,
            run_apiserver,
            run_controller_manager,
            run_scheduler,
        ]
    )
