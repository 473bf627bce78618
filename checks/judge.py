"""The verdict on a cluster: every check on every host, and which finding is the cause of which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyinfra_kube.checks.check import Check, Finding, Said
from pyinfra_kube.checks.on_certificates import days_left
from pyinfra_kube.checks.readings import CLUSTER, Host, Readings, Untold, Wanted
from pyinfra_kube.checks.table import CHECKS


@dataclass(frozen=True)
class Cause:
    """
    A finding that nothing else explains.

    + finding: it
    + consequences: what it explains
    """

    finding: Finding
    consequences: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """
    What is known of a cluster.

    + hosts: all that were judged
    + causes: the failures first, in the order of the table
    + unknown: checks that have no verdict
    + well: the checks that hold on each host
    + days_left: of the certificates on each host, by their files
    """

    hosts: tuple[str, ...]
    causes: tuple[Cause, ...]
    unknown: tuple[Finding, ...]
    well: dict[str, list[str]]
    days_left: dict[str, dict[str, int]]

    @property
    def failed(self) -> tuple[Cause, ...]:
        """The causes that are failures."""
        return tuple(one for one in self.causes if one.finding.said.state == "failed")

    def count(self, host: str, state: str) -> int:
        """
        Count the findings of a state on a host, consequences among them.

        + host: it
        + state: ``failed``, ``warning`` or ``unknown``
        """
        every = [f for cause in self.causes for f in (cause.finding, *cause.consequences)]
        return sum(f.host == host and f.said.state == state for f in [*every, *self.unknown])


def judge(readings: Readings, checks: Sequence[Check] = CHECKS) -> Verdict:
    """
    Judge a cluster.

    + readings: what its hosts and its API told
    + checks: the table

    ```
    >>> [str(cause.finding.said.seen) for cause in judge(readings).causes]
    ['containerd.service is inactive (dead)']
    ```
    """
    findings: list[Finding] = []
    well: dict[str, list[str]] = {name: [] for name in (*readings.hosts, CLUSTER)}
    places = [*readings.hosts.values(), Host(Wanted(CLUSTER, roles=frozenset({"cluster"})))]
    for check in checks:
        for host in places:
            if not _asked(check, host):
                continue
            found = [Finding(check, host.name, said) for said in _said(check, host, readings)]
            findings += found
            well[host.name] += [] if found else [check.id]
    known = [one for one in findings if one.said.state != "unknown"]
    unknown = [one for one in findings if one.said.state == "unknown"]
    left = {name: days_left(host, readings) for name, host in readings.hosts.items()}
    return Verdict(tuple(well), tuple(_causes(known)), tuple(unknown), well, left)


def _asked(check: Check, host: Host) -> bool:
    if "cluster" in check.roles or host.name == CLUSTER:
        return "cluster" in check.roles and host.name == CLUSTER
    # What is off has said so.
    if host.silent or not host.takes_part:
        return check.id == "host.answers"
    return not check.roles or any(host.is_a(role) for role in check.roles)


def _said(check: Check, host: Host, readings: Readings) -> list[Said]:
    try:
        return list(check.judge(host, readings))
    except Untold as error:
        return [Said(str(error), check.title, state="unknown")]
    # A host may tell anything; what is not understood is not known.
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        seen = f"not understood: {type(error).__name__}: {error}"
        return [Said(seen, check.title, state="unknown")]


def _breaks(cause: Finding, other: Finding) -> bool:
    """What is only worth a warning breaks nothing."""

    return cause.said.state == "failed" or cause.check.id == other.check.id


def _causes(findings: Sequence[Finding]) -> list[Cause]:
    """Each finding below the first one that explains it, directly or by way of others."""

    causes: dict[int, list[Finding]] = {}
    roots: list[int] = []
    for index, one in enumerate(findings):
        root = next(
            (
                roots[before]
                for before in range(index)
                if _breaks(findings[before], one) and explains(findings[before], one)
            ),
            index,
        )
        roots.append(root)
        if root == index:
            causes[index] = []
        else:
            causes[root].append(one)
    found = [Cause(findings[index], tuple(below)) for index, below in causes.items()]
    return sorted(found, key=lambda cause: cause.finding.said.state != "failed")


def explains(cause: Finding, other: Finding) -> bool:
    """
    Whether a finding is the cause of another one, by the table.

    + cause, other: two findings
    """
    there, concerned = _concerned(cause), _concerned(other)
    if cause.check.id == other.check.id:
        # What lies between two hosts is seen from both.
        return other.check.id in cause.check.explains and not there.isdisjoint(concerned)
    if other.said.chosen or not _names(cause.check.explains, other.check.id):
        return False
    # What concerns no host has its cause in none.
    if not there or not concerned:
        return not there
    return cause.host in concerned if cause.host != CLUSTER else not there.isdisjoint(concerned)


def _concerned(one: Finding) -> set[str]:
    """The hosts that take part in it."""
    return {one.host, *one.said.about} - {CLUSTER}


def _names(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
