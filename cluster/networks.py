"""
IPv4 networks and addresses as plain values: read, compared, counted.

IPv4 only: pods of the older releases have nothing else, and no path here builds the dual stack of
the newer ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from netaddr import AddrFormatError, IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import Wrong

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

NETWORK = 'an IPv4 network with its length, such as "10.10.0.0/16"'
ADDRESS = 'an IPv4 address, such as "192.168.10.4"'
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DNS_NAME = rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*"
_NO_IPV6 = "(IPv6 is not built here)"


def parse_network(text: str) -> IPNetwork:
    """
    Read a network as the inventory spells it: IPv4, with its length, without host bits.

    + text: such as ``"10.10.0.0/16"``

    Raises ``Wrong`` with the right network as its fix, where there is one.
    """
    if ":" in text:
        raise Wrong(f"{NETWORK} {_NO_IPV6}")
    try:
        network = IPNetwork(text)
    except (AddrFormatError, ValueError):
        raise Wrong(NETWORK) from None
    canonical = str(network.cidr)
    if "/" not in text:
        raise Wrong(NETWORK, "write the length too")
    if canonical != str(network):
        raise Wrong("a network without host bits", f'write "{canonical}"')
    if canonical != text:
        raise Wrong(NETWORK, f'write "{canonical}"')
    return network


def parse_address(text: str) -> IPAddress:
    """
    Read the address of a host: IPv4, and one that other hosts can reach.

    + text: such as ``"192.168.10.4"``

    Raises ``Wrong``.
    """
    if ":" in text:
        raise Wrong(f"{ADDRESS} {_NO_IPV6}")
    if not re.fullmatch(r"\d+\.\d+\.\d+\.\d+", text):
        raise Wrong(ADDRESS)
    try:
        address = IPAddress(text)
    except (AddrFormatError, ValueError):
        raise Wrong(ADDRESS) from None
    if kind := special(IPNetwork(address)):
        raise Wrong(f"an address that other hosts can reach ({kind} is none)")
    return address


def first_address(*texts: object) -> str | None:
    """
    Give the first text that is the address of a host.

    + texts: what may be one
    """
    for text in texts:
        try:
            return str(parse_address(str(text)))
        except Wrong:
            continue
    return None


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether two networks have an address in common."""
    return one in other or other in one


def private(network: IPNetwork) -> bool:
    """Whether a network is within a private range."""
    return any(network in one for one in PRIVATE)


def special(network: IPNetwork) -> str | None:
    """Give the name of the special range that a network touches, such as "loopback"."""
    return next((kind for one, kind in SPECIAL.items() if overlap(network, one)), None)


def free_private(length: int, taken: Iterable[IPNetwork]) -> IPNetwork | None:
    """
    Give a private network that overlaps none of others.

    + length: its length in bits
    + taken: the others
    """
    taken = list(taken)
    candidates = (
        candidate
        for one in PRIVATE
        if length >= one.prefixlen
        for candidate in islice(one.subnet(length), 256)
    )
    return next((one for one in candidates if not any(overlap(one, t) for t in taken)), None)


def usable_pods(length: int) -> int:
    """
    How many pods have an address in a node's network: all but the network's, the bridge's and the
    broadcast address. 253 of a /24, 61 of a /26, 29 of a /27.

    + length: the network's length in bits
    """
    return int(2 ** (32 - length)) - 3
