"""A cluster's settings and hosts, and what follows from them."""

from __future__ import annotations

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.releases import minor_of, value_at
from pyinfra_kube.cluster.spec.endpoint import Endpoint, parse_endpoint
from pyinfra_kube.cluster.spec.host import HostSpec
from pyinfra_kube.cluster.spec.settings import (
    AccessSettings,
    AddonSettings,
    AddressSettings,
    ClusterSettings,
    PartSettings,
    PeopleSettings,
    PodNetworkSettings,
    RunSettings,
    SafetySettings,
    SoftwareSettings,
)


# The last base comes first: its fields are read before those whose defaults follow from them.
class BaseSpec(
    PeopleSettings,
    RunSettings,
    SafetySettings,
    AddonSettings,
    PartSettings,
    SoftwareSettings,
    AccessSettings,
    PodNetworkSettings,
    AddressSettings,
    ClusterSettings,
):
    """The settings of a cluster with its hosts. ``ClusterSpec`` adds how they are read."""

    hosts: tuple[HostSpec, ...] = ()
    """Every host with a role: control plane, then etcd members, then nodes."""

    @property
    def control_plane(self) -> tuple[HostSpec, ...]:
        """The hosts of the control plane."""
        return self._with_role("control_plane")

    @property
    def nodes(self) -> tuple[HostSpec, ...]:
        """The hosts that run pods."""
        return self._with_role("node")

    @property
    def etcd_members(self) -> tuple[HostSpec, ...]:
        """The hosts of group `etcd`, or those of the control plane if there is none."""
        return self._with_role("etcd")

    @property
    def nodes_register(self) -> bool:
        """Whether kubelets make the objects of their nodes."""
        return self.register_node and self.node_registration == "self"

    @property
    def flannel_in_etcd(self) -> bool:
        """Whether flannel has its network and the nodes' leases in etcd."""
        return self._flannel_store == "etcd"

    @property
    def flannel_leases(self) -> bool:
        """Whether flannel chooses nodes' pod CIDRs, up to 1.23; then it leases what is planned."""
        return self.flannel_in_etcd and self._flannel_stores[0] == "etcd"

    @property
    def flannel_on_api(self) -> bool:
        """Whether flannel learns nodes and pod CIDRs from the apiserver, from 1.24 on."""
        return self._flannel_store == "api"

    @property
    def _flannel_store(self) -> str | None:
        return (self.flannel_store or self._flannel_stores[0]) if self._flannel_stores else None

    @property
    def _flannel_stores(self) -> list[str]:
        """Where flannel may have its network, the default first."""
        stores = table("releases")["flannel_store"] if self.network == "flannel" else {}
        return value_at(stores, minor_of(self.kubernetes_version)) or []

    @property
    def apiserver_port(self) -> int:
        """The port that the apiserver of each control-plane host listens on for clients."""
        return self.secure_port if self.apiserver_approach == "https" else self.insecure_port

    @property
    def endpoint(self) -> Endpoint | None:
        """
        Where clients reach the control plane, with its port. ``None`` while the inventory does not
        say it and the address of the first control-plane host is not known.
        """
        if self.control_plane_endpoint:
            return parse_endpoint(self.control_plane_endpoint, self.apiserver_port)
        first = next((host.address for host in self.control_plane), None)
        return Endpoint(first, self.apiserver_port) if first else None

    @property
    def endpoint_host(self) -> str | None:
        """The address or DNS name of the endpoint; ``None`` where that is not known yet."""
        return self.endpoint.host if self.endpoint else None

    @property
    def endpoint_address(self) -> str | None:
        """The address of the endpoint; ``None`` for a DNS name, and where it is not known yet."""
        return self.endpoint.address if self.endpoint else None

    @property
    def apiserver_url(self) -> str:
        """Where clients find the apiserver. Raises ``InputError`` while that is not known."""
        if not self.endpoint:
            raise InputError([unknown_endpoint(self)])
        return f"{self.apiserver_approach}://{self.endpoint}"

    def host(self, name: str) -> HostSpec:
        """
        One host by its name in the inventory.

        + name: the host

        Raises ``KeyError`` for a host without a role.
        """
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def _with_role(self, role: str) -> tuple[HostSpec, ...]:
        return tuple(host for host in self.hosts if role in host.roles)


def unknown_endpoint(spec: BaseSpec) -> Problem:
    """
    Say that nobody knows where clients reach the control plane.

    + spec: the cluster
    """
    first = spec.control_plane[0].name
    allowed = f"where clients reach the control plane, for the address of {first} is not known"
    fix = f"set it, or set address for {first}"
    return Problem("control_plane_endpoint", None, None, allowed, fix)
