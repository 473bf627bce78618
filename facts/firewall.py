"""
What a host's firewalls do with a packet, in every flavour that the kernel has.

A packet passes only when no base chain of any flavour drops it: a chain that accepts it does not
keep the next one from dropping it. A rule may ask for something that is not known here. Then what
it drops *may* be dropped.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netaddr import AddrFormatError, IPNetwork
from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.facts.iptables import Rule, Rules, Ruleset
from pyinfra_kube.facts.iptables_spelling import Option

# The hooks that a packet passes, by the one that says where it goes.
_WAYS = {
    "forward": ("ingress", "prerouting", "forward", "postrouting"),
    "input": ("ingress", "prerouting", "input"),
}
_IPTABLES_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
# nat decides on no packet, and is long where there are many services.
_TABLES = ("raw", "mangle", "filter", "security")


@dataclass(frozen=True)
class Packet:
    """
    The first packet of a connection.

    + way: ``forward`` or ``input``
    + into, out: the links by which it comes and goes; empty where they are not known
    + source, destination: networks; empty for any
    + protocol, port: ``tcp`` or ``udp`` and the port it goes to; empty and 0 for any
    """

    way: str
    into: str = ""
    out: str = ""
    source: str = ""
    destination: str = ""
    protocol: str = ""
    port: int = 0


@dataclass(frozen=True)
class Match:
    """
    One thing that a rule asks for.

    + kind: ``in``, ``out``, ``source``, ``destination``, ``protocol``, ``port``, ``state``,
      ``mark``, ``never``, or ``other`` for what is not known here
    + values: one of them must match
    """

    kind: str
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class Step:
    """
    A rule that decides something.

    + verdict: ``accept``, ``drop``, ``reject``, ``return``, ``jump`` or ``goto``
    + to: the chain, for the last two
    + text: for people
    """

    verdict: str
    to: str = ""
    matches: tuple[Match, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Chain:
    """
    A chain of a table.

    + flavour: ``iptables``, ``iptables-legacy``, ``iptables-nft`` or ``nft``
    + table: its name, of nftables' own with its family
    + hook: where packets come from; empty for a chain that others call
    + policy: the verdict on packets that no rule decides on
    + device: the link whose packets it sees, empty for all
    """

    flavour: str
    table: str
    name: str
    hook: str = ""
    policy: str = "accept"
    device: str = ""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Firewall(Printable):
    """
    What ``iptables-save`` of the default flavour does not show.

    + chains: of all other flavours
    + unknown: what could not be read, and why
    """

    chains: tuple[Chain, ...] = ()
    unknown: tuple[str, ...] = ()


_UNREAD = "nft is not installed: rules in nftables' own tables are not seen"


class OtherFirewalls(FactBase[Firewall]):
    """
    Returns the chains of the other flavour of ``iptables`` and of nftables' own tables. ``Rules``
    reads those of the default flavour.

    .. code:: python

        Firewall(
            chains=(Chain("nft", "inet filter", "forward", hook="forward", policy="drop"),),
        )
    """

    default = Firewall

    @override
    def command(self) -> str:
        # Unused legacy tables are not listed, because listing one creates it.
        return f"""\
