"""Who has which address, and the way of a packet: each place where it can end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPAddress, IPNetwork

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.packet_way import Hop, Way, text_of_way, ways
from pyinfra_kube.deploys.run.topology import HostView, Topology, gaps, text_of
from pyinfra_kube.deploys.run.topology_picture import picture
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.firewall import of_iptables
from pyinfra_kube.facts.iptables import Rule, Ruleset
from pyinfra_kube.facts.nftables import with_masquerade
from pyinfra_kube.facts.routes import Route
from pyinfra_kube.facts.ways import Decision, PeerStates
from pyinfra_kube.facts.workloads import Pod, Service, ServicePort

MASQUERADE = Rule.parse("-A POSTROUTING -s 10.10.0.0/16 ! -d 10.10.0.0/16 -j MASQUERADE", "nat")
DROP = Rule.parse("-A FORWARD -s 10.10.1.0/24 -j DROP")
PROXY = {
    "service-ips": ("10.254.0.7 . tcp . 80 : goto service-A-default/web/tcp/",),
    "service-nodeports": ("tcp . 30080 : goto external-A-default/web/tcp/",),
    "no-endpoint-services": ('10.254.0.8 . tcp . 80 comment "default/none" : goto reject-chain',),
    "service-A-default/web/tcp/": (
        "ip daddr 10.254.0.7 tcp dport 80 ip saddr != 10.10.0.0/16 jump mark-for-masquerade",
        "numgen random mod 2 vmap { 0 : goto endpoint-B-__10.10.1.3/8080, "
        "1 : goto endpoint-C-__10.10.2.2/8080 }",
    ),
    "external-A-default/web/tcp/": (
        "jump mark-for-masquerade",
        "goto service-A-default/web/tcp/",
    ),
    "endpoint-B-__10.10.1.3/8080": (
        "ip saddr 10.10.1.3 jump mark-for-masquerade",
        "meta l4proto tcp dnat to 10.10.1.3:8080",
    ),
    "endpoint-C-__10.10.2.2/8080": ("meta l4proto tcp dnat to 10.10.2.2:8080",),
    "mark-for-masquerade": ("meta mark set meta mark | 0x00004000",),
}
IPTABLES = [
    "-A KUBE-SERVICES -d 10.254.0.7/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A",
    "-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-A",
    "-A KUBE-EXT-A -j KUBE-MARK-MASQ",
    "-A KUBE-EXT-A -j KUBE-SVC-A",
    "-A KUBE-SVC-A ! -s 10.10.0.0/16 -d 10.254.0.7/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ",
    "-A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-B",
    "-A KUBE-SVC-A -j KUBE-SEP-C",
    "-A KUBE-SEP-B -s 10.10.1.3/32 -j KUBE-MARK-MASQ",
    "-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.10.1.3:8080",
    "-A KUBE-SEP-C -p tcp -m tcp -j DNAT --to-destination 10.10.2.2:8080",
]
NONE = "-A KUBE-SERVICES -d 10.254.0.8/32 -p tcp -m tcp --dport 80 -j REJECT"


def link(name: str, address: str, kind: str = "", mtu: int = 1500) -> Link:
    return Link(name, kind, mtu, "", (address,), True, None)


def host(number: int, of: int = 3, **changes: Any) -> HostView:
    """Host n has 192.0.2.n and 10.10.n.0/24."""

    links = [
        link("lo", "127.0.0.1/8"),
        link("eth0", f"192.0.2.{number}/24"),
        link("cbr0", f"10.10.{number}.1/24", "bridge"),
    ]
    routes = [Route("0.0.0.0/0", "192.0.2.254", "eth0"), Route("192.0.2.0/24", dev="eth0")]
    routes.append(Route(f"10.10.{number}.0/24", dev="cbr0"))
    routes += [
        Route(f"10.10.{other}.0/24", f"192.0.2.{other}", "eth0")
        for other in range(1, of + 1)
        if other != number
    ]
    rules = Ruleset({"nat": {"POSTROUTING": "ACCEPT"}}, (MASQUERADE,))
    known = HostView(
        name=f"n{number}",
        address=f"192.0.2.{number}",
        roles="node",
        node=f"n{number}",
        pod_cidr=f"10.10.{number}.0/24",
        links={one.name: one for one in links},
        routes=routes,
        sysctls={"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"},
        proxy=PROXY,
        rules=rules,
        chains=of_iptables(rules),
    )
    return replace(known, **changes)


PODS = {
    "default/a": Pod("n1", "10.10.1.2"),
    "default/b": Pod("n1", "10.10.1.3"),
    "default/c": Pod("n2", "10.10.2.2"),
    "default/on-host": Pod("n1", "192.0.2.1", on_host=True),
    "default/waits": Pod(),
}
WEB = ServicePort("http", "tcp", 80, 30080, ("10.10.1.3:8080", "10.10.2.2:8080"))
SERVICES = {
    "default/web": Service("10.254.0.7", (WEB,)),
    "default/none": Service("10.254.0.8", (ServicePort("", "tcp", 80),)),
    "default/headless": Service("", (ServicePort("", "tcp", 80, endpoints=("10.10.2.2:80",)),)),
    "default/stale": Service("10.254.0.7", (replace(WEB, endpoints=("10.10.3.9:8080",)),)),
    "default/unknown": Service("10.254.0.9", (replace(WEB, node_port=0),)),
}


def cluster(*hosts: HostView) -> Topology:
    known = {one.name: one for one in (host(1), host(2), host(3))}
    known |= {one.name: one for one in hosts}
    ranges = "10.10.0.0/16", "10.254.0.0/24", "10.254.0.1", "10.254.0.10"
    return Topology("lab", *ranges, "routes", list(known.values()), PODS, SERVICES)


def kernels(topology: Topology) -> Callable[[str, str, str, str], Decision]:
    """Decides as kernels do: by the longest prefix."""

    named = {one.name: one for one in topology.hosts}

    def ask(name: str, destination: str, source: str, into: str) -> Decision:
        one = named[name]
        if destination in one.addresses:
            return Decision("local", "", "lo", f"local {destination} dev lo")
        found = [r for r in one.routes if IPAddress(destination) in IPNetwork(r.destination)]
        if not found:
            return Decision(said="Network is unreachable")
        best = max(found, key=lambda r: IPNetwork(r.destination).prefixlen)
        said = f"{best.destination} via {best.via} dev {best.dev}"
        return Decision("unicast", best.via or "", best.dev or "", said)

    return ask


def ruleset(*texts: str, nat: tuple[str, ...] = ()) -> Ruleset:
    rules = [*map(Rule.parse, texts), *(Rule.parse(text, "nat") for text in nat), MASQUERADE]
    chains: dict[str, dict[str, str | None]] = {"nat": {}, "filter": {"FORWARD": "ACCEPT"}}
    for rule in rules:
        chains[rule.table].setdefault(rule.chain, None)
    chains["nat"]["POSTROUTING"] = "ACCEPT"
    return Ruleset(chains, tuple(rules))


def way(to: str, *hosts: HostView, start: str = "default/a", index: int = 0) -> Way:
    topology = cluster(*hosts)
    return ways(topology, start, to, kernels(topology))[index]


def texts(found: Way) -> list[str]:
    return [f"{hop.host}: {hop.text}" for hop in found.hops]


# To where → what happens on each host. No hop is missing.
ARRIVES: dict[str, list[str]] = {
    "default/b": [
        "n1: leaves the pod by cbr0",
        "n1: arrives at default/b by cbr0",
        "n1: back: arrives at default/a by cbr0",
    ],
    "default/c:8080": [
        "n1: leaves the pod by cbr0",
        "n1: goes to n2 by eth0",
        "n2: arrives at default/c by cbr0",
        "n2: back: goes to n1 by eth0",
        "n1: back: arrives at default/a by cbr0",
    ],
    "default/web:http": [
        "n1: leaves the pod by cbr0",
        "n1: kube-proxy leads it to 10.10.1.3:8080, one of 2",
        "n1: arrives at default/b by cbr0",
        "n1: back: arrives at default/a by cbr0",
    ],
    "default/headless": [
        "n1: leaves the pod by cbr0",
        "n1: goes to n2 by eth0",
        "n2: arrives at default/c by cbr0",
        "n2: back: goes to n1 by eth0",
        "n1: back: arrives at default/a by cbr0",
    ],
    "192.0.2.3:30080": [
        "n1: leaves the pod by cbr0",
        "n1: masqueraded as 192.0.2.1",
        "n1: goes to n3 by eth0",
        "n3: kube-proxy leads it to 10.10.1.3:8080, one of 2",
        "n3: masqueraded as 192.0.2.3",
        "n3: goes to n1 by eth0",
        "n1: arrives at default/b by cbr0",
        "n1: back: goes to n3 by eth0",
        "n3: back: arrives at the host itself, which gives back the addresses that it replaced",
    ],
    "203.0.113.9:443": [
        "n1: leaves the pod by cbr0",
        "n1: masqueraded as 192.0.2.1",
        "n1: leaves the cluster to 192.0.2.254 by eth0",
    ],
}


@pytest.mark.parametrize("to", ARRIVES)
def test_a_packet_arrives(to: str) -> None:
    found = way(to)
    assert (texts(found), found.ends) == (ARRIVES[to], None)


@pytest.mark.parametrize("to", [to for to in ARRIVES if "30080" in to or "web" in to])
def test_iptables_lead_as_nftables_do(to: str) -> None:
    rules = ruleset(nat=tuple(IPTABLES))
    hosts = [host(n, proxy={}, rules=rules, chains=of_iptables(rules)) for n in (1, 2, 3)]
    assert texts(way(to, *hosts)) == ARRIVES[to]


def test_rules_are_shown_as_the_kernel_has_them() -> None:
    hop = way("default/web", index=1).hops[1]
    assert hop.rules == (PROXY["service-ips"][0], "meta l4proto tcp dnat to 10.10.2.2:8080")
    assert way("default/web", index=1).hops[2].rules == ("10.10.2.0/24 via 192.0.2.2 dev eth0",)


def test_a_host_without_iptables_masquerades() -> None:
    table = (
        "table ip kube-masquerade { chain postrouting { type nat hook postrouting priority srcnat; "
        "policy accept; ip daddr != 10.10.0.0/16 fib daddr type != local masquerade } }"
    )
    rules = with_masquerade(None, table)
    assert texts(way("203.0.113.9", host(1, rules=rules))) == ARRIVES["203.0.113.9:443"]


def test_a_pod_that_reaches_itself_is_masqueraded() -> None:
    assert texts(way("default/web", start="default/b"))[-1] == (
        "n1: back: arrives at the host itself, which gives back the addresses that it replaced"
    )


def test_a_service_is_known_by_its_address() -> None:
    assert texts(way("10.254.0.7:80")) == ARRIVES["default/web:http"]


def test_a_pod_on_its_hosts_network() -> None:
    assert texts(way("default/web", start="default/on-host", index=1))[1:4] == [
        "n1: kube-proxy leads it to 10.10.2.2:8080, one of 2",
        "n1: goes to n2 by eth0",
        "n2: arrives at default/c by cbr0",
    ]


VXLAN = {
    n: {
        **host(n).links,
        "flannel.1": link("flannel.1", f"10.10.{n}.0/32", "vxlan", 1450),
    }
    for n in (1, 2, 3)
}
OVER = [Route("10.10.1.0/24", dev="cbr0"), Route("10.10.2.0/24", "10.10.2.0", "flannel.1")]
BACK = [Route("10.10.2.0/24", dev="cbr0"), Route("10.10.1.0/24", "10.10.1.0", "flannel.1")]
PEERS = PeerStates({"flannel.1 10.10.2.0": "m2"}, {"flannel.1 m2": "192.0.2.2"})
PEERS_BACK = PeerStates({"flannel.1 10.10.1.0": "m1"}, {"flannel.1 m1": "192.0.2.1"})


def vxlan(peers: PeerStates = PEERS) -> tuple[HostView, HostView]:
    return (
        host(1, links=VXLAN[1], routes=OVER, peers=peers),
        host(2, links=VXLAN[2], routes=BACK, peers=PEERS_BACK),
    )


def test_an_overlay() -> None:
    found = way("default/c", *vxlan())
    assert found.ends is None
    assert texts(found)[1:4] == [
        "n1: goes to n2 by flannel.1",
        "n2: arrives at default/c by cbr0",
        "n2: back: goes to n1 by flannel.1",
    ]


def without(view: HostView, destination: str) -> HostView:
    return replace(view, routes=[r for r in view.routes if r.destination != destination])


def changed(view: HostView, ruleset: Ruleset) -> HostView:
    return replace(view, rules=ruleset, chains=of_iptables(ruleset))


def setting(view: HostView, key: str) -> HostView:
    return replace(view, sysctls={**view.sysctls, key: "0"})


BRIDGED = "net.bridge.bridge-nf-call-iptables"
ALONE = without(without(host(1), "10.10.2.0/24"), "0.0.0.0/0")
LOOP = host(3, routes=[Route("10.10.0.0/16", "192.0.2.1", "eth0")])
ASTRAY = host(1, routes=[Route("10.10.2.0/24", "192.0.2.3", "eth0")])

# Where a packet ends: to where, the hosts that are not as they should be, what is said.
ENDS: Mapping[str, tuple[str, tuple[HostView, ...], str]] = {
    "no route": ("default/c", (ALONE,), "n1: no route to 10.10.2.2"),
    "the default route instead": (
        "default/c",
        (without(host(1), "10.10.2.0/24"),),
        "n1: no route to the pods of n2: it leaves the cluster to 192.0.2.254 by eth0",
    ),
    "no route back": (
        "default/c",
        (without(host(2), "10.10.1.0/24"),),
        "n2: no route to the pods of n1: it leaves the cluster to 192.0.2.254 by eth0",
    ),
    "a loop": ("default/c", (ASTRAY, LOOP), "n1: a loop: hosts send it to each other"),
    "no masquerade": (
        "203.0.113.9",
        (changed(host(1), Ruleset({}, ())),),
        "n1: no masquerade: 10.10.1.2 is not known to 192.0.2.254 by eth0",
    ),
    "a rule that drops": (
        "default/c",
        (changed(host(2), ruleset(str(DROP))),),
        "n2: dropped by FORWARD, table filter of iptables",
    ),
    "a policy that drops": (
        "default/c",
        (changed(host(1), Ruleset({"filter": {"FORWARD": "DROP"}}, ())),),
        "n1: dropped by FORWARD, table filter of iptables",
    ),
    "no forwarding": (
        "default/c",
        (setting(host(1), "net.ipv4.ip_forward"),),
        "n1: net.ipv4.ip_forward is 0: nothing is forwarded",
    ),
    "no endpoint": ("default/none", (), "n1: no endpoint: no pod is ready"),
    "no rule of kube-proxy": (
        "default/unknown",
        (),
        "n1: kube-proxy has no rule for 10.254.0.9:80",
    ),
    "old rules of kube-proxy": (
        "default/stale",
        (),
        "n1: kube-proxy's rules lead to 10.10.1.3:8080, 10.10.2.2:8080, not to 10.10.3.9:8080",
    ),
    "the bridge passes the answer by": (
        "default/web",
        (setting(host(1), BRIDGED),),
        f"n1: {BRIDGED} is 0: the answer keeps the pod's address",
    ),
    "a pod elsewhere": (
        "default/c",
        (host(1, routes=[Route("10.10.0.0/16", dev="cbr0")]),),
        "n1: no pod on cbr0 has 10.10.2.2; default/c is on n2",
    ),
    "a bridge that is passed by": (
        "default/c",
        (host(2, routes=[Route("10.10.2.0/24", dev="eth0")]),),
        "n2: leaves by eth0, but default/c is on cbr0",
    ),
    "no neighbour": (
        "default/c",
        vxlan(PeerStates()),
        "n1: flannel.1 knows no MAC address for 10.10.2.0",
    ),
    "no peer": (
        "default/c",
        vxlan(PeerStates(PEERS.macs, {})),
        "n1: flannel.1 knows no host behind m2",
    ),
    "a peer of others": (
        "default/c",
        vxlan(PeerStates(PEERS.macs, {"flannel.1 m2": "192.0.2.99"})),
        "n1: flannel.1 sends it to 192.0.2.99, no host of ours",
    ),
    "a host that is silent": (
        "default/c",
        (HostView("n2", "192.0.2.2", node="n2", silent="it takes no part in this run"),),
        "n2: what is here is not known: it takes no part in this run",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_packet_ends(name: str) -> None:
    to, hosts, said = ENDS[name]
    found = way(to, *hosts)
    assert found.ends
    assert f"{found.ends.host}: {found.ends.text}".replace("back: ", "") == said
    assert f"MISSING: {found.ends.text}" in "\n".join(text_of_way(found))


def test_what_refuses_a_service_without_endpoints_is_shown() -> None:
    assert way("default/none").hops[-1].rules == PROXY["no-endpoint-services"]
    found = way("default/none", changed(host(1, proxy={}), ruleset(NONE)))
    assert found.hops[-1].rules == (NONE,)


@pytest.mark.parametrize(
    ("start", "to"),
    [
        ("default/a", "default/nobody"),
        ("default/a", "default/web:81"),
        ("default/a", "default/waits"),
        ("default/a", "10.254.0.99"),
        ("default/a", "10.254.0.7:81"),
        ("default/a", "default/b:http"),
        ("default/nobody", "default/b"),
        ("default/waits", "default/b"),
    ],
)
def test_what_is_not_there_is_refused(start: str, to: str) -> None:
    with pytest.raises(InputError, match="packet_"):
        way(to, start=start)


@pytest.mark.parametrize(
    ("data", "right"),
    [
        ({"packet_from": "default/a", "packet_to": "default/web.x:http"}, True),
        ({"packet_from": "default/a", "packet_to": "192.0.2.1:443"}, True),
        ({"packet_from": "default/a"}, False),
        ({"packet_to": "default/a"}, False),
        ({"packet_from": "a", "packet_to": "default/a"}, False),
        ({"packet_from": "default/a", "packet_to": "999.0.2.1"}, False),
        ({"packet_from": "default/a", "packet_to": "192.0.2.1:http"}, False),
        ({"packet_from": "default/a\n", "packet_to": "default/b"}, False),
    ],
)
def test_the_settings_are_checked(data: dict[str, str], right: bool) -> None:
    groups = {"control_plane": ["m"], "nodes": ["m"]}
    hosts = {"m": {"kubernetes_version": "1.37.2", "address": "192.0.2.1", **data}}
    if right:
        ClusterSpec.from_inventory(groups, hosts)
        return
    with pytest.raises(InputError, match="packet_"):
        ClusterSpec.from_inventory(groups, hosts)


def test_the_text() -> None:
    lines = text_of(cluster(without(host(1), "10.10.2.0/24")))
    assert "n1    192.0.2.1  node   10.10.1.0/24  cbr0 10.10.1.1/24  2" in lines
    assert "  MISSING: no route to 10.10.2.0/24 of n2" in lines
    at = lines.index("n3")
    assert [line.split("  ")[1] for line in lines[at + 1 : at + 6]] == [
        "lo 127.0.0.1/8",
        "eth0 192.0.2.3/24",
        "cbr0 10.10.3.1/24",
        "route 10.10.1.0/24 via 192.0.2.1 dev eth0",
        "route 10.10.2.0/24 via 192.0.2.2 dev eth0",
    ]


def test_gaps() -> None:
    assert gaps(cluster(), host(1)) == []
    bare = host(1, links={"eth0": link("eth0", "192.0.2.1/24")})
    assert gaps(cluster(bare), bare) == ["no bridge has an address of 10.10.1.0/24"]
    alone = host(1, pod_cidr="", node="", routes=[])
    assert gaps(cluster(alone), alone) == []
    some = replace(alone, routes=[Route("10.10.2.0/24", "192.0.2.2", "eth0")])
    assert gaps(cluster(some), some) == ["no route to 10.10.3.0/24 of n3"]


@pytest.mark.parametrize(("count", "columns"), [(1, 0), (3, 0), (3, 1), (30, 0)])
def test_the_picture_has_every_host(count: int, columns: int) -> None:
    hosts = [host(n, of=count) for n in range(1, count + 1)]
    drawn = ElementTree.fromstring(picture(replace(cluster(), hosts=hosts), columns=columns))
    shown = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {one.name for one in hosts} <= shown


def test_a_narrow_picture_has_all_that_a_wide_one_says_of_ranges() -> None:
    drawn = ElementTree.fromstring(picture(cluster(), columns=1))
    shown = " ".join(text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert all(text in shown for _, _, text in cluster().ranges)
    assert int(drawn.attrib["width"]) <= 358


@given(st.text(), st.text(), st.text())
def test_the_picture_is_well_formed_whatever_the_names(name: str, text: str, rule: str) -> None:
    hop = Hop(f"n{name}", text, (rule,), missing=True)
    topology = replace(cluster(host(1, name=f"n{name}", roles=text, silent=rule)), name=name)
    found = [Way(text, (hop,))]
    drawn = picture(topology, found)
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert all(map(str.isprintable, [*text_of(topology), *text_of_way(found[0])]))
