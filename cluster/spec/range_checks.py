"""What the settings of addresses say together: ranges, shares of nodes, sizes of packets."""

from __future__ import annotations

from collections.abc import Mapping

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.networks import DOCKER_DEFAULT, overlap, private, special, usable_pods
from pyinfra_kube.cluster.spec.base import BaseSpec
from pyinfra_kube.cluster.spec.ranges import (
    hosts_within,
    in_the_way,
    node_capacity,
    pod_range,
    pod_range_key,
    ranges_of,
)
from pyinfra_kube.cluster.spec.settings import OVERHEAD

# The controller-manager keeps one bit a node and refuses more.
MOST_NODE_BITS = 16
# A node CIDR holds its own address, the bridge's, the broadcast's and at least one pod.
LONGEST_NODE_PREFIX = 30
# The apiserver takes at most 20 bits of services; the tenth address is the DNS service's.
SERVICE_PREFIXES = range(12, 29)


def check_ranges(spec: BaseSpec) -> list[Problem]:
    """Ranges that no pod or service can have, and public ones where they are not allowed."""
    problems = []
    for key, network in ranges_of(spec).items():
        if kind := special(network):
            problems.append(in_the_way(spec, key, f"a private range ({kind} is none)"))
        elif not private(network) and not spec.allow_public_ranges:
            allowed = "a private range, for allow_public_ranges is off"
            problems.append(in_the_way(spec, key, allowed))
    return problems


def check_overlaps(spec: BaseSpec) -> list[Problem]:
    """Pods and services in one range, or a host's address in either."""
    pods, services = ranges_of(spec).values()
    problems = []
    if overlap(pods, services):
        allowed = f"a range apart from cluster_cidr {pods}"
        problems.append(in_the_way(spec, "service_cidr", allowed))
    hosts = {host.name: host.address for host in spec.hosts if host.address}
    if spec.endpoint_address and spec.endpoint_address not in hosts.values():
        hosts["the control plane"] = spec.endpoint_address
    return problems + hosts_within(spec, hosts)


def check_services(spec: BaseSpec) -> list[Problem]:
    """A range of services that the apiserver takes, and a DNS address in it."""
    network, dns = IPNetwork(spec.service_cidr), IPAddress(spec.cluster_dns)
    if network.prefixlen not in SERVICE_PREFIXES:
        allowed = f"a network of /{SERVICE_PREFIXES[0]} to /{SERVICE_PREFIXES[-1]}"
        return [Problem("service_cidr", str(network), None, allowed)]
    if dns in network and dns not in (network[0], network[1], network[-1]):
        return []
    allowed = f"an address of the services {network}, from {network[2]} to {network[-2]}"
    return [Problem("cluster_dns", str(dns), None, allowed, f'write "{network[10]}"')]


def check_node_size(spec: BaseSpec) -> list[Problem]:
    """Shares that do not fit the pods' range, more nodes than shares, more pods than addresses."""
    network, prefix = pod_range(spec)
    flannel = spec.flannel_leases
    key = "flannel_subnet_len" if flannel else "node_cidr_mask_size"
    range_key = pod_range_key(spec)
    shortest = network.prefixlen + (2 if flannel else 0)
    longest = min(LONGEST_NODE_PREFIX, network.prefixlen + MOST_NODE_BITS)
    if shortest > longest:
        allowed = f"a range of at least /{longest - (2 if flannel else 0)}"
        return [Problem(range_key, str(network), None, allowed)]
    if not shortest <= prefix <= longest:
        allowed = f"from {shortest} to {longest} in {range_key} {network}"
        return [Problem(key, prefix, None, allowed)]
    problems = []
    if len(spec.nodes) > node_capacity(spec):
        problems.append(_too_many_nodes(spec, key, longest))
    if spec.max_pods and spec.max_pods > usable_pods(prefix):
        allowed = f"at most {usable_pods(prefix)}: a /{prefix} has no more addresses for pods"
        problems.append(Problem("max_pods", spec.max_pods, None, allowed))
    return problems


