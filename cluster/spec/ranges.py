"""The ranges of a cluster: what they hold, and where they could be instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.networks import DOCKER_DEFAULT, free_private
from pyinfra_kube.cluster.spec.base import BaseSpec


def pod_range(spec: BaseSpec) -> tuple[IPNetwork, int]:
    """
    Give the range that pods' addresses come from, and the length of one node's share of it.

    + spec: the cluster
    """
    if spec.flannel_leases:
        return IPNetwork(spec.flannel_network), spec.flannel_subnet_len
    return IPNetwork(spec.cluster_cidr), spec.node_cidr_mask_size


def pod_range_key(spec: BaseSpec) -> str:
    """Give the setting that the pods' range comes from."""
    return "flannel_network" if spec.flannel_leases else "cluster_cidr"


def node_capacity(spec: BaseSpec) -> int:
    """
    How many nodes the pods' range has room for; flannel leaves the first share unused.

    + spec: the cluster
    """
    network, length = pod_range(spec)
    return int(2 ** (length - network.prefixlen)) - (spec.flannel_leases)


def ranges_of(spec: BaseSpec) -> dict[str, IPNetwork]:
    """Give the ranges of pods and of services, by setting."""
    return {
        "cluster_cidr": IPNetwork(spec.cluster_cidr),
        "service_cidr": IPNetwork(spec.service_cidr),
    }


def in_the_way(spec: BaseSpec, key: str, allowed: str, avoid: Iterable[IPNetwork] = ()) -> Problem:
    """
    Refuse a range, with a private one of its size as the fix that touches nothing known.

    + spec: the cluster
    + key: the setting of the range
    + allowed: what the range should be
    + avoid: what the new range must not touch either
    """
    others = ranges_of(spec)
    network = others.pop(key)
    known = {host.address for host in spec.hosts} | {spec.endpoint_address}
    around_hosts = [IPNetwork(f"{address}/24").cidr for address in known if address]
    taken = [DOCKER_DEFAULT, *others.values(), *around_hosts, *avoid]
    free = free_private(network.prefixlen, taken)
    if key not in spec.model_fields_set:
        allowed = f"{allowed}; {network} is the default"
    return Problem(key, str(network), None, allowed, f'for example "{free}"' if free else None)


def hosts_within(spec: BaseSpec, addresses: Mapping[str, str]) -> list[Problem]:
    """
    Refuse ranges that hold addresses of hosts.

    + spec: the cluster
    + addresses: host → its address
    """
    problems = []
    for key, network in ranges_of(spec).items():
        found = [host for host, text in addresses.items() if IPAddress(text) in network]
        if inside := [f"{host} {addresses[host]}" for host in found]:
            more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
            allowed = f"a range without the hosts' addresses: {', '.join(inside[:3])}{more}"
            problems.append(in_the_way(spec, key, allowed))
    return problems
