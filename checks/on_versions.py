"""
Checks of the versions that run, by Kubernetes' `version skew policy
<https://kubernetes.io/releases/version-skew-policy/>`_.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Readings, told
from pyinfra_kube.cluster.releases import Minor, minor_of

_API = "kube-apiserver"
# How many minor releases each may be older than any apiserver; others as far as a kubelet.
_OLDER = {_API: 1, "kube-controller-manager": 1, "kube-scheduler": 1}
_NUMBER = re.compile(r"v([1-9]\d*\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?)")
_TAG = re.compile(r":v?(\d+\.\d+\.\d+[^@\s]*)(@.*)?$")


def components(host: Host, readings: Readings) -> Iterator[Said]:
    """Components of another version than planned, and those that do not go with the apiservers."""

    for component, version in _live(host, readings).items():
        yield from _said(component, version, component, (), readings)


def kubelets(_: Host, readings: Readings) -> Iterator[Said]:
    """The same of kubelets, as they say themselves."""

    nodes = {one["metadata"]["name"]: one for one in told(readings.objects.nodes, "nodes")}
    for host in readings.hosts.values():
        status = nodes.get(host.wanted.node, {}).get("status") or {}
        version = str((status.get("nodeInfo") or {}).get("kubeletVersion", "")).removeprefix("v")
        if version and host.is_a("node"):
            yield from _said("kubelet", version, host.wanted.node, (host.name,), readings)


def _said(
    component: str, version: str, subject: str, about: tuple[str, ...], readings: Readings
) -> Iterator[Said]:
    apis = _apiservers(readings)
    wrong = _wrong(component, minor_of(version), apis, readings.skew)
    if wrong:
        yield Said(version, wrong, subject, about)
    elif version != readings.version:
        yield Said(version, readings.version, subject, about, "warning")


def _wrong(component: str, minor: Minor, apis: dict[str, Minor], skew: int) -> str:
    """What the policy asks for instead; empty where a version goes with all apiservers."""

    oldest, newest = min(apis.values()), max(apis.values())
    older = _OLDER.get(component, skew)
    # Of two apiservers the older one says so.
    if component != _API and minor > oldest:
        return f"none newer than the apiservers: {_shown(oldest)} or older"
    if minor[0] != newest[0] or newest[1] - minor[1] > older:
        return f"at most {older} minor releases older than the apiservers, {_shown(newest)}"
    return ""


def _shown(minor: Minor) -> str:
    return f"{minor[0]}.{minor[1]}"


def _apiservers(readings: Readings) -> dict[str, Minor]:
    """The release of each apiserver that tells it; where none does, the planned one."""

    found = {
        host.name: minor_of(version)
        for host in readings.hosts.values()
        if (version := _live(host, readings).get(_API))
    }
    return found or {"": minor_of(readings.version)}


def _runs(host: Host, component: str) -> bool:
    """Not where the image that a static pod names is nowhere."""

    if component not in host.wanted.pods or not host.pods:
        return True
    containers = host.pods.of(component)
    return any(one.running for one in containers if one.container == component)


def _live(host: Host, readings: Readings) -> dict[str, str]:
    found = dict(host.versions)
    for pod in readings.objects.pods or ():
        spec, meta = pod.get("spec") or {}, pod["metadata"]
        component = meta["name"].removesuffix(f"-{host.wanted.node}")
        own = spec.get("nodeName") == host.wanted.node and meta.get("namespace") == "kube-system"
        if own and component in (_API, *_OLDER):
            for one in spec.get("containers") or ():
                if tag := _TAG.search(one.get("image", "")):
                    found[component] = tag[1]
    asked = host.answers.get("version")
    said = json.loads(asked.text)["gitVersion"] if asked and asked.good else ""
    # A build of one's own may not know it.
    if number := _NUMBER.match(str(said)):
        found[_API] = number[1]
    return {name: number for name, number in found.items() if _runs(host, name)}
