"""
What hosts and the API tell of a cluster's topology.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from pyinfra import logger
from pyinfra.api.exceptions import DeployError, FactError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.allocation.plan import ROLES
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.deploys.run.kubectl import kubectl_program
from pyinfra_kube.deploys.run.packet_way import Way, ways
from pyinfra_kube.deploys.run.topology import BRIDGED, FORWARDING, HostView, Topology
from pyinfra_kube.engine import internals
from pyinfra_kube.engine.snapshot import expect, read
from pyinfra_kube.engine.subject import Subject
from pyinfra_kube.facts.bridge import Links
from pyinfra_kube.facts.firewall import OtherFirewalls, of_iptables
from pyinfra_kube.facts.iptables import Rules, Ruleset
from pyinfra_kube.facts.nftables import MASQUERADE, NftTable, with_masquerade
from pyinfra_kube.facts.nodes import Node, Nodes, NodeStates
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.facts.sysctl import Sysctls
from pyinfra_kube.facts.ways import Decision, Decisions, Peers, PeerStates, ProxyChains
from pyinfra_kube.facts.workloads import Workloads, WorkloadStates

T = TypeVar("T")

_lock = internals.Lock()


def look(cluster: Cluster) -> tuple[Topology, list[Way]]:
    """
    Return the topology of a cluster, and the ways of the packet that its data name. Whoever comes
    first asks all hosts, while the others wait.

    + cluster: it

    Raises ``InputError``, and ``DeployError`` where the API does not tell what a way needs.
    """

    start, to = cluster.spec.packet_from, cluster.spec.packet_to
    with _lock:
        seen = cluster.notes("topology")
        if not seen:
            topology = seen["topology"] = _topology(cluster)
            ask = partial(_decision, cluster)
            seen["ways"] = ways(topology, start, to, ask) if start and to else []
    return seen["topology"], seen["ways"]


def _topology(cluster: Cluster) -> Topology:
    spec, plan = cluster.spec, cluster.plan
    nodes, workloads = _of_api(cluster)
    views = _on(cluster, [host.name for host in spec.hosts], _view)
    hosts = [_known(cluster, host, nodes, views) for host in spec.hosts]
    others = {"routes": "the hosts' routes", "none": "a CNI plugin of the owner's"}
    by = others.get(spec.network, f"flannel ({spec.flannel_backend})")
    return Topology(
        name=spec.cluster_name,
        cluster_cidr=spec.cluster_cidr,
        service_cidr=spec.service_cidr,
        service_ip=plan.service_ip,
        dns=str(spec.cluster_dns),
        pods_by=f"packets from host to host go by {by}",
        hosts=hosts,
        pods=workloads.pods,
        services=workloads.services,
    )


def _on(cluster: Cluster, names: Sequence[str], ask: Callable[[], T]) -> dict[str, T | str]:
    """What some hosts answer, or why one does not."""

    state, arguments = ctx_state.get(), internals.deploy_arguments()

    def there() -> T | str:
        with internals.called_with(arguments):
            try:
                return ask()
            except FactError as error:
                return str(error)

    silent = {name: str(error) for name, error in cluster.unanswered.items()}
    active = [name for name in names if name in cluster.active and name not in silent]
    told = internals.on_each([state.inventory.get_host(name) for name in active], there)
    absent = dict.fromkeys(names, "it takes no part in this run")
    return {**absent, **{n: why for n, why in silent.items() if n in names}, **told}


def _of_api(cluster: Cluster) -> tuple[dict[str, Node], WorkloadStates]:
    """The nodes, pods and services that the first apiserver tells that answers."""

    access = {"kubeconfig": ADMIN, "server": ""}

    def ask() -> tuple[NodeStates, WorkloadStates]:
        asked = {"kubectl": kubectl_program(), **access}
        expect([Subject(Nodes, asked), Subject(Workloads, asked)])
        return read(Nodes, **asked), read(Workloads, **asked)

    why = ""
    for host in cluster.spec.control_plane:
        found = _on(cluster, [host.name], ask)[host.name]
        if not isinstance(found, str) and (found[0].status, found[1].status) == ("ok", "ok"):
            return found[0].nodes, found[1]
        reason = found if isinstance(found, str) else found[1].reason or found[0].reason
        why = f"{host.name}: {reason or 'kubectl is not installed'}"
    if cluster.spec.packet_from:
        raise DeployError(f"the API does not tell pods and services: {why}")
    logger.warning(f"the API does not tell pods and services: {why}")
    return {}, WorkloadStates()


def _view() -> dict[str, Any]:
    """What the current host tells, in one round trip."""

    keys = {"keys": [FORWARDING, BRIDGED]}
    facts = [Subject(fact) for fact in (Links, Routes, Rules, OtherFirewalls, Peers, ProxyChains)]
    ours = {"table": MASQUERADE}
    expect([*facts, Subject(Sysctls, keys), Subject(NftTable, ours)])
    rules = with_masquerade(read(Rules), read(NftTable, **ours)) or Ruleset({}, ())
    return {
        "links": read(Links),
        "routes": read(Routes) or [],
        "rules": rules,
        "chains": [*of_iptables(rules), *read(OtherFirewalls).chains],
        "peers": read(Peers) or PeerStates(),
        "proxy": read(ProxyChains) or {},
        "sysctls": read(Sysctls, **keys),
    }


def _known(
    cluster: Cluster,
    host: HostSpec,
    nodes: Mapping[str, Node],
    views: Mapping[str, dict[str, Any] | str],
) -> HostView:
    node, planned = nodes.get(host.hostname_override), cluster.plan.nodes.get(host.name)
    # flannel's leases say who has which subnet.
    told = "" if cluster.spec.flannel_leases or not node else node.pod_cidr
    view = views[host.name]
    return HostView(
        name=host.name,
        address=cluster.plan.addresses[host.name] or "",
        roles=" ".join(name for role, name in ROLES.items() if role in host.roles),
        node=host.hostname_override if "node" in host.roles or node else "",
        pod_cidr=told or (planned.pod_cidr if planned else ""),
        **(view if isinstance(view, dict) else {"silent": view}),
    )


def _decision(cluster: Cluster, host: str, destination: str, source: str, into: str) -> Decision:
    """What the kernel of a host decides about a packet."""

    asked = {"destination": destination, "source": source, "into": into}
    found = _on(cluster, [host], lambda: read(Decisions, **asked))[host]
    return found if isinstance(found, Decision) else Decision(said=found or "iproute2 is missing")
