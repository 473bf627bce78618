"""A verdict as text for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pyinfra_kube.checks.check import Finding
from pyinfra_kube.checks.judge import Cause, Verdict
from pyinfra_kube.cluster.tables import lines_of

# So many consequences of one cause, or checks without a verdict, are listed.
_LISTED = 12


def text(verdict: Verdict) -> str:
    """
    Give a verdict for people: each cause with what to do, then a table of the hosts.

    + verdict: it
    """
    lines: list[str] = []
    for cause in verdict.causes:
        lines += [*_cause(cause), ""]
    where: dict[tuple[str, str], list[str]] = {}
    for one in verdict.unknown:
        where.setdefault((one.check.id, one.said.seen), []).append(one.host)
    reasons = [f"unknown  {', '.join(hosts)}: {id_}: {why}" for (id_, why), hosts in where.items()]
    lines += [*_some(reasons), ""] if reasons else []
    rows: list[tuple[str, ...]] = [("HOST", "OK", "WARNINGS", "FAILED", "UNKNOWN", "CERTIFICATES")]
    states = ("warning", "failed", "unknown")
    for host in verdict.hosts:
        counts = [str(verdict.count(host, state)) for state in states]
        left = verdict.days_left.get(host)
        days = f"{min(left.values())} days or more" if left else "-"
        rows.append((host, str(len(verdict.well[host])), *counts, days))
    return "\n".join([*lines, *lines_of(rows), "", summary(verdict)])


def summary(verdict: Verdict) -> str:
    """
    Give a verdict in one line.

    + verdict: it
    """
    failed = len(verdict.failed)
    warned = len(verdict.causes) - failed
    below = sum(len(cause.consequences) for cause in verdict.causes)
    if not verdict.causes:
        return f"all is well, as far as is known: {sum(map(len, verdict.well.values()))} checks"
    counted = [f"{failed} failed", _counted(warned, "warning")]
    return f"{', '.join(counted)}, with {_counted(below, 'consequence')}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def document(verdict: Verdict) -> str:
    """
    Give a verdict as JSON.

    + verdict: it
    """
    content = {
        "failed": len(verdict.failed),
        "warnings": len(verdict.causes) - len(verdict.failed),
        "hosts": {
            host: {"ok": len(verdict.well[host])}
            | {state: verdict.count(host, state) for state in ("warning", "failed", "unknown")}
            | {"well": verdict.well[host]}
            | {"certificates": verdict.days_left.get(host, {})}
            for host in verdict.hosts
        },
        "causes": [
            _plain(cause.finding) | {"consequences": [_plain(one) for one in cause.consequences]}
            for cause in verdict.causes
        ],
        "unknown": [_plain(one) for one in verdict.unknown],
    }
    return json.dumps(content, indent=2) + "\n"


def _cause(cause: Cause) -> Iterator[str]:
    said, one = cause.finding.said, cause.finding
    yield f"{said.state:<8} {_where(one)}: does not hold: {one.check.title}"
    for word, value in (
        ("seen", said.seen),
        ("expected", said.expected),
        ("look", one.look),
        ("mend", one.mend),
    ):
        if value:
            yield f"  {word:<9}{value}"
    below = [f"{_where(other)}: {other.said.seen}" for other in cause.consequences]
    yield from (f"  so also  {line}" for line in _some(dict.fromkeys(below)))


def _where(one: Finding) -> str:
    subject = f" {one.said.subject}" if one.said.subject else ""
    return f"{one.host}: {one.check.id}{subject}"


def _some(lines: Iterable[str]) -> list[str]:
    found = list(lines)
    more = len(found) - _LISTED
    return [*found[:_LISTED], f"and {more} more"] if more > 0 else found


def _plain(one: Finding) -> dict[str, object]:
    return {
        "check": one.check.id,
        "host": one.host,
        "state": one.said.state,
        "subject": one.said.subject,
        "seen": one.said.seen,
        "expected": one.said.expected or one.check.title,
        "look": one.look,
        "mend": one.mend,
        "about": list(one.said.about),
    }
