"""Checks of what the cluster runs in pods, and of what keeps pods out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.on_cluster import conditions
from pyinfra_kube.checks.readings import Host, Pairs, Readings, Untold, told

_GONE = "not there"
_SECOND = "mv {of} out of the folder: kubelet reads every file there"


def images(host: Host, _: Readings) -> Iterator[Said]:
    """Images that the host needs and does not have."""
    held = told(host.images, "its images")
    if host.wanted.images and held.runtime != host.wanted.runtime:
        raise Untold(f"{host.wanted.runtime} does not tell its images")
    for name in host.wanted.images:
        if name not in held.ids:
            yield Said("not there", "there: it cannot be pulled where no registry has it", name)


def manifests(host: Host, _: Readings) -> Iterator[Said]:
    """Manifests of static pods that are not those of the plan."""
    found = told(host.pods, "its manifests").manifests
    for path, digest in host.wanted.manifests.items():
        if path not in found:
            yield Said("not there", "the plan's", path)
        elif found[path] != digest:
            yield Said("changed", "the plan's", path)
    for path in sorted(found.keys() - host.wanted.manifests.keys()):
        if path.rpartition("/")[2].partition(".")[0] in host.wanted.pods:
            yield Said("a second manifest, which kubelet runs too", "one", path, mend=_SECOND)


def static_pods(host: Host, _: Readings) -> Iterator[Said]:
    """Static pods that do not run."""
    pods = told(host.pods, "its pods")
    if host.wanted.pods and pods.runtime != host.wanted.runtime:
        raise Untold(f"{host.wanted.runtime} does not tell its containers")
    for component in host.wanted.pods:
        containers = [one for one in pods.of(component) if one.container == component]
        if not any(one.running for one in containers):
            last = f"ended with {containers[0].exit_code}" if containers else "it never ran"
            yield Said(f"no container runs; {last}", "running", component)


def fresh(host: Host, _: Readings) -> Iterator[Said]:
    """Static pods that were started before what they read last changed."""
    pods, units = told(host.pods, "its pods"), told(host.units, "its files")
    for component in host.wanted.pods:
        for one in pods.of(component):
            if one.running and one.container == component:
                paths = host.wanted.reads.get(component, ())
                for path in units.changed_since(one.started, paths)[:1]:
                    seen = f"{path} changed after it started"
                    yield Said(seen, "a restart since", component, state="warning")


def pinned_images(host: Host, readings: Readings) -> Iterator[Said]:
    """Images that are not those of the archives or the digests that were given."""
    held = host.images.ids if host.images else {}
    found = {
        name: f"the host has {_short(held[name])}"
        for name, ids in host.wanted.image_ids.items()
        if held.get(name) and _bare(held[name]) not in ids
    }
    for pod, name, running in _running_images(host, readings):
        # Of a registry's image the runtime tells the digest, of an archive's its id.
        of_registry = "@" in running
        pinned = (host.wanted.image_digests if of_registry else host.wanted.image_ids).get(name)
        if pinned and _bare(running) not in pinned:
            found.setdefault(name, f"{pod} runs {_short(running)}")
    for name, seen in found.items():
        yield Said(seen, "the image that was given", name)


def _running_images(host: Host, readings: Readings) -> Iterator[tuple[str, str, str]]:
    """Pod, image and id of the image, of each container on a node."""
    for pod in readings.objects.pods or ():
        if (pod.get("spec") or {}).get("nodeName") != host.wanted.node:
            continue
        images = {one["name"]: one["image"] for one in pod["spec"].get("containers") or ()}
        for one in (pod.get("status") or {}).get("containerStatuses") or ():
            if one.get("imageID") and "running" in (one.get("state") or {}):
                yield pod["metadata"]["name"], images.get(one["name"], ""), one["imageID"]


def _bare(digest: str) -> str:
    return digest.rpartition("sha256:")[2]


def _short(digest: str) -> str:
    return _bare(digest)[:12]


def same_images(host: Host, readings: Readings) -> Iterator[Said]:
    """Images that have another digest than on other hosts."""
    own = told(host.images, "its images").ids
    told_of = [(one.name, one.images.ids) for one in readings.hosts.values() if one.images]
    for name in host.wanted.images:
        digests = Counter(held[name] for _, held in told_of if held.get(name))
        common = next(iter(digests.most_common(1)), ("", 0))[0]
        if own.get(name) not in (None, "", common):
            where = next(other for other, held in told_of if held.get(name) == common)
            yield Said(f"another image than on {where}", "the same", name, state="warning")


# -- Objects of the API ---------------------------------------------------------------------------


def objects(_: Host, readings: Readings) -> Iterator[Said]:
    """Objects of CoreDNS that somebody changed or deleted."""
    return _changed(readings.objects.own)


def access(_: Host, readings: Readings) -> Iterator[Said]:
    """Objects that let components use the API, that somebody changed or deleted."""
    yield from _changed(readings.objects.access)


def addons(_: Host, readings: Readings) -> Iterator[Said]:
    """Objects of other add-ons that somebody changed or deleted, and of the user's manifests."""
    yield from _changed(readings.objects.addons)
    for one in _changed(readings.objects.users):
        # Controllers change some of them, and what is in them may be nobody else's business.
        there = one.seen != _GONE
        shown = f"{one.seen.split()[0]} was changed" if there else _GONE
        yield one._replace(seen=shown, state="warning" if there else "failed")


