"""
The control plane as static pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pyinfra_kube.cluster.components import PODS, components_on
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.kube_apiserver import (
    AUDIT_POLICY,
    AUTHENTICATION_APIS,
    AUTHENTICATION_FILE,
)
from pyinfra_kube.cluster.components.rendering import (
    named_files,
    probes,
    reread_files,
)
from pyinfra_kube.cluster.components.rows import ALWAYS, Pod, Probe
from pyinfra_kube.cluster.encryption import IDENTITY, Providers
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.releases import value_at
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.deploys.phases import kubelet
from pyinfra_kube.deploys.phases.credentials import credential_files
from pyinfra_kube.deploys.run import host_facts
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations import binaries, files, images, static_pods

KUBECTL = host_facts.KUBECTL


@phase("Control plane")
def run_control_plane() -> None:
    """
    Run the current host's part of the control plane, with kubectl beside it.

    What changes on a host changes at once: each change by itself would be a time without an API.
    """

    cluster = current_cluster()
    components = pods_on(cluster)
    if components and not cluster.in_turn("control plane"):
        set_pods(cluster, components)


def set_pods(cluster: Cluster, components: list[str], whose: str = "the control plane") -> None:
    """
    Run components on the current host as static pods, with kubectl beside an apiserver.

    + cluster: the cluster
    + components: their names
    + whose: what they are called together
    """

    images.images(
        name=f"Load or pull {whose}'s images",
        files={k: v for component in components for k, v in cluster.image(component).items()},
        runtime=cluster.runtime.name,
        digests=cluster.spec.image_sha256,
    )
    read_files = [file for component in components for file in component_files(cluster, component)]
    if "etcd" in components:
        data = files.File(cluster.spec.etcd_data_dir, kind="directory", mode="700")
        read_files.insert(0, data)
    files.files(name=f"Set what {whose} reads, and its folders", files=read_files)
    static_pods.static_pods(
        name=f"Run {whose} as static pods",
        pods=[static_pod(cluster, component) for component in components],
        directory=cluster.spec.manifest_dir,
        runtime=cluster.runtime.name,
        leave_first=bool(cluster.release.fact("static_pods_wait")),
        missing=lambda: _failed(cluster),
        # One host after the other: of several apiservers and members of etcd most run at any time.
        _serial=sum(bool(pods_of(host)) for host in cluster.spec.hosts) > 1,
    )
    if "kube-apiserver" in components:
        source, digest = cluster.artifacts.binary("kubectl")
        kubectl = binaries.Binary(KUBECTL, source, digest)
        binaries.binaries(name="Install kubectl", binaries=[kubectl])


def _failed(cluster: Cluster) -> str:
    """Which hosts had their turn before the current one, and failed."""

    turns = cluster.notes("turns")
    failed = [name for name in turns if name not in cluster.active]
    turns[cluster.host_spec.name] = True
    if not failed:
        return ""
    return f"{', '.join(failed)} failed when it had this, see above: mend that, and run again"


def pods_on(cluster: Cluster) -> list[str]:
    """The components that run as static pods on the current host."""

    return pods_of(cluster.host_spec)


def pods_of(host: HostSpec) -> list[str]:
    """The components that run as static pods on a host."""

    return [component for component in components_on(host.roles) if component in PODS]


def ready_url(cluster: Cluster, component: str) -> str:
    """Where a component of the current host tells that it is ready; empty where it tells nobody."""

    asked = probes(component, cluster.release, cluster.settings())
    row = asked.get("readiness", asked["liveness"])
    return f"{row.scheme.lower()}://{row.host}:{row.port}{row.path}" if row.path else ""


def component_files(cluster: Cluster, component: str) -> list[files.File]:
    """
    Return what a component reads besides credentials, and the folders that it writes to.

    + cluster: the cluster
    + component: its name
    """

    found = cluster.configuration(component)
    if component == "kube-apiserver":
        found += apiserver_files(cluster)
    return found


def apiserver_files(cluster: Cluster) -> list[files.File]:
    """
    Return what the apiserver reads besides credentials, and the folder of its audit log.

    + cluster: the cluster
    """

    flags, found = cluster.command_line("kube-apiserver"), []
    api_version = value_at(AUTHENTICATION_APIS, cluster.release.minor)
    if named_files(flags, [AUTHENTICATION_FILE]):
        text = render("srv/kubernetes/authentication.yaml.j2", api_version=api_version)
        found.append(files.File(AUTHENTICATION_FILE, text))
    if named_files(flags, [AUDIT_POLICY]):
        found.append(files.File(AUDIT_POLICY, render("srv/kubernetes/audit-policy.yaml.j2")))
    written = _written(PODS["kube-apiserver"], flags)
    return [*found, *(files.File(path, kind="directory", mode="700") for path in written)]


def static_pod(
    cluster: Cluster,
    component: str,
    providers: Providers | None = None,
    facts: Mapping[str, object] = ALWAYS,
) -> static_pods.StaticPod:
    """
    Return the static pod of a component on the current host.

    + cluster, component, providers, facts: as of ``manifest``
    """

    known = [*credential_files(cluster), *component_files(cluster, component)]
    own = [file.path for file in known if file.kind == "file"]
    named = named_files(cluster.command_line(component, **facts), own)
    again = reread_files(component, cluster.release, cluster.settings(**facts))
    return static_pods.StaticPod(
        component,
        manifest=manifest(cluster, component, providers, facts),
        config=[*(path for path in named if path not in again), *_files(cluster, component)],
        rereads=[path for path in named if path in again],
        ready=ready_url(cluster, component),
    )


def manifest(
    cluster: Cluster,
    component: str,
    providers: Providers | None = None,
    facts: Mapping[str, object] = ALWAYS,
) -> str:
    """
    Return the manifest of a component on the current host.

    + cluster: the cluster
    + component: which one
    + providers: of encryption, where they are others than those that the run begins with
    + facts: settings of its command line that are others than those that the run begins with
    """

    asked = probes(component, cluster.release, cluster.settings(**facts))
    pod, minor = PODS[component], cluster.release.minor
    encrypted: dict[str, Any] = {"encryption_file": None} if providers == (IDENTITY,) else {}
    image = image_of(component, cluster.spec)
    flags = cluster.command_line(component, **{**facts, **encrypted})
    return static_pods.manifest(
        component,
        image=image.name,
        command=image.command,
        flags=flags,
        probe=_probe(asked.get("liveness")),
        readiness=_probe(asked.get("readiness")),
        startup=_probe(asked.get("startup")),
        credentials_dir=CONFIG_DIR if _reads_credentials(pod, flags) else "",
        mounts=[
            *(static_pods.Mount(path) for path in _files(cluster, component)),
            *(static_pods.Mount(path, read_only=False) for path in _written(pod, flags)),
        ],
        data_dir=cluster.spec.etcd_data_dir,
        log_dir=cluster.spec.log_to_host and "logs" in pod.volumes,
        priority_class=value_at(pod.priority_class, minor) or "",
        seccomp=value_at(pod.seccomp, minor) or "",
    )


def _reads_credentials(pod: Pod, flags: list[str]) -> bool:
    return "credentials" in pod.volumes or any(f"={CONFIG_DIR}/" in flag for flag in flags)


def _written(pod: Pod, flags: list[str]) -> list[str]:
    return [path for path in pod.written if any(f"={path}/" in flag for flag in flags)]


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
PHASES = (*kubelet.PHASES, run_control_plane)

if "__name__" not in globals():
    run_phases(PHASES)
