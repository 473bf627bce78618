"""
Manage what pods need of nftables, on hosts without iptables.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator

from pyinfra.api import StringCommand

from pyinfra_kube.cluster.runtimes import runtime_named
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.nftables import NftTable
from pyinfra_kube.operations.boot_units import FIREWALLS, plan_boot_unit
from pyinfra_kube.operations.iptables import (
    description_of_rules,
    description_of_table,
    rules_absent,
)

_CHAIN = "type nat hook postrouting priority srcnat; policy accept;"


@operation()
def masquerade(
    cluster_cidr: str,
    present: bool = True,
    owner: str = "kube-masquerade",
    runtime: str = "containerd",
) -> Generator[StringCommand, None, None]:
    """
    Masquerade what leaves the cluster, so that pods reach hosts without a route to them. It is a
    table of its own; no other one is touched. What ``iptables.masquerade`` set goes.

    + cluster_cidr: CIDR of all pods; packets to it keep their source
    + present: whether the table must exist
    + owner: the name of the table, and of the unit that sets it at every boot
    + runtime: container runtime, which starts after it

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import nftables

        nftables.masquerade(
            name="Masquerade packets that leave the cluster", cluster_cidr="10.10.0.0/16"
        )
    """

    table = f"ip {owner}"
    rule = f"ip daddr != {cluster_cidr} fib daddr type != local masquerade"
    wanted = f"table {table} {{ chain postrouting {{ {_CHAIN} {rule} }} }}"
    found = read(NftTable, table=table)
    # One transaction: no packet finds the table empty.
    lines = [f"add table {table}", f"delete table {table}"]
    if present:
        lines += [
            f"add table {table}",
            f"add chain {table} postrouting {{ {_CHAIN} }}",
            f"add rule {table} postrouting {rule}",
        ]
    command = f"nft {shlex.quote('; '.join(lines))}"
    scripts = [
        plan_boot_unit(
            owner,
            description_of_table(owner),
            [command],
            before=[runtime_named(runtime).unit, "kubelet.service"],
            after=FIREWALLS,
            present=present,
            replaces=description_of_rules(owner),
        )
    ]
    if present:
        scripts.insert(0, rules_absent("nat", owner))
    if found != (wanted if present else None):
        changes.show(f"table {table}: {found or 'absent'} → {wanted if present else 'absent'}")
        scripts.insert(0, Script(command, f"set table {table}" if present else f"remove {table}"))
    yield from run_or_noop(join(scripts), "the table is as wanted")
