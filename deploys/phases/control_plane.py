"""
The control plane as static pods, a function a pod (A1–A5, S2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pyinfra.api import OperationError

from pyinfra_kube.cluster.components import KUBECONFIGS, command_line, probe
from pyinfra_kube.deploys.phases.container_runtime import run_docker
from pyinfra_kube.deploys.phases.credentials import keep_credentials, master_files
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.phases.kubelet import run_kubelet
from pyinfra_kube.deploys.phases.pod_network import set_up_pod_network
from pyinfra_kube.deploys.run.context import Cluster, cluster
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.processes import Listeners
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations import binaries, files, images, static_pods
from pyinfra_kube.operations.hosts import PATH as HOSTS

Component = Literal["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]

KUBECTL = "/usr/local/bin/kubectl"

# Which of a master's files each component reads when it starts, by their ends.
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
    """Run this host's member of etcd (A1)."""

    it = cluster()
    if it.is_a("etcd"):
        data = files.File(it.spec.etcd_data_dir, kind="directory", mode="700")
        files.files(name="Make etcd's data folder", files=[data])
        _run(it, "etcd", it.spec.etcd_flags)


@phase("apiserver pod")
def run_apiserver() -> None:
    """Run the apiserver, with kubectl beside it (A2)."""

    it = cluster()
    if it.is_a("master"):
        source, digest = it.artifacts.binary("kubectl")
        binaries.binaries(
            name="Install kubectl", binaries=[binaries.Binary(KUBECTL, source, digest)]
        )
        _run(it, "kube-apiserver", it.spec.apiserver_flags)


@phase("controller-manager pod")
def run_controller_manager() -> None:
    """Run the controller manager (A4)."""

    it = cluster()
    if it.is_a("master"):
        _run(it, "kube-controller-manager", it.spec.controller_manager_flags)


@phase("scheduler pod")
def run_scheduler() -> None:
    """Run the scheduler (A3)."""

    it = cluster()
    if it.is_a("master"):
        _run(it, "kube-scheduler", it.spec.scheduler_flags)


def _run(it: Cluster, component: Component, flags: Mapping[str, Any]) -> None:
    _refuse_others(it, component)
    image, archive = _image(it, component)
    images.images(name=f"Have the image of {component}", files={image: archive or None})
    own = [f.path for f in master_files(it) if f.kind == "file"]
    reads = [path for path in own if path.endswith(READS[component])]
    reads += [mount.path for mount in mounts(it, component)]
    pod = static_pods.StaticPod(
        component,
        manifest=manifest(it, component, flags),
        config=reads,
    )
    static_pods.static_pods(
        name=f"Run {component} as a static pod", pods=[pod], directory=it.spec.manifest_dir
    )


def _refuse_others(it: Cluster, component: Component) -> None:
    """Refuse where something else answers in place of a pod of ours, and would be taken for it."""

    port = int(probe(component, it.release, it.settings()).port)
    listening = read(Listeners, ports=[port]).get(port, [])
    pods = read(StaticPods, directory=it.spec.manifest_dir)
    others = [
        one for one in listening if not any(item.id in one.groups for item in pods.containers)
    ]
    if others and pods.runtime != "down":
        raise OperationError(
            f"port {port}: {others[0].program or 'the kernel'} (pid {others[0].pid}) listens "
            f"there, and {component} of the cluster needs it; see systemctl status "
            f"{others[0].pid}, stop that, and keep it from starting at boot"
        )


def manifest(it: Cluster, component: Component, flags: Mapping[str, Any]) -> str:
    """
    Give the manifest of a component on the current host.

    + it: the cluster
    + component: which one
    + flags: more flags of the inventory
    """

    settings = it.settings()
    asked = probe(component, it.release, settings)
    return static_pods.manifest(
        component,
        image=_image(it, component)[0],
        command=it.release.program(component, hyperkube=it.spec.hyperkube),
        flags=command_line(component, it.release, settings, flags),
        probe=static_pods.Probe(
            port=int(asked.port),
            path=asked.path,
            scheme="HTTPS" if asked.scheme == "HTTPS" else "HTTP",
            host=asked.host,
        ),
        credentials_dir="" if component == "etcd" else "/srv/kubernetes",
        mounts=mounts(it, component),
        data_dir=it.spec.etcd_data_dir,
        log_dir=it.spec.log_to_host and component != "etcd",
    )


def mounts(it: Cluster, component: Component) -> list[static_pods.Mount]:
    """
    Give what a component must see of the host beside its folders.

    + it: the cluster
    + component: which one
    """

    # An apiserver that cannot be told to go by address finds nodes by name (docker's own copy of
    # the file is as old as the pod).
    by_name = not it.release.has_flag(component, "kubelet-preferred-address-types")
    return [static_pods.Mount(HOSTS)] if component == "kube-apiserver" and by_name else []


def _image(it: Cluster, component: Component) -> tuple[str, str]:
    """The image of a component, and its archive where there is one."""

    if it.spec.hyperkube and component != "etcd" and it.release.hyperkube_image:
        return it.release.hyperkube_image, it.artifacts.image("hyperkube")
    if component == "etcd" and it.spec.etcd_version:
        name = it.release.etcd_image.rpartition(":")[0]
        return f"{name}:{it.spec.etcd_version}", it.artifacts.image("etcd")
    return it.release.image(component), it.artifacts.image(component)


# Alone, it brings what it needs.
if "__name__" not in globals():
    prepare_host()
    set_up_pod_network()
    run_docker()
    keep_credentials()
    run_kubelet()
    run_etcd()
    run_apiserver()
    run_controller_manager()
    run_scheduler()
