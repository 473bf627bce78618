"""Who gets which address, from the spec, what hosts have and what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.allocation.plan import AddressPlan, NodeAddresses
from pyinfra_kube.cluster.allocation.shares import Shares
from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.networks import DOCKER_DEFAULT, overlap, usable_pods
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.checks import hosts_with_endpoint
from pyinfra_kube.cluster.spec.range_checks import address_warnings
from pyinfra_kube.cluster.spec.ranges import in_the_way, node_capacity, ranges_of


def make_plan(
    spec: ClusterSpec,
    current: Mapping[str, str] | None = None,
    recorded: Mapping[str, str] | None = None,
    networks: Mapping[str, list[str]] | None = None,
    services: Mapping[str, str] | None = None,
    held: Mapping[str, Sequence[str]] | None = None,
) -> AddressPlan:
    """
    Give every node its pod CIDR, and refuse what cannot work.

    A node gets its `pod_cidr`, else what it has now, else what an earlier plan gave it. The others
    get the first free ones in inventory order. What a host has that is no node, or no longer one,
    stays taken until `current` and `recorded` leave it out.

    + spec: a cluster from `ClusterSpec.from_inventory`
    + current: host → the pod CIDR (or the bridge's address with its length) that it has now
    + recorded: host → the pod CIDR of an earlier plan
    + networks: host → the networks it is on, without the cluster's own (docker0, flannel.1 …)
    + services: host → the range that its apiserver gives to services now
    + held: host → every address that it has, where hosts told

    Raises ``InputError`` where a host's own network overlaps pods or services, where no pod CIDR is
    left, and where nodes or services would get another range while `allow_network_change` is off.

    ```
    plan = make_plan(spec, current={"node1": "10.10.3.0/24"})
    plan.nodes["node1"].bridge_address  # 10.10.3.1/24
    ```
    """
    current, recorded, networks = current or {}, recorded or {}, networks or {}
    known = {host.name: host.address for host in spec.hosts}
    shares = _share_out(spec, current, recorded)
    problems, warnings = _check_networks(spec, networks, current)
    moved = _moved_services(spec, services or {})
    refuse([*problems, *shares.problems, *([] if spec.allow_network_change else moved)])
    given = [name for name in shares.names if name in shares.given]
    nodes = {name: _node_addresses(name, known[name], shares.network(name)) for name in given}
    return AddressPlan(
        spec=spec,
        nodes=nodes,
        addresses=known,
        capacity=node_capacity(spec),
        reserved=shares.reserved,
        warnings=(
            *address_warnings(spec),
            *warnings,
            *(f"{one.key} was not {one.value} before: {_ANEW}" for one in moved),
            *shares.warnings,
            *_endpoint_elsewhere(spec, known, held or {}),
            *_out_of_reach(spec, networks, known),
        ),
    )


def _share_out(
    spec: ClusterSpec, current: Mapping[str, str], recorded: Mapping[str, str]
) -> Shares:
    shares = Shares(spec)
    shares.reserve(current)
    if spec.flannel_leases:
        shares.keep(current, "its lease")
        return shares
    shares.reserve(recorded)
    shares.choose()
    shares.compare(current, "which it has now")
    shares.keep(current, "which it has now")
    shares.keep(recorded, "which an earlier plan gave it")
    shares.fill()
    return shares


def _node_addresses(name: str, address: str | None, network: IPNetwork) -> NodeAddresses:
    bridge, pods = f"{network[1]}/{network.prefixlen}", usable_pods(network.prefixlen)
    return NodeAddresses(name, address, str(network), bridge, pods)


def _check_networks(
    spec: ClusterSpec, networks: Mapping[str, list[str]], current: Mapping[str, str]
) -> tuple[list[Problem], list[str]]:
    """A host's own network in a range of the cluster, but for what the cluster put there."""
    # A network of no length is every address.
    ignored = {IPNetwork("0.0.0.0/0"), *(IPNetwork(text).cidr for text in current.values())}
    hosts: dict[IPNetwork, list[str]] = {}
    for host, texts in networks.items():
        for network in {IPNetwork(text).cidr for text in texts} - ignored:
            hosts.setdefault(network, []).append(host)
    problems, warnings = [], []
    for network in sorted(hosts):
        names = ", ".join(hosts[network])
        for key, wanted in ranges_of(spec).items():
            if not overlap(network, wanted):
                continue
            if network == DOCKER_DEFAULT:
                warnings.append(f"{key} {wanted} overlaps docker0 {network} of {names}")
            else:
                allowed = f"a range apart from the network {network} of {names}"
                problems.append(in_the_way(spec, key, allowed, hosts))
    return problems, warnings


# No service changes its address, and the apiserver's certificate names the first one.
_ANEW = "make every service anew after the run, first of all: kubectl delete service kubernetes"


def _moved_services(spec: ClusterSpec, services: Mapping[str, str]) -> list[Problem]:
    """A range of services other than the one that they have their addresses in."""
    wanted = IPNetwork(spec.service_cidr)
    return [
        Problem(
            "service_cidr",
            str(wanted),
            None,
            f"{given}, in which the services have their addresses, or a larger one of that start",
            f"set allow_network_change = True, and {_ANEW}",
        )
        for given in sorted({IPNetwork(text) for text in services.values()})
        if given not in wanted or given.first != wanted.first
    ]


def _out_of_reach(
    spec: ClusterSpec, networks: Mapping[str, list[str]], known: Mapping[str, str | None]
) -> list[str]:
    """Nodes that a host cannot route to, for they share no network."""
    if spec.network != "routes" or not spec.route_pods:
        return []
    warnings = []
    for host, texts in networks.items():
        near = [IPNetwork(text) for text in texts]
        far = [
            node.name
            for node in spec.nodes
            if (address := known[node.name])
            and node.name != host
            and not any(IPAddress(address) in network for network in near)
        ]
        if near and far:
            warnings.append(
                f"{host} shares no network with {', '.join(far)}: routes to their pods need a "
                "router that knows them, or flannel"
            )
    return warnings


def _endpoint_elsewhere(
    spec: ClusterSpec, known: Mapping[str, str | None], held: Mapping[str, Sequence[str]]
) -> list[str]:
    """An endpoint at which no apiserver listens: another machine, a DNS name, another port."""
    given, endpoint = spec.control_plane_endpoint, spec.endpoint
    hosts = [host.name for host in spec.control_plane]
    untold = any(not known[name] for name in hosts) and spec.endpoint_address
    if not given or not endpoint or untold:
        return []
    addresses = {name: [*held.get(name, ()), address or ""] for name, address in known.items()}
    there = any(host.name in hosts for host in hosts_with_endpoint(spec, addresses))
    if there and endpoint.port == spec.apiserver_port:
        return []
    return [
        f"control_plane_endpoint {given} must lead to port {spec.apiserver_port} of "
        f"{', '.join(hosts)}: nothing here sets that up"
    ]
