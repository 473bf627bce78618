"""A rule stays the same rule however it is spelled, and whatever it is read from."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.facts.iptables import Rule, Rules, split

# As a person writes it, and as iptables-save 1.8.9 then prints it.
SPELLINGS = """\
-A INPUT -s 10.1.2.3 -j ACCEPT
-A INPUT -s 10.1.2.3/32 -j ACCEPT

-A INPUT --source 10.1.2.3/255.255.0.0 --jump ACCEPT
-A INPUT -s 10.1.0.0/16 -j ACCEPT

-A INPUT -s 0.0.0.0/0 -i + -p all -j ACCEPT
-A INPUT -j ACCEPT

-A INPUT -p 6 -j ACCEPT
-A INPUT -p tcp -j ACCEPT

-A INPUT -p TCP -m tcp -j ACCEPT
-A INPUT -p tcp -j ACCEPT

-A INPUT -p tcp --dport http -j ACCEPT
-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT

-A INPUT -j ACCEPT -p tcp --dport 22 -s 10.0.0.1
-A INPUT -s 10.0.0.1/32 -p tcp -m tcp --dport 22 -j ACCEPT

-A INPUT -p tcp --destination-port 80 --sport 1024: -j ACCEPT
-A INPUT -p tcp -m tcp --sport 1024:65535 --dport 80 -j ACCEPT

-A INPUT -p tcp ! --dport :80 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 81:65535 -j ACCEPT

-A INPUT -p tcp ! --dport :80 -j ACCEPT
-A INPUT -p tcp -m tcp ! --dport 0:80 -j ACCEPT

-A INPUT -p udp --sport 0: --dport 5 -j ACCEPT
-A INPUT -p udp -m udp --dport 5 -j ACCEPT

-A INPUT -p tcp --dport :65535 -j ACCEPT
-A INPUT -p tcp -m tcp -j ACCEPT

-A INPUT -p tcp ! --syn -j ACCEPT
-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT

-A INPUT -p tcp --tcp-flags ALL NONE -j ACCEPT
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j ACCEPT

-A INPUT -p tcp -m conntrack --ctstate NEW --dport 80 -j ACCEPT
-A INPUT -p tcp -m conntrack --ctstate NEW -m tcp --dport 80 -j ACCEPT

-A INPUT -p tcp -m multiport --dport http,443 -j ACCEPT
-A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT

-A INPUT -p icmp --icmp-type echo-request -j ACCEPT
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT

-A INPUT -m conntrack ! --ctstate DNAT,INVALID -j ACCEPT
-A INPUT -m conntrack ! --ctstate INVALID,DNAT -j ACCEPT

-A POSTROUTING ! -d 10.10.0.0/16 -j MASQUERADE -m addrtype ! --dst-type local,unicast
-A POSTROUTING ! -d 10.10.0.0/16 -m addrtype ! --dst-type UNICAST,LOCAL -j MASQUERADE

-A INPUT -m addrtype -j ACCEPT ! --dst-type LOCAL
-A INPUT -m addrtype ! --dst-type LOCAL -j ACCEPT

-A INPUT -m mark ! --mark 16/0xffffffff -j ACCEPT
-A INPUT -m mark ! --mark 0x10 -j ACCEPT

-A PREROUTING -j MARK --set-mark 0x1/0x3
-A PREROUTING -j MARK --set-xmark 0x1/0x3

-A PREROUTING -j MARK --and-mark 0xff
-A PREROUTING -j MARK --set-xmark 0x0/0xffffff00

-A PREROUTING -j CONNMARK --save-mark
-A PREROUTING -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff

-A INPUT -m limit --limit 60/min --limit-burst 5 -j ACCEPT
-A INPUT -m limit --limit 1/sec -j ACCEPT

-A INPUT -m limit -j ACCEPT
-A INPUT -m limit --limit 3/hour -j ACCEPT

-A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT
-A INPUT -m statistic --mode random --probability 0.50000000000 -j ACCEPT

-A INPUT -m recent --name KUBE-SEP --set -j ACCEPT
-A INPUT -m recent --set --name KUBE-SEP --mask 255.255.255.255 --rsource -j ACCEPT

-A INPUT -j REJECT
-A INPUT -j REJECT --reject-with icmp-port-unreachable

-A INPUT -j LOG --log-level debug --log-prefix 'x y: '
-A INPUT -j LOG --log-prefix "x y: " --log-level 7

-A PREROUTING -p tcp --dport 80 -j DNAT --to 10.0.0.1:8080
-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080

-A INPUT -m comment --comment 'it'"'"'s' -j ACCEPT
-A INPUT -j ACCEPT -m comment --comment "it\\'s"
"""

DIFFERENT = """\
-A INPUT -s 10.0.0.1 -j ACCEPT
-A INPUT ! -s 10.0.0.1 -j ACCEPT

-A INPUT -i eth0 -j ACCEPT
-A INPUT -o eth0 -j ACCEPT

-A INPUT -p tcp --dport 80 -j ACCEPT
-A INPUT -p udp --dport 80 -j ACCEPT

-A INPUT -j ACCEPT
-A OUTPUT -j ACCEPT

-A INPUT -j KUBE
-A INPUT -g KUBE

-A INPUT -m limit -j ACCEPT
-A INPUT -j ACCEPT

-A INPUT -m mark --mark 1 -m connmark --mark 2 -j ACCEPT
-A INPUT -m mark --mark 2 -m connmark --mark 1 -j ACCEPT

-A INPUT -m comment --comment a -j ACCEPT
-A INPUT -m comment --comment b -j ACCEPT

