"""
flannel on nodes that the apiserver knows: flanneld as a unit, which carries the packets of pods.
"""

from __future__ import annotations

from pathlib import Path

from pyinfra_kube.cluster.components import flanneld
from pyinfra_kube.deploys.phases.credentials import kubeconfig_file
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.operations import binaries, component_unit, files, services

BINARY = "/usr/local/bin/flanneld"


@phase("flannel")
def run_flannel() -> None:
    """Run flanneld on nodes, with the pod CIDRs of the plan."""

    cluster = current_cluster()
    spec = cluster.spec
    if not (spec.flannel_on_api and cluster.is_a("node")):
        return
    source, digest = program_in(spec.flannel_source or ""), spec.flannel_sha256 or ""
    program = binaries.Binary(BINARY, source, digest)
    binaries.binaries(name="Install flanneld", binaries=[program])
    network = files.File(flanneld.NET_CONFIG, _network(cluster))
    read_files = [network, kubeconfig_file(cluster, "flanneld")]
    folder = files.File(flanneld.NET_CONFIG.rpartition("/")[0], kind="directory", mode="755")
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


def _network(cluster: Cluster) -> str:
    spec = cluster.spec
    return flanneld.network_config(
        spec.cluster_cidr,
        subnet_len=spec.node_cidr_mask_size,
        backend=spec.flannel_backend,
        vni=spec.flannel_vni,
        port=spec.flannel_port,
    )


def program_in(source: str) -> str:
    """
    Return flanneld's URL or file; the inventory may name the folder of the file.

    + source: as the inventory gives it
    """

    path = Path(source).expanduser()
    return source if "://" in source else str(path / "flanneld" if path.is_dir() else path)
