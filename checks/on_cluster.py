"""Checks of what the API tells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.on_etcd import unwell
from pyinfra_kube.checks.readings import Host, Objects, Readings, told
from pyinfra_kube.facts.flannel import Lease

# Seconds after which a node's lease is late: what the controller manager waits.
_LATE = 40
# Seconds that may pass until something deleted is gone.
_GOING = 60
# The controller manager itself lists each group's resources, these too where a release has them.
_OF_CONTROLLERS = ("extensions/v1beta1:ingresses", "policy/v1beta1:podsecuritypolicies")
_CORDONED = "cordoned"
_OF_SERVICE = "kubernetes.io/service-name"
_OF_FLANNEL = "flannel.alpha.coreos.com"
_OF_KUBERNETES = ("node.kubernetes.io/", "node-role.kubernetes.io/")
_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")


def kubectl(host: Host, _: Readings) -> Iterator[Said]:
    """A host of the control plane that cannot ask its API."""
    ready = host.answers.get("ready")
    if ready and ready.code == 127:
        yield Said(ready.text.strip().rpartition("\n")[2] or "not there", "kubectl is there")


def api(host: Host, readings: Readings) -> Iterator[Said]:
    """An apiserver that is not ready."""
    if "ready" in host.answers:
        answer = host.answer("ready")
        bad = [line[3:].split()[0] for line in answer.text.splitlines() if line.startswith("[-]")]
        if not answer.good:
            said = answer.text.strip().rpartition("\n")[2][:200]
            seen = f"{', '.join(bad)} failed" if bad else said or "no answer"
            yield Said(seen, "ready", about=unwell(readings))


def registered(_: Host, readings: Readings) -> Iterator[Said]:
    """Planned nodes that did not register, and others that did."""
    nodes = _nodes(readings)
    for host in readings.hosts.values():
        if host.is_a("node") and host.wanted.node not in nodes:
            yield Said("it did not register", "registered", host.name, (host.name,))
    for name in sorted(nodes.keys() - {*readings.node_names}):
        yield Said("a node that the inventory lacks", "planned ones", name, state="warning")


def unregistered(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that were deleted while their kubelets ran, which register when they start."""
    nodes = _nodes(readings)
    for host in readings.hosts.values():
        if not host.is_a("node") or host.wanted.node in nodes or not host.units:
            continue
        unit = host.units.units.get("kubelet.service")
        asked = [one for name, one in host.answers.items() if _of_registering(name)]
        ran = host.units.now - unit.started if unit and unit.started else 0
        if ran > _LATE and len(asked) > 1 and all(one.good for one in asked):
            seen = f"kubelet has run for {ran:.0f} s, and its node is not there"
            yield Said(seen, "registered", host.name, (host.name,))


def _of_registering(question: str) -> bool:
    return question == "health of kubelet" or question.startswith("to api ")


