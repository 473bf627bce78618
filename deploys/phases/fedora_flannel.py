"""
flannel: its network in etcd, flanneld on the nodes. docker is on the subnet of its lease; from 1.24
on the lease is of the subnet that the plan gives the node.
"""

from __future__ import annotations

from typing import Any

from pyinfra_kube.cluster.certificates import etcd_user
from pyinfra_kube.cluster.components.etcd import CLIENT, FLANNEL
from pyinfra_kube.cluster.spec.ranges import pod_range
from pyinfra_kube.deploys.phases.fedora_control_plane import ETCD_PHASES
from pyinfra_kube.deploys.phases.flannel import BINARY
from pyinfra_kube.deploys.run.artifacts import lone_program
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import (
    binaries,
    docker_on_flannel,
    etcd_roles,
    flannel,
    services,
    verify,
)


@phase("flannel's network")
def set_flannel_network() -> None:
    """Set the network in etcd, from the first member."""

    cluster = current_cluster()
    if cluster.host_spec.name == cluster.spec.etcd_members[0].name:
        spec = cluster.spec
        flannel.network_config(
            name="Set flannel's network in etcd",
            network=spec.flannel_network,
            subnet_len=pod_range(spec)[1],
            backend=spec.flannel_backend,
            vni=spec.flannel_vni,
            port=spec.flannel_port,
            prefix=spec.flannel_etcd_prefix,
            api=cluster.flannel_api,
            allow_network_change=spec.allow_network_change,
            whole=not spec.flannel_leases,
            **cluster.etcd_as_member,
        )
    # An operation of all hosts: no flanneld starts before the network is set.
    verify.barrier(name="Wait until flannel's network is set", at=None)


@phase("flannel")
def run_flannel() -> None:
    """Run flanneld on nodes, and have docker, where there is one, use the subnet of its lease."""

    cluster = current_cluster()
    if not cluster.is_a("node"):
        return
    own = [BINARY] if cluster.spec.flannel_source else []
    if own:
        program = binaries.Binary(BINARY, *lone_program(cluster.spec, "flannel", "flanneld"))
        binaries.binaries(name="Install flanneld", binaries=[program])
    reach: dict[str, Any] = {
        "prefix": cluster.spec.flannel_etcd_prefix,
        "api": cluster.flannel_api,
        **cluster.etcd_as_flannel,
    }
    subnet = "" if cluster.spec.flannel_leases else cluster.node.bridge_address
    flannel.flanneld(
        name="Configure flanneld",
        iface=cluster.host_spec.flannel_iface,
        # What lets packets of planned subnets pass is there without flanneld.
        options=["-iptables-forward-rules=false"] if subnet else [],
        binary=BINARY if own else None,
        subnet=subnet,
        **reach,
    )
    held = [path for path in map(reach.get, ("ca", "cert", "key")) if path]
    unit = cluster.unit("flanneld", [*flannel.CONFIG, *held, *own])
    services.services(name="Run flanneld", units=[unit])
    leased = flannel.lease(
        name="Get a lease of flannel's network",
        network=cluster.spec.flannel_network,
        backend=cluster.spec.flannel_backend,
        vni=cluster.spec.flannel_vni,
        port=cluster.spec.flannel_port,
        runtime=cluster.runtime.name,
        subnet=subnet,
        **reach,
    )
    if not subnet:
        docker_on_flannel.docker_options(
            name="Have docker use flannel's subnet", predict=leased.will_change
        )


@phase("flannel's role")
def limit_flannel() -> None:
    """Have etcd let flanneld read and write its own keys only, where it can."""

    cluster = current_cluster()
    members = cluster.spec.etcd_members
    if not cluster.flannel_has_role or cluster.host_spec != members[0]:
        return
    everything = [CLIENT.user, *(etcd_user(member).user for member in members)]
    access = cluster.etcd_as_member
    etcd_roles.roles(
        name="Limit flannel to its own keys in etcd",
        users={
            **{user: [etcd_roles.ROOT] for user in everything},
            FLANNEL.user: [FLANNEL.user],
        },
        prefixes={FLANNEL.user: f"{cluster.spec.flannel_etcd_prefix}/"},
        endpoint=access.pop("endpoints")[0],
        **access,
    )


# Alone, it brings what it needs.
PHASES = (*ETCD_PHASES, set_flannel_network, run_flannel)

if "__name__" not in globals():
    run_phases(PHASES)
