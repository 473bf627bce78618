"""Which connections of a host are tried when a cluster is verified."""

from __future__ import annotations

from collections.abc import Mapping

from pyinfra_kube.cluster.components.own_ports import kubelet_port
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from pyinfra_kube.deploys.run import questions
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.deploys.run.wanted import runs_dns
from pyinfra_kube.facts.etcd import curl
from pyinfra_kube.facts.processes import parse_flags

# Of a pod that nobody serves on it: a refusal is an answer.
_CLOSED = 9
_DNS = 53
# So many other nodes are tried from each node.
_TARGETS = 16


def ways(cluster: Cluster, pods: Mapping[str, Mapping[str, bool]]) -> dict[str, str]:
    """
    Give the connections of the current host that verification tries, as shell.

    + cluster: the cluster
    + pods: by node the addresses of running pods, and whether each is of CoreDNS
    """

    spec, plan, me = cluster.spec, cluster.plan, cluster.host_spec
    found: dict[str, str] = {}
    others = [one for one in spec.hosts if one.name != me.name and one.name in cluster.host_facts]
    if len(others) > _TARGETS:
        at = spec.hosts.index(me)
        others = (others[at:] + others[:at])[:_TARGETS]
    for one in others:
        if address := plan.addresses[one.name]:
            found[f"to host {one.name}"] = questions.way(address, kubelet_port(spec), closed=True)
            found[f"to loss {one.name}"] = questions.loss_way(address, kubelet_port(spec))
            if "node" in one.roles and (access := _access_to_kubelets(cluster)):
                url = f"https://{address}:{kubelet_port(spec)}/healthz"
                found[f"to kubelet {one.name}"] = f"{curl(**access)} --fail {url}"
    for one in spec.control_plane:
        if one.name in cluster.host_facts and (address := plan.addresses[one.name]):
            found[f"to api {one.name}"] = questions.api_way(f"{address}:{spec.apiserver_port}")
    urls = [
        u
        for some in spec.registry_mirrors.values()
        for u in ([some] if isinstance(some, str) else some)
    ]
    found |= {
        f"to registry {url}": questions.registry_way(url) for url in dict.fromkeys(map(str, urls))
    }
    if spec.log_receiver and cluster.is_a("node"):
        found[f"to logs {spec.log_receiver}"] = questions.logs_way(spec.log_receiver)
    if not cluster.is_a("node") or spec.network == "none":
        return found
    for one in others:
        found |= _to_pods(cluster, one, pods.get(one.hostname_override, {}))
    if "kube-proxy" in cluster.units:
        found[f"to service {plan.service_ip}"] = questions.way(plan.service_ip, 443)
        if runs_dns(cluster):
            query = questions.dns_way(
                str(spec.cluster_dns), spec.cluster_domain, plan.service_ip, from_pod=True
            )
            found[f"to dns-service {spec.cluster_dns}"] = query
    if spec.node_local_dns:
        query = questions.dns_way(NODE_DNS, spec.cluster_domain, plan.service_ip, from_pod=True)
        found[f"to dns-node {NODE_DNS}"] = query
    for node, addresses in pods.items():
        for address in (one for one, is_dns in addresses.items() if is_dns):
            where = next((h.name for h in spec.hosts if h.hostname_override == node), node)
            query = questions.dns_way(address, spec.cluster_domain, plan.service_ip)
            found[f"to dns-pod {where} {address}"] = query
    return found


def _access_to_kubelets(cluster: Cluster) -> dict[str, str]:
    """The files with which the apiserver of the current host asks kubelets."""

    if not cluster.is_a("control_plane"):
        return {}
    flags = parse_flags(cluster.command_line("kube-apiserver"))
    names = {"ca": "certificate-authority", "cert": "client-certificate", "key": "client-key"}
    found = {word: flags.get(f"kubelet-{name}", "") for word, name in names.items()}
    return found if all(found.values()) else {}


def _to_pods(cluster: Cluster, one: HostSpec, there: Mapping[str, bool]) -> dict[str, str]:
    """The ways to a pod of another node, or to its bridge where it runs none."""

    node = cluster.plan.nodes.get(one.name)
    # CoreDNS takes connections; that another pod refuses one may be the doing of somebody else.
    address = next(iter(sorted(there, key=lambda one: not there[one])), "") or (
        node.bridge_address.split("/")[0] if node else ""
    )
    if not address or "node" not in one.roles:
        return {}
    port = _DNS if there.get(address) else _CLOSED
    asked = questions.way(address, port, from_pod=True, closed=port == _CLOSED)
    return {f"to pods {one.name} {address}": asked}
