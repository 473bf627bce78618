"""
Who gets which address: pods, bridges, services, DNS (P1 to P6).

IPv4 only: pods of the older releases have nothing else, and no path here builds the newer
releases' dual stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from netaddr import AddrFormatError, IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import InputError, Problem, Wrong
from pyinfra_kube.cluster.tables import lines_of

if TYPE_CHECKING:
    from pyinfra_kube.cluster.spec import ClusterSpec

PRIVATE = tuple(
    IPNetwork(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
SPECIAL = {
    IPNetwork("0.0.0.0/8"): "this host",
    IPNetwork("127.0.0.0/8"): "loopback",
    IPNetwork("169.254.0.0/16"): "link-local",
    IPNetwork("224.0.0.0/4"): "multicast",
    IPNetwork("240.0.0.0/4"): "reserved",
}
DOCKER_DEFAULT = IPNetwork("172.17.0.0/16")

# What an overlay adds to each packet.
OVERHEAD = {"vxlan": 50, "udp": 28, "host-gw": 0}

# The controller-manager keeps one bit a node and refuses more.
MOST_NODE_BITS = 16
# A node CIDR holds its own address, the bridge's, the broadcast's and at least one pod.
LONGEST_NODE_PREFIX = 30
# The apiserver takes at most 20 bits of services; the tenth address is the DNS service's.
SERVICE_PREFIXES = range(12, 29)
# What the kubelet takes when nobody says otherwise, since 1.2.
DEFAULT_MAX_PODS = 110
# As kubectl spells them.
ROLES = {"control_plane": "control-plane", "etcd": "etcd", "node": "node"}


def parse_network(text: str) -> IPNetwork:
    """
    Read a network as it must stand in the inventory: IPv4, with its length, no host bits.

    + text: such as ``"10.10.0.0/16"``

    Raises ``Wrong`` with the right network as its fix, where there is one.
    """
    allowed = 'an IPv4 network with its length, such as "10.10.0.0/16"'
    if ":" in text:
        raise Wrong(f"{allowed} (IPv6 is not built here)")
    try:
        network = IPNetwork(text)
    except (AddrFormatError, ValueError):
        raise Wrong(allowed) from None
    canonical = str(network.cidr)
    if "/" not in text:
        raise Wrong(allowed, "write the length too")
    if canonical != str(network):
        raise Wrong("a network without host bits", f'write "{canonical}"')
    if canonical != text:
        raise Wrong(allowed, f'write "{canonical}"')
    return network


def parse_address(text: str) -> IPAddress:
    """
    Read the address of a host: IPv4, and one that other hosts can reach.

    + text: such as ``"192.168.10.4"``

    Raises ``Wrong``.
    """
    allowed = 'an IPv4 address, such as "192.168.10.4"'
    if ":" in text:
        raise Wrong(f"{allowed} (IPv6 is not built here)")
    if not re.fullmatch(r"\d+\.\d+\.\d+\.\d+", text):
        raise Wrong(allowed)
    try:
        address = IPAddress(text)
    except (AddrFormatError, ValueError):
        raise Wrong(allowed) from None
    if kind := _special(IPNetwork(address)):
        raise Wrong(f"an address that other hosts can reach ({kind} is none)")
    return address


@dataclass(frozen=True)
class SeenAddresses:
    """
    What a host told of its addresses.

    + links: its link by address, with the address's length
    + connected: the address that the control machine connected to
    + default: the address that its default route leaves by
    """

    links: Mapping[str, str]
    connected: str = ""
    default: str = ""


def choose_addresses(
    spec: ClusterSpec, seen: Mapping[str, SeenAddresses], written: Iterable[str] = ()
) -> dict[str, str]:
    """
    Give hosts that their data gives no address, or one that they do not have, one of their own.

    An address that another host has too, as each of Vagrant's has 10.0.2.15, is none of its own.
    Of several it is the one that the control machine connected to, else that in the network of
    `master_ip`, else that of the default route.

    + spec: the cluster
    + seen: host → what it told
    + written: the hosts whose data says `address`: no other will do

    Raises ``InputError`` for a host whose addresses leave a choice, or none.
    """
    problems, chosen = [], {}
    known = {host.name: host.address for host in spec.hosts if host.address}
    everywhere = [_ip(text) for one in seen.values() for text in {*one.links}]
    for host in spec.hosts:
        one = seen.get(host.name, SeenAddresses({}))
        own = [_ip(text) for text in one.links]
        if host.name in written or not own or known.get(host.name) in own:
            continue
        others = {address for name, address in known.items() if name != host.name}
        candidates = [
            text
            for text in one.links
            if everywhere.count(_ip(text)) == 1 and _ip(text) not in others and _is_of_host(text)
        ]
        best = _best(spec, "control_plane" in host.roles, one, candidates)
        if best:
            chosen[host.name] = best
        else:
            problems.append(_no_choice(host.name, one, candidates))
    if problems:
        raise InputError(problems)
    return chosen


def _best(
    spec: ClusterSpec, is_control_plane: bool, one: SeenAddresses, candidates: list[str]
) -> str | None:
    """The address that a host is best reached at; ``None`` where nothing tells."""
    outside = [text for text in candidates if not _in_ranges(spec, text)]
    candidates = outside or candidates
    addresses = [_ip(text) for text in candidates]
    near = [_ip(text) for text in candidates if IPAddress(spec.master_ip) in IPNetwork(text)]
    if is_control_plane and len(spec.control_plane) == 1 and spec.master_ip in addresses:
        return spec.master_ip
    if one.connected in addresses:
        return one.connected
    for few in (addresses, near):
        if len(few) == 1:
            return few[0]
    return one.default if one.default in addresses else None


def _no_choice(name: str, one: SeenAddresses, candidates: list[str]) -> Problem:
    links = ", ".join(f"{_ip(text)} ({link})" for text, link in one.links.items())
    if not candidates:
        allowed = f"an address of its own: it has {links}, and others have the same"
        fix = f'give {name} an address that no other host has, and set address = "…" for it'
        return Problem("address", None, name, allowed, fix)
    fix = f'set address = "{_ip(candidates[0])}", or another of these, for it'
    return Problem("address", None, name, f"one of its addresses: {links}", fix)


def _ip(text: str) -> str:
    return text.partition("/")[0]


def _is_of_host(text: str) -> bool:
    return not _special(IPNetwork(_ip(text)))


def _in_ranges(spec: ClusterSpec, text: str) -> bool:
    return any(IPAddress(_ip(text)) in network for network in _ranges(spec).values())


@dataclass(frozen=True)
class NodeAddresses:
    """
    The addresses of one node (P1, P3).

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
        """The range of all services (P2)."""
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
        The routes that a host needs to the pods of the other nodes (N6).

        + host: whose routes

        Empty where `route_pods` is off or flannel carries the pods. Raises ``InputError`` while
        the address of another node is not known.

        ```
        >>> plan.routes("master")
        [("10.10.0.0/24", "192.168.10.5"), ("10.10.1.0/24", "192.168.10.6")]
        ```
        """
        if self.spec.network != "routes" or not self.spec.route_pods:
            return []
        others = [node for node in self.nodes.values() if node.name != host]
        unknown = [node.name for node in others if not node.address]
        if unknown:
            raise InputError(
                Problem("address", None, name, "the node's IPv4 address", "set it in its data")
                for name in unknown
            )
        return [(node.pod_cidr, node.address) for node in others if node.address]

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
                self.spec.master_ip,
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
                    self.addresses[host.name] or "(not known yet)",
                    " ".join(name for role, name in ROLES.items() if role in host.roles),
                    node.pod_cidr if node else waits,
                    node.bridge_address if node else "-",
                    str(node.pods) if node else "-",
                )
            )
        return lines_of(rows)

    def _notes(self) -> list[str]:
        return ["", *(f"warning: {text}" for text in self.warnings)] if self.warnings else []


def usable_pods(prefix: int) -> int:
    """
    How many pods have an address in a node's network (P1).

    + prefix: the network's length in bits, as 24
    """
    return int(2 ** (32 - prefix)) - 3


def pod_range(spec: ClusterSpec) -> tuple[IPNetwork, int]:
    """
    The range that pods' addresses come from, and the length of one node's share of it.

    + spec: the cluster
    """
    if spec.network == "flannel":
        return IPNetwork(spec.flannel_network), spec.flannel_subnet_len
    return IPNetwork(spec.cluster_cidr), spec.node_cidr_mask_size


def node_capacity(spec: ClusterSpec) -> int:
    """
    How many nodes the pods' range has room for; flannel leaves the first share unused.

    + spec: the cluster
    """
    network, prefix = pod_range(spec)
    return int(2 ** (prefix - network.prefixlen)) - (spec.network == "flannel")


def make_plan(
    spec: ClusterSpec,
    current: Mapping[str, str] | None = None,
    recorded: Mapping[str, str] | None = None,
    networks: Mapping[str, list[str]] | None = None,
    addresses: Mapping[str, str] | None = None,
    services: Mapping[str, str] | None = None,
) -> AddressPlan:
    """
    Give every node its pod CIDR, and refuse what cannot work (P1 to P6).

    A node keeps what it has: its `pod_cidr`, else what it carries, else what an earlier plan
    gave it; the others get the first free ones in inventory order. What a host holds that is not
    (or no longer) a node stays taken until it is left out of `current` and `recorded`.

    + spec: a cluster from `ClusterSpec.from_inventory`
    + current: host → the pod CIDR (or the bridge's address with its length) that it has now
    + recorded: host → the pod CIDR of an earlier plan
    + networks: host → the networks it is on, without the cluster's own (docker0, flannel.1 …)
    + addresses: host → its address, for those whose inventory data does not tell
    + services: host → the range that its apiserver gives to services now

    Raises ``InputError``: a host's own network overlaps pods or services; a node would change
    its pod CIDR, or the services would their range, and `allow_network_change` is off; no CIDR is
    left.

    ```
    plan = make_plan(spec, current={"node1": "10.10.3.0/24"})
    plan.nodes["node1"].bridge_address  # 10.10.3.1/24
    ```
    """
    current, recorded, networks = current or {}, recorded or {}, networks or {}
    known = {host.name: (addresses or {}).get(host.name) or host.address for host in spec.hosts}
    shares = _share_out(spec, current, recorded)
    problems, warnings = _check_networks(spec, networks, current)
    problems += _check_addresses(spec, addresses or {}) + shares.problems
    moved = _moved_services(spec, services or {})
    problems += [] if spec.allow_network_change else moved
    if problems:
        raise InputError(problems)
    nodes = {
        name: _node_addresses(name, known[name], shares.network(name))
        for name in shares.names
        if name in shares.given
    }
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
            *_out_of_reach(spec, networks, known),
        ),
    )


def _share_out(
    spec: ClusterSpec, current: Mapping[str, str], recorded: Mapping[str, str]
) -> _Shares:
    shares = _Shares(spec)
    shares.reserve(current)
    if spec.network == "flannel":
        shares.keep(current, "its lease")
        return shares
    shares.reserve(recorded)
    shares.choose()
    shares.compare(current, "which it carries now")
    shares.keep(current, "which it carries now")
    shares.keep(recorded, "which an earlier plan gave it")
    shares.fill()
    return shares


class _Shares:
    """The pods' range cut into numbered shares, one a node."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec
        self.names = [node.name for node in spec.nodes]
        self.range, self.prefix = pod_range(spec)
        self.holders: dict[int, str] = {}
        self.given: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    @property
    def reserved(self) -> int:
        return len(self.holders) - len(self.given)

    def network(self, name: str) -> IPNetwork:
        first = self.range.first + (self.given[name] << (32 - self.prefix))
        return IPNetwork((first, self.prefix))

    def reserve(self, source: Mapping[str, str]) -> None:
        """Keep free what hosts hold that are no nodes."""
        for name, text in source.items():
            if name not in self.names:
                touched = self._touched(IPNetwork(text).cidr)
                self.holders.update(dict.fromkeys(touched, name))

    def choose(self) -> None:
        """Give nodes the networks that their data says."""
        for node in self.spec.nodes:
            if node.pod_cidr:
                self._claim(node.name, IPNetwork(node.pod_cidr), "its pod_cidr")

    def keep(self, source: Mapping[str, str], why: str) -> None:
        """Let nodes that have no network yet have the one that they had."""
        for name in self.names:
            if name in source and name not in self.given:
                self._claim(name, IPNetwork(source[name]).cidr, why)

    def compare(self, current: Mapping[str, str], why: str) -> None:
        """Say which nodes would not keep what they carry, for their data says otherwise."""
        for name in (name for name in self.given if name in current):
            if (network := IPNetwork(current[name]).cidr) != self.network(name):
                wrong = Problem("pod_cidr", str(self.network(name)), name, f"{network}, {why}")
                self._conflict(wrong, network, why)

    def fill(self) -> None:
        """Give the first free shares to the nodes that have none."""
        waiting = [name for name in self.names if name not in self.given]
        free = (i for i in range(node_capacity(self.spec)) if i not in self.holders)
        for name, share in zip(waiting, free, strict=False):
            self.given[name] = share
        self.holders |= {share: name for name, share in self.given.items()}
        if rest := [name for name in waiting if name not in self.given]:
            gone = ", ".join(sorted(set(self.holders.values()) - set(self.names)))
            allowed = f"a range with a /{self.prefix} left for {', '.join(rest)}"
            fix = f"a larger range, or take {gone} out of addresses.yaml, if it is gone for good"
            self.problems.append(Problem("cluster_cidr", str(self.range), None, allowed, fix))

    def _claim(self, name: str, network: IPNetwork, why: str) -> None:
        touched = self._touched(network)
        if network.prefixlen != self.prefix or not touched:
            allowed = f"a range with {network} as one of its /{self.prefix}: {why}"
            wrong = Problem(_range_key(self.spec), str(self.range), name, allowed)
            self._conflict(wrong, network, why)
        elif touched[0] in self.holders:
            allowed = f"a network of its own: {self.holders[touched[0]]} has it too ({why})"
            self._conflict(Problem("pod_cidr", str(network), name, allowed), network, why)
        else:
            self.given[name], self.holders[touched[0]] = touched[0], name

    def _conflict(self, problem: Problem, network: IPNetwork, why: str) -> None:
        if self.spec.allow_network_change:
            self.warnings.append(f"{problem.host} gets another pod CIDR than {network}, {why}")
        else:
            fix = "set allow_network_change = True, to renumber the node and restart its pods"
            self.problems.append(replace(problem, fix=fix))

    def _touched(self, network: IPNetwork) -> range:
        """The shares that a network overlaps."""
        if not _overlap(network, self.range):
            return range(0)
        first = max(network.first, self.range.first) - self.range.first
        last = min(network.last, self.range.last) - self.range.first
        return range(first >> (32 - self.prefix), (last >> (32 - self.prefix)) + 1)


def _node_addresses(name: str, address: str | None, network: IPNetwork) -> NodeAddresses:
    bridge = str(network[1])
    return NodeAddresses(
        name=name,
        address=address,
        pod_cidr=str(network),
        bridge_address=f"{bridge}/{network.prefixlen}",
        bridge_ip=bridge,
        pods=usable_pods(network.prefixlen),
    )


# What the spec alone can tell (P5)


def check_ranges(spec: ClusterSpec) -> list[Problem]:
    """Ranges that no pod or service can have, and public ones where they are not allowed."""
    problems = []
    for key, network in _ranges(spec).items():
        if kind := _special(network):
            problems.append(_move(spec, key, f"a private range ({kind} is none)"))
        elif not _private(network) and not spec.allow_public_ranges:
            problems.append(_move(spec, key, "a private range, for allow_public_ranges is off"))
    return problems


def check_overlaps(spec: ClusterSpec) -> list[Problem]:
    """Pods and services in one range, or a host's address in either."""
    pods, services = _ranges(spec).values()
    problems = []
    if _overlap(pods, services):
        allowed = f"a range apart from cluster_cidr {pods}"
        problems.append(_move(spec, "service_cidr", allowed))
    hosts = {host.name: host.address for host in spec.hosts if host.address}
    if spec.master_ip not in hosts.values():
        hosts["the control plane"] = spec.master_ip
    return problems + _check_addresses(spec, hosts)


def check_services(spec: ClusterSpec) -> list[Problem]:
    """A range of services that the apiserver takes, and a DNS address in it (P2)."""
    network, dns = IPNetwork(spec.service_cidr), IPAddress(spec.cluster_dns)
    if network.prefixlen not in SERVICE_PREFIXES:
        allowed = f"a network of /{SERVICE_PREFIXES[0]} to /{SERVICE_PREFIXES[-1]}"
        return [Problem("service_cidr", str(network), None, allowed)]
    if dns in network and dns not in (network[0], network[1], network[-1]):
        return []
    allowed = f"an address of the services {network}, from {network[2]} to {network[-2]}"
    return [Problem("cluster_dns", str(dns), None, allowed, f'write "{network[10]}"')]


def check_node_size(spec: ClusterSpec) -> list[Problem]:
    """Shares that do not fit the pods' range, more nodes than shares, more pods than addresses."""
    network, prefix = pod_range(spec)
    flannel = spec.network == "flannel"
    key = "flannel_subnet_len" if flannel else "node_cidr_mask_size"
    range_key = _range_key(spec)
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


def check_node_cidrs(spec: ClusterSpec) -> list[Problem]:
    """Pod CIDRs that nodes were given: each in the pods' range, of its size, and once."""
    network, prefix = pod_range(spec)
    problems = []
    seen: dict[IPNetwork, str] = {}
    for node in spec.nodes:
        if not node.pod_cidr:
            continue
        own = IPNetwork(node.pod_cidr)
        allowed, fix = "", None
        if spec.network == "flannel":
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


def check_flannel(spec: ClusterSpec) -> list[Problem]:
    """flannel's range is where the rest of the cluster looks for pods."""
    if IPNetwork(spec.flannel_network) in IPNetwork(spec.cluster_cidr):
        return []
    allowed = f"cluster_cidr {spec.cluster_cidr}, or a part of it"
    fix = "leave one of the two out"
    return [Problem("flannel_network", spec.flannel_network, None, allowed, fix)]


def check_mtu(spec: ClusterSpec, mtus: Mapping[str, int] | None = None) -> list[Problem]:
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


def address_warnings(spec: ClusterSpec) -> list[str]:
    """What is allowed and yet worth a look: public ranges, docker's default range."""
    warnings = []
    for key, network in _ranges(spec).items():
        if not _private(network):
            warnings.append(
                f"{key} {network} is public: hosts of the internet in it cannot be reached"
            )
        if _overlap(network, DOCKER_DEFAULT):
            warnings.append(f"{key} {network} overlaps docker's own default {DOCKER_DEFAULT}")
    return warnings


# What only hosts can tell (P5)


def _check_networks(
    spec: ClusterSpec, networks: Mapping[str, list[str]], current: Mapping[str, str]
) -> tuple[list[Problem], list[str]]:
    """A host's own network in a range of the cluster, but for what the cluster put there."""
    ours = {IPNetwork(text).cidr for text in current.values()}
    hosts: dict[IPNetwork, list[str]] = {}
    for host, texts in networks.items():
        for network in {IPNetwork(text).cidr for text in texts} - ours:
            if network.prefixlen:
                hosts.setdefault(network, []).append(host)
    problems, warnings = [], []
    for network in sorted(hosts):
        names = ", ".join(hosts[network])
        for key, wanted in _ranges(spec).items():
            if not _overlap(network, wanted):
                continue
            if network == DOCKER_DEFAULT:
                warnings.append(f"{key} {wanted} overlaps docker0 {network} of {names}")
            else:
                allowed = f"a range apart from the network {network} of {names}"
                problems.append(_move(spec, key, allowed, hosts))
    return problems, warnings


# No service changes its address, and the apiserver's certificate names the first one.
_ANEW = "make every service anew after the run, first of all: kubectl delete service kubernetes"


def _moved_services(spec: ClusterSpec, services: Mapping[str, str]) -> list[Problem]:
    """A range of services other than the one that they have their addresses in (P2)."""
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


def _check_addresses(spec: ClusterSpec, addresses: Mapping[str, str]) -> list[Problem]:
    problems = []
    for key, network in _ranges(spec).items():
        inside = [
            f"{host} {text}" for host, text in addresses.items() if IPAddress(text) in network
        ]
        if inside:
            more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
            allowed = f"a range without the hosts' addresses: {', '.join(inside[:3])}{more}"
            problems.append(_move(spec, key, allowed))
    return problems


def _out_of_reach(
    spec: ClusterSpec, networks: Mapping[str, list[str]], known: Mapping[str, str | None]
) -> list[str]:
    """Nodes that a host cannot route to, for they share no network (N6)."""
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


# Small things


def _move(spec: ClusterSpec, key: str, allowed: str, avoid: Iterable[IPNetwork] = ()) -> Problem:
    """A range that is in the way, and a private one of its size that touches nothing known."""
    others = _ranges(spec)
    network = others.pop(key)
    hosts = [host.address for host in spec.hosts if host.address] + [spec.master_ip]
    around_hosts = [IPNetwork(f"{address}/24").cidr for address in hosts]
    taken = [DOCKER_DEFAULT, *others.values(), *around_hosts, *avoid]
    candidates = (
        candidate
        for private in PRIVATE
        if network.prefixlen >= private.prefixlen
        for candidate in islice(private.subnet(network.prefixlen), 256)
    )
    free = (one for one in candidates if not any(_overlap(one, other) for other in taken))
    fix = next((f'for example "{candidate}"' for candidate in free), None)
    return Problem(key, str(network), None, allowed, fix)


def _too_many_nodes(spec: ClusterSpec, key: str, longest: int) -> Problem:
    network, _ = pod_range(spec)
    nodes, shares = len(spec.nodes), len(spec.nodes) + (spec.network == "flannel")
    enough = network.prefixlen + (shares - 1).bit_length()
    fix = f"{key} = {enough}, with {usable_pods(enough)} pods a node"
    allowed = f"a range for {nodes} nodes; this one has room for {node_capacity(spec)}"
    larger = "a larger range"
    return Problem(
        _range_key(spec), str(network), None, allowed, fix if enough <= longest else larger
    )


def _range_key(spec: ClusterSpec) -> str:
    return "flannel_network" if spec.network == "flannel" else "cluster_cidr"


def _ranges(spec: ClusterSpec) -> dict[str, IPNetwork]:
    return {
        "cluster_cidr": IPNetwork(spec.cluster_cidr),
        "service_cidr": IPNetwork(spec.service_cidr),
    }


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one in other or other in one


def _private(network: IPNetwork) -> bool:
    return any(network in private for private in PRIVATE)


def _special(network: IPNetwork) -> str | None:
    return next((kind for special, kind in SPECIAL.items() if _overlap(network, special)), None)
