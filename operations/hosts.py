"""
Manage the names of a cluster's hosts in /etc/hosts (H3).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence

from netaddr import AddrFormatError, IPAddress
from pyinfra.api import OperationError, OperationValueError, StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.facts.files import Files
from pyinfra_kube.facts.hosts import SSH, Hosts, Reachable
from pyinfra_kube.facts.snapshot import read
from pyinfra_kube.operations.util.files import File, plan_files
from pyinfra_kube.operations.util.operation import operation

PATH = "/etc/hosts"


@operation()
def hosts(
    entries: Mapping[str, str],
    present: bool = True,
    unless_resolved: bool = False,
    marker: str = "kubernetes cluster",
) -> Generator[StringCommand, None, None]:
    """
    Manage names in /etc/hosts, in a marked block of their own; every other byte stays.

    A name that another line already gives the right address is left to that line. Where another
    line gives it a wrong one, the block goes before it, for the first entry wins.

    + entries: IPv4 address by host name
    + present: whether the block shall be there
    + unless_resolved: leave out a name for which DNS gives the right address; one that is in the
      block already stays
    + marker: what the block's first and last line say

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import hosts

        hosts.hosts(
            name="Let the hosts know each other",
            entries={"kube-master": "192.0.2.11", "kube-node-1": "192.0.2.12"},
            unless_resolved=True,
        )
    """

    _check(entries)
    names = list(entries) if present and unless_resolved else []
    found = read(Hosts, names=names, marker=marker)
    before, block, after = _parts(found.text, marker)

    elsewhere = _addresses(before + after)
    ours = _addresses(block)
    wanted = {
        name: address
        for name, address in entries.items()
        if present
        and elsewhere.get(name) != [address]
        and (name in ours or address not in found.resolved.get(name, ()))
    }
    text = _text(before, after, wanted, marker)
    script = plan_files([_file(text)]) if text != found.text else None
    if script:
        yield script
    else:
        ctx_host.get().noop(f"{PATH} is as wanted")


@operation()
def reachable(
    addresses: Mapping[str, str], ports: Mapping[str, Sequence[int]] | None = None
) -> Generator[StringCommand, None, None]:
    """
    Check that this host reaches others (H3); never changes anything.

    A host is reached that answers a ping, or at a port, be it that the port is closed. Raises an
    error that names every host that gives no such sign, and what was tried. A host that has
    nothing to try a port with is not checked.

    + addresses: IPv4 address by host name
    + ports: by host name, those that are needed there over TCP, and that of ssh; by default 22

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import hosts

        hosts.reachable(
            name="Check that the hosts reach each other",
            addresses={"kube-master": "192.0.2.11"},
            ports={"kube-master": [6443, 22]},
        )
    """

    tried = {name: list((ports or {}).get(name, [SSH])) for name in addresses}
    answers = read(
        Reachable,
        addresses=list(addresses.values()),
        ports={address: tried[name] for name, address in addresses.items()},
    )
    silent = [name for name, address in addresses.items() if answers.get(address) is False]
    if silent:
        named = ", ".join(f"{name} ({addresses[name]})" for name in silent)
        ports_tried = "; ".join(f"{name}: {', '.join(map(str, tried[name]))}" for name in silent)
        raise OperationError(
            f"it does not reach {named}; no answer to a ping, nor at these ports over TCP: "
            f"{ports_tried}. See that it reaches them at these addresses, and that a firewall lets "
            "it through to one of these ports"
        )
    ctx_host.get().noop("every host is reachable")
    yield from ()


def _check(entries: Mapping[str, str]) -> None:
    for name, address in entries.items():
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name):
            raise OperationValueError(f"entries: {name!r} is not a host name")
        try:
            version = IPAddress(address).version
        except (AddrFormatError, ValueError):
            version = None
        if version != 4:
            raise OperationValueError(f"entries: {name}: {address!r} is not an IPv4 address")


def _parts(text: str, marker: str) -> tuple[str, str, str]:
    """What stands before the block, in it, and after it."""

    match = re.search(
        rf"^# BEGIN {re.escape(marker)}\n(.*?)^# END {re.escape(marker)}\n?", text, re.M | re.S
    )
    if not match:
        return text, "", ""
    return text[: match.start()], match[1], text[match.end() :]


def _addresses(text: str) -> dict[str, list[str]]:
    """IPv4 addresses by name, in their order."""

    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names if ":" not in address else ():
            found.setdefault(name, []).append(address)
    return found


def _text(before: str, after: str, wanted: Mapping[str, str], marker: str) -> str:
    if not wanted:
        return before + after
    lines = "".join(f"{address} {name}\n" for name, address in wanted.items())
    block = f"# BEGIN {marker}\n{lines}# END {marker}\n"
    if set(_addresses(before)) & set(wanted):
        return block + before + after
    return _ended(before) + block + after


def _file(text: str) -> File:
    """The file with its own mode and owner."""

    content = text.encode(errors="surrogateescape")
    state = read(Files, paths=[PATH]).get(PATH)
    if not state:
        return File(PATH, content)
    return File(PATH, content, mode=state.mode, user=state.user, group=state.group)


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