legacy=$(cat /proc/net/ip_tables_names 2>/dev/null)
default=$(iptables --version 2>/dev/null)
has() {{ command -v "$1" >/dev/null 2>&1; }}
save() {{ echo "save $1"; $1-save 2>&1 || echo '# failed'; }}
case "$default" in
*nf_tables*) ;;
*) ! has iptables-nft-save || save iptables-nft ;;
esac
case "$default" in
*nf_tables* | '')
if [ -n "$legacy" ]; then
if has iptables-legacy-save; then save iptables-legacy
else echo "unknown iptables-legacy-save is not installed, and legacy tables are in use:" $legacy
fi
fi ;;
esac
if has nft; then
case $(nft --version 2>&1 </dev/null) in
nftables*)
tables=$(nft list tables 2>&1 </dev/null) || {{ echo "unknown nft fails: $tables"; tables=; }} ;;
*) echo 'unknown nft does not work'; tables= ;;
esac
printf '%s\n' "$tables" | while read -r _ family name; do
[ -n "$name" ] || continue
case "$family $name" in
'ip6 '* | 'arp '* | 'ip kube-proxy') continue ;;
'ip filter' | 'ip nat' | 'ip mangle' | 'ip raw' | 'ip security')
! has iptables-nft-save || iptables-nft-save -t "$name" 2>&1 | grep -q 'use .nft. tool' || continue
esac
echo "nft $family $name"
nft -j -t list table "$family" "$name" 2>/dev/null </dev/null ||
nft -j list table "$family" "$name" 2>&1 </dev/null || echo
done
else
case "$default $(ls -d /sys/module/nf_tables 2>/dev/null)" in
*nf_tables*) echo "unknown {_UNREAD}" ;;
esac
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> Firewall:
        chains: list[Chain] = []
        unknown: list[str] = []
        for title, lines in _sections(output):
            kind, _, rest = title.partition(" ")
            if kind == "unknown":
                unknown.append(rest)
            elif kind == "save":
                ruleset = Rules().process(["#", *lines])
                if ruleset and ruleset.error:
                    unknown.append(f"{rest}-save cannot read the rules: {ruleset.error}")
                elif ruleset:
                    chains += of_iptables(ruleset, rest)
            else:
                try:
                    chains += _of_nft(json.loads("".join(lines))["nftables"])
                except (ValueError, KeyError, TypeError, AttributeError):
                    said = " ".join(lines)[:200]
                    unknown.append(f"nft does not show table {rest} in a form that is read: {said}")
        return Firewall(tuple(chains), tuple(unknown))


def _sections(output: Iterable[str]) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in output:
        if line.startswith(("save iptables", "unknown ", "nft ")):
            found.append((line, []))
        elif found:
            found[-1][1].append(line)
    return found


# -- iptables ------------------------------------------------------------------------------------


def of_iptables(ruleset: Ruleset, flavour: str = "iptables") -> list[Chain]:
    """
    Return the chains of iptables' tables.

    + ruleset: as ``Rules`` reads it
    + flavour: of the tables
    """

    steps: dict[tuple[str, str], list[Step]] = {}
    for rule in (rule for rule in ruleset.rules if rule.table in _TABLES):
        known = ruleset.chains.get(rule.table, {})
        if step := _step(rule, known):
            steps.setdefault((rule.table, rule.chain), []).append(step)
    return [
        Chain(
            flavour,
            table,
            name,
            name.lower() if name in _IPTABLES_HOOKS else "",
            (policy or "accept").lower(),
            steps=tuple(steps.get((table, name), ())),
        )
        for table in _TABLES
        for name, policy in ruleset.chains.get(table, {}).items()
    ]


def _step(rule: Rule, chains: Iterable[str]) -> Step | None:
    matches = tuple(found for o in rule.options if (found := _match(o, rule.target)))
    if rule.target in ("ACCEPT", "DROP", "REJECT", "RETURN"):
        return Step(rule.target.lower(), "", matches, str(rule))
    if rule.target in chains:
        verb = "goto" if rule.value("-g") else "jump"
        return Step(verb, rule.target, matches, str(rule))
    return None


_OPTIONS = {
    ("", "-i"): "in",
    ("", "-o"): "out",
    ("", "-s"): "source",
    ("", "-d"): "destination",
    ("", "-p"): "protocol",
    ("conntrack", "--ctstate"): "state",
    ("state", "--state"): "state",
    ("mark", "--mark"): "mark",
    ("tcp", "--dport"): "port",
    ("udp", "--dport"): "port",
    ("multiport", "--dports"): "port",
}


def _match(option: Option, target: str) -> Match | None:
    # A name without a value is the module of the options that follow.
    if not option.name or option.module in ("comment", target) or option.name in ("-j", "-g"):
        return None
    values = tuple(part for value in option.values for part in value.lower().split(","))
    if (option.module, option.name) == ("addrtype", "--dst-type") and values == ("local",):
        # Asked of packets that the host passes on; those to the host itself meet the others.
        return Match("local", (), option.negated)
    kind = _OPTIONS.get((option.module, option.name), "other")
    if kind in ("in", "out"):
        values = tuple(value.replace("+", "*") for value in option.values)
    return Match(kind, values, option.negated)