def check_node_cidrs(spec: BaseSpec) -> list[Problem]:
    """Pod CIDRs that nodes were given: each in the pods' range, of its size, and once."""
    network, prefix = pod_range(spec)
    problems = []
    seen: dict[IPNetwork, str] = {}
    for node in spec.nodes:
        if not node.pod_cidr:
            continue
        own = IPNetwork(node.pod_cidr)
        allowed, fix = "", None
        if spec.flannel_leases:
            allowed, fix = "nothing: flannel gives nodes their networks", "remove it"
        elif own not in network:
            allowed = f"a /{prefix} of cluster_cidr {network}"
        elif own.prefixlen != prefix:
            allowed = f"a /{prefix}, as node_cidr_mask_size says"
            fix = f'write "{IPNetwork((own.first, prefix)).cidr}"'
        elif own in seen:
            allowed = f"a network of its own: {seen[own]} has it too"
        if allowed:
            problems.append(Problem("pod_cidr", str(own), node.name, allowed, fix))
        seen.setdefault(own, node.name)
    return problems


def check_flannel(spec: BaseSpec) -> list[Problem]:
    """flannel's range is where the rest of the cluster looks for pods."""
    by_plan = spec.network == "flannel" and not spec.flannel_leases
    if by_plan and spec.flannel_network != spec.cluster_cidr:
        allowed = f"cluster_cidr {spec.cluster_cidr}, which nodes have their pod CIDRs from"
        return [Problem("flannel_network", spec.flannel_network, None, allowed, "leave it out")]
    if IPNetwork(spec.flannel_network) in IPNetwork(spec.cluster_cidr):
        return []
    allowed = f"cluster_cidr {spec.cluster_cidr}, or a part of it"
    fix = "leave one of the two out"
    return [Problem("flannel_network", spec.flannel_network, None, allowed, fix)]


def check_mtu(spec: BaseSpec, mtus: Mapping[str, int] | None = None) -> list[Problem]:
    """
    Packets of pods that the hosts' network cannot carry.

    + spec: the cluster
    + mtus: host → MTU of the interface that pods' packets leave by; without it, `host_mtu`
    """
    overlay = spec.flannel_backend if spec.network == "flannel" else ""
    problems = []
    for host, mtu in (mtus or {"": spec.host_mtu}).items():
        most = mtu - OVERHEAD.get(overlay, 0)
        through = f" through {overlay}" if overlay else ""
        allowed = f"at most {most}: the network of the host{'' if host else 's'} carries {mtu}"
        for key, value in (("bridge_mtu", spec.bridge_mtu), ("docker_mtu", spec.docker_mtu)):
            if value and value > most:
                fix = f"write {most}"
                problems.append(Problem(key, value, host or None, allowed + through, fix))
    return problems


def address_warnings(spec: BaseSpec) -> list[str]:
    """What is allowed and yet worth a look: public ranges, docker's default range."""
    warnings = []
    for key, network in ranges_of(spec).items():
        if not private(network):
            unreachable = "hosts of the internet in it cannot be reached"
            warnings.append(f"{key} {network} is public: {unreachable}")
        if overlap(network, DOCKER_DEFAULT):
            warnings.append(f"{key} {network} overlaps docker's own default {DOCKER_DEFAULT}")
    return warnings


def _too_many_nodes(spec: BaseSpec, key: str, longest: int) -> Problem:
    network, _ = pod_range(spec)
    nodes, shares = len(spec.nodes), len(spec.nodes) + (spec.flannel_leases)
    enough = network.prefixlen + (shares - 1).bit_length()
    fix = f"{key} = {enough}, with {usable_pods(enough)} pods a node"
    fix = fix if enough <= longest else "a larger range"
    allowed = f"a range for {nodes} nodes; this one has room for {node_capacity(spec)}"
    return Problem(pod_range_key(spec), str(network), None, allowed, fix)