def ready(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that are not Ready, or whose lease is late."""
    leases = {one["metadata"]["name"]: one for one in readings.objects.leases or ()}
    renewed = {
        host.name: str(spec["renewTime"])[:19]
        for host, _ in _planned(readings)
        if (spec := leases.get(host.wanted.node, {}).get("spec") or {}).get("renewTime")
    }
    late = {
        name: seconds
        for name, at in renewed.items()
        if (seconds := readings.objects.now - datetime.fromisoformat(f"{at}+00:00").timestamp())
        > _LATE
    }
    # Where every lease is late, nobody could write them.
    writers = _writers(readings) if len(late) == len(renewed) else ()
    for host, node in _planned(readings):
        condition = conditions(node).get("Ready") or {}
        if condition.get("status") != "True":
            said = condition.get("message") or condition.get("reason") or "never Ready"
            if readings.network == "none" and "cni" in said.lower():
                continue
            yield Said(f"not Ready: {said[:160]}", "Ready", host.name, (host.name,))
        elif host.name in late:
            seen = f"its lease was renewed {late[host.name]:.0f} s ago"
            yield Said(seen, f"within {_LATE} s", host.name, (host.name, *writers))


def _writers(readings: Readings) -> tuple[str, ...]:
    """The hosts that keep what the API is told."""

    return tuple(
        h.name for h in readings.hosts.values() if h.is_a("control_plane") or h.is_a("etcd")
    )


def pressure(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that lack disk, memory or processes."""
    for host, node in _planned(readings):
        for kind in _PRESSURES:
            condition = conditions(node).get(kind) or {}
            if condition.get("status") == "True":
                yield Said(kind, "none", host.name, (host.name,))


def cordoned(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that take no new pods."""
    closed = [(host, why) for host, node in _planned(readings) if (why := _closed(node))]
    if closed and len(closed) == len(_planned(readings)):
        about = tuple(host.name for host, _ in closed)
        seen = f"every node is {closed[0][1]}"
        yield Said(seen, "nodes that are open for pods", closed[0][0].wanted.node, about)
        return
    for host, why in closed:
        # Others may keep a node for their own pods.
        if why == _CORDONED:
            yield Said(why, "open for pods", host.wanted.node, (host.name,), "warning")


def _closed(node: Mapping[str, Any]) -> str:
    """What keeps ordinary pods from a node."""

    spec = node.get("spec") or {}
    for one in spec.get("taints") or ():
        if one.get("effect") != "PreferNoSchedule" and not one["key"].startswith(_OF_KUBERNETES):
            return f"tainted {one['key']}={one.get('value', '')}:{one['effect']}"
    return _CORDONED if spec.get("unschedulable") else ""


def node_cidr(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes with another pod CIDR than planned."""
    for host, node in _planned(readings):
        wanted, found = host.wanted.pod_cidr, (node.get("spec") or {}).get("podCIDR", "")
        planned = wanted and readings.network != "none" and not host.wanted.leased
        if planned and found != wanted:
            yield Said(found or "none", wanted, host.wanted.node, (host.name,))


def node_address(_: Host, readings: Readings) -> Iterator[Said]:
    """Nodes that registered with another address."""
    for host, node in _planned(readings):
        addresses = _addresses(node)
        if host.wanted.address and addresses and host.wanted.address not in addresses:
            yield Said(addresses[0], host.wanted.address, host.wanted.node, (host.name,))


def services(_: Host, readings: Readings) -> Iterator[Said]:
    """Parts of the API that others serve, and that do not answer."""
    for one in readings.objects.services or ():
        available = conditions(one).get("Available") or {}
        if available.get("status") == "False":
            seen, about = str(available.get("message"))[:200], _serving(one, readings)
            # Who lacks the service itself waits for nothing.
            chosen = available.get("reason") == "ServiceNotFound"
            yield Said(seen, "available", one["metadata"]["name"], about, chosen=chosen)


def _serving(one: Mapping[str, Any], readings: Readings) -> tuple[str, ...]:
    """The hosts of the pods that serve a part of the API, by the name of their service."""

    service = (one.get("spec") or {}).get("service") or {}
    name, space = str(service.get("name")), service.get("namespace")
    found = {
        readings.host_of(pod["spec"]["nodeName"]): None
        for pod in readings.objects.pods or ()
        if pod["metadata"].get("namespace") == space and (pod.get("spec") or {}).get("nodeName")
        if name in (pod["metadata"].get("labels") or {}).values()
        or pod["metadata"]["name"].startswith(f"{name}-")
    }
    return tuple(found)


def webhooks(_: Host, readings: Readings) -> Iterator[Said]:
    """Webhooks that nobody serves, and without whose word the API server takes nothing."""
    if readings.objects.slices is None:
        return
    for one in readings.objects.webhooks or ():
        for hook in one.get("webhooks") or ():
            service = (hook.get("clientConfig") or {}).get("service")
            if not service or hook.get("failurePolicy") == "Ignore":
                continue
            ends = _endpoints(service, readings.objects.slices)
            if not any((end.get("conditions") or {}).get("ready") is not False for end in ends):
                about = [readings.host_of(end["nodeName"]) for end in ends if end.get("nodeName")]
                seen = f"no ready pod is behind {service['namespace']}/{service['name']}"
                hosts = tuple(dict.fromkeys(about))
                # Behind a service that is gone no host serves anything.
                yield Said(seen, "one", one["metadata"]["name"], hosts, chosen=not hosts)
                break


def _endpoints(
    service: Mapping[str, Any], slices: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Who is behind a service, ready or not."""

    return [
        end
        for one in slices
        if one["metadata"].get("namespace") == service["namespace"]
        if (one["metadata"].get("labels") or {}).get(_OF_SERVICE) == service["name"]
        for end in one.get("endpoints") or ()
    ]


def deleted(_: Host, readings: Readings) -> Iterator[Said]:
    """Namespaces and pods that were deleted, and stay."""
    for one in readings.objects.namespaces or ():
        if _overdue(one, readings):
            why = [c["message"] for c in conditions(one).values() if c["status"] == "True"]
            seen = str(why[-1])[:200] if why else "it stays"
            name, about = one["metadata"]["name"], _holding(one["metadata"]["name"], readings)
            yield Said(seen, "gone", f"namespace {name}", about, "warning")
    for one in readings.objects.pods or ():
        if _overdue(one, readings):
            host = readings.host_of((one.get("spec") or {}).get("nodeName", ""))
            name = f"pod {one['metadata']['namespace']}/{one['metadata']['name']}"
            held = one["metadata"].get("finalizers") or ()
            seen = f"kept by {', '.join(held)}" if held else f"it stays on {host or 'no node'}"
            yield Said(seen, "gone", name, (host,) if host else (), "warning")


def _holding(space: str, readings: Readings) -> tuple[str, ...]:
    """The hosts that may keep a namespace: of pods that stay in it, or that serve the API."""

    pods = [
        readings.host_of((one.get("spec") or {}).get("nodeName", ""))
        for one in readings.objects.pods or ()
        if one["metadata"].get("namespace") == space and _overdue(one, readings)
    ]
    served = [
        host
        for one in readings.objects.services or ()
        if (conditions(one).get("Available") or {}).get("status") == "False"
        for host in _serving(one, readings)
    ]
    return tuple(dict.fromkeys(host for host in (*pods, *served) if host))


def _overdue(one: Mapping[str, Any], readings: Readings) -> bool:
    due = str(one["metadata"].get("deletionTimestamp") or "")[:19]
    if not due:
        return False
    return readings.objects.now > datetime.fromisoformat(f"{due}+00:00").timestamp() + _GOING


def rights(_: Host, readings: Readings) -> Iterator[Said]:
    """Components that may no longer do what they are there for."""
    if not readings.bound:
        return
    found = {
        one["metadata"]["name"]: one for one in told(readings.objects.bindings, "bindings of roles")
    }
    for name, user in readings.bound.items():
        subjects = found.get(name, {}).get("subjects") or ()
        if not any(one.get("name") == user for one in subjects):
            seen = f"it does not have {user}" if name in found else "not there"
            yield Said(seen, f"a binding that has {user}", name)


def deprecated(_: Host, readings: Readings) -> Iterator[Said]:
    """Uses of APIs that a later release has no more."""
    for one in told(readings.objects.deprecated, "the apiserver's metrics"):
        if one.partition(",")[0] in _OF_CONTROLLERS:
            continue
        yield Said("in use", "what later releases have, too", one, state="warning")


def conditions(one: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """
    Give the conditions of an object by their type.

    + one: the object
    """
    return {c["type"]: c for c in (one.get("status") or {}).get("conditions") or ()}


def leases_of(nodes: Sequence[Mapping[str, Any]]) -> list[Lease]:
    """
    Give what flannel took from the API, where it has no leases of its own.

    + nodes: objects
    """
    found = []
    for node in nodes:
        notes = node["metadata"].get("annotations") or {}
        address = notes.get(f"{_OF_FLANNEL}/public-ip") or next(iter(_addresses(node)), "")
        data = json.loads(notes.get(f"{_OF_FLANNEL}/backend-data") or "null") or {}
        if cidr := (node.get("spec") or {}).get("podCIDR"):
            found.append(Lease(cidr, address, vtep_mac=str(data.get("VtepMAC", "")).lower()))
    return found


def _addresses(node: Mapping[str, Any]) -> list[str]:
    addresses = (node.get("status") or {}).get("addresses") or []
    return [one["address"] for one in addresses if one["type"] == "InternalIP"]


def _nodes(readings: Readings) -> dict[str, Mapping[str, Any]]:
    return {one["metadata"]["name"]: one for one in told(readings.objects.nodes, "nodes")}


def _planned(readings: Readings) -> list[tuple[Host, Mapping[str, Any]]]:
    nodes = _nodes(readings)
    return [
        (host, nodes[host.wanted.node])
        for host in readings.hosts.values()
        if host.is_a("node") and host.wanted.node in nodes
    ]


def objects_of(
    answers: Mapping[str, Any], sets: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> Objects:
    """
    Read what the API answered to one host.

    + answers: of that host, by the name of the question
    + sets: the objects that it was asked for, as they are to be: ``own``, ``addons``, ``users``
    """

    def items(name: str, whole: bool = False) -> list[Any] | None:
        answer = answers.get(name)
        if not answer or not answer.good:
            return None
        try:
            # kubectl may say something before.
            said = json.loads(answer.text[answer.text.index("{") :])
            more = (said.get("metadata") or {}).get("continue")
            return None if whole and more else list(said.get("items") or [])
        except ValueError:
            return None

    now = answers["now"].text.strip() if "now" in answers else ""
    metrics = answers.get("deprecated")
    return Objects(
        nodes=items("nodes"),
        leases=items("leases"),
        pods=items("pods"),
        policies=items("policies"),
        deployments=items("deployments"),
        services=items("services"),
        namespaces=items("namespaces"),
        bindings=items("bindings"),
        webhooks=[
            *(items("validating webhooks") or ()),
            *(items("mutating webhooks") or ()),
        ],
        slices=items("slices", whole=True),
        now=float(now or 0),
        deprecated=metrics.text.split() if metrics and metrics.good else None,
        **{name: _pairs(answers.get(f"{name} objects"), one) for name, one in (sets or {}).items()},
    )


def _pairs(answer: Any, wanted: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    """Each object as it is to be and as it is, where the API told."""

    return [
        (one, json.loads(line) if line.startswith("{") else None)
        for one, line in zip(wanted, answer.text.splitlines() if answer else (), strict=False)
        if line.startswith("{") or "NotFound" in line
    ]
