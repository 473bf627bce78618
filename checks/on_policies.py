"""Checks of policies that keep pods from DNS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netaddr import IPNetwork

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Readings, told

_Object = Mapping[str, Any]
_SYSTEM, _COREDNS = "kube-system", {"k8s-app": "kube-dns"}
_NAMED = (None, "dns", "dns-tcp")


def policies(_: object, readings: Readings) -> Iterator[Said]:
    """Policies that keep pods from DNS, or CoreDNS from its clients: those of a pod add up."""

    every = told(readings.objects.policies, "network policies")
    yield from _of_coredns([one for one in every if _is_about(one, "Ingress")], readings)
    outwards = [one for one in every if _is_about(one, "Egress")]
    for one in outwards:
        space, name = _space(one), one["metadata"]["name"]
        beside = [other for other in outwards if _space(other) == space]
        if any(not _reaches_dns(beside, labels, readings) for labels in _chosen(one, readings)):
            seen = "keeps its pods from DNS"
            yield Said(seen, "port 53 is allowed", f"{space}/{name}", state="warning")


def _of_coredns(every: Sequence[_Object], readings: Readings) -> Iterator[Said]:
    """Whether those that choose CoreDNS together let the pods of every namespace ask it."""

    found = [one for one in every if _space(one) == _SYSTEM and _selects(_pods(one), _COREDNS)]
    rules = [rule for one in found for rule in one["spec"].get("ingress") or () if _on_53(rule)]
    spaces = _spaces(readings)
    kept = [name for name in spaces if not any(_lets_in(rule, name, readings) for rule in rules)]
    if found and kept:
        names = ", ".join(f"{_SYSTEM}/{one['metadata']['name']}" for one in found)
        # Some may be kept out on purpose.
        state = "failed" if len(kept) == len(spaces) else "warning"
        some = "clients" if state == "failed" else f"those in {', '.join(kept[:5])}"
        yield Said(f"keeps {some} from CoreDNS", "port 53 is allowed", names, state=state)  # type: ignore[arg-type]


def _lets_in(rule: _Object, space: str, readings: Readings) -> bool:
    """Whether a rule of CoreDNS lets all pods of a namespace in."""

    peers = rule.get("from")
    return not peers or any(
        _has_pods(peer["ipBlock"], readings)
        if "ipBlock" in peer
        else not _asks(peer.get("podSelector"))
        and _is_in(peer, space, home=_SYSTEM, readings=readings)
        for peer in peers
    )


def _reaches_dns(every: Sequence[_Object], labels: _Object, readings: Readings) -> bool:
    """Whether the policies of a namespace let a pod of it ask CoreDNS."""

    return any(
        _on_53(rule) and (not rule.get("to") or any(_is_dns(p, one, readings) for p in rule["to"]))
        for one in every
        if _selects(_pods(one), labels)
        for rule in one["spec"].get("egress") or ()
    )


def _is_dns(peer: _Object, policy: _Object, readings: Readings) -> bool:
    if "ipBlock" in peer:
        # Its address, or that of a cache.
        return True
    there = _is_in(peer, _SYSTEM, home=_space(policy), readings=readings)
    return there and _selects(peer.get("podSelector"), _COREDNS)


def _is_in(peer: _Object, space: str, home: str, readings: Readings) -> bool:
    """Whether a peer is of a namespace; without a selector it is of the policy's own."""

    if "namespaceSelector" not in peer:
        return space == home
    return _selects(peer["namespaceSelector"], _spaces(readings).get(space, {}))


def _has_pods(block: _Object, readings: Readings) -> bool:
    pods = readings.cluster_cidr
    return bool(pods) and not block.get("except") and IPNetwork(pods) in IPNetwork(block["cidr"])


def _on_53(rule: _Object) -> bool:
    ports = rule.get("ports")
    return not ports or any(
        port in _NAMED
        if not isinstance(port := one.get("port"), int)
        else port <= 53 <= (one.get("endPort") or port)
        for one in ports
    )


def _chosen(policy: _Object, readings: Readings) -> list[_Object]:
    """The labels of the pods that a policy is for; where none runs, those that it asks for."""

    found = [
        labels
        for pod in readings.objects.pods or ()
        if pod["metadata"].get("namespace") == _space(policy)
        and not (pod.get("spec") or {}).get("hostNetwork")
        and _selects(_pods(policy), labels := pod["metadata"].get("labels") or {})
    ]
    return found or [(_pods(policy) or {}).get("matchLabels") or {}]


def _spaces(readings: Readings) -> dict[str, _Object]:
    """The labels of each namespace."""

    known = readings.objects.namespaces or ()
    found = {one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in known}
    # Since 1.21 each has its name for a label.
    return {
        name: {"kubernetes.io/metadata.name": name, **found.get(name, {})}
        for name in (_SYSTEM, *found)
    }


def _is_about(policy: _Object, way: str) -> bool:
    return way in (policy["spec"].get("policyTypes") or ["Ingress"])


def _space(policy: _Object) -> str:
    return str(policy["metadata"]["namespace"])


def _pods(policy: _Object) -> _Object | None:
    found: _Object | None = policy["spec"].get("podSelector")
    return found


def _asks(selector: _Object | None) -> bool:
    return any((selector or {}).values())


def _selects(selector: _Object | None, labels: _Object) -> bool:
    wanted = (selector or {}).get("matchLabels") or {}
    expressions = (selector or {}).get("matchExpressions") or ()
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(one, labels) for one in expressions
    )


def _holds(one: _Object, labels: _Object) -> bool:
    there, values = one["key"] in labels, one.get("values") or ()
    operator, isin = one["operator"], labels.get(one["key"]) in values
    return {"In": isin, "NotIn": not isin, "Exists": there}.get(operator, not there)