# -- nftables ------------------------------------------------------------------------------------


def _of_nft(objects: Sequence[dict[str, Any]]) -> list[Chain]:
    chains: dict[tuple[str, str], Chain] = {}
    for item in objects:
        if chain := item.get("chain"):
            table, name = f"{chain['family']} {chain['table']}", str(chain["name"])
            device = chain.get("dev") or ""
            # In a table that it shares with others, iptables shows its own chains itself.
            shared = chain["family"] == "ip" and chain["table"] in (*_TABLES, "nat")
            own = shared and name in _IPTABLES_HOOKS
            chains[table, name] = Chain(
                "nft",
                table,
                name,
                "" if own else str(chain.get("hook", "")),
                str(chain.get("policy", "accept")),
                device if isinstance(device, str) else "",
            )
        elif rule := item.get("rule"):
            key = f"{rule['family']} {rule['table']}", str(rule["chain"])
            steps = tuple(_nft_steps(rule))
            chains[key] = replace(chains[key], steps=chains[key].steps + steps)
    return list(chains.values())


def _nft_steps(rule: dict[str, Any]) -> Iterator[Step]:
    matches: list[Match] = []
    comment = f" ({rule['comment']})" if rule.get("comment") else ""
    for expression in rule.get("expr", []):
        ((name, given),) = expression.items()
        if name == "match":
            matches.append(_nft_match(given["left"], given["right"], given["op"] == "!="))
        elif name == "vmap":
            data = given["data"]
            pairs = data["set"] if isinstance(data, dict) and "set" in data else []
            for value, verdict in pairs:
                one = _nft_match(given["key"], value, negated=False)
                yield from _verdicts(verdict, [*matches, one], rule, comment)
        elif name in ("limit", "quota", "connlimit", "xt", "ct count"):
            matches.append(Match("other"))
        else:
            yield from _verdicts(expression, matches, rule, comment)


def _verdicts(
    expression: dict[str, Any], matches: Sequence[Match], rule: dict[str, Any], comment: str
) -> Iterator[Step]:
    ((name, given),) = expression.items()
    if name in ("accept", "drop", "reject", "return"):
        yield Step(name, "", tuple(matches), f"handle {rule['handle']}{comment}: {name}")
    elif name in ("jump", "goto"):
        yield Step(name, str(given["target"]), tuple(matches))


_NFT_KINDS = {
    ("meta", "iifname"): "in",
    ("meta", "iif"): "in",
    ("meta", "oifname"): "out",
    ("meta", "oif"): "out",
    ("meta", "l4proto"): "protocol",
    ("meta", "mark"): "mark",
    ("ct", "state"): "state",
    ("ip", "saddr"): "source",
    ("ip", "daddr"): "destination",
    ("ip", "protocol"): "protocol",
    ("tcp", "dport"): "port",
    ("udp", "dport"): "port",
    ("th", "dport"): "port",
}


def _nft_match(left: Any, right: Any, negated: bool) -> Match:
    ((name, given),) = left.items() if isinstance(left, dict) and len(left) == 1 else [("", {})]
    given = given if isinstance(given, dict) else {}
    of = str(given.get("protocol", name))
    field = str(given.get("key", given.get("field", "")))
    values = _nft_values(right)
    if of == "ip6" or (field in ("nfproto", "protocol") and of == "meta" and values == ("ip6",)):
        return Match("never")
    if field == "nfproto":
        return Match("never", negated="ipv4" in (values or ()) or values is None)
    kind = _NFT_KINDS.get((of, field), "other")
    if values is None:
        return Match("other")
    return Match(kind, values, negated)


def _nft_values(right: Any) -> tuple[str, ...] | None:
    """The values that will do; ``None`` for those of a named set."""

    if isinstance(right, str) and right.startswith("@"):
        return None
    if isinstance(right, (str, int)):
        return (str(right),)
    if isinstance(right, list):
        found = [_nft_values(one) for one in right]
    elif "prefix" in right:
        return (f"{right['prefix']['addr']}/{right['prefix']['len']}",)
    elif "range" in right:
        return (":".join(map(str, right["range"])),)
    elif "elem" in right:
        return _nft_values(right["elem"]["val"])
    elif "set" in right:
        found = [_nft_values(one) for one in right["set"]]
    else:
        return None
    return None if None in found else tuple(v for values in found if values for v in values)


