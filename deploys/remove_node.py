"""
Remove nodes from a cluster: their objects, their routes or leases, and what ran on their hosts.

    pyinfra INVENTORY deploys/remove_node.py --data remove_nodes='["kube-node-2"]'

The inventory must still have the nodes. Remove them from it afterwards.
"""

from __future__ import annotations

from pyinfra import logger
from pyinfra.api.exceptions import DeployError, FactError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import COMPONENTS, NODE_COMPONENTS
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases import flannel, kube_proxy, kubelet, liveness, node_logs
from pyinfra_kube.deploys.phases.container_runtime import options, run_docker
from pyinfra_kube.deploys.phases.credentials import ADMIN, ca_file, serving_files
from pyinfra_kube.deploys.phases.firewalls import open_firewalld
from pyinfra_kube.deploys.phases.pod_network import leave_forwarding, leave_network, set_routes
from pyinfra_kube.deploys.run.context import Cluster, current_cluster, told
from pyinfra_kube.deploys.run.kubectl import kubectl_program
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.etcd import EtcdKeys, trouble
from pyinfra_kube.facts.flannel import lease_states
from pyinfra_kube.facts.nodes import Nodes
from pyinfra_kube.operations import (
    control_machine,
    docker,
    docker_on_flannel,
    etcd,
    files,
    nodes,
    packages,
    pods,
    policy_rules,
    services,
    verify,
)
from pyinfra_kube.operations.component_unit import UNITS as COMPONENT_UNITS

UNITS = ("kubelet.service", "kube-proxy.service")


@phase("Remove nodes")
def remove_nodes() -> None:
    """
    Remove the nodes that ``remove_nodes`` names, and no others.

    Nothing is removed while the cluster cannot tell its nodes and leases.
    """

    cluster = current_cluster()
    _check(cluster)
    leases = _recorded(cluster)
    if cluster.is_first_control_plane:
        _warn_of_absent(cluster)
    if cluster.host_spec.name in cluster.spec.remove_nodes:
        leave(cluster)
    elif cluster.spec.network == "routes":
        set_routes(cluster, gone=cluster.spec.remove_nodes)
    if cluster.host_spec.name not in cluster.spec.remove_nodes:
        open_firewalld(cluster, gone=cluster.spec.remove_nodes)
    # An operation of all hosts: a kubelet or flanneld that still runs would register again.
    verify.barrier(name="Wait until the nodes have stopped", at=None)
    if cluster.is_first_control_plane:
        gone = [cluster.spec.host(name).hostname_override for name in cluster.spec.remove_nodes]
        nodes.node_objects(
            name="Delete the nodes' objects",
            absent=gone,
            kubectl=kubectl_program(),
            kubeconfig=ADMIN,
        )
    if _deletes_leases(cluster):
        etcd.keys(
            name="Delete the nodes' leases",
            keys=[etcd.Key(path, "", present=False) for path in leases],
            api=cluster.flannel_api,
            **cluster.etcd_as_member,
        )

    known = cluster.book.read()
    control_machine.save(
        name="Release their pod CIDRs",
        pending=lambda: [
            f"addresses.yaml: {name} has {known[name]} no more"
            for name in cluster.spec.remove_nodes
            if name in known and cluster.runs_once and not _failed(cluster)
        ],
        write=cluster.forget,
    )


def leave(cluster: Cluster) -> None:
    """
    Stop and remove what makes the current host a node. The container runtime stays; docker gets its
    own network.
    """

    spec = cluster.spec
    liveness.forget_monitors(cluster)
    units = [*UNITS, *(["flanneld.service"] if spec.flannel_leases else [])]
    services.services(
        name="Stop the node's services",
        units=[services.Unit(name, running=False, enabled=False) for name in units],
    )
    if spec.flannel_leases:
        docker_on_flannel.flannel_absent(
            name="Remove flannel's network", network=spec.flannel_network
        )
    pods.pods_absent(name="Remove the pods that kubelet left", runtime=cluster.runtime.name)
    policy_rules.policy_rules_absent(name="Remove the rules of NetworkPolicies")
    node_logs.forget_logs()
    if not spec.flannel_leases:
        flannel.remove_flannel(cluster)
    kube_proxy.remove_rules(cluster)
    files.files(
        name="Remove the node's files",
        files=[files.File(path, kind="absent") for path in node_files(cluster)],
    )
    open_firewalld(cluster, present=False)
    if not cluster.is_a("etcd"):
        packages.locked(name="Unlock the versions of packages", packages=[])
    if spec.flannel_leases:
        leave_forwarding(cluster)
        return
    if cluster.runtime is DOCKER:
        docker.docker(
            name="Restore docker's own network",
            options=dict.fromkeys([*options(), "bip"], None),
            nofile=None,
        )
    leave_network(cluster)
    # A host that was installed anew has no docker.
    if cluster.runtime is DOCKER and cluster.own_facts.docker:
        run_docker(cluster)


