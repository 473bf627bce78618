"""
Remove the iptables rules that docker made: those that its versions up to 29 write, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from netaddr import AddrFormatError, IPNetwork
from pyinfra.api import StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.bridge import Link, Links
from pyinfra_kube.facts.iptables import Rule, Ruleset
from pyinfra_kube.operations.iptables import live, ruleset, unwanted

Place = tuple[str, str]

# Its chains, by table.
CHAINS = {
    "filter": (
        *("DOCKER", "DOCKER-USER", "DOCKER-FORWARD", "DOCKER-BRIDGE", "DOCKER-CT"),
        *("DOCKER-INTERNAL", "DOCKER-INGRESS", "DOCKER-ISOLATION"),
        *("DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"),
    ),
    "nat": ("DOCKER", "DOCKER-INGRESS"),
}

# The network of its first bridge, where nobody chose another.
_DEFAULT = "172.17.0.0/16"

_RETURN = "-j RETURN"
_KNOWN = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
_SET = "-m set --match-set docker-ext-bridges-v4 dst"
_PORT = "-p {protocol} --dport {dport}"
_LOCAL = "-m addrtype --dst-type LOCAL"
_FORWARD = (
    *("-o {out} " + _KNOWN, "-o {out} -j DOCKER", "-i {into} ! -o {into} -j ACCEPT"),
    *("-i {into} -o {into} -j ACCEPT", "-i {into} -o {into} -j DROP", "-i {into} -j ACCEPT"),
    *(f"{_SET} {_KNOWN}", f"{_SET} -j DOCKER"),
    *("-j DOCKER-INGRESS", "-j DOCKER-ISOLATION", "-j DOCKER-ISOLATION-STAGE-1"),
)
_INTERNAL = ("! -s {source} -o {out} -j DROP", "! -d {destination} -i {into} -j DROP")
# The rules that it writes, by table and chain.
_RULES: dict[Place, tuple[str, ...]] = {
    ("filter", "FORWARD"): (*_FORWARD, "-j DOCKER-USER", "-j DOCKER-FORWARD"),
    ("filter", "DOCKER-FORWARD"): (
        *_FORWARD,
        *("-j DOCKER-CT", "-j DOCKER-INTERNAL", "-j DOCKER-BRIDGE"),
    ),
    ("filter", "DOCKER-CT"): ("-o {out} " + _KNOWN, f"{_SET} {_KNOWN}"),
    ("filter", "DOCKER-BRIDGE"): ("-o {out} -j DOCKER", f"{_SET} -j DOCKER"),
    ("filter", "DOCKER-INTERNAL"): _INTERNAL,
    ("filter", "DOCKER-ISOLATION"): (*_INTERNAL, "-i {into} -o {out} -j DROP", _RETURN),
    ("filter", "DOCKER-ISOLATION-STAGE-1"): (
        *_INTERNAL,
        *("-i {into} ! -o {into} -j DOCKER-ISOLATION-STAGE-2", "-i {into} " + _KNOWN),
        *("-o {out} -j RETURN", _RETURN),
    ),
    ("filter", "DOCKER-ISOLATION-STAGE-2"): ("-o {out} -j DROP", _RETURN),
    ("filter", "DOCKER-USER"): (_RETURN,),
    ("filter", "DOCKER-INGRESS"): (
        f"{_PORT} -j ACCEPT",
        *("-p {protocol} --sport {sport} " + _KNOWN, _RETURN),
        "-m state --state RELATED,ESTABLISHED -p {protocol} --sport {sport} -j ACCEPT",
    ),
    ("filter", "DOCKER"): (
        "-d {destination} ! -i {out} -o {out} " + f"{_PORT} -j ACCEPT",
        *("! -i {out} -o {out} -j DROP", "! -i {out} -o {out} -j ACCEPT"),
        "-o {out} -p icmp -j ACCEPT",
        "-s {source} -d {destination} -i {into} -o {into} " + f"{_PORT} -j ACCEPT",
        "-s {source} -d {destination} -i {into} -o {into} -p {protocol} --sport {sport} -j ACCEPT",
    ),
    ("nat", "PREROUTING"): (f"{_LOCAL} -j DOCKER", f"{_LOCAL} -j DOCKER-INGRESS"),
    ("nat", "OUTPUT"): (
        *(f"! -d 127.0.0.0/8 {_LOCAL} -j DOCKER", f"{_LOCAL} -j DOCKER"),
        f"{_LOCAL} -j DOCKER-INGRESS",
    ),
    ("nat", "POSTROUTING"): (
        "-s {source} ! -o {out} -j MASQUERADE",
        "-s {source} ! -o {out} -j SNAT --to-source {to_source}",
        "-o {out} -m addrtype --src-type LOCAL -j MASQUERADE",
        "-s {source} -d {source} " + f"{_PORT} -j MASQUERADE",
    ),
    ("nat", "DOCKER"): (
        "-i {into} -j RETURN",
        *(
            f"{to}{bridge}{_PORT} -j DNAT --to-destination {{to}}"
            for to in ("", "-d {destination} ")
            for bridge in ("", "! -i {into} ")
        ),
    ),
    ("nat", "DOCKER-INGRESS"): (f"{_PORT} -j DNAT --to-destination {{to}}", _RETURN),
    ("raw", "PREROUTING"): (
        "-d {destination} ! -i {into} -j DROP",
        "-d {destination} ! -i {into} " + f"{_PORT} -j DROP",
    ),
}


@operation()
def docker_rules_absent(
    bridges: Sequence[str] = ("docker0", "docker_gwbridge"),
) -> Generator[StringCommand, None, None]:
    """
    Remove the rules and chains that docker made, and nobody else's.

    For a docker that runs with ``--iptables=false`` or does not run: one that manages iptables
    would set them again. A rule is docker's if docker writes it so, word by word. A chain of
    docker's stays if it holds somebody else's rules, or if such rules lead to it. The rules that
    lead to such a chain stay too.

    + bridges: bridges of docker's networks, beside those that its own rules name and those that
      are called ``br-`` and twelve digits

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker_rules

        docker_rules.docker_rules_absent(name="Remove docker's own rules")
    """

    found, chains = DockerRules(ruleset(), read(Links), bridges).going
    removing = unwanted(found)
    for table, chain in chains:
        changes.show(f"iptables {table}: chain {chain} → absent")
    clearing = [f"iptables -w -t {table} -X {chain}" for table, chain in chains]
    script = join(
        [
            live([], removing),
            Script("\n".join(clearing), summary="remove docker's chains") if clearing else None,
        ]
    )
    yield from run_or_noop(script, "docker has no iptables rules")


@dataclass(frozen=True)
class DockerRules:
    """
    The rules and chains of a host that docker made.

    + ruleset: of the host
    + links: of the host
    + given: names of docker's bridges, beside those that its rules tell
    """

    ruleset: Ruleset
    links: dict[str, Link]
    given: Collection[str]

    @cached_property
    def going(self) -> tuple[list[Rule], list[Place]]:
        """The rules and chains to remove. A chain that others use stays, with the rules that lead
        to it."""

        foreign = [rule for rule in self.ruleset.rules if not self.made(rule)]
        filled = {(rule.table, rule.chain) for rule in foreign} & set(self.chains)
        # docker's chains that lead there stay too.
        while (
            more := {
                (rule.table, rule.chain)
                for rule in self.ruleset.rules
                if (rule.table, rule.target) in filled and (rule.table, rule.chain) in self.chains
            }
            - filled
        ):
            filled |= more
        needed = filled | {(rule.table, rule.target) for rule in foreign}
        rules = [
            rule
            for rule in self.ruleset.rules
            if self.made(rule)
            and (rule.table, rule.target) not in filled
            # Without its RETURN, the rules after it in the chain would take effect.
            and not (rule.effect == _returns(rule).effect and (rule.table, rule.chain) in needed)
        ]
        # The rules that tell the containers' networks go last: a run may die in between.
        rules.sort(key=lambda rule: rule.target in ("MASQUERADE", "DNAT"))
        return rules, [chain for chain in self.chains if chain not in needed]

    @cached_property
    def chains(self) -> list[Place]:
        """Its chains that exist."""

        there = self.ruleset.chains
        return [(t, name) for t in there for name in there[t] if name in CHAINS.get(t, ())]

    @cached_property
    def bridges(self) -> set[str]:
        """Its bridges."""

        found = set(self.given)
        for rule in self.ruleset.rules:
            out = rule.value("-o")
            own = [option.name for option in rule.options] == ["-o", "-j"]
            if (
                own
                and rule.target == "DOCKER"
                and any(r.effect[2] == _known(out) for r in self.ruleset.rules)
            ):
                found.add(out)
        # A rule may name a bridge only to exclude it.
        named = {name for rule in self.ruleset.rules for name in _links(rule)}
        return found | {name for name in named if re.fullmatch(r"br-[0-9a-f]{12}", name)}

    @cached_property
    def networks(self) -> list[IPNetwork]:
        """The networks of its containers: those of its bridges, or those that it masquerades."""

        found = [
            IPNetwork(a).cidr for b in self.bridges if b in self.links
            for a in self.links[b].addresses
        ]  # fmt: skip
        for rule in self.ruleset.rules:
            masquerades = (rule.table, rule.target) == ("nat", "MASQUERADE")
            single = rule.value("-s") and not rule.value("-d")
            if masquerades and single and self._matches(rule) and self._about_containers(rule):
                found += [network for network in [_network(rule.value("-s"))] if network]
        return found

    def made(self, rule: Rule) -> bool:
        """
        Return whether docker made a rule.

        + rule: of the host
        """

        return self._matches(rule) and self._about_containers(rule)

    def _matches(self, rule: Rule) -> bool:
        values = _values(rule)
        named = _links(rule) - ({"lo"} if rule.table == "raw" else set())
        if rule.comments or not named <= self.bridges:
            return False
        return any(
            rule == Rule.parse(f"-A {rule.chain} {text.format(**values)}", rule.table)
            for text in _RULES.get((rule.table, rule.chain), ())
            if _filled(text, values)
        )

    def _about_containers(self, rule: Rule) -> bool:
        """Whether the addresses of a rule that others might have too are docker's containers'."""

        source = rule.value("-s")
        if rule.table == "raw" and _links(rule) == {"lo"}:
            return self._published(rule)
        if rule.table == "raw":
            return _within(rule.value("-d"), self.networks)
        if rule.target == "DNAT":
            address = rule.value("--to-destination", "DNAT").partition(":")[0]
            return bool(_links(rule)) or _within(address, self.networks)
        if rule.target in ("MASQUERADE", "SNAT") and rule.value("-d"):
            return _within(source, self.networks) or self._leads_to(source)
        if rule.target in ("MASQUERADE", "SNAT") and source:
            return self._has(_values(rule)["out"], source)
        return True

    def _has(self, bridge: str, network: str) -> bool:
        """Whether a bridge of docker's has a network, or had it while the bridge existed."""

        if bridge in self.links:
            return _within(network, [IPNetwork(a).cidr for a in self.links[bridge].addresses])
        return bridge != "docker0" or network == _DEFAULT or self._leads_to(network)

    def _leads_to(self, network: str) -> bool:
        found = (r.value("--to-destination", "DNAT").partition(":")[0] for r in self._dnat)
        known = _network(network)
        return known is not None and any(_within(address, [known]) for address in found)

    def _published(self, rule: Rule) -> bool:
        """Whether a rule protects a port that docker publishes on the loopback."""

        protocol, at = rule.value("-p"), rule.value("-d")
        port = rule.value("--dport", protocol)
        return any(
            (r.value("-d"), r.value("-p"), r.value("--dport", protocol)) == (at, protocol, port)
            for r in self._dnat
        )

    @cached_property
    def _dnat(self) -> list[Rule]:
        rules = self.ruleset.rules
        return [r for r in rules if (r.table, r.chain, r.target) == ("nat", "DOCKER", "DNAT")]


