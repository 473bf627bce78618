"""
A packet, and where a person means it to go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.deploys.run.topology import Topology


@dataclass(frozen=True)
class Packet:
    """
    A packet on its way.

    + port: 0 for any
    + end: where kube-proxy is to lead it; empty where it need not, or has
    + is_led: whether it has
    + marked: whether it is to be masqueraded for that
    + masked: whether it is masqueraded
    + reply: whether it is an answer
    """

    source: str
    destination: str
    protocol: str = ""
    port: int = 0
    end: str = ""
    is_led: bool = False
    marked: bool = False
    masked: bool = False
    reply: bool = False

    @property
    def to(self) -> tuple[str, str, int]:
        """Its destination with protocol and port."""
        return self.destination, self.protocol, self.port

    @property
    def ends(self) -> tuple[str, str, str, int]:
        """Its source, and the same."""
        return self.source, *self.to

    def led(self, marked: bool = False) -> Packet:
        """
        The packet as kube-proxy led it to its end.

        + marked: whether it is to be masqueraded for that
        """
        address, _, port = self.end.partition(":")
        led = replace(self, destination=address, port=int(port), end="")
        return replace(led, is_led=True, marked=marked)


@dataclass(frozen=True)
class Target:
    """
    Where packets are to go.

    + port: 0 for any
    + endpoints: of a service; ``None`` for what is none
    """

    name: str
    address: str
    protocol: str = ""
    port: int = 0
    endpoints: tuple[str, ...] | None = None


def target_of(topology: Topology, text: str) -> Target:
    """
    Return what a person means.

    + topology: the cluster
    + text: NAMESPACE/POD, NAMESPACE/SERVICE or an address, with :PORT or without

    Raises ``InputError``.
    """

    name, _, port = text.partition(":")
    node = "/" not in name and topology.owner(name)
    for service, found in topology.services.items():
        for one in found.ports:
            known = one.protocol, one.port, one.endpoints
            if name in (service, found.address) and port in ("", str(one.port), one.name):
                shown = f"service {service} {found.address}:{one.port}"
                return Target(shown, found.address, *known)
            if node and port == str(one.node_port):
                shown = f"{service} at the node port {text}"
                return Target(shown, name, one.protocol, one.node_port, one.endpoints)
    if "/" not in name and IPAddress(name) not in IPNetwork(topology.service_cidr):
        return Target(text, name, "tcp" if port else "", int(port or 0))
    pod = topology.pods.get(name)
    if pod and pod.address and name not in topology.services and (not port or port.isdigit()):
        return Target(f"{name} {pod.address}", pod.address, "tcp" if port else "", int(port or 0))
    allowed = "a pod with an address, or a service and one of its ports"
    raise InputError([Problem("packet_to", text, None, allowed)])
