"""
Manage iptables rules: any, and those that pods need.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Sequence

from netaddr import AddrFormatError, IPNetwork
from pyinfra.api import OperationError, OperationValueError, StringCommand

from pyinfra_kube.cluster.runtimes import runtime_named
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.iptables import BUILTIN_CHAINS, Rule, Rules, Ruleset
from pyinfra_kube.facts.nftables import NftTable
from pyinfra_kube.operations.boot_units import FIREWALLS, plan_boot_unit

# When systemd takes firewalld for started it is about to drop all rules.
_FIREWALLD = (
    "for n in $(seq 60); do systemctl --quiet is-active firewalld.service || break; "
    "firewall-cmd --quiet --state && break; sleep 1; done"
)


@operation()
def rules(
    rules: Sequence[str],
    table: str = "filter",
    owner: str | None = None,
    present: bool = True,
    persist: bool = True,
    runtime: str = "docker",
) -> Generator[StringCommand, None, None]:
    """
    Manage iptables rules; each exists exactly once.

    With an owner the rules are a set: each has the owner as its comment, and a rule of the table
    that has that comment and is no longer in the list is removed. A rule without a comment that
    does the same in the right place counts as present. Without an owner each rule stands alone,
    and does not survive a reboot. No other rule is touched. A rule that exists keeps its place, and
    a missing chain is made.

    + rules: as iptables takes them: ``-A CHAIN …`` at the end, ``-I CHAIN …`` at the top
    + table: ``filter``, ``nat``, ``mangle``, ``raw`` or ``security``
    + owner: one word; the comment of the rules, and the name of the unit that sets them at boot
    + present: whether the rules must exist; with an owner, ``False`` removes all of its rules
    + persist: whether the unit ``OWNER.service`` sets the rules again at every boot
    + runtime: container runtime, which starts after them

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
    found = [rule for rule in ruleset().rules if rule.table == table]
    if present:
        adding = [wish for wish in wishes if not _satisfied(wish, found, owner)]
        removing = unwanted(rule for rule in found if _owned(rule, owner) and rule not in wanted)
        removing += _doubled(wishes, found)
    else:
        adding = []
        removing = unwanted(rule for rule in found if _owned(rule, owner) or rule in wanted)

    unit = _unit(wishes, owner, present and persist, runtime) if owner else None
    yield from run_or_noop(
        join([live(adding, removing), unit]),
        f"iptables rules are {'as wanted' if present else 'absent'}",
    )


@operation()
def masquerade(
    cluster_cidr: str,
    present: bool = True,
    persist: bool = True,
    owner: str = "kube-masquerade",
    runtime: str = "docker",
) -> Generator[StringCommand, None, None]:
    """
    Masquerade what leaves the cluster, so that pods reach hosts without a route to them. What
    ``nftables.masquerade`` set goes.

    + cluster_cidr: CIDR of all pods; packets to it keep their source
    + present: whether the rule must exist
    + persist: whether the unit ``OWNER.service`` sets it again at every boot
    + owner: the comment that marks the rule as ours, and the name of its unit
    + runtime: container runtime, which starts after it

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
    table_absent = _table_absent(owner) if present else None
    yield from rules._inner([rule], "nat", owner, present, persist, runtime)
    if table_absent:
        yield table_absent


@operation()
def forward(
    cluster_cidr: str,
    present: bool = True,
    persist: bool = True,
    owner: str = "kube-forward",
    runtime: str = "docker",
) -> Generator[StringCommand, None, None]:
    """
    Forward the packets of pods even if docker or a firewall forbids forwarding.

    The rules stand at the top of ``FORWARD``, before those that reject the rest.

    + cluster_cidr: CIDR of all pods
    + present: whether the rules must exist
    + persist: whether the unit ``OWNER.service`` sets them again at every boot
    + owner: the comment that marks the rules as ours, and the name of their unit
    + runtime: container runtime, which starts after them

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import iptables

        iptables.forward(
            name="Forward the packets of pods",
            cluster_cidr="10.10.0.0/16",
        )
    """

    yield from rules._inner(forward_rules(cluster_cidr), "filter", owner, present, persist, runtime)


def forward_rules(cluster_cidr: str) -> list[str]:
    """
    Return the rules that :func:`forward` sets.

    + cluster_cidr: CIDR of all pods
    """

    subnet = _network(cluster_cidr)
    return [f"-I FORWARD -{side} {subnet} -j ACCEPT" for side in "sd"]


# -- What is planned -----------------------------------------------------------------------------


def rules_absent(table: str, owner: str) -> Script | None:
    """
    Return the script that removes the rules of an owner, or ``None``. Its unit stays.

    + table: that they stand in
    + owner: their comment
    """

    found = (read(Rules) or Ruleset({}, ())).rules
    return live([], unwanted(rule for rule in found if rule.table == table and _owned(rule, owner)))


def _table_absent(owner: str) -> Script | None:
    table = f"ip {owner}"
    if not (found := read(NftTable, table=table)):
        return None
    changes.show(f"table {table}: {found} → absent")
    return Script(f"nft delete table {table}", f"remove table {table}")


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


def ruleset() -> Ruleset:
    """Return the host's rules. Raises ``OperationError`` where iptables cannot read them."""

    found = read(Rules) or Ruleset({}, ())
    if found.error:
        raise OperationError(f"iptables-save cannot read the rules: {found.error}")
    return found


