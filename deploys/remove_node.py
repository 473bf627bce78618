"""
Take nodes out of a cluster: their objects, their routes or leases, and what ran on the hosts (F7).

    pyinfra INVENTORY deploys/remove_node.py --data remove_nodes='["kube-node-2"]'

The inventory still has the nodes: take them out of it afterwards.
"""

from __future__ import annotations

from pyinfra import logger
from pyinfra.api.exceptions import DeployError, FactError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import KUBECONFIGS
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.flannel import parse_leases
from pyinfra_kube.deploys.phases import kubelet, proxy
from pyinfra_kube.deploys.phases.container_runtime import options
from pyinfra_kube.deploys.phases.credentials import ADMIN, ca_file
from pyinfra_kube.deploys.phases.flannel import BINARY as FLANNELD
from pyinfra_kube.deploys.phases.flannel import api
from pyinfra_kube.deploys.run.context import Cluster, cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine.file_states import Files
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.etcd import EtcdKeys, trouble
from pyinfra_kube.facts.nodes import Nodes
from pyinfra_kube.operations import (
    bridge,
    control,
    docker,
    etcd,
    files,
    flannel,
    iptables,
    nodes,
    pods,
    routes,
    services,
    verify,
)
from pyinfra_kube.operations.kubelet import UNIT as KUBELET_UNIT
from pyinfra_kube.operations.proxy import UNIT as PROXY_UNIT

UNITS = ("kubelet.service", "kube-proxy.service")


@phase("Remove nodes")
def remove_nodes() -> None:
    """
    Take the nodes that ``remove_nodes`` names out of the cluster; no other is touched.

    Nothing is removed where it cannot be read what the cluster has of them.
    """

    it = cluster()
    _check(it)
    leases = _recorded(it)
    if it.is_first_master:
        _warn_of_absent(it)
    if it.me.name in it.spec.remove_nodes:
        leave(it)
    elif it.spec.network == "routes":
        gone = {it.plan.nodes[name].pod_cidr for name in it.spec.remove_nodes}
        routes.routes(
            name="Route to the pods of the other nodes",
            routes=[
                routes.Route(pods_, via=via)
                for pods_, via in it.plan.routes(it.me.name)
                if pods_ not in gone
            ],
        )
    # An operation of all hosts: what still runs would register, or take a lease, again.
    verify.look(name="Wait until the nodes have stopped", at=None)
    if it.is_first_master:
        nodes.node_objects(
            name="Delete the nodes' objects",
            absent=[it.spec.host(name).hostname_override for name in it.spec.remove_nodes],
            kubectl=_kubectl(),
            kubeconfig=ADMIN,
        )
    if it.spec.network == "flannel" and it.me.name == _keeper_of_leases(it):
        etcd.keys(
            name="Delete the nodes' leases",
            keys=[etcd.Key(path, "", present=False) for path in leases],
            endpoints=[_endpoint(it)],
            api=api(it),
        )

    known = it.book.read()
    control.save(
        name="Let their pod CIDRs be given to others",
        pending=lambda: [
            f"addresses.yaml: {name} has {known[name]} no more"
            for name in it.spec.remove_nodes
            if name in known and it.keeper and not _failed(it)
        ],
        write=it.forget,
    )


def leave(it: Cluster) -> None:
    """Stop and remove what makes the current host a node; docker stays, with its own network."""

    on_flannel = it.spec.network == "flannel"
    units = [*UNITS, *(["flanneld.service"] if on_flannel else [])]
    services.services(
        name="Stop the node's parts",
        units=[services.Unit(name, running=False, enabled=False) for name in units],
    )
    if on_flannel:
        flannel.flannel_absent(name="Remove flannel's network", network=it.spec.flannel_network)
    pods.pods_absent(name="Remove the pods that kubelet left")
    ours = [KUBELET_UNIT, PROXY_UNIT, kubelet.BINARY, proxy.BINARY]
    ours += [KUBECONFIGS["kubelet"], KUBECONFIGS["kube-proxy"], ca_file(it).path]
    ours += [FLANNELD] if it.spec.flannel_source else []
    files.files(
        name="Remove the node's files", files=[files.File(path, kind="absent") for path in ours]
    )
    iptables.rules(
        name="Remove the rules of the pods' network",
        rules=[],
        owner="kube-forward",
        present=False,
    )
    if not on_flannel:
        leave_bridge(it)


