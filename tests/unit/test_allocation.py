"""Who gets which address."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.allocation import (
    AddressPlan,
    SeenAddresses,
    choose_addresses,
    make_plan,
)
from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.networks import usable_pods
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.range_checks import check_mtu
from pyinfra_kube.cluster.spec.ranges import node_capacity
from pyinfra_kube.deploys.phases.pod_network import check_mtus
from pyinfra_kube.deploys.run.addresses_file import Allocations
from pyinfra_kube.deploys.run.context import Cluster, _current
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.facts.bridge import Link


def spec_of(
    nodes: int | list[str] = 2, hosts: dict[str, dict[str, Any]] | None = None, **cluster: Any
) -> ClusterSpec:
    """A control-plane host at 192.168.10.4 and nodes n1 … at 192.168.11.1 …"""
    names = [f"n{i}" for i in range(1, nodes + 1)] if isinstance(nodes, int) else nodes
    data: dict[str, dict[str, Any]] = {
        "m1": {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.168.10.4"}
        | {"ssh_hostname": "192.168.10.4"}
        | cluster
    }
    for name in names:
        address = str(IPAddress("192.168.11.0") + int(name[1:]))
        data[name] = {"ssh_hostname": address} | (hosts or {}).get(name, {})
    return ClusterSpec.from_inventory({"control_plane": ["m1"], "nodes": names}, data)


def cidrs(plan: AddressPlan) -> dict[str, str]:
    return {name: node.pod_cidr for name, node in plan.nodes.items()}


def refused(spec: ClusterSpec, **known: Any) -> list[Problem]:
    with pytest.raises(InputError) as error:
        make_plan(spec, **known)
    return error.value.problems


# Room, services, bridges


@pytest.mark.parametrize(
    ("subnet", "size", "nodes", "pods"),
    [
        ("10.10.0.0/16", 24, 256, 253),
        ("10.10.0.0/16", 26, 1024, 61),
        ("10.10.0.0/16", 27, 2048, 29),
        ("10.10.0.0/16", 30, 16384, 1),
        ("10.10.0.0/20", 24, 16, 253),
        ("10.10.0.0/24", 24, 1, 253),
    ],
)
def test_capacity(subnet: str, size: int, nodes: int, pods: int) -> None:
    plan = make_plan(spec_of(1, cluster_cidr=subnet, node_cidr_mask_size=size))
    assert (plan.capacity, plan.capacity_left) == (nodes, nodes - 1)
    assert plan.nodes["n1"].pods == usable_pods(size) == pods


@pytest.mark.parametrize(
    ("services", "number", "first", "dns"),
    [
        ("10.0.0.0/16", 65534, "10.0.0.1", "10.0.0.10"),
        ("172.30.4.0/24", 254, "172.30.4.1", "172.30.4.10"),
        ("172.30.4.16/28", 14, "172.30.4.17", "172.30.4.26"),
    ],
)
def test_services(services: str, number: int, first: str, dns: str) -> None:
    plan = make_plan(spec_of(service_cidr=services))
    assert (plan.services, plan.service_ip, plan.spec.cluster_dns) == (number, first, dns)


def test_the_bridge_has_the_first_address_with_the_length() -> None:
    node = make_plan(spec_of(cluster_cidr="10.20.0.0/16", node_cidr_mask_size=26)).nodes["n2"]
    assert node.name == "n2"
    assert node.address == "192.168.11.2"
    assert node.pod_cidr == "10.20.0.64/26"
    assert node.bridge_address == "10.20.0.65/26"


# Who keeps what

KEPT: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    "the first free ones, in order": ({}, {}, [0, 1, 2]),
    "the node's own choice first": ({"n2": 0}, {}, [1, 0, 2]),
    "then what is current": ({"n3": 7}, {"current": {"n2": 9}}, [0, 9, 7]),
    "then what was planned": ({}, {"current": {"n2": 9}, "recorded": {"n1": 4}}, [4, 9, 0]),
    "what is current over what was planned": (
        {},
        {"current": {"n2": 9}, "recorded": {"n2": 4, "n1": 8}},
        [8, 9, 0],
    ),
    "the node's choice over what was planned": ({"n1": 5}, {"recorded": {"n1": 4}}, [5, 0, 1]),
    "nothing that a host holds which is gone": (
        {},
        {"current": {"old": 0}, "recorded": {"older": 2}},
        [1, 3, 4],
    ),
    "a network once more when it is free": ({}, {"current": {"n2": 1, "n3": 2}}, [0, 1, 2]),
}


def _cidr(number: int) -> str:
    return f"10.10.{number}.0/24"


def _known(known: dict[str, dict[str, int]]) -> dict[str, dict[str, str]]:
    return {
        source: {name: _cidr(number) for name, number in numbers.items()}
        for source, numbers in known.items()
    }


@pytest.mark.parametrize("case", KEPT)
def test_who_gets_what(case: str) -> None:
    chosen, known, expected = KEPT[case]
    hosts = {name: {"pod_cidr": _cidr(number)} for name, number in chosen.items()}
    plan = make_plan(spec_of(3, hosts), **_known(known))
    assert list(cidrs(plan).values()) == [_cidr(number) for number in expected]
    assert list(cidrs(plan)) == ["n1", "n2", "n3"]
    assert plan.warnings == ()


def test_what_gone_hosts_hold_counts() -> None:
    plan = make_plan(spec_of(), recorded={"old": "10.10.9.0/24"}, current={"old": "10.10.8.0/22"})
    assert plan.reserved == 4
    assert plan.capacity_left == 256 - 4 - 2


def test_the_address_of_a_bridge_is_as_good_as_its_network() -> None:
    assert cidrs(make_plan(spec_of(1), current={"n1": "10.10.3.1/24"})) == {"n1": "10.10.3.0/24"}


RENUMBERED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str, list[str]]] = {
    "chosen otherwise than current": (
        {"hosts": {"n1": {"pod_cidr": "10.10.5.0/24"}}},
        {"current": {"n1": "10.10.3.0/24"}},
        "pod_cidr",
        "10.10.3.0/24, which it has now",
        ["10.10.5.0/24", "10.10.0.0/24"],
    ),
    "current outside the range": (
        {},
        {"current": {"n1": "10.99.3.0/24"}},
        "cluster_cidr",
        "with 10.99.3.0/24 as one of its /24: which it has now",
        ["10.10.0.0/24", "10.10.1.0/24"],
    ),
    "current in another size": (
        {},
        {"current": {"n1": "10.10.3.0/25"}},
        "cluster_cidr",
        "with 10.10.3.0/25 as one of its /24",
        ["10.10.0.0/24", "10.10.1.0/24"],
    ),
    "current by a node, chosen for another": (
        {"hosts": {"n2": {"pod_cidr": "10.10.3.0/24"}}},
        {"current": {"n1": "10.10.3.0/24"}},
        "pod_cidr",
        "n2 has it too",
        ["10.10.0.0/24", "10.10.3.0/24"],
    ),
    "planned for a node, current by another": (
        {},
        {"recorded": {"n1": "10.10.3.0/24"}, "current": {"n2": "10.10.3.0/24"}},
        "pod_cidr",
        "n2 has it too (which an earlier plan gave it)",
        ["10.10.0.0/24", "10.10.3.0/24"],
    ),
    "chosen for a node, held by a host that is gone": (
        {"hosts": {"n1": {"pod_cidr": "10.10.3.0/24"}}},
        {"recorded": {"old": "10.10.3.0/24"}},
        "pod_cidr",
        "old has it too (its pod_cidr)",
        ["10.10.0.0/24", "10.10.1.0/24"],
    ),
}


@pytest.mark.parametrize("case", RENUMBERED)
def test_no_node_is_renumbered_unless_that_is_allowed(case: str) -> None:
    wanted, known, key, allowed, expected = RENUMBERED[case]
    (problem,) = refused(spec_of(**wanted), **known)
    assert (problem.key, problem.host) == (key, "n1")
    assert allowed in problem.allowed
    assert "allow_network_change = True" in (problem.fix or "")
    plan = make_plan(spec_of(**wanted, allow_network_change=True), **known)
    assert list(cidrs(plan).values()) == expected
    (warning,) = plan.warnings
    assert warning.startswith("n1 gets another pod CIDR than ")


@pytest.mark.parametrize(
    ("given", "moves"),
    [
        ("10.0.0.0/16", False),
        ("10.0.0.0/24", False),
        ("10.0.1.0/24", True),
        ("10.0.0.0/12", True),
        ("10.254.0.0/16", True),
    ],
)
def test_services_do_not_move_unless_that_is_allowed(given: str, moves: bool) -> None:
    known = {"m1": given, "m2": given}
    if not moves:
        assert make_plan(spec_of(), services=known).warnings == ()
        return
    (problem,) = refused(spec_of(), services=known)
    assert (problem.key, problem.value) == ("service_cidr", "10.0.0.0/16")
    assert given in problem.allowed
    assert "allow_network_change = True" in (problem.fix or "")
    (warning,) = make_plan(spec_of(allow_network_change=True), services=known).warnings
    assert "kubectl delete service kubernetes" in warning


def test_all_is_held_by_hosts_that_are_gone() -> None:
    spec = spec_of(2, cluster_cidr="10.10.0.0/23")
    (problem,) = refused(spec, recorded={"old": "10.10.0.0/24"})
    assert problem.allowed == "a range with a /24 left for n2"
    assert "take old out of addresses.yaml" in (problem.fix or "")


# What only hosts can tell


@pytest.mark.parametrize(
    ("network", "key"),
    [
        ("10.10.0.0/16", "cluster_cidr"),
        ("10.10.77.0/24", "cluster_cidr"),
        ("10.0.7.9/30", "service_cidr"),
    ],
)
def test_a_network_of_a_host_in_the_way(network: str, key: str) -> None:
    (problem,) = refused(spec_of(), networks={"n1": ["192.168.11.0/24", network], "n2": [network]})
    assert problem.key == key
    assert f"{IPNetwork(network).cidr} of n1, n2" in problem.allowed
    assert problem.fix == 'for example "10.1.0.0/16"'


def test_both_ranges_in_the_way_of_one_network() -> None:
    problems = refused(spec_of(), networks={"n1": ["10.0.0.0/9"]})
    assert [problem.key for problem in problems] == ["cluster_cidr", "service_cidr"]
    assert problems[0].fix == 'for example "10.128.0.0/16"'


def test_networks_that_are_not_in_the_way() -> None:
    networks = {"n1": ["0.0.0.0/0", "10.10.3.0/24", "10.11.0.0/16", "192.168.0.0/16"]}
    plan = make_plan(spec_of(), networks=networks, current={"n1": "10.10.3.0/24"})
    assert plan.warnings == ()


def test_docker0_is_only_warned_of() -> None:
    plan = make_plan(
        spec_of(cluster_cidr="172.16.0.0/12"),
        networks={"n1": ["172.17.0.0/16", "192.168.0.0/16"]},
    )
    assert plan.warnings == (
        "cluster_cidr 172.16.0.0/12 overlaps docker's own default 172.17.0.0/16",
        "cluster_cidr 172.16.0.0/12 overlaps docker0 172.17.0.0/16 of n1",
    )


def test_a_public_range_is_warned_of() -> None:
    plan = make_plan(spec_of(cluster_cidr="18.16.0.0/16"))
    (warning,) = plan.warnings
    assert warning.startswith("cluster_cidr 18.16.0.0/16 is public")


def test_an_address_that_only_the_host_could_tell() -> None:
    spec = spec_of(hosts={"n1": {"ssh_hostname": "n1.example.com"}})
    plan = make_plan(spec)
    assert plan.addresses["n1"] is None
    assert "(not known yet)" in plan.table()
    with pytest.raises(InputError, match="n1: address is not set"):
        plan.routes("n2")
    assert plan.routes("n1") == [("10.10.1.0/24", "192.168.11.2")]
    plan = make_plan(spec.with_addresses({"n1": "192.168.11.7"}))
    assert plan.routes("n2") == [("10.10.0.0/24", "192.168.11.7")]
    with pytest.raises(InputError, match=r"n1 10\.10\.0\.7"):
        spec.with_addresses({"n1": "10.10.0.7"})


@pytest.mark.parametrize(
    ("backend", "mtu", "most"),
    [("vxlan", 1500, 1450), ("udp", 1500, 1472), ("host-gw", 1450, 1450)],
)
def test_an_mtu_that_hosts_cannot_carry(backend: str, mtu: int, most: int) -> None:
    spec = spec_of(network="flannel", flannel_backend=backend, host_mtu=9000, bridge_mtu=most)
    assert check_mtu(spec, {"n1": mtu}) == []
    (problem,) = check_mtu(spec, {"n1": mtu - 1, "n2": mtu})
    assert (problem.key, problem.host, problem.fix) == ("bridge_mtu", "n1", f"write {most - 1}")


# Routes


def test_routes_to_the_pods_of_the_others() -> None:
    plan = make_plan(spec_of(3))
    first, second, third = (
        ("10.10.0.0/24", "192.168.11.1"),
        ("10.10.1.0/24", "192.168.11.2"),
        ("10.10.2.0/24", "192.168.11.3"),
    )
    assert plan.routes("m1") == [first, second, third]
    assert plan.routes("n2") == [first, third]
    assert make_plan(spec_of(3, route_pods=False)).routes("m1") == []


def test_routes_over_a_router_are_warned_of() -> None:
    networks = {"m1": ["192.168.10.0/24"], "n1": ["192.168.11.0/24"], "n2": []}
    (warning,) = make_plan(spec_of(), networks=networks).warnings
    assert warning.startswith("m1 shares no network with n1, n2")
    assert make_plan(spec_of(route_pods=False), networks=networks).warnings == ()
    assert make_plan(spec_of(network="flannel"), networks=networks).warnings == ()


# flannel


def test_flannel_gives_networks_itself() -> None:
    spec = spec_of(network="flannel", flannel_network="10.20.0.0/16")
    plan = make_plan(spec, current={"n2": "10.20.29.0/24"}, recorded={"n1": "10.20.7.0/24"})
    assert cidrs(plan) == {"n2": "10.20.29.0/24"}
    assert plan.routes("n1") == []
    assert (plan.capacity, plan.capacity_left) == (255, 253)
    assert "flannel's choice" in plan.table()
    (problem,) = refused(spec, current={"n2": "10.99.29.0/24"})
    assert problem.key == "flannel_network"


def test_the_table() -> None:
    spec = spec_of(
        ["n1", "n20"],
        {"n20": {"pod_cidr": "10.10.200.0/24", "ssh_hostname": "n20.example.com"}},
        service_cidr="18.1.0.0/16",
    )
    plan = make_plan(spec, recorded={"old": "10.10.0.0/24"})
    assert plan.table() == (
        """\