-A INPUT -m comment --comment "! -j DROP" -j ACCEPT
-A INPUT ! -i DROP -j ACCEPT
"""


def pairs(text: str) -> list[tuple[str, ...]]:
    return [tuple(pair.splitlines()) for pair in text.split("\n\n")]


@pytest.mark.parametrize(("written", "printed"), pairs(SPELLINGS))
def test_one_rule_in_two_spellings(written: str, printed: str) -> None:
    assert Rule.parse(written) == Rule.parse(printed)
    assert hash(Rule.parse(written)) == hash(Rule.parse(printed))


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_two_rules(one: str, other: str) -> None:
    assert Rule.parse(one) != Rule.parse(other)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-s 10.0.0.1 -j ACCEPT", "does not begin with -A CHAIN"),
        ("-A INPUT -s 10.0.0.1,10.0.0.2 -j ACCEPT", "is not one address or network"),
        ("-A INPUT -d example.org -j ACCEPT", "is not one address or network"),
        ("-A INPUT -d -j ACCEPT", "is not one address or network"),
        ("-A INPUT -t nat -j ACCEPT", "the table is not a part of it"),
        ("-I INPUT 3 -j ACCEPT", "'3' is not an option"),
    ],
)
def test_no_rule(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Rule.parse(text)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


addresses = st.builds(
    "10.{}.{}.{}{}".format,
    *[st.integers(0, 255)] * 3,
    st.sampled_from(["", *[f"/{length}" for length in range(1, 33)]]),
)
ports = st.integers(1, 65535)
port_ranges = st.one_of(
    ports.map(str),
    st.tuples(ports, ports).map(lambda p: f"{min(p)}:{max(p)}"),
    ports.map("{}:".format),
    # iptables-save forgets the "!" before the range of all ports.
    st.integers(1, 65534).map(":{}".format),
)
marks = st.one_of(
    st.integers(0, 2**32 - 1).map(hex),
    st.integers(0, 2**32 - 1).map(str),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 2).map(lambda m: f"{m[0] & m[1]:#x}/{m[1]:#x}"),
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60)
negation = st.sampled_from(["", "! "])
interfaces = st.sampled_from(["eth0", "cbr0", "veth+", "docker0"])


def subset(*names: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(names), min_size=1, unique=True).map(",".join)


def option(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(f"{{}}{name} {{}}".format, negation, values)


matches = st.one_of(
    option("--dst-type", subset("LOCAL", "UNICAST", "BROADCAST")).map("-m addrtype {}".format),
    option("--src-type", subset("local", "MULTICAST")).map("-m addrtype {}".format),
    option("--ctstate", subset("NEW", "ESTABLISHED", "RELATED", "INVALID", "DNAT")).map(
        "-m conntrack {}".format
    ),
    option("--mark", marks).map("-m mark {}".format),
    option("--mark", marks).map("-m connmark {}".format),
    texts.map(quoted).map("-m comment --comment {}".format),
    st.builds(
        "-m limit --limit {}/{} --limit-burst {}".format,
        st.integers(1, 20),
        st.sampled_from(["s", "second", "min", "hour", "day"]),
        st.integers(1, 100),
    ),
    st.integers(1, 99).map("-m statistic --mode random --probability 0.{:02}".format),
)
transports = st.one_of(
    st.builds("-p {} {}".format, st.sampled_from(["tcp", "UDP", "17"]), st.just("")),
    st.builds("-p {} {}".format, st.sampled_from(["tcp", "udp"]), option("--dport", port_ranges)),
    st.builds("-p tcp {}--syn {}".format, negation, option("--sport", port_ranges)),
    st.builds(
        "-p udp -m multiport {}".format,
        option("--dports", st.lists(ports.map(str), min_size=1, max_size=5).map(",".join)),
    ),
    st.sampled_from(["", "-p icmp", "-p icmp --icmp-type echo-request", "! -p 47"]),
)
targets = st.one_of(
    st.sampled_from(["-j ACCEPT", "-j DROP", "-j REJECT", "", "-j RETURN"]),
    texts.map(lambda text: f"-j LOG --log-prefix {quoted(text[:29])}"),
    st.sampled_from(["-j LOG --log-level info", "-j REJECT --reject-with host-prohib"]),
)


@st.composite
def rule_texts(draw: st.DrawFn) -> str:
    """Rules for the chain INPUT that every kernel takes, as a person could write them."""

    parts = [
        draw(st.one_of(st.just(""), option("-s", addresses))),
        draw(st.one_of(st.just(""), option("--destination", addresses))),
        draw(st.one_of(st.just(""), option("-i", interfaces))),
        draw(transports),
        # iptables refuses some modules when they come twice.
        *draw(st.lists(matches, max_size=3, unique_by=lambda match: match.split()[1])),
        draw(targets),
    ]
    return " ".join(["-A INPUT", *filter(None, draw(st.permutations(parts)))])


@given(rule_texts())
def test_writing_and_reading_is_the_same_rule(text: str) -> None:
    rule = Rule.parse(text)
    again = Rule.parse(str(rule))
    assert again == rule
    assert again.arguments == rule.arguments
    assert Rules().process(["# iptables-save", "*filter", str(rule)]).rules == (rule,)  # type: ignore[union-attr]


@given(rule_texts())
def test_the_shell_gets_the_same_words(text: str) -> None:
    rule = Rule.parse(text)
    words = shlex.split(rule.command("-A"))
    assert tuple(words[6:]) == rule.arguments
    assert words[:6] == ["iptables", "-w", "-t", "filter", "-A", "INPUT"]


@given(st.lists(st.text(st.characters(exclude_categories=["C"]), max_size=20), max_size=5))
def test_any_words_survive(words: list[str]) -> None:
    rule = Rule("filter", "INPUT", tuple(words))
    assert split(str(rule)) == ["-A", "INPUT", *words]
