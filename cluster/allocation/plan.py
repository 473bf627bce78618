"""Every address of a cluster, and the plan as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netaddr import IPNetwork

from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.networks import usable_pods
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.ranges import pod_range
from pyinfra_kube.cluster.tables import lines_of

# What the kubelet takes when nobody says otherwise, since 1.2.
DEFAULT_MAX_PODS = 110
NOT_KNOWN = "(not known yet)"
# As kubectl spells them.
ROLES = {"control_plane": "control-plane", "etcd": "etcd", "node": "node"}


@dataclass(frozen=True)
class NodeAddresses:
    """
    The addresses of one node.

    + name: the host, as the inventory calls it
    + address: its own address, where it is known
    + pod_cidr: the network of its pods, such as ``10.10.1.0/24``
    + bridge_address: the first address of it, with its length: ``10.10.1.1/24``
    + pods: how many pods have an address there: all but the network's, the bridge's and the
      broadcast address, so 253 of a /24, 61 of a /26, 29 of a /27
    """

    name: str
    address: str | None
    pod_cidr: str
    bridge_address: str
    pods: int


@dataclass(frozen=True)
class AddressPlan:
    """
    Every address of a cluster. Made by `make_plan`.

    + spec: what it was made from
    + nodes: the nodes whose pod CIDR is known, by host name, in inventory order; with flannel
      these are the ones that hold a lease
    + addresses: the address of each host, where it is known
    + capacity: how many nodes the pods' range has room for
    + reserved: how many of these hosts hold that are no nodes (any more)
    + warnings: what is allowed and yet worth a look
    """

    spec: ClusterSpec
    nodes: Mapping[str, NodeAddresses]
    addresses: Mapping[str, str | None]
    capacity: int
    reserved: int
    warnings: tuple[str, ...]

    @property
    def service_ip(self) -> str:
        """The service ``kubernetes``: the first address of the services."""
        return str(IPNetwork(self.spec.service_cidr)[1])

    @property
    def services(self) -> int:
        """How many services the range has room for, ``kubernetes`` and DNS among them."""
        return int(IPNetwork(self.spec.service_cidr).size) - 2

    @property
    def capacity_left(self) -> int:
        """How many nodes can still be added."""
        return self.capacity - self.reserved - len(self.spec.nodes)

    def routes(self, host: str) -> list[tuple[str, str]]:
        """
        The routes that a host needs to the pods of the other nodes.

        + host: whose routes

        Empty where `route_pods` is off or flannel carries the pods. Raises ``InputError`` while
        the address of another node is not known.

        ```
        >>> plan.routes("m1")
        [("10.10.0.0/24", "192.168.10.5"), ("10.10.1.0/24", "192.168.10.6")]
        ```
        """
        if self.spec.network != "routes" or not self.spec.route_pods:
            return []
        others = [node for node in self.nodes.values() if node.name != host]
        refuse(_unknown(node.name) for node in others if not node.address)
        return [(node.pod_cidr, node.address) for node in others if node.address]

    def own_address(self, host: str) -> str:
        """
        Give the address that a host listens on and that others reach it at.

        A single host of the control plane whose address is not known uses the endpoint's.

        + host: as the inventory calls it

        Raises ``InputError`` while the address is not known.
        """
        address = self.addresses[host]
        if not address and self.spec.control_plane == (self.spec.host(host),):
            address = self.spec.endpoint_address
        if not address:
            raise InputError([_unknown(host)])
        return address

    def table(self) -> str:
        """The plan as text for people: ranges and what is left of them, then each host."""
        notes = ["", *(f"warning: {text}" for text in self.warnings)] if self.warnings else []
        return "\n".join([*self._ranges(), "", *self._hosts(), *notes])

    def _ranges(self) -> list[str]:
        spec, (network, prefix) = self.spec, pod_range(self.spec)
        held = f", {self.reserved} held by other hosts" if self.reserved else ""
        used = f"{len(spec.nodes)} in use{held}, {self.capacity_left} left"
        max_pods = f"max_pods {spec.max_pods}" if spec.max_pods else ""
        limit = max_pods or f"{DEFAULT_MAX_PODS} unless max_pods is set"
        endpoint = spec.control_plane_endpoint or spec.endpoint_host or NOT_KNOWN
        rows = [
            ("cluster", spec.cluster_name, f"Kubernetes {spec.kubernetes_version}"),
            ("control plane", endpoint, ", ".join(host.name for host in spec.control_plane)),
            ("pods", str(network), f"{self.capacity} nodes of a /{prefix}: {used}"),
            ("", "", f"{usable_pods(prefix)} pods a node ({limit})"),
            (
                "services",
                spec.service_cidr,
                f"{self.services} services; kubernetes {self.service_ip}, DNS {spec.cluster_dns}",
            ),
        ]
        return lines_of(rows)

    def _hosts(self) -> list[str]:
        to_come = "flannel's choice" if self.spec.flannel_leases else "-"
        rows = [("HOST", "ADDRESS", "ROLES", "POD CIDR", "BRIDGE", "PODS")]
        for host in self.spec.hosts:
            node = self.nodes.get(host.name)
            waits = to_come if "node" in host.roles else "-"
            rows.append(
                (
                    host.name,
                    self.addresses[host.name] or NOT_KNOWN,
                    " ".join(name for role, name in ROLES.items() if role in host.roles),
                    node.pod_cidr if node else waits,
                    node.bridge_address if node else "-",
                    str(node.pods) if node else "-",
                )
            )
        return lines_of(rows)


def _unknown(host: str) -> Problem:
    return Problem("address", None, host, "the host's IPv4 address", "set it in its data")
