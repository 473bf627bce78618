"""
Manage iptables rules: any, and those that pods need (N5); take away docker's (H5).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Sequence

from netaddr import AddrFormatError, IPNetwork
from pyinfra.api import OperationError, OperationValueError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.bridge import Links
from pyinfra_kube.facts.iptables import BUILTIN_CHAINS, Rule, Rules, Ruleset
from pyinfra_kube.operations.boot_units import boot_unit, plan_unit
from pyinfra_kube.operations.docker_rules import Docker
from pyinfra_kube.operations.files import File

# What restores or flushes whole tables at boot comes before ours.
_AFTER = ("iptables.service", "netfilter-persistent.service", "nftables.service")
_BEFORE = ("docker.service", "kubelet.service")

_EMPTY = Ruleset({}, ())


@operation()
def rules(
    rules: Sequence[str],
    table: str = "filter",
    owner: str | None = None,
    present: bool = True,
    persist: bool = True,
) -> Generator[StringCommand, None, None]:
    """
    Manage iptables rules, each there exactly once.

    With an owner the rules are a set: each carries the owner as a comment, and a rule of the
    table that carries it and is no longer in the list goes. A rule without any comment that does
    the same, at the end or at the top as it is wanted, counts as present and is left alone.
    Without an owner each rule stands for itself and does not outlive a reboot. No other rule is
    touched, and a rule that is there stays where it is; a chain that is missing is made.

    + rules: as iptables takes them: ``-A CHAIN …`` goes to the end, ``-I CHAIN …`` to the top
    + table: ``filter``, ``nat``, ``mangle``, ``raw`` or ``security``
    + owner: one word; the comment of the rules, and the name of the unit that sets them at boot
    + present: whether the rules shall be there; with an owner ``False`` removes all of its rules
    + persist: whether the unit ``OWNER.service`` sets the rules again at every boot

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import iptables

        iptables.rules(
            name="Open the ports of the apiserver",
            rules=["-I INPUT -p tcp -m multiport --dports 443,6443 -j ACCEPT"],
            owner="kube-apiserver-ports",
        )
    """

    wishes = _wishes(rules, table, owner)
    wanted = {rule for _, rule in wishes}
    found = [rule for rule in _ruleset().rules if rule.table == table]
    if present:
        adding = [wish for wish in wishes if not _satisfied(wish, found, owner)]
        removing = _unwanted(rule for rule in found if _owned(rule, owner) and rule not in wanted)
        removing += _doubled(wishes, found)
    else:
        adding = []
        removing = _unwanted(rule for rule in found if _owned(rule, owner) or rule in wanted)

    unit = plan_unit(_unit(wishes, owner, present and persist), _description(owner))
    yield from run_or_noop(
        join([_live(adding, removing), unit]),
        f"iptables rules are {'as wanted' if present else 'absent'}",
    )


@operation()
def masquerade(
    cluster_cidr: str,
    present: bool = True,
    persist: bool = True,
    owner: str = "kube-masquerade",
) -> Generator[StringCommand, None, None]:
    """
    Masquerade packets that leave the cluster (N5), so that pods reach any host.

    + cluster_cidr: CIDR of all pods; what goes there keeps its source
    + present: whether the rule shall be there
    + persist: whether the unit ``OWNER.service`` sets it again at every boot
    + owner: the comment that marks the rule as ours, and the name of its unit

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import iptables

        iptables.masquerade(
            name="Masquerade packets that leave the cluster",
            cluster_cidr="10.10.0.0/16",
        )
    """

    subnet = _network(cluster_cidr)
    rule = f"-A POSTROUTING ! -d {subnet} -m addrtype ! --dst-type LOCAL -j MASQUERADE"
    yield from rules._inner([rule], table="nat", owner=owner, present=present, persist=persist)


@operation()
def forward(
    cluster_cidr: str,
    present: bool = True,
    persist: bool = True,
    owner: str = "kube-forward",
) -> Generator[StringCommand, None, None]:
    """
    Let the packets of pods through, where docker or a firewall forbids forwarding (N6).

    The rules go to the top of ``FORWARD``, before what rejects the rest.

    + cluster_cidr: CIDR of all pods
    + present: whether the rules shall be there
    + persist: whether the unit ``OWNER.service`` sets them again at every boot
    + owner: the comment that marks the rules as ours, and the name of their unit

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import iptables

        iptables.forward(
            name="Forward the packets of pods",
            cluster_cidr="10.10.0.0/16",
        )
    """

    wanted = forward_rules(cluster_cidr)
    yield from rules._inner(wanted, owner=owner, present=present, persist=persist)


def forward_rules(cluster_cidr: str) -> list[str]:
    """
    The rules that :func:`forward` sets.

    + cluster_cidr: CIDR of all pods
    """

    subnet = _network(cluster_cidr)
    return [f"-I FORWARD -{side} {subnet} -j ACCEPT" for side in "sd"]


@operation()
def remove_docker_rules(
    bridges: Sequence[str] = ("docker0", "docker_gwbridge"),
) -> Generator[StringCommand, None, None]:
    """
    Remove the rules and chains that docker made (H5), and nobody else's.

    For a docker that runs with ``--iptables=false``, or not at all; one that manages iptables
    would set them again. A rule is docker's that is one of those it writes, word by word. A chain
    of docker's that holds somebody else's rules stays, with the way that leads there, and so does
    one that somebody else's rules lead to.

    + bridges: bridges of docker's networks; those that it names ``br-`` and twelve digits are
      known, and those that its own rules name

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import iptables

        iptables.remove_docker_rules(name="Remove docker's own rules")
    """

    found, chains = Docker(_ruleset(), read(Links), bridges).going
    removing = _unwanted(found)
    for table, chain in chains:
        changes.show(f"iptables {table}: chain {chain} → absent")
    clearing = [f"iptables -w -t {table} -X {chain}" for table, chain in chains]
    script = join(
        [
            _live([], removing),
            Script("\n".join(clearing), summary="remove docker's chains") if clearing else None,
        ]
    )
    yield from run_or_noop(script, "docker has no iptables rules")


# -- What is wanted ------------------------------------------------------------------------------

# A rule, and the action that puts it in its place: -A or -I.
Wish = tuple[str, Rule]


def _network(cidr: str) -> str:
    try:
        network = IPNetwork(cidr)
    except (AddrFormatError, ValueError):
        network = None
    if network is None or "/" not in cidr or network.version != 4 or network.ip != network.cidr.ip:
        raise OperationValueError(
            f"cluster_cidr: {cidr!r} is not an IPv4 network without host bits, as 10.10.0.0/16"
        )
    return str(network)


def _wishes(texts: Sequence[str], table: str, owner: str | None) -> list[Wish]:
    if owner is not None and not re.fullmatch(r"[\w.:@-]+", owner):
        raise OperationValueError(f"owner: {owner!r} is not one word of letters, digits and dashes")
    try:
        found = [(text.split()[0], Rule.parse(text, table)) for text in texts]
    except (ValueError, IndexError) as error:
        raise OperationValueError(f"rules: {error}") from error
    actions = {"--append": "-A", "--insert": "-I"}
    wishes = dict.fromkeys((actions.get(a, a), _mark(rule, owner)) for a, rule in found)
    appended = [wish for wish in wishes if wish[0] == "-A"]
    # Each -I goes before the one that went there earlier.
    return appended + [wish for wish in reversed(wishes) if wish[0] == "-I"]


def _mark(rule: Rule, owner: str | None) -> Rule:
    if owner is None or _owned(rule, owner):
        return rule
    return Rule(rule.table, rule.chain, (*rule.arguments, "-m", "comment", "--comment", owner))


# -- What is there -------------------------------------------------------------------------------


def _ruleset() -> Ruleset:
    ruleset = read(Rules) or _EMPTY
    if ruleset.error:
        raise OperationError(f"iptables-save cannot read the rules: {ruleset.error}")
    return ruleset


def _owned(rule: Rule, owner: str | None) -> bool:
    return owner is not None and owner in rule.comments


def _satisfied(wish: Wish, found: Iterable[Rule], owner: str | None) -> bool:
    action, wanted = wish
    chain = [rule for rule in found if rule.chain == wanted.chain]
    if wanted in chain:
        return True
    same = [i for i, r in enumerate(chain) if not r.comments and r.effect == wanted.effect]
    # Where the rule goes to the top, one that stands below others does not do the same.
    before = chain[: same[0]] if same and action == "-I" else []
    return bool(owner and same) and all(rule.target == "ACCEPT" for rule in before)


def _doubled(wishes: Iterable[Wish], found: Iterable[Rule]) -> list[Rule]:
    times = Counter(found)
    doubled = [rule for _, rule in wishes if times[rule] > 1]
    for rule in doubled:
        changes.show(f"iptables {rule.table}: {times[rule]} times → once {rule}")
    return [rule for rule in doubled for _ in range(times[rule] - 1)]


def _unwanted(found: Iterable[Rule]) -> list[Rule]:
    unwanted = list(found)
    for rule in unwanted:
        changes.show(f"iptables {rule.table}: {rule} → absent")
    return unwanted


# -- How it gets there ---------------------------------------------------------------------------


def _live(adding: Sequence[Wish], removing: Sequence[Rule]) -> Script | None:
    """Add first: no packet finds neither the old rule nor the new."""

    for action, rule in adding:
        # Whether it goes to the end or to the top decides what it does.
        changes.show(f"iptables {rule.table}: absent → {action}{str(rule).removeprefix('-A')}")
    lines = _ensure(adding) + [rule.command("-D") for rule in removing]
    return Script("\n".join(lines), summary=_summary(adding, removing)) if lines else None


def _summary(adding: Sequence[Wish], removing: Sequence[Rule]) -> str:
    counts = {"add": len(adding), "remove": len(removing)}
    return "iptables: " + ", ".join(f"{verb} {count}" for verb, count in counts.items() if count)


def _ensure(wishes: Iterable[Wish]) -> list[str]:
    """Commands that may run again and again."""

    wishes = list(wishes)
    chains = {(rule.table, rule.chain): None for _, rule in wishes}
    return [
        f"iptables -w -t {table} -N {chain} 2>/dev/null || :"
        for table, chain in chains
        if chain not in BUILTIN_CHAINS
    ] + [f"{rule.command('-C')} 2>/dev/null || {rule.command(action)}" for action, rule in wishes]


def _description(owner: str | None) -> str:
    return f"iptables rules of {owner}"


def _unit(wishes: Sequence[Wish], owner: str | None, present: bool) -> list[File]:
    if owner is None:
        return []
    return boot_unit(
        owner,
        _description(owner),
        _ensure(wishes),
        before=_BEFORE,
        after=_AFTER,
        present=present and bool(wishes),
    )
