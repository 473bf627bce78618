"""
etcd and the control plane as Fedora's units.
"""

from __future__ import annotations

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.components.rendering import named_files
from pyinfra_kube.cluster.fedora_variables import CONFIG, own_file
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases.credentials import (
    FEDORA_GROUP,
    credential_files,
    give_fedora_credentials,
    keep_credentials,
)
from pyinfra_kube.deploys.phases.fedora_environment import (
    ETCD,
    component_files,
    etcd_file,
    limit_files,
)
from pyinfra_kube.deploys.phases.fedora_hosts import prepare_fedora_host
from pyinfra_kube.deploys.phases.fedora_units import run_in_order, set_control_plane, set_etcd
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import environment, files, services


@phase("etcd")
def run_fedora_etcd() -> None:
    """Configure and run etcd where it is a member."""

    cluster = current_cluster()
    if cluster.is_a("etcd") and cluster.runtime is not DOCKER:
        set_etcd(cluster)
    elif cluster.is_a("etcd"):
        held = [file.path for file in credential_files(cluster, FEDORA_GROUP)]
        read = named_files(cluster.command_line("etcd"), held)
        environment.environment_files(name="Configure etcd", files=[etcd_file(cluster)])
        services.services(name="Run etcd", units=[cluster.unit("etcd", [ETCD, *read])])


@phase("Control plane")
def run_fedora_control_plane() -> None:
    """Configure the apiserver, the controller manager and the scheduler, and run them."""

    cluster = current_cluster()
    if not cluster.is_a("control_plane"):
        return
    if cluster.runtime is not DOCKER:
        if not cluster.in_turn("node"):
            set_control_plane(cluster)
        return
    settings = component_files(cluster, CONTROL_PLANE_COMPONENTS)
    held = [file.path for file in credential_files(cluster, FEDORA_GROUP) if file.kind == "file"]
    named = {one: named_files(cluster.command_line(one), held) for one in CONTROL_PLANE_COMPONENTS}
    units = {one: cluster.unit(one, [CONFIG, own_file(one), *named[one]]) for one in named}
    environment.environment_files(name="Configure the control plane", files=settings)
    limits = limit_files(CONTROL_PLANE_COMPONENTS)
    files.files(name="Set when the control plane starts again", files=limits)
    run_in_order(cluster, units)


# Alone, it brings what it needs.
ETCD_PHASES = (prepare_fedora_host, keep_credentials, give_fedora_credentials, run_fedora_etcd)
PHASES = (*ETCD_PHASES, run_fedora_control_plane)

if "__name__" not in globals():
    run_phases(PHASES)