def _owned(rule: Rule, owner: str | None) -> bool:
    return owner is not None and owner in rule.comments


def _satisfied(wish: Wish, found: Iterable[Rule], owner: str | None) -> bool:
    action, wanted = wish
    chain = [rule for rule in found if rule.chain == wanted.chain]
    if wanted in chain:
        return True
    same = [i for i, r in enumerate(chain) if not r.comments and r.effect == wanted.effect]
    # A rule that must stand at the top does not do the same below others.
    before = chain[: same[0]] if same and action == "-I" else []
    return bool(owner and same) and all(rule.target == "ACCEPT" for rule in before)


def _doubled(wishes: Iterable[Wish], found: Iterable[Rule]) -> list[Rule]:
    times = Counter(found)
    doubled = [rule for _, rule in wishes if times[rule] > 1]
    for rule in doubled:
        changes.show(f"iptables {rule.table}: {times[rule]} times → once {rule}")
    return [rule for rule in doubled for _ in range(times[rule] - 1)]


def unwanted(found: Iterable[Rule]) -> list[Rule]:
    """Return rules as a list, and show that they go."""

    rules = list(found)
    for rule in rules:
        changes.show(f"iptables {rule.table}: {rule} → absent")
    return rules


# -- How it gets there ---------------------------------------------------------------------------


def live(adding: Sequence[Wish], removing: Sequence[Rule]) -> Script | None:
    """
    Return the script that adds and removes rules, or ``None``.

    It adds first, so that each packet finds the old rule or the new one.
    """

    for action, rule in adding:
        # What a rule does depends on whether it stands at the end or at the top.
        changes.show(f"iptables {rule.table}: absent → {action}{str(rule).removeprefix('-A')}")
    lines = _ensure(adding) + [rule.command("-D") for rule in removing]
    return Script("\n".join(lines), summary=_summary(adding, removing)) if lines else None


def _summary(adding: Sequence[Wish], removing: Sequence[Rule]) -> str:
    counts = {"add": len(adding), "remove": len(removing)}
    return "iptables: " + ", ".join(f"{verb} {count}" for verb, count in counts.items() if count)


def _ensure(wishes: Iterable[Wish]) -> list[str]:
    """Commands that may run more than once."""

    wishes = list(wishes)
    chains = {(rule.table, rule.chain): None for _, rule in wishes}
    return [
        f"iptables -w -t {table} -N {chain} 2>/dev/null || :"
        for table, chain in chains
        if chain not in BUILTIN_CHAINS
    ] + [f"{rule.command('-C')} 2>/dev/null || {rule.command(action)}" for action, rule in wishes]


def _unit(wishes: Sequence[Wish], owner: str, present: bool, runtime: str) -> Script | None:
    return plan_boot_unit(
        owner,
        description_of_rules(owner),
        [_FIREWALLD, *_ensure(wishes)],
        before=[runtime_named(runtime).unit, "kubelet.service"],
        after=FIREWALLS,
        present=present and bool(wishes),
        # With nftables the unit of this name is that table's.
        replaces=description_of_table(owner),
    )


def description_of_rules(owner: str) -> str:
    """
    Return the description of the unit that sets an owner's rules of iptables.

    + owner: one word
    """

    return f"iptables rules of {owner}"


def description_of_table(owner: str) -> str:
    """
    Return the description of the unit that sets an owner's table of nftables.

    + owner: one word
    """

    return f"nftables' table {owner}"
