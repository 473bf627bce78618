"""
etcd and the control plane as Fedora's units.
"""

from __future__ import annotations

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.components.rendering import named_files
from pyinfra_kube.deploys.phases.credentials import (
    FEDORA_GROUP,
    control_plane_files,
    give_fedora_credentials,
    keep_credentials,
)
from pyinfra_kube.deploys.phases.fedora_environment import ETCD, component_files, etcd_file
from pyinfra_kube.deploys.phases.fedora_hosts import prepare_fedora_host
from pyinfra_kube.deploys.phases.verification import answers, wait_until
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations import environment, files, services

DROP_IN = "/etc/systemd/system/kube-apiserver.service.d/kubernetes.conf"


@phase("etcd")
def run_fedora_etcd() -> None:
    """Configure and run etcd where it is a member."""

    cluster = current_cluster()
    if cluster.is_a("etcd"):
        environment.environment_files(name="Configure etcd", files=[etcd_file(cluster)])
        services.services(
            name="Run etcd",
            units=[
                services.Unit(
                    "etcd.service", config=[ETCD], own=True, take_over=cluster.spec.take_over_units
                )
            ],
        )


@phase("Control plane")
def run_fedora_control_plane() -> None:
    """Configure the apiserver, the controller manager and the scheduler, and run them."""

    cluster = current_cluster()
    if not cluster.is_a("control_plane"):
        return
    settings = component_files(cluster, CONTROL_PLANE_COMPONENTS)
    held = [file.path for file in control_plane_files(cluster, FEDORA_GROUP) if file.kind == "file"]
    units = {
        component: services.Unit(
            f"{component}.service",
            config=[
                settings[0].path,
                own.path,
                *named_files(cluster.command_line(component), held),
            ],
            own=True,
            take_over=cluster.spec.take_over_units,
        )
        for component, own in zip(CONTROL_PLANE_COMPONENTS, settings[1:], strict=True)
    }
    environment.environment_files(name="Configure the control plane", files=settings)
    in_time = files.File(DROP_IN, render(f"{DROP_IN[1:]}.j2"))
    files.files(name="Limit how long the apiserver takes to stop", files=[in_time])
    services.services(name="Run the apiserver", units=[units.pop("kube-apiserver")])
    # The others exit again and again until it answers.
    apiserver = answers(cluster, "kube-apiserver", "unit")
    wait_until(cluster, "Wait for the apiserver to answer", [apiserver])
    services.services(
        name="Run the controller manager and the scheduler", units=list(units.values())
    )


# Alone, it brings what it needs.
if "__name__" not in globals():
    run_phases(
        [
            prepare_fedora_host,
            keep_credentials,
            give_fedora_credentials,
            run_fedora_etcd,
            run_fedora_control_plane,
        ]
    )