def leave_bridge(it: Cluster) -> None:
    """Remove the current host's bridge of pods, and the ways that lead to and from it."""

    iptables.masquerade(
        name="Remove the masquerade of the pods' network",
        cluster_subnet=it.plan.cluster_subnet,
        present=False,
    )
    routes.routes(name="Remove the routes to pods", present=False)
    docker.docker(
        name="Give docker its own network again",
        options=dict.fromkeys([*options(), "bip"], None),
        nofile=None,
    )
    bridge.bridge(name="Remove the bridge of the pods", bridge=BRIDGE, present=False)
    # A host that was made anew has none.
    if it.observed[it.me.name].docker:
        services.services(
            name="Run docker",
            units=[services.Unit("docker.service", config=docker.CONFIG)],
        )


def _check(it: Cluster) -> None:
    # A master's kubelet runs the control plane.
    known = [host.name for host in it.spec.nodes if host not in it.spec.masters]
    wrong = [name for name in it.spec.remove_nodes if name not in known]
    if wrong or not it.spec.remove_nodes:
        allowed = f"a list of nodes that are no masters: {', '.join(known)}"
        fix = """--data remove_nodes='["NODE"]'"""
        value = list(it.spec.remove_nodes) or None
        raise InputError([Problem("remove_nodes", value, None, allowed, fix)])


def _recorded(it: Cluster) -> list[str]:
    """
    See that the cluster tells what it has of nodes, and return the keys of the leases that the
    removed ones hold, on the host that deletes them.

    Raises ``DeployError``, for all hosts, where it does not.
    """

    absent = _needed(it) - {host.name for host in ctx_state.get().active_hosts}
    if absent:
        reasons = [f"{name} takes no part in this run" for name in sorted(absent)]
        raise _refusal(", ".join(reasons))
    try:
        if it.is_first_master:
            states = read(Nodes, kubectl=_kubectl(), kubeconfig=ADMIN, server="")
            if states.status != "ok":
                raise FactError(states.reason or "kubectl is not installed")
        on_flannel = it.spec.network == "flannel"
        return _leases(it) if on_flannel and it.me.name == _keeper_of_leases(it) else []
    except FactError as error:
        raise _refusal(f"{it.me.name}: {error}") from error


def _warn_of_absent(it: Cluster) -> None:
    active = {host.name for host in ctx_state.get().active_hosts}
    for name in it.spec.remove_nodes:
        if name not in active:
            logger.warning(
                f"{name} takes no part in this run: nothing is stopped there, and its pod CIDR may "
                "be given to another node. Run this again when it can be reached, or never start "
                "it again as it is"
            )


def _refusal(why: str) -> DeployError:
    return DeployError(
        f"what the cluster has of its nodes cannot be read: {why}; nothing is removed before it can"
    )


def _needed(it: Cluster) -> set[str]:
    """The hosts that delete what the cluster has of nodes."""

    of_leases = {_keeper_of_leases(it)} if it.spec.network == "flannel" else set()
    return {it.spec.masters[0].name} | of_leases


def _keeper_of_leases(it: Cluster) -> str:
    return it.spec.etcd_members[0].name


def _failed(it: Cluster) -> bool:
    """Whether something that the cluster has of the nodes may still be there."""

    return not _needed(it).isdisjoint(host.name for host in ctx_state.get().failed_hosts)


def _kubectl() -> str:
    paths = ("/usr/local/bin/kubectl", "/usr/bin/kubectl")
    found = read(Files, paths=paths, digest=False)
    return next((path for path in paths if path in found), "kubectl")


def _leases(it: Cluster) -> list[str]:
    """The keys of the leases that the nodes hold."""

    prefix, endpoints = it.spec.flannel_etcd_prefix, [_endpoint(it)]
    found = read(EtcdKeys, endpoints=endpoints, prefix=f"{prefix}/", api=api(it))
    if found.status != "ok":
        raise FactError(trouble(found.status, found.said, endpoints, api(it)))
    addresses = {it.plan.addresses[name] for name in it.spec.remove_nodes}
    # flanneld may use another interface than the one that we reach the host by.
    seen = [it.observed[name] for name in it.spec.remove_nodes if name in it.observed]
    addresses |= {address for host in seen for address in host.addresses}
    values = {path: state.value for path, state in found.keys.items()}
    return [lease.key for lease in parse_leases(values, prefix) if lease.public_ip in addresses]


def _endpoint(it: Cluster) -> str:
    return f"http://127.0.0.1:{it.spec.etcd_client_port}"


if "__name__" not in globals():
    remove_nodes()