# -- What becomes of a packet --------------------------------------------------------------------


@dataclass(frozen=True)
class Obstacle:
    """
    What stops a packet.

    + chain: where
    + text: the rule or the policy
    + certain: whether it stops all of them, or may stop some
    """

    chain: Chain
    text: str
    certain: bool


def obstacles(chains: Sequence[Chain], packets: Iterable[Packet]) -> list[Obstacle]:
    """
    Return what stops any of the packets, each once.

    + chains: of all flavours
    + packets: each is tried on its own
    """

    found: dict[tuple[Chain, str], Obstacle] = {}
    named = {(chain.flavour, chain.table, chain.name): chain for chain in chains}
    for packet in packets:
        for base in chains:
            if base.hook not in _WAYS[packet.way] or base.device not in ("", packet.into):
                continue
            for one in _decide(base, packet, named):
                key = one.chain, one.text
                if key not in found or one.certain:
                    found[key] = one
    return list(found.values())


def _decide(
    base: Chain, packet: Packet, named: dict[tuple[str, str, str], Chain]
) -> Iterator[Obstacle]:
    found, ended = _walk(base, packet, named, certain=True, depth=0)
    yield from found
    if not ended and base.policy == "drop":
        yield Obstacle(base, "policy drop", certain=True)


def _walk(
    chain: Chain,
    packet: Packet,
    named: dict[tuple[str, str, str], Chain],
    certain: bool,
    depth: int,
) -> tuple[list[Obstacle], bool]:
    """What stops a packet here and below, and whether it certainly ends here."""

    found: list[Obstacle] = []
    for step in chain.steps if depth < 20 else ():
        applies = _applies(step, packet)
        if applies is False:
            continue
        if step.verdict in ("drop", "reject"):
            found.append(Obstacle(chain, step.text, certain and applies is True))
        below = named.get((chain.flavour, chain.table, step.to))
        ended = step.verdict in ("accept", "drop", "reject")
        if below:
            more, ended = _walk(below, packet, named, certain and applies is True, depth + 1)
            found += more
        if applies is None:
            # It may have gone: what comes later is no longer certain to stop it.
            certain = certain and step.verdict not in ("accept", "goto", "return")
        elif ended:
            return found, True
        elif step.verdict in ("return", "goto"):
            return found, False
    return found, False


def _applies(step: Step, packet: Packet) -> bool | None:
    """Whether a rule is about a packet; ``None`` where that cannot be told."""

    answers = [_holds(match, packet) for match in step.matches]
    return False if False in answers else None if None in answers else True


def _holds(match: Match, packet: Packet) -> bool | None:
    answers = [_is(match.kind, value, packet) for value in match.values or ("",)]
    answer = True if True in answers else None if None in answers else False
    return answer if answer is None or not match.negated else not answer


def _is(kind: str, value: str, packet: Packet) -> bool | None:
    if kind in ("in", "out"):
        link = packet.into if kind == "in" else packet.out
        return fnmatch.fnmatchcase(link, value) if link else None
    if kind in ("source", "destination"):
        return _within(packet.source if kind == "source" else packet.destination, value)
    if kind == "protocol":
        return packet.protocol == value.lower() if packet.protocol else None
    if kind == "port":
        low, _, high = value.partition(":")
        if not (packet.port and low.isdigit() and (high or low).isdigit()):
            return None
        return int(low) <= packet.port <= int(high or low)
    if kind == "state":
        return value.lower() == "new"
    if kind == "mark":
        return value.partition("/")[0] in ("0", "0x0")
    if kind == "local":
        return packet.way == "input"
    return False if kind == "never" else None


def _within(network: str, value: str) -> bool | None:
    """Whether all of a network is in another; ``None`` for a part of it, or for any network."""

    try:
        wanted = IPNetwork(value)
        if not network:
            return True if wanted.prefixlen == 0 else None
        given = IPNetwork(network)
    except (AddrFormatError, ValueError):
        return None
    if given in wanted:
        return True
    return None if wanted in given else False
