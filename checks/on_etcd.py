"""Checks of etcd's members."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Readings, Untold
from pyinfra_kube.facts.answers import Answer

# Percent of etcd's quota, and how many revisions a member may be behind.
_FULL, _BEHIND = 80, 1000
_QUOTA = 2 * 1024**3
_SAYS = '"health"'


def answers(host: Host, _: Readings) -> Iterator[Said]:
    """Members of etcd that say nothing of themselves."""
    if "etcd health" in host.answers and _SAYS not in (answer := host.answer("etcd health")).text:
        yield Said(answer.text.strip()[:200] or "no answer", "an answer")


def health(host: Host, readings: Readings) -> Iterator[Said]:
    """Members of etcd that say that they are not well: they may lack the others."""
    answer = host.answer("etcd health") if "etcd health" in host.answers else None
    if answer and _SAYS in answer.text and not _is_well(answer):
        yield Said(answer.text.strip()[:200], "healthy", about=_members(readings))


def unwell(readings: Readings) -> tuple[str, ...]:
    """
    Give the hosts whose members of etcd are not well: each apiserver asks all members.

    + readings: of the cluster
    """
    said = {name: host.answers.get("etcd health") for name, host in readings.hosts.items()}
    return tuple(name for name, answer in said.items() if answer and not _is_well(answer))


def _is_well(answer: Answer) -> bool:
    return '"health":"true"' in answer.text.replace(" ", "")


def members(host: Host, readings: Readings) -> Iterator[Said]:
    """Members that nobody planned, and planned ones that are not there."""
    if "etcd members" not in host.answers:
        return
    members, all_members = _json(host, "etcd members").get("members") or [], _members(readings)
    planned = {n: f"//{readings.hosts[n].wanted.address}:" for n in all_members}
    found = dict.fromkeys(planned, "")
    for one in members:
        urls, name = " ".join(one.get("peerURLs") or []), str(one.get("name") or "")
        # One that is alone may speak to itself through the loopback.
        owner = next((n for n, there in planned.items() if there in urls or n == name), "")
        found[owner] = urls
        if not owner:
            yield Said(f"{name or urls} is a member", "planned ones alone", urls, all_members)
        elif not name:
            yield Said("it has never started", "started", urls, all_members)
    for name in (name for name in planned if not found[name]):
        yield Said("no member", "a member", name, (name,))


def alarms(host: Host, _: Readings) -> Iterator[Said]:
    """Alarms, with which etcd takes no more writes."""
    if "etcd alarms" in host.answers:
        for one in _json(host, "etcd alarms").get("alarms") or []:
            yield Said(str(one.get("alarm")), "none")


def size(host: Host, _: Readings) -> Iterator[Said]:
    """A database that is almost as large as it may be."""
    if "etcd status" in host.answers:
        size = int(_json(host, "etcd status").get("dbSize") or 0)
        flags = host.wanted.flags.get("etcd") or {}
        quota = int(flags.get("quota-backend-bytes") or 0) or _QUOTA
        if size * 100 > quota * _FULL:
            seen = f"{size // 2**20} MiB of {quota // 2**20}"
            yield Said(seen, f"at most {_FULL} %", state="warning")


def revision(host: Host, readings: Readings) -> Iterator[Said]:
    """Members that are behind others, follow another leader, or are of another cluster."""
    if "etcd status" not in host.answers:
        return
    own = _json(host, "etcd status")
    if not own.get("leader") or own["leader"] == "0":
        yield Said("no leader", "one", about=_members(readings))
    for name, other in readings.hosts.items():
        if other is host or "etcd status" not in other.answers:
            continue
        try:
            there = _json(other, "etcd status")
        except Untold:
            continue
        if _differ(_header(own, "cluster_id"), _header(there, "cluster_id")):
            yield Said(f"in another cluster than {name}", "one cluster", about=(name,))
            continue
        if _differ(own.get("leader"), there.get("leader")):
            seen = f"it follows another leader than {name}"
            yield Said(seen, "one leader", about=(name,), state="warning")
        revisions = _number(_header(there, "revision")) - _number(_header(own, "revision"))
        entries = _number(there.get("raftIndex")) - _number(own.get("raftAppliedIndex"))
        # Up to 3.3 none tells what it has applied.
        entries = entries if "raftAppliedIndex" in own else 0
        for behind, what in ((revisions, "revisions"), (entries, "entries of raft")):
            if behind > _BEHIND:
                seen = f"{behind} {what} behind {name}"
                yield Said(seen, "the same", about=(name,), state="warning")
                break


def _header(status: Mapping[str, Any], name: str) -> Any:
    return (status.get("header") or {}).get(name)


def _differ(one: Any, other: Any) -> bool:
    """Whether two members tell, and not the same."""

    return one not in (None, "0") and other not in (None, "0") and one != other


def _number(value: Any) -> int:
    return int(value or 0)


def _members(readings: Readings) -> tuple[str, ...]:
    return tuple(name for name, host in readings.hosts.items() if host.is_a("etcd"))


def _json(host: Host, question: str) -> dict[str, Any]:
    answer = host.answer(question)
    try:
        found = json.loads(answer.text)
    except ValueError:
        raise Untold(f"{question}: {answer.text.strip()[:100] or 'no answer'}") from None
    return found if isinstance(found, dict) else {}
