"""
flannel on nodes that the apiserver knows: flanneld as a unit, which carries the packets of pods.
"""

from __future__ import annotations

from pyinfra_kube.cluster.components import flanneld
from pyinfra_kube.deploys.phases import control_plane
from pyinfra_kube.deploys.phases.addons import allow_components
from pyinfra_kube.deploys.phases.credentials import kubeconfig_file
from pyinfra_kube.deploys.phases.kube_proxy import run_kube_proxy
from pyinfra_kube.deploys.phases.verification import register_nodes
from pyinfra_kube.deploys.run.artifacts import lone_program
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import Files
from pyinfra_kube.operations import binaries, component_unit, files, flannel, services

BINARY = "/usr/local/bin/flanneld"


@phase("flannel")
def leave_flannel() -> None:
    """Stop and remove a flanneld of ours that was there from before, where it is not wanted."""

    cluster = current_cluster()
    if not cluster.spec.flannel_on_api:
        remove_flannel(cluster)


@phase("flannel")
def run_flannel() -> None:
    """Run flanneld on nodes, which the apiserver must know with the pod CIDRs of the plan."""

    cluster = current_cluster()
    spec = cluster.spec
    if not (spec.flannel_on_api and cluster.is_a("node")):
        return
    program = binaries.Binary(BINARY, *lone_program(spec, "flannel", "flanneld"))
    binaries.binaries(name="Install flanneld", binaries=[program])
    network = files.File(flanneld.NET_CONFIG, _network(cluster))
    read_files = [network, kubeconfig_file(cluster, "flanneld")]
    folder = files.File(_FOLDER, kind="directory", mode="755")
    files.files(name="Set what flanneld reads", files=[folder, *read_files])
    component_unit.component_unit(
        name="Set flanneld's unit",
        component="flanneld",
        flags=flanneld.api_flags(cluster.host_spec.flannel_iface or cluster.own_address),
        binary=BINARY,
        node=cluster.host_spec.hostname_override,
    )
    config = [BINARY, *(file.path for file in read_files)]
    services.services(name="Run flanneld", units=[cluster.unit("flanneld", config)])
    # Not before: a flanneld that misses its device makes it again.
    flannel.devices_absent(
        name="Remove devices that flannel does not use",
        network=spec.cluster_cidr,
        keep=flanneld.device_of(spec.flannel_backend, spec.flannel_vni) or "none",
    )


def remove_flannel(cluster: Cluster) -> None:
    """Stop and remove the current host's flanneld, where it is one of ours."""

    # Nobody else has these files. They go last, so that a run that dies is taken up.
    ours = [flanneld.NET_CONFIG, flanneld.KUBECONFIG]
    ours += [flannel.DROP_IN, flannel.SYSCONFIG] if cluster.spec.flannel_in_etcd else []
    if not read(Files, paths=ours, digest=False):
        return
    stopped = services.Unit("flanneld.service", running=False, enabled=False)
    services.services(name="Stop flanneld", units=[stopped])
    flannel.devices_absent(
        name="Remove flannel's devices and routes", network=cluster.spec.cluster_cidr
    )
    paths = [component_unit.UNITS["flanneld"], BINARY, *ours]
    files.files(
        name="Remove flanneld's files", files=[files.File(path, kind="absent") for path in paths]
    )


_FOLDER = flanneld.NET_CONFIG.rpartition("/")[0]


def _network(cluster: Cluster) -> str:
    spec = cluster.spec
    return flanneld.network_config(
        spec.cluster_cidr,
        subnet_len=spec.node_cidr_mask_size,
        backend=spec.flannel_backend,
        vni=spec.flannel_vni,
        port=spec.flannel_port,
    )


# Alone, it brings what it needs.
PHASES = (
    *control_plane.PHASES,
    run_kube_proxy,
    allow_components,
    register_nodes,
    run_flannel,
)

if "__name__" not in globals():
    run_phases(PHASES)
