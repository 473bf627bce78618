"""Our masquerade in nftables, read as one of iptables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.checks.judge import judge
from pyinfra_kube.facts.iptables import Rule, Ruleset
from pyinfra_kube.facts.nftables import with_masquerade
from tests.unit import well as w

CHAIN = "type nat hook postrouting priority srcnat; policy accept;"
OURS = f"ip daddr != {w.CLUSTER} fib daddr type != local masquerade"


def table(*rules: str) -> str:
    return f"table ip kube-masquerade {{ chain postrouting {{ {CHAIN} {' '.join(rules)} }} }}"


RULES = {
    OURS: w.MASQUERADE,
    "ip saddr 10.10.1.0/24 masquerade": "-A POSTROUTING -s 10.10.1.0/24 -j MASQUERADE",
    'oifname != "cbr0" masquerade': "-A POSTROUTING ! -o cbr0 -j MASQUERADE",
    "masquerade": "-A POSTROUTING -j MASQUERADE",
}


@given(st.lists(st.sampled_from(sorted(RULES)), max_size=3))
def test_rules_are_read(names: list[str]) -> None:
    before = w.rules("-A POSTROUTING -s 192.0.2.0/24 -j SNAT --to-source 192.0.2.9")
    found = with_masquerade(before, table(*names))
    wanted = tuple(Rule.parse(RULES[name], "nat") for name in names)
    assert found
    assert found.rules == (*before.rules, *wanted)


def test_nothing_is_added_to_nothing() -> None:
    assert with_masquerade(None, None) is None
    assert with_masquerade(w.rules(), None) == w.rules()


@pytest.mark.parametrize(
    ("rules", "seen"),
    [([OURS], ""), ([], "never"), ([OURS, OURS], "2 times"), (["masquerade"], "hides pods")],
)
def test_a_host_without_iptables_is_judged(rules: list[str], seen: str) -> None:
    found = with_masquerade(Ruleset({}, ()), table(*rules))
    causes = judge(w.well({"n": w.host("n", rules=found)})).causes
    assert [one.finding.check.id for one in causes] == ["net.masquerade"] * bool(seen)
    assert all(seen in one.finding.said.seen for one in causes)
