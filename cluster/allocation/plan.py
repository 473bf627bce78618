"""Every address of a cluster, and the plan as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netaddr import IPNetwork

from pyinfra_kube.cluster.errors import InputError, Problem
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
    + bridge_ip: the same without the length
    + pods: how many pods have an address there: all but the network's, the bridge's and the
      broadcast address, so 253 of a /24, 61 of a /26, 29 of a /27
    """

    name: str
    address: str | None
    pod_cidr: str
    bridge_address: str
    bridge_ip: str
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
    def cluster_cidr(self) -> str:
        """The range of all pods."""
        return self.spec.cluster_cidr

    @property
    def service_cidr(self) -> str:
        """The range of all services."""
        return self.spec.service_cidr

    @property
    def service_ip(self) -> str:
        """The service ``kubernetes``: the first address of the services."""
        return str(IPNetwork(self.service_cidr)[1])

    @property
    def dns_ip(self) -> str:
        """The DNS service."""
        return self.spec.cluster_dns

    @property
    def services(self) -> int:
        """How many services the range has room for, ``kubernetes`` and DNS among them."""
        return int(IPNetwork(self.service_cidr).size) - 2

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
        unknown = [node.name for node in others if not node.address]
        if unknown:
            raise _unknown(unknown)
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
            raise _unknown([host])
        return address

    def table(self) -> str:
        """The plan as text for people: ranges and what is left of them, then each host."""
        return "\n".join([*self._ranges(), "", *self._hosts(), *self._notes()])

    def _ranges(self) -> list[str]:
        network, prefix = pod_range(self.spec)
        held = f", {self.reserved} held by other hosts" if self.reserved else ""
        limit = f"{DEFAULT_MAX_PODS} unless max_pods is set"
        if self.spec.max_pods:
            limit = f"max_pods {self.spec.max_pods}"
        rows = [
            ("cluster", self.spec.cluster_name, f"Kubernetes {self.spec.kubernetes_version}"),
            (
                "control plane",
                self.spec.control_plane_endpoint or self.spec.endpoint_host or NOT_KNOWN,
                ", ".join(h.name for h in self.spec.control_plane),
            ),
            (
                "pods",
                str(network),
                f"{self.capacity} nodes of a /{prefix}: {len(self.spec.nodes)} in use{held}, "
                f"{self.capacity_left} left",
            ),
            ("", "", f"{usable_pods(prefix)} pods a node ({limit})"),
            (
                "services",
                self.service_cidr,
                f"{self.services} services; kubernetes {self.service_ip}, DNS {self.dns_ip}",
            ),
        ]
        return lines_of(rows)

    def _hosts(self) -> list[str]:
        to_come = "flannel's choice" if self.spec.network == "flannel" else "-"
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

    def _notes(self) -> list[str]:
        return ["", *(f"warning: {text}" for text in self.warnings)] if self.warnings else []


def _unknown(hosts: Iterable[str]) -> InputError:
    return InputError(
        Problem("address", None, name, "the host's IPv4 address", "set it in its data")
        for name in hosts
    )
