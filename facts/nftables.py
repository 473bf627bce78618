"""
nftables: single tables, as nft lists them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.facts.iptables import Rule, Ruleset

MASQUERADE = "ip kube-masquerade"
"""Our table on hosts without iptables."""

# What a rule asks for, in the words of nft and of iptables.
_ASKED = {
    r"ip (?:s|d)addr (?:!= )?\S+ ": "",
    r"(?:i|o)ifname (?:!= )?\S+ ": "",
    r"fib daddr type != local ": "-m addrtype ! --dst-type LOCAL",
}
_OPTIONS = {"saddr": "-s", "daddr": "-d", "iifname": "-i", "oifname": "-o"}
_RULE = re.compile(rf"(?<= )((?:{'|'.join(_ASKED)})*)masquerade(?= )")


class NftTable(FactBase["str | None"]):
    """
    Returns a table of nftables as nft lists it, with single spaces; ``None`` where there is none,
    and without nft.

    + table: its family and name

    .. code:: python

        "table ip kube-masquerade { chain postrouting { type nat hook postrouting … } }"
    """

    @override
    def command(self, table: str) -> str:
        words = " ".join(map(shlex.quote, table.split()))
        return f"""\
if command -v nft >/dev/null 2>&1; then
  case $(nft --version) in nftables*) ;; *) echo 'nft does not work' >&2; exit 1 ;; esac
  tables=$(nft list tables) || exit
  if printf '%s\\n' "$tables" | grep -qxF {shlex.quote(f"table {table}")}; then
    nft --stateless list table {words}
  fi
fi"""

    @override
    def process(self, output: Iterable[str]) -> str | None:
        return " ".join(" ".join(output).split()) or None


def with_masquerade(rules: Ruleset | None, table: str | None) -> Ruleset | None:
    """
    Add the rules of a table that masquerade packets to those of iptables, as iptables would say
    them: who reads one reads both.

    + rules: of iptables
    + table: as ``NftTable`` returns it
    """

    found = tuple(Rule.parse(_as_iptables(one), "nat") for one in _RULE.findall(table or ""))
    if not found:
        return rules
    known = rules or Ruleset({}, ())
    nat: dict[str, str | None] = {"POSTROUTING": "ACCEPT", **known.chains.get("nat", {})}
    return Ruleset({**known.chains, "nat": nat}, (*known.rules, *found), known.error)


def _as_iptables(asked: str) -> str:
    words = []
    for one in re.findall("|".join(_ASKED), asked):
        *_, name, value = one.replace("!= ", "").split()
        negated = "! " if "!= " in one else ""
        words.append(
            _ASKED[r"fib daddr type != local "]
            if one.startswith("fib")
            else f"{negated}{_OPTIONS[name]} {value}".replace('"', "")
        )
    return " ".join(["-A POSTROUTING", *words, "-j MASQUERADE"])
