"""
Whether flannel's leases, devices and subnets agree with each other and with docker's bridge on all
hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.components.flanneld import Backend, device_of
from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.tables import lines_of
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.flannel import Lease, SubnetEnv


@dataclass(frozen=True)
class HostNetwork:
    """
    The network of one host.

    + host: its name in the inventory
    + links: by name
    + subnet: what its subnet.env says; ``None`` without one
    """

    host: str
    links: Mapping[str, Link] = field(default_factory=dict)
    subnet: SubnetEnv | None = None

    @property
    def addresses(self) -> set[str]:
        """Its addresses, without their lengths."""
        return {text.partition("/")[0] for link in self.links.values() for text in link.addresses}


@dataclass(frozen=True)
class Finding:
    """
    One comparison, and whether it agrees.

    + host: whose; ``-`` for a lease that belongs to no host
    + what: the two things compared
    + agrees: whether they do; ``None`` where there is nothing to compare with
    + detail: their values
    """

    host: str
    what: str
    agrees: bool | None
    detail: str


def compare(
    leases: Sequence[Lease],
    hosts: Sequence[HostNetwork],
    network: str,
    backend: Backend = "vxlan",
    vni: int = 1,
    bridge: str = "docker0",
    lasting: bool = False,
) -> list[Finding]:
    """
    Match the leases to the hosts, and compare the network and MTU of lease, subnet.env, flannel's
    device and docker's bridge. A lease of any other host is named: it ends by itself, a day after
    its host was removed.

    + leases: all those in etcd
    + hosts: what each node has
    + network: flannel's range
    + backend, vni: as configured
    + bridge: the link that the containers are on
    + lasting: whether containers live on with the MTU that they had when the backend changes

    ```
    for finding in compare(leases, hosts, "18.16.0.0/16"):
        print(finding.host, finding.what, finding.agrees, finding.detail)
    ```
    """

    findings = [
        finding
        for host in hosts
        for finding in _of_host(host, leases, network, device_of(backend, vni), bridge, lasting)
    ]
    known = {address for host in hosts for address in host.addresses}
    strange = [lease for lease in leases if lease.public_ip not in known]
    return findings + [
        Finding("-", "lease and host", None, f"{lease.subnet} of {lease.public_ip}: no such host")
        for lease in strange
    ]


_AGREES = {True: "yes", False: "NO", None: "?"}


def table(findings: Iterable[Finding]) -> str:
    """
    Return findings as a table.

    + findings: from ``compare``
    """

    rows = [("host", "what", "agrees", "values")]
    rows += [(f.host, f.what, _AGREES[f.agrees], f.detail) for f in findings]
    return "\n".join(lines_of(rows))


def _of_host(
    host: HostNetwork,
    leases: Sequence[Lease],
    network: str,
    device: str | None,
    bridge: str,
    lasting: bool,
) -> Iterator[Finding]:
    own = [lease for lease in leases if lease.public_ip in host.addresses]
    env = host.subnet
    shown = ", ".join(f"{lease.subnet} of {lease.public_ip}" for lease in own) or "no lease"
    yield Finding(host.host, "lease and host", len(own) == 1, shown)
    if env is None:
        yield Finding(host.host, "subnet.env", False, "flanneld has written none")
        return
    subnet = IPNetwork(env.subnet)
    inside = subnet in IPNetwork(network) and env.network in (None, network)
    yield Finding(host.host, "subnet.env and network", inside, f"{env.subnet} in {network}")
    for lease in own[:1]:
        same = IPNetwork(lease.subnet) == subnet.cidr
        yield Finding(host.host, "lease and subnet.env", same, f"{lease.subnet}, {env.subnet}")
    if device:
        yield from _of_device(host, own, env, device)
    yield from _of_bridge(host, env, bridge, lasting)


def _of_device(
    host: HostNetwork, own: Sequence[Lease], env: SubnetEnv, device: str
) -> Iterator[Finding]:
    link = host.links.get(device)
    if link is None:
        yield Finding(host.host, device, False, "absent")
        return
    # Up to flannel 0.8 the device has the length of the whole network, later 32.
    subnet = IPNetwork(env.subnet).cidr
    inside = any(IPAddress(text.partition("/")[0]) in subnet for text in link.addresses)
    addresses = ", ".join(link.addresses) or "no address"
    yield Finding(host.host, f"{device} and subnet.env", inside, f"{addresses}, {env.subnet}")
    yield Finding(host.host, f"MTU of {device}", link.mtu == env.mtu, f"{link.mtu}, {env.mtu}")
    for lease in own[:1]:
        if lease.vtep_mac:
            same = lease.vtep_mac == link.mac.lower()
            detail = f"{link.mac}, {lease.vtep_mac}"
            yield Finding(host.host, f"MAC of {device} and lease", same, detail)


def _of_bridge(host: HostNetwork, env: SubnetEnv, bridge: str, lasting: bool) -> Iterator[Finding]:
    link = host.links.get(bridge)
    if link is None:
        yield Finding(host.host, bridge, False, "absent")
        return
    addresses = ", ".join(link.addresses) or "no address"
    same = env.subnet in link.addresses
    yield Finding(host.host, f"{bridge} and subnet.env", same, f"{addresses}, {env.subnet}")
    # A bridge without members keeps the MTU that it was made with.
    members = [member.mtu for member in host.links.values() if member.master == bridge]
    sizes = {link.mtu, *members} if members else {env.mtu}
    detail = f"{', '.join(map(str, sorted(sizes)))}, {env.mtu}"
    agrees = None if lasting and link.mtu == env.mtu else False
    yield Finding(host.host, f"MTU of {bridge}", sizes == {env.mtu} or agrees, detail)


def check_iface(host: str, iface: str | None, links: Mapping[str, Link]) -> list[Problem]:
    """
    Report a host without the interface that flannel is told to use.

    + host: its name in the inventory
    + iface: the interface, or its address; ``None`` for that of the default route
    + links: the host's, by name
    """

    known = HostNetwork(host, links)
    if iface is None or iface in links or iface in known.addresses:
        return []
    names = sorted(name for name in links if name != "lo")
    allowed = f"an interface of this host or its address: {', '.join(names)}"
    return [Problem("flannel_iface", iface, host, allowed)]
