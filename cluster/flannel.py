"""
Flannel's network: its configuration in etcd, what flanneld reads and writes, and whether the
leases, the devices and docker of all hosts agree (M1–M4).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.tables import lines_of

Backend = Literal["vxlan", "udp", "host-gw"]

PREFIX = "/coreos.com/network"
PORTS = {"vxlan": 8472, "udp": 8285}


# What flanneld is told


def network_config(
    network: str,
    subnet_len: int = 24,
    backend: Backend = "vxlan",
    vni: int = 1,
    port: int | None = None,
) -> str:
    """
    Give the value of the key ``PREFIX/config`` (M1).

    + network: the range of all nodes' subnets
    + subnet_len: the length of one node's subnet
    + backend: how packets travel between hosts
    + vni: VXLAN's network identifier
    + port: UDP port; left out where it is the backend's own

    ```
    >>> network_config("18.16.0.0/16")
    '{"Network": "18.16.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan", "VNI": 1}}'
    ```
    """

    settings: dict[str, object] = {"Type": backend}
    if backend == "vxlan":
        settings["VNI"] = vni
    if port and backend in PORTS and port != PORTS[backend]:
        settings["Port"] = port
    return json.dumps({"Network": network, "SubnetLen": subnet_len, "Backend": settings})


def same_range(config: str, other: str) -> bool:
    """
    Tell whether two values of ``PREFIX/config`` share out the same subnets.

    + config, other: the values

    ```
    >>> same_range('{"Network": "10.5.0.0/16"}', '{"Network": "10.5.0.0/16", "SubnetLen": 24}')
    True
    ```
    """

    return _range(config) == _range(other)


def gives(config: str, subnet: str) -> bool:
    """
    Tell whether a subnet is one that flannel gives to a host.

    + config: a value of ``PREFIX/config``
    + subnet: with its prefix length

    ```
    >>> gives('{"Network": "10.5.0.0/16"}', "10.5.7.0/24")
    True
    >>> gives('{"Network": "10.5.0.0/16", "SubnetLen": 26}', "10.5.7.0/24")
    False
    ```
    """

    found = _range(config)
    if isinstance(found, str):
        return False
    network, length = found
    wanted = IPNetwork(subnet)
    return wanted in network and wanted.prefixlen == length


def _range(config: str) -> str | tuple[IPNetwork, int]:
    try:
        value = json.loads(config)
        network = IPNetwork(value["Network"])
        length = value.get("SubnetLen") or (24 if network.prefixlen <= 22 else 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return config
    return network, length


def etcd_api(version: str) -> Literal["v2", "v3"]:
    """
    Give the interface of etcd that a flannel speaks: v2 through 0.17, v3 alone from 0.18 on.

    + version: of flannel, as ``0.5.5`` or ``v0.28.9``; what is no version counts as the seed's

    ```
    >>> etcd_api("0.17.0"), etcd_api("v0.18.0")
    ('v2', 'v3')
    ```
    """

    match = re.match(r"v?(\d+)\.(\d+)", version)
    return "v3" if match and (int(match[1]), int(match[2])) >= (0, 18) else "v2"


def sysconfig(
    endpoints: Sequence[str],
    prefix: str = PREFIX,
    iface: str | None = None,
    ip_masq: bool = False,
    options: Sequence[str] = (),
) -> dict[str, str]:
    """
    Give the variables of /etc/sysconfig/flanneld (M2), where the endpoints and the prefix have two
    names each: packages of different years read different ones.

    + endpoints: etcd's URLs
    + prefix: the key in etcd under which flannel's keys are
    + iface: the interface that packets leave by, or its address; that of the default route if none
    + ip_masq: whether flannel masquerades what leaves its network; docker does it otherwise
    + options: further flags

    ```
    >>> sysconfig(["http://fed-master:2379"], iface="eth1")["FLANNEL_OPTIONS"]
    '-iface=eth1'
    ```
    """

    urls = ",".join(endpoints)
    words = [f"-iface={iface}"] if iface else []
    words += ["-ip-masq"] if ip_masq else []
    return {
        "FLANNEL_ETCD_ENDPOINTS": urls,
        "FLANNEL_ETCD": urls,
        "FLANNEL_ETCD_PREFIX": prefix,
        "FLANNEL_ETCD_KEY": prefix,
        "FLANNEL_OPTIONS": " ".join([*words, *options]),
    }


# What flanneld says


@dataclass(frozen=True)
class SubnetEnv:
    """
    What /run/flannel/subnet.env holds.

    + subnet: the first address of the host's subnet with its length, as ``18.16.29.1/24``
    + mtu: in bytes
    + ip_masq: whether flannel masquerades
    + network: the range of all hosts; ``None`` before flannel 0.5.3
    """

    subnet: str
    mtu: int
    ip_masq: bool = False
    network: str | None = None


def read_subnet_env(values: Mapping[str, str]) -> SubnetEnv | None:
    """
    Read the variables of subnet.env; ``None`` where they do not name a subnet.

    + values: name → value

    Raises ``ValueError`` for a value that flannel does not write.

    ```
    >>> read_subnet_env({"FLANNEL_SUBNET": "18.16.29.1/24", "FLANNEL_MTU": "1450"})
    SubnetEnv(subnet='18.16.29.1/24', mtu=1450, ip_masq=False, network=None)
    ```
    """

    if not values.get("FLANNEL_SUBNET"):
        return None
    for name, form in _FORMS.items():
        value = values.get(name)
        if value and not re.fullmatch(form, value):
            raise ValueError(f"{name}={value!r} is nothing that flannel writes")
    return SubnetEnv(
        subnet=values["FLANNEL_SUBNET"],
        mtu=int(values.get("FLANNEL_MTU") or 1500),
        ip_masq=values.get("FLANNEL_IPMASQ") == "true",
        network=values.get("FLANNEL_NETWORK") or None,
    )


_OCTET = r"(25[0-5]|2[0-4]\d|1?\d?\d)"
_RANGE = rf"{_OCTET}(\.{_OCTET}){{3}}/(3[0-2]|[12]?\d)"
_FORMS = {"FLANNEL_SUBNET": _RANGE, "FLANNEL_NETWORK": _RANGE, "FLANNEL_MTU": r"\d{1,5}"}


@dataclass(frozen=True)
class Lease:
    """
    A host's lease in etcd.

    + subnet: as ``18.16.29.0/24``
    + public_ip: the host's address, where the others send its packets
    + backend: ``vxlan``, ``udp``, ``host-gw`` …
    + vtep_mac: of the host's VXLAN device; empty with other backends
    + vni: ``None`` before flannel 0.14
    + key: in etcd
    """

    subnet: str
    public_ip: str
    backend: str = "udp"
    vtep_mac: str = ""
    vni: int | None = None
    key: str = ""


def parse_leases(keys: Mapping[str, str], prefix: str = PREFIX) -> list[Lease]:
    """
    Read the leases among the keys of etcd, by their subnets.

    + keys: path → value
    + prefix: the key in etcd under which flannel's keys are

    ```
    >>> parse_leases({"/coreos.com/network/subnets/18.16.29.0-24": '{"PublicIP":"192.0.2.7"}'})
    [Lease(subnet='18.16.29.0/24', public_ip='192.0.2.7', …)]
    ```
    """

    start = f"{prefix}/subnets/"
    found = (_lease(key, value, start) for key, value in keys.items() if key.startswith(start))
    return sorted(filter(None, found), key=lambda lease: IPNetwork(lease.subnet))


def _lease(key: str, value: str, start: str) -> Lease | None:
    # A dual-stack lease names its IPv6 subnet after an ampersand.
    match = re.fullmatch(r"([\d.]+)-(\d+)(&.*)?", key[len(start) :])
    try:
        data = json.loads(value)
    except json.JSONDecodeError:
        return None
    if not match or not isinstance(data, dict):
        return None
    backend = data.get("BackendData") or {}
    return Lease(
        subnet=f"{match[1]}/{match[2]}",
        public_ip=data.get("PublicIP", ""),
        backend=data.get("BackendType") or "udp",
        vtep_mac=str(backend.get("VtepMAC", "")).lower(),
        vni=backend.get("VNI"),
        key=key,
    )


def stale_leases(leases: Iterable[Lease], network: str) -> list[Lease]:
    """
    Give the leases that lie outside a range.

    + leases: those in etcd
    + network: the range
    """

    return [lease for lease in leases if IPNetwork(lease.subnet) not in IPNetwork(network)]


# Whether all agree


class Link(Protocol):
    """A network link of a host, as the facts give it."""

    @property
    def mtu(self) -> int: ...
    @property
    def mac(self) -> str: ...
    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def master(self) -> str | None: ...


@dataclass(frozen=True)
class HostNetwork:
    """
    What one host has.

    + host: its name in the inventory
    + links: by name
    + subnet: what its subnet.env says; ``None`` where there is none
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
    One thing that agrees, or does not.

    + host: whose; ``-`` for a lease that belongs to no host
    + what: the two that are compared
    + agrees: whether they do; ``None`` where there is nothing to compare with
    + detail: their values
    """

    host: str
    what: str
    agrees: bool | None
    detail: str


def device_of(backend: str, vni: int = 1) -> str | None:
    """
    Give the name of a backend's device on each host; host-gw has none.

    + backend: how packets travel between hosts
    + vni: VXLAN's network identifier

    ```
    >>> device_of("vxlan", 1)
    'flannel.1'
    ```
    """

    return {"vxlan": f"flannel.{vni}", "udp": "flannel0"}.get(backend)


def compare(
    leases: Sequence[Lease],
    hosts: Sequence[HostNetwork],
    network: str,
    backend: Backend = "vxlan",
    vni: int = 1,
    bridge: str = "docker0",
) -> list[Finding]:
    """
    Match the leases to the hosts, and compare what lease, subnet.env, flannel's device and
    docker's bridge say of network and MTU (M4). A lease of a host that is none of these is named:
    it ends by itself a day after its host did.

    + leases: all those in etcd
    + hosts: what each node has
    + network: flannel's range
    + backend, vni: as configured
    + bridge: the link that the containers are on

    ```
    for finding in compare(leases, hosts, "18.16.0.0/16"):
        print(finding.host, finding.what, finding.agrees, finding.detail)
    ```
    """

    findings = [
        finding
        for host in hosts
        for finding in _of_host(host, leases, network, device_of(backend, vni), bridge)
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
    Give findings as a table.

    + findings: as ``compare`` gives them
    """

    rows = [("host", "what", "agrees", "values")]
    rows += [(f.host, f.what, _AGREES[f.agrees], f.detail) for f in findings]
    return "\n".join(lines_of(rows))


def _of_host(
    host: HostNetwork, leases: Sequence[Lease], network: str, device: str | None, bridge: str
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
    yield from _of_bridge(host, env, bridge)


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


def _of_bridge(host: HostNetwork, env: SubnetEnv, bridge: str) -> Iterator[Finding]:
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
    yield Finding(host.host, f"MTU of {bridge}", sizes == {env.mtu}, detail)


def check_iface(host: str, iface: str | None, links: Mapping[str, Link]) -> list[Problem]:
    """
    Say when a host has not the interface that flannel is told to use.

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