def _network(text: str) -> IPNetwork | None:
    try:
        return IPNetwork(text)
    except (AddrFormatError, ValueError):
        return None


def _within(text: str, networks: Iterable[IPNetwork]) -> bool:
    network = _network(text)
    return network is not None and any(network in other for other in networks)


def _returns(rule: Rule) -> Rule:
    return Rule.parse(f"-A {rule.chain} {_RETURN}", rule.table)


def _known(bridge: str) -> Sequence[object]:
    return Rule.parse(f"-A FORWARD -o {bridge} {_KNOWN}").effect[2]


def _links(rule: Rule) -> set[str]:
    """The links that a rule names, negated or not."""

    return {o.values[0] for o in rule.options if o.name in ("-i", "-o") and o.values}


def _values(rule: Rule) -> dict[str, str]:
    """What a rule names, negated or not."""

    names = {
        **{"-i": "into", "-o": "out", "-s": "source", "-d": "destination", "-p": "protocol"},
        **{"--dport": "dport", "--sport": "sport"},
        **{"--to-destination": "to", "--to-source": "to_source"},
    }
    found = dict.fromkeys(names.values(), "")
    for option in rule.options:
        if option.name in names and option.values:
            found[names[option.name]] = option.values[0]
    return found


def _filled(text: str, values: Mapping[str, str]) -> bool:
    return all(values[name] for name in re.findall(r"\{(\w+)\}", text))
