"""Checks of what the API tells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Objects, Readings, told
from pyinfra_kube.cluster.releases import minor_of

# Seconds after which a node's lease is late: what the controller manager waits.
_LATE = 40
_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")


def api(host: Host, _: Readings) -> Iterator[Said]:
    """An apiserver that is not ready."""
    if "ready" in host.answers:
        answer = host.answer("ready")
        bad = [line[3:].split()[0] for line in answer.text.splitlines() if line.startswith("[-]")]
        if not answer.good:
            said = answer.text.strip().rpartition("\n")[2][:200]
            yield Said(f"{', '.join(bad)} failed" if bad else said or "no answer", "ready")


def registered(_: Host, readings: Readings) -> Iterator[Said]:
    """Planned nodes that did not register, and others that did."""
    nodes = _nodes(readings)
    for host in readings.hosts.values():
        if host.is_a("node") and host.wanted.node not in nodes:
            yield Said("it did not register", "registered", host.name, (host.name,))
    for name in sorted(nodes.keys() - {*readings.node_names}):
        yield Said("a node that the inventory lacks", "planned ones", name, state="warning")


def ready(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that are not Ready, or whose lease is late."""
    leases = {one["metadata"]["name"]: one for one in readings.objects.leases or ()}
    for host, node in _planned(readings):
        condition = _conditions(node).get("Ready") or {}
        if condition.get("status") != "True":
            said = condition.get("message") or condition.get("reason") or "never Ready"
            if readings.network == "none" and "cni" in said.lower():
                continue
            yield Said(f"not Ready: {said[:160]}", "Ready", host.name, (host.name,))
        elif renewed := (leases.get(host.wanted.node, {}).get("spec") or {}).get("renewTime"):
            late = (
                readings.objects.now - datetime.fromisoformat(renewed[:19] + "+00:00").timestamp()
            )
            if late > _LATE:
                seen = f"its lease was renewed {late:.0f} s ago"
                yield Said(seen, f"within {_LATE} s", host.name, (host.name,))