def node_files(cluster: Cluster) -> list[str]:
    """
    The files that make the current host a node.

    + cluster: the cluster
    """

    parts = [COMPONENTS[name] for name in NODE_COMPONENTS]
    ours = [*COMPONENT_UNITS.values(), kubelet.BINARY, kube_proxy.BINARY]
    ours += [part.kubeconfig for part in parts]
    ours += [part.configuration for part in parts if part.configuration]
    ours += [file.path for file in serving_files(cluster)]
    ours.append(ca_file(cluster).path)
    return ours + ([flannel.BINARY] if cluster.spec.flannel_source else [])


def _check(cluster: Cluster) -> None:
    # A control-plane host's kubelet runs the control plane.
    known = [host.name for host in cluster.spec.nodes if host not in cluster.spec.control_plane]
    wrong = [name for name in cluster.spec.remove_nodes if name not in known]
    if wrong or not cluster.spec.remove_nodes:
        allowed = f"a list of nodes outside of the control plane: {', '.join(known)}"
        fix = """--data remove_nodes='["NODE"]'"""
        value = list(cluster.spec.remove_nodes) or None
        raise InputError([Problem("remove_nodes", value, None, allowed, fix)])


def _recorded(cluster: Cluster) -> list[str]:
    """
    Check that the cluster's nodes and leases can be read. On the host that deletes leases, return
    the keys of those that the removed nodes hold.

    Raises ``DeployError`` for all hosts where they cannot be read.
    """

    if absent := _needed(cluster) - cluster.active:
        reasons = [f"{name} takes no part in this run" for name in sorted(absent)]
        raise _refusal(", ".join(reasons))
    try:
        if cluster.is_first_control_plane:
            states = read(Nodes, kubectl=kubectl_program(), kubeconfig=ADMIN, server="")
            if states.status != "ok":
                raise FactError(states.reason or "kubectl is not installed")
        return _leases(cluster) if _deletes_leases(cluster) else []
    except FactError as error:
        raise _refusal(f"{cluster.host_spec.name}: {error}") from error


def _warn_of_absent(cluster: Cluster) -> None:
    active = cluster.active
    for name in (name for name in cluster.spec.remove_nodes if name not in active):
        logger.warning(
            f"{name} takes no part in this run: nothing is stopped there, and its pod CIDR may be "
            "given to another node. Run this again when it can be reached, or never start it again "
            "as it is"
        )


def _refusal(why: str) -> DeployError:
    return DeployError(
        f"the cluster's nodes and leases cannot be read: {why}; nothing is removed before they can"
    )


def _needed(cluster: Cluster) -> set[str]:
    """The hosts that delete nodes' objects and leases."""

    of_leases = {cluster.spec.etcd_members[0].name} if cluster.spec.flannel_in_etcd else set()
    return {cluster.spec.control_plane[0].name} | of_leases


def _deletes_leases(cluster: Cluster) -> bool:
    """Whether the current host is the one that deletes leases."""

    return cluster.spec.flannel_in_etcd and cluster.host_spec == cluster.spec.etcd_members[0]


def _failed(cluster: Cluster) -> bool:
    """Whether something that the cluster has of the nodes may still be there."""

    return not _needed(cluster).isdisjoint(host.name for host in ctx_state.get().failed_hosts)


def _leases(cluster: Cluster) -> list[str]:
    """The keys of the leases that the nodes hold."""

    prefix, access = cluster.spec.flannel_etcd_prefix, cluster.etcd_as_member
    found = read(EtcdKeys, prefix=f"{prefix}/", api=cluster.flannel_api, **access)
    if found.status != "ok":
        raise FactError(trouble(found.status, found.said, access["endpoints"], cluster.flannel_api))
    hosts = [cluster.spec.host(name) for name in cluster.spec.remove_nodes]
    addresses = {cluster.plan.addresses[host.name] for host in hosts}
    # flanneld may use another interface than the one that we reach the host by.
    addresses |= {one for _, seen in told(hosts, cluster.host_facts) for one in seen.addresses}
    leases = lease_states(found, prefix).leases
    return [lease.key for lease in leases if lease.public_ip in addresses]


if "__name__" not in globals():
    remove_nodes()
