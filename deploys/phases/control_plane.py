"""
The control plane as static pods, one phase a pod.
"""

from __future__ import annotations

from typing import Literal

from pyinfra.api import OperationError

from pyinfra_kube.cluster.components import COMPONENTS, PODS
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.rendering import named_files, probe, probes
from pyinfra_kube.cluster.components.rows import Probe
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.releases import value_at
from pyinfra_kube.deploys.phases import kubelet
from pyinfra_kube.deploys.phases.credentials import control_plane_files
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.processes import Listeners
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations import binaries, files, images, static_pods

KUBECTL = "/usr/local/bin/kubectl"


@phase("etcd pod")
def run_etcd() -> None:
    """Run the current host's member of etcd."""

    cluster = current_cluster()
    if cluster.is_a("etcd"):
        data = files.File(cluster.spec.etcd_data_dir, kind="directory", mode="700")
        files.files(name="Make etcd's data folder", files=[data])
    _run(cluster, "etcd")


@phase("apiserver pod")
def run_apiserver() -> None:
    """Run the apiserver, with kubectl beside it."""

    cluster = current_cluster()
    if cluster.is_a("control_plane"):
        source, digest = cluster.artifacts.binary("kubectl")
        kubectl = binaries.Binary(KUBECTL, source, digest)
        binaries.binaries(name="Install kubectl", binaries=[kubectl])
    _run(cluster, "kube-apiserver")


@phase("controller-manager pod")
def run_controller_manager() -> None:
    """Run the controller manager."""

    _run(current_cluster(), "kube-controller-manager")


@phase("scheduler pod")
def run_scheduler() -> None:
    """Run the scheduler."""

    _run(current_cluster(), "kube-scheduler")


def _run(cluster: Cluster, component: str) -> None:
    if not cluster.is_a(COMPONENTS[component].role):
        return
    _refuse_others(cluster, component)
    images.images(
        name=f"Load or pull the image of {component}",
        files=cluster.image(component),
        runtime=cluster.runtime.name,
    )
    own = [file.path for file in control_plane_files(cluster) if file.kind == "file"]
    flags = cluster.command_line(component)
    pod = static_pods.StaticPod(
        component,
        manifest=manifest(cluster, component),
        config=[*named_files(flags, own), *_files(cluster, component)],
    )
    static_pods.static_pods(
        name=f"Run {component} as a static pod",
        pods=[pod],
        directory=cluster.spec.manifest_dir,
        runtime=cluster.runtime.name,
    )


def _refuse_others(cluster: Cluster, component: str) -> None:
    """Refuse a port that another program uses: it would be mistaken for our pod."""

    port = int(probe(component, cluster.release, cluster.settings()).port)
    listening = read(Listeners, ports=[port]).get(port, [])
    pods = read(StaticPods, directory=cluster.spec.manifest_dir, runtime=cluster.runtime.name)
    ours = [container.id for container in pods.containers]
    others = [one for one in listening if not any(id_ in one.groups for id_ in ours)]
    if others and pods.runtime != "down":
        program, pid = others[0].program or "the kernel", others[0].pid
        raise OperationError(
            f"port {port}: {program} (pid {pid}) listens there, and {component} of the cluster "
            f"needs it; see systemctl status {pid}, stop it, and keep it from starting at boot"
        )


def manifest(cluster: Cluster, component: str) -> str:
    """
    Return the manifest of a component on the current host.

    + cluster: the cluster
    + component: which one
    """

    asked = probes(component, cluster.release, cluster.settings())
    pod, minor = PODS[component], cluster.release.minor
    image = image_of(component, cluster.spec)
    return static_pods.manifest(
        component,
        image=image.name,
        command=image.command,
        flags=cluster.command_line(component),
        probe=_probe(asked.get("liveness")),
        readiness=_probe(asked.get("readiness")),
        startup=_probe(asked.get("startup")),
        credentials_dir=CONFIG_DIR if "credentials" in pod.volumes else "",
        mounts=[static_pods.Mount(path) for path in _files(cluster, component)],
        data_dir=cluster.spec.etcd_data_dir,
        log_dir=cluster.spec.log_to_host and "logs" in pod.volumes,
        priority_class=value_at(pod.priority_class, minor) or "",
        seccomp=value_at(pod.seccomp, minor) or "",
    )


def _probe(row: Probe | None) -> static_pods.Probe | None:
    if not row:
        return None
    scheme: Literal["HTTP", "HTTPS"] = "HTTPS" if row.scheme == "HTTPS" else "HTTP"
    return static_pods.Probe(int(row.port), row.path, scheme, row.host, *row.times)


def _files(cluster: Cluster, component: str) -> list[str]:
    """The host's own files that a pod reads."""

    path = value_at(PODS[component].files, cluster.release.minor)
    return [path] if path else []


# Alone, it brings what it needs.
PHASES = (*kubelet.PHASES, run_etcd, run_apiserver, run_controller_manager, run_scheduler)

if "__name__" not in globals():
    run_phases(PHASES)