def pressure(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that lack disk, memory or processes."""
    for host, node in _planned(readings):
        for kind in _PRESSURES:
            condition = _conditions(node).get(kind) or {}
            if condition.get("status") == "True":
                yield Said(kind, "none", host.name, (host.name,))


def cordoned(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that take no new pods."""
    for host, node in _planned(readings):
        if (node.get("spec") or {}).get("unschedulable"):
            yield Said("cordoned", "open for pods", host.wanted.node, (host.name,), "warning")


def node_cidr(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes with another pod CIDR than planned."""
    for host, node in _planned(readings):
        wanted, found = host.wanted.pod_cidr, (node.get("spec") or {}).get("podCIDR", "")
        if wanted and readings.network == "routes" and found != wanted:
            yield Said(found or "none", wanted, host.wanted.node, (host.name,))


def node_address(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that registered with another address."""
    for host, node in _planned(readings):
        addresses = [
            one["address"]
            for one in (node.get("status") or {}).get("addresses") or []
            if one["type"] == "InternalIP"
        ]
        if host.wanted.address and addresses and host.wanted.address not in addresses:
            yield Said(addresses[0], host.wanted.address, host.wanted.node, (host.name,))


def versions(_: Host, readings: Readings) -> Iterator[Said]:
    """kubelets of another release than planned, and those that Kubernetes does not allow."""
    wanted = minor_of(readings.version)
    for host, node in _planned(readings):
        info = (node.get("status") or {}).get("nodeInfo") or {}
        version = str(info.get("kubeletVersion", "")).removeprefix("v")
        if not version or version == readings.version:
            continue
        minor = minor_of(version)
        allowed = minor[0] == wanted[0] and 0 <= wanted[1] - minor[1] <= readings.skew
        state = "warning" if allowed else "failed"
        yield Said(version, readings.version, host.wanted.node, (host.name,), state)  # type: ignore[arg-type]


def deprecated(_: Host, readings: Readings) -> Iterator[Said]:
    """Uses of APIs that a later release has no more."""
    for one in told(readings.objects.deprecated, "the apiserver's metrics"):
        yield Said("in use", "what later releases have, too", one, state="warning")


def policies(_: Host, readings: Readings) -> Iterator[Said]:
    """Policies that keep pods from DNS, or CoreDNS from its clients."""
    for one in told(readings.objects.policies, "network policies"):
        spec, meta = one.get("spec") or {}, one["metadata"]
        kinds = spec.get("policyTypes") or ["Ingress"]
        chosen = (spec.get("podSelector") or {}).get("matchLabels") or {}
        name = f"{meta['namespace']}/{meta['name']}"
        serves = meta["namespace"] == "kube-system" and chosen in ({}, {"k8s-app": "kube-dns"})
        if "Ingress" in kinds and serves and not _allows_dns(spec.get("ingress")):
            yield Said("keeps clients from CoreDNS", "port 53 is allowed", name)
        elif (
            "Egress" in kinds and not _alone(one, readings) and not _allows_dns(spec.get("egress"))
        ):
            seen = "keeps its pods from DNS"
            yield Said(seen, "port 53 is allowed", name, state="warning")


def _alone(one: Mapping[str, Any], readings: Readings) -> bool:
    """Whether another policy of the namespace lets DNS pass."""
    return any(
        other["metadata"]["namespace"] == one["metadata"]["namespace"]
        and other is not one
        and _allows_dns((other.get("spec") or {}).get("egress"))
        for other in readings.objects.policies or ()
    )


def _allows_dns(rules: Sequence[Mapping[str, Any]] | None) -> bool:
    for rule in rules or ():
        ports = rule.get("ports")
        if not ports or any(one.get("port") in (None, 53, "dns", "dns-tcp") for one in ports):
            return True
    return False


def dns_runs(_: Host, readings: Readings) -> Iterator[Said]:
    """Whether a pod of CoreDNS is ready."""
    if not readings.dns:
        return
    pods = [one for one in _pods(readings) if _labels(one).get("k8s-app") == "kube-dns"]
    hosts = tuple(readings.host_of(one["spec"].get("nodeName", "")) for one in pods)
    if not pods:
        yield Said("no pod of CoreDNS", "one or more")
    elif not any(_is_ready(one) for one in pods):
        yield Said(_why(pods[0]), "ready", about=hosts)


def pods_ready(_: Host, readings: Readings) -> Iterator[Said]:
    """Pods that are not ready: those of the cluster itself, and of others as a warning."""
    for one in _pods(readings):
        phase = (one.get("status") or {}).get("phase")
        if phase == "Succeeded" or _is_ready(one) or one["metadata"].get("deletionTimestamp"):
            continue
        space = one["metadata"]["namespace"]
        host = readings.host_of((one.get("spec") or {}).get("nodeName", ""))
        # Without a network of ours, pods wait for that of their owner.
        ours = space == "kube-system" and readings.network != "none"
        state = "failed" if ours else "warning"
        yield Said(
            _why(one),
            "ready",
            f"{space}/{one['metadata']['name']}",
            (host,) if host else (),
            state,  # type: ignore[arg-type]
        )


def _why(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or ():
        for state in (one.get("state") or {}).values():
            if state.get("reason"):
                return f"{one['name']}: {state['reason']}"
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return str(scheduled.get("message") or "not scheduled")[:160]
    return f"{status.get('phase', 'unknown')}, not ready"


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return (_conditions(pod).get("Ready") or {}).get("status") == "True"


def _labels(one: Mapping[str, Any]) -> Mapping[str, str]:
    return one["metadata"].get("labels") or {}


def _conditions(one: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {c["type"]: c for c in (one.get("status") or {}).get("conditions") or ()}


def _pods(readings: Readings) -> Sequence[Mapping[str, Any]]:
    return told(readings.objects.pods, "pods")


def _nodes(readings: Readings) -> dict[str, Mapping[str, Any]]:
    return {one["metadata"]["name"]: one for one in told(readings.objects.nodes, "nodes")}


def _planned(readings: Readings) -> list[tuple[Host, Mapping[str, Any]]]:
    nodes = _nodes(readings)
    return [
        (host, nodes[host.wanted.node])
        for host in readings.hosts.values()
        if host.is_a("node") and host.wanted.node in nodes
    ]


def objects_of(answers: Mapping[str, Any]) -> Objects:
    """
    Read what the API answered to one host.

    + answers: of that host, by the name of the question
    """

    def items(name: str) -> list[Any] | None:
        answer = answers.get(name)
        if not answer or not answer.good:
            return None
        try:
            # kubectl may say something before.
            return list(json.loads(answer.text[answer.text.index("{") :]).get("items") or [])
        except ValueError:
            return None

    now = answers["now"].text.strip() if "now" in answers else ""
    metrics = answers.get("deprecated")
    return Objects(
        nodes=items("nodes"),
        leases=items("leases"),
        pods=items("pods"),
        policies=items("policies"),
        now=float(now or 0),
        deprecated=metrics.text.split() if metrics and metrics.good else None,
    )