cluster        kubernetes    Kubernetes 1.20.2
control plane  192.168.10.4  m1
pods           10.10.0.0/16  256 nodes of a /24: 2 in use, 1 held by other hosts, 253 left
                             253 pods a node (110 unless max_pods is set)
services       18.1.0.0/16   65534 services; kubernetes 18.1.0.1, DNS 18.1.0.10

HOST  ADDRESS          ROLES               POD CIDR        BRIDGE          PODS
m1    192.168.10.4     control-plane etcd  -               -               -
n1    192.168.11.1     node                10.10.1.0/24    10.10.1.1/24    253
n20   (not known yet)  node                10.10.200.0/24  10.10.200.1/24  253

warning: service_cidr 18.1.0.0/16 is public: hosts of the internet in it cannot be \
reached"""
    )
    assert "253 pods a node (max_pods 200)" in make_plan(spec_of(max_pods=200)).table()


# Any cluster


def networks(shortest: int, longest: int) -> st.SearchStrategy[str]:
    return st.builds(
        lambda first, length: str(IPNetwork((first, length)).cidr),
        st.integers(0x0A000000, 0x0AFFFFFF) | st.integers(0xAC100000, 0xAC1FFFFF),
        st.integers(shortest, longest),
    )


@st.composite
def specs(draw: st.DrawFn) -> ClusterSpec:
    """Any that is accepted, with a pod CIDR of their own for some nodes."""
    subnet = draw(networks(8, 28))
    prefix = int(subnet.split("/")[1])
    size = draw(st.integers(prefix, min(prefix + 8, 30)))
    nodes = draw(st.integers(1, min(2 ** (size - prefix), 12)))
    numbers = st.integers(0, 2 ** (size - prefix) - 1)
    chosen = draw(st.dictionaries(st.integers(1, nodes), numbers, max_size=3))
    first = IPNetwork(subnet).first
    hosts = {
        f"n{node}": {"pod_cidr": str(IPNetwork((first + (number << (32 - size)), size)))}
        for node, number in chosen.items()
    }
    try:
        return spec_of(
            nodes,
            hosts,
            cluster_cidr=subnet,
            node_cidr_mask_size=size,
            service_cidr=draw(networks(12, 28)),
        )
    except InputError:
        assume(False)
        raise


@given(specs())
def test_nothing_overlaps(spec: ClusterSpec) -> None:
    plan = make_plan(spec)
    pods = [IPNetwork(node.pod_cidr) for node in plan.nodes.values()]
    services = IPNetwork(plan.spec.service_cidr)
    hosts = [IPAddress(address) for address in plan.addresses.values() if address]
    assert set(plan.nodes) == {node.name for node in spec.nodes}
    assert not any(one in two or two in one for one, two in combinations(pods, 2))
    for network in pods:
        assert network in IPNetwork(spec.cluster_cidr)
        assert network.prefixlen == spec.node_cidr_mask_size
        assert network.ip == network.network
        assert network not in services
        assert services not in network
        assert not any(address in network for address in hosts)
    assert not any(address in services for address in hosts)
    assert IPAddress(plan.service_ip) in services
    assert IPAddress(plan.spec.cluster_dns) in services
    assert plan.service_ip != plan.spec.cluster_dns


@given(specs())
def test_bridges_and_numbers(spec: ClusterSpec) -> None:
    plan = make_plan(spec)
    for node in plan.nodes.values():
        network = IPNetwork(node.pod_cidr)
        assert node.bridge_address == f"{network.network + 1}/{network.prefixlen}"
        not_for_pods = {network[0], network[-1], IPNetwork(node.bridge_address).ip}
        assert node.pods == network.size - len(not_for_pods) > 0
        assert node.name in plan.table()
    subnet = IPNetwork(spec.cluster_cidr)
    assert plan.capacity == node_capacity(spec) == subnet.size // network.size
    assert plan.capacity_left == plan.capacity - len(plan.nodes) >= 0
    assert make_plan(spec) == plan


@given(
    st.permutations([f"n{i}" for i in range(1, 9)]),
    st.lists(st.permutations([f"n{i}" for i in range(1, 9)]), min_size=1, max_size=3),
    st.integers(1, 6),
    st.sampled_from(["current", "recorded"]),
)
def test_nodes_that_come_and_go_never_renumber_another(
    first: list[str], later: list[list[str]], number: int, source: str
) -> None:
    subnet = {"cluster_cidr": "10.10.0.0/21"}
    has = cidrs(make_plan(spec_of(first[:number], **subnet)))
    for order in later:
        present = order[: number + 1]
        plan = cidrs(make_plan(spec_of(present, **subnet), **{source: has}))
        assert {name: plan[name] for name in present if name in has} == {
            name: has[name] for name in present if name in has
        }
        added = {plan[name] for name in present if name not in has}
        assert not added & set(has.values())
        has |= plan


def test_what_nodes_were_given_is_kept_until_they_are_removed(tmp_path: Path) -> None:
    spec, book = spec_of(remove_nodes=["n2"]), Allocations(tmp_path)
    book.write({"old": "10.10.0.0/24"})
    plan = make_plan(spec, recorded=book.read())
    unused: Any = None
    it = Cluster(
        *(spec, Release.of(spec.kubernetes_version), plan),
        *(CredentialStore(tmp_path), book, unused, unused, {}, unused, unused),
    )
    it.record()
    assert book.read() == {"old": "10.10.0.0/24", **cidrs(plan)}
    it.forget()
    assert book.read().keys() == {"old", *cidrs(plan)} - {"n2"}


@pytest.mark.parametrize(
    ("data", "mtu", "fits"),
    [
        ({}, 1460, True),
        ({}, 1400, False),
        ({"bridge_mtu": 1400}, 1400, True),
    ],
)
def test_a_bridge_fits_the_link_that_its_packets_leave_by(
    data: dict[str, Any], mtu: int, fits: bool
) -> None:
    links = {
        "eth0": Link("eth0", "", 9000, "", ("192.0.2.9/24",), True, None),
        "eth1": Link("eth1", "", mtu, "", ("192.168.11.1/24",), True, None),
    }
    seen = {"n1": HostFacts([], "", [], "", "", "", "", links=links)}
    says = nullcontext() if fits else pytest.raises(InputError, match=f"n1: .*write {mtu}")
    with says:
        check_mtus(spec_of(**data), seen)


def test_a_bridge_with_another_address_than_written_down_has_drifted() -> None:
    seen = {
        "n1": HostFacts([], "", [], "10.99.0.0/24", "", "", ""),
        "n2": HostFacts([], "", [], "10.10.7.0/24", "", "", ""),
    }
    current = _current(spec_of(), seen, {"n1": "10.10.4.0/24"})
    assert current == {"n1": "10.10.4.0/24", "n2": "10.10.7.0/24"}
    plan = make_plan(spec_of(), current=current, recorded={"n1": "10.10.4.0/24"})
    assert cidrs(plan) == current


# Which of its addresses is a host's own

VAGRANT = "10.0.2.15/24"
M, N1, N2 = "192.168.33.10/24", "192.168.33.11/24", "192.168.33.12/24"
PLAIN = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.168.33.10"}

# What each host has, the one connected to, that of the default route → what is chosen.
OWN: dict[str, tuple[dict[str, SeenAddresses], dict[str, str] | str]] = {
    "Vagrant's": (
        {
            name: SeenAddresses({VAGRANT: "eth0", own: "eth1"}, "127.0.0.1", "10.0.2.15")
            for name, own in (("m", M), ("n1", N1), ("n2", N2))
        },
        {"m": "192.168.33.10", "n1": "192.168.33.11", "n2": "192.168.33.12"},
    ),
    "nothing but Vagrant's": (
        {
            "m": SeenAddresses({M: "eth0"}),
            "n1": SeenAddresses({VAGRANT: "eth0"}, "10.0.2.15"),
            "n2": SeenAddresses({VAGRANT: "eth0"}, "10.0.2.15"),
        },
        "n1: address is not set; allowed: an address of its own: it has 10.0.2.15 (eth0), and "
        "others have the same; fix: give n1 an address that no other host has",
    ),
    "the one connected to": (
        {"n1": SeenAddresses({"10.1.0.5/24": "a", "10.2.0.5/24": "b"}, "10.2.0.5", "10.1.0.5")},
        {"n1": "10.2.0.5"},
    ),
    "the one on the control plane's network": (
        {"n1": SeenAddresses({"10.1.0.5/24": "a", N1: "b"}, "198.51.100.7", "10.1.0.5")},
        {"n1": "192.168.33.11"},
    ),
    "the one of the default route": (
        {"n1": SeenAddresses({"10.1.0.5/24": "a", "10.2.0.5/24": "b"}, "", "10.2.0.5")},
        {"n1": "10.2.0.5"},
    ),
    "nothing tells": (
        {"n1": SeenAddresses({"10.1.0.5/24": "eth0", "10.2.0.5/24": "br-mgmt"})},
        "n1: address is not set; allowed: one of its addresses: 10.1.0.5 (eth0), 10.2.0.5 "
        '(br-mgmt); fix: set address = "10.1.0.5", or another of these, for it',
    ),
    "one on the loopback": (
        {"n1": SeenAddresses({"169.254.7.7/16": "eth0", "198.51.100.9/32": "lo"})},
        {"n1": "198.51.100.9"},
    ),
    "not a bridge of pods": (
        {"n1": SeenAddresses({"10.10.3.1/24": "old0", "10.9.0.5/16": "eth0"})},
        {"n1": "10.9.0.5"},
    ),
    "none told": ({"n1": SeenAddresses({})}, {}),
}


@pytest.mark.parametrize("case", OWN)
def test_the_own_address_of_a_host(case: str) -> None:
    seen, expected = OWN[case]
    names = {"m": PLAIN, "n1": PLAIN, "n2": PLAIN}
    cluster = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n1", "n2"]}, names)
    if isinstance(expected, str):
        with pytest.raises(InputError) as failure:
            choose_addresses(cluster, seen)
        assert expected in str(failure.value)
    else:
        assert choose_addresses(cluster, seen) == expected


def test_an_address_that_ssh_finds_and_the_host_has_not() -> None:
    data = {"n1": {**PLAIN, "ssh_hostname": "203.0.113.5"}}
    cluster = ClusterSpec.from_inventory(
        {"control_plane": ["m"], "nodes": ["n1"]}, {"m": PLAIN, **data}
    )
    seen = {"n1": SeenAddresses({N1: "eth0"}, "203.0.113.5", "192.168.33.11")}
    assert choose_addresses(cluster, seen) == {"n1": "192.168.33.11"}
    # Somebody who writes it knows.
    assert choose_addresses(cluster, seen, written=["n1"]) == {}


def test_gathered_addresses_are_checked_as_written_ones() -> None:
    names = {"m": PLAIN, "n1": PLAIN}
    cluster = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n1"]}, names)
    for address, said in {
        "10.10.3.1": "a range without the hosts' addresses: n1 10.10.3.1",
        "10.0.0.7": "a range without the hosts' addresses: n1 10.0.0.7",
        "192.168.33.10": "its own: m has it too",
    }.items():
        with pytest.raises(InputError) as failure:
            cluster.with_addresses({"m": "192.168.33.10", "n1": address})
        assert said in str(failure.value)
    told = cluster.with_addresses({"m": "192.168.33.10", "n1": "192.168.33.11"}, through=["n1"])
    assert told.host("n1").flannel_iface == "192.168.33.11"


_TEXT = st.sampled_from([VAGRANT, M, N1, N2, "10.10.3.1/24", "127.0.0.1/8", "0.0.0.0/0"])


@given(
    st.dictionaries(
        st.sampled_from(["m", "n1", "n2", "stranger"]),
        st.builds(
            SeenAddresses,
            st.dictionaries(_TEXT, st.just("eth0")),
            _TEXT.map(lambda text: text.partition("/")[0]),
            st.just(""),
        ),
    )
)
def test_no_two_hosts_are_given_one_address(seen: dict[str, SeenAddresses]) -> None:
    names = {"m": PLAIN, "n1": PLAIN, "n2": PLAIN}
    cluster = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n1", "n2"]}, names)
    try:
        chosen = choose_addresses(cluster, seen)
        cluster.with_addresses(chosen)
    except InputError:
        return
    assert len(set(chosen.values())) == len(chosen)
    assert all(any(a.startswith(f"{one}/") for a in seen[h].links) for h, one in chosen.items())
