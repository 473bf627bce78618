"""What stops a packet, in every flavour and however a rule is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.facts.firewall import OtherFirewalls, Packet, obstacles, of_iptables
from pyinfra_kube.facts.iptables import Rules
from tests.unit.test_iptables_rules import rule_texts

OUT = Packet("forward", "cbr0", "eth0", "10.10.1.0/24", "10.10.0.0/16")
IN = Packet("input", "eth0", "", "192.0.2.10", "192.0.2.11", "tcp", 10250)

# A chain's rules, and whether they stop a packet: certainly, maybe (None), not.
DECIDED: list[tuple[Packet, str, list[str], bool | None]] = [
    (OUT, "ACCEPT", [], False),
    (OUT, "DROP", [], True),
    (OUT, "DROP", ["-s 10.10.0.0/16 -j ACCEPT"], False),
    (OUT, "DROP", ["-s 10.10.1.7 -j ACCEPT"], True),
    (OUT, "ACCEPT", ["-s 10.10.1.7 -j DROP"], None),
    (OUT, "ACCEPT", ["-i cbr+ -j REJECT"], True),
    (OUT, "ACCEPT", ["-i eth0 -j DROP", "-o cbr0 -j DROP", "-s 10.11.0.0/16 -j DROP"], False),
    (OUT, "ACCEPT", ["! -s 10.10.0.0/16 -j DROP", "! -i cbr0 -j DROP"], False),
    (OUT, "ACCEPT", ["-m conntrack --ctstate INVALID -j DROP"], False),
    (OUT, "DROP", ["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"], True),
    (OUT, "ACCEPT", ["-m conntrack --ctstate NEW -j DROP"], True),
    (OUT, "ACCEPT", ["-p tcp --dport 25 -j DROP"], None),
    (OUT, "ACCEPT", ["-m mark --mark 0x8000/0x8000 -j DROP"], False),
    (OUT, "ACCEPT", ["-m addrtype --dst-type LOCAL -j DROP"], False),
    (OUT, "ACCEPT", ["-m set --match-set bad src -j DROP"], None),
    (OUT, "ACCEPT", ["-j OWN", "-j DROP"], True),
    (OUT, "DROP", ["-g OWN", "-j ACCEPT"], True),
    (OUT, "ACCEPT", ["-j LOG", "-j NFLOG"], False),
    (IN, "ACCEPT", ["-p tcp --dport 10250 -j DROP"], True),
    (IN, "ACCEPT", ["-p tcp --dport 22 -j DROP", "-p udp --dport 10250 -j DROP"], False),
    (IN, "DROP", ["-p tcp -m multiport --dports 22,10250:10255 -j ACCEPT"], False),
]


@pytest.mark.parametrize(("packet", "policy", "rules", "stopped"), DECIDED)
def test_iptables(packet: Packet, policy: str, rules: list[str], stopped: bool | None) -> None:
    chain = packet.way.upper()
    lines = ["*filter", f":{chain} {policy} [0:0]", ":OWN - [0:0]"]
    lines += [f"-A {chain} {rule}" for rule in rules]
    ruleset = Rules().process(["# iptables-save", *lines, "-A OWN -j RETURN", "COMMIT"])
    assert ruleset
    found = obstacles(of_iptables(ruleset), [packet])
    certain = [one.certain for one in found]
    assert (any(certain) or (None if certain else False)) is stopped


def test_an_accept_in_one_chain_is_none_in_the_next() -> None:
    first = ["*filter", ":FORWARD ACCEPT [0:0]", "-A FORWARD -j ACCEPT", "COMMIT"]
    second = ["*mangle", ":FORWARD DROP [0:0]", "COMMIT"]
    ruleset = Rules().process(["# iptables-save", *first, *second])
    assert ruleset
    (one,) = obstacles(of_iptables(ruleset), [OUT])
    assert (one.chain.table, one.text, one.certain) == ("mangle", "policy drop", True)


@given(st.lists(rule_texts(), max_size=8))
def test_any_rules(texts: list[str]) -> None:
    rules = [text.replace("-A INPUT", "-A FORWARD") for text in texts]
    lines = ["*filter", ":FORWARD DROP [0:0]", *rules, "COMMIT"]
    ruleset = Rules().process(["# iptables-save", *lines])
    assert ruleset
    obstacles(of_iptables(ruleset), [OUT, IN])


KEYS = """chain rule family table name hook policy expr match left op right meta key payload set
vmap data drop jump target handle"""
keys = st.sampled_from(KEYS.split())
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["filter", "forward", "@bad", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
CHAIN = {"family": "inet", "table": "t", "name": "c", "hook": "forward", "policy": "drop"}


@given(documents, st.lists(documents, max_size=3))
def test_whatever_nft_says(document: Any, expressions: list[Any]) -> None:
    rule = {"family": "inet", "table": "t", "chain": "c", "handle": 1, "expr": expressions}
    for said in (
        json.dumps(document),
        json.dumps({"nftables": document}),
        json.dumps({"nftables": [{"chain": CHAIN}, {"rule": rule}]}),
    ):
        found = OtherFirewalls().process(["nft inet t", said])
        obstacles(found.chains, [OUT, IN])
    # What is not understood is unknown, and never nothing.
    assert OtherFirewalls().process(["nft inet t", said[:-1]]).unknown