def _changed(pairs: Pairs) -> Iterator[Said]:
    for wanted, found in pairs:
        space = wanted["metadata"].get("namespace")
        subject = f"{wanted['kind']} {wanted['metadata']['name']}"
        if found is None:
            look = f"{'{of}'} --namespace={space}" if space else "{of}"
            yield Said(_GONE, "there", subject, look=f"kubectl get {look}")
        # The values of a secret are not asked for.
        elif wanted["kind"] != "Secret" and (differs := _differs(wanted, found)):
            yield Said(differs, "the plan's", subject)


def _differs(wanted: Any, found: Any, path: str = "") -> str:
    """The first field of what is wanted that is not so; what else there is, others may have set."""

    # The API leaves out what is empty, and writes quantities its own way.
    if (not wanted and found is None) or _same_quantity(wanted, found):
        return ""
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(wanted, dict) and isinstance(found, dict):
        parts = [(value, found.get(key), f"{path}.{key}") for key, value in wanted.items()]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        parts = [(*pair, f"{path}[{n}]") for n, pair in enumerate(zip(wanted, found, strict=True))]
    elif wanted != found:
        short = f"is {found}" if len(str(found)) < 60 else "was changed"
        return f"{path[1:]} {short}"
    return next((said for part in parts if (said := _differs(*part))), "")


_SUFFIXES = {
    **{"": Decimal(1), "m": Decimal("0.001")},
    **{word: Decimal(10) ** (3 * n) for n, word in enumerate("kMGT", 1)},
    **{f"{word}i": Decimal(2) ** (10 * n) for n, word in enumerate("KMGT", 1)},
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([mkMGT]|[KMGT]i)?")


def _same_quantity(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, bool) or not isinstance(wanted, (str, int, float)):
        return False
    read = [_QUANTITY.fullmatch(str(one)) for one in (wanted, found)]
    values = [Decimal(one[1]) * _SUFFIXES[one[2] or ""] for one in read if one]
    return len(values) == 2 and values[0] == values[1]


def made(_: Host, readings: Readings) -> Iterator[Said]:
    """Deployments whose pods the API server refuses: a quota, a webhook, a missing account."""
    for one in readings.objects.deployments or ():
        failure = conditions(one).get("ReplicaFailure") or {}
        if failure.get("status") == "True":
            space, name = one["metadata"]["namespace"], one["metadata"]["name"]
            state = "failed" if space == "kube-system" else "warning"
            seen = str(failure.get("message"))[:300]
            chosen = "failed calling webhook" not in seen
            yield Said(seen, "its pods are taken", f"{space}/{name}", (), state, chosen=chosen)  # type: ignore[arg-type]


def dns_runs(_: Host, readings: Readings) -> Iterator[Said]:
    """Whether a pod of CoreDNS is ready."""
    if not readings.dns:
        return
    pods = [
        one
        for one in _pods(readings)
        if _labels(one).get("k8s-app") == "kube-dns" and not _is_given_up(one)
    ]
    names = {one["spec"]["nodeName"] for one in pods if one["spec"].get("nodeName")}
    hosts = tuple(readings.host_of(name) for name in sorted(names))
    if not pods:
        # The controller manager makes them.
        yield Said("no pod of CoreDNS", "one or more", about=readings.control_plane)
    elif not any(_is_ready(one) for one in pods):
        yield Said(_why(pods[0]), "ready", about=hosts or _waited_for(pods[0], readings))


def pods_ready(_: Host, readings: Readings) -> Iterator[Said]:
    """Pods that are not ready: those of the cluster itself, and of others as a warning."""
    for one in _pods(readings):
        phase = (one.get("status") or {}).get("phase")
        if phase == "Succeeded" or _is_ready(one) or one["metadata"].get("deletionTimestamp"):
            continue
        if _is_given_up(one):
            continue
        space = one["metadata"]["namespace"]
        node = (one.get("spec") or {}).get("nodeName", "")
        about = (readings.host_of(node),) if node else _waited_for(one, readings)
        # Without a network of ours, pods wait for that of their owner.
        ours = space == "kube-system" and readings.network != "none"
        state = "failed" if ours else "warning"
        yield Said(
            _why(one),
            "ready",
            f"{space}/{one['metadata']['name']}",
            about,
            state,  # type: ignore[arg-type]
        )


def _is_given_up(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended for good, such as an evicted one, and its controller makes others."""

    owners = pod["metadata"].get("ownerReferences") or ()
    failed = (pod.get("status") or {}).get("phase") == "Failed"
    return failed and any(one.get("controller") and one["kind"] != "Node" for one in owners)


def _waited_for(pod: Mapping[str, Any], readings: Readings) -> tuple[str, ...]:
    """The hosts that may keep a pod from being scheduled."""

    said = str((conditions(pod).get("PodScheduled") or {}).get("message") or "")
    # A pod may also ask for what no node ever had.
    return () if said and "taint" not in said and "schedulable" not in said else (*readings.hosts,)


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
    return (conditions(pod).get("Ready") or {}).get("status") == "True"


def _labels(one: Mapping[str, Any]) -> Mapping[str, str]:
    return one["metadata"].get("labels") or {}


def _pods(readings: Readings) -> Sequence[Mapping[str, Any]]:
    return told(readings.objects.pods, "pods")
