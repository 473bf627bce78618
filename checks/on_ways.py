"""Checks of the ways that packets take: who gets an answer from whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from netaddr import IPAddress, IPNetwork

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Readings

# Percent of packets between two hosts that may be lost: one of twenty.
_LOST = 5


def proxies(host: Host, _: Readings) -> Iterator[Said]:
    """Components that would ask the API through a proxy."""
    found: dict[str, dict[str, str]] = {}
    for line in host.answer("proxies").text.splitlines():
        component, name, value = line.split(" ", 2)
        found.setdefault(component, {})[name.lower()] = value
    for path, server in host.wanted.servers.items():
        url = urlsplit(server)
        for component, said in found.items():
            direct = said.get("no_proxy", "").split(",")
            asks = component in path and f"{url.scheme}_proxy" in said
            if asks and not any(_is_of(url.hostname or "", one.strip()) for one in direct):
                subject = f"{component}.service"
                yield Said(f"{url.scheme}_proxy is set", f"no_proxy has {url.hostname}", subject)


def _is_of(host: str, pattern: str) -> bool:
    """Whether a host is one that ``no_proxy`` names."""
    if "/" in pattern and host[0].isdigit():
        return IPAddress(host) in IPNetwork(pattern)
    name = pattern.partition(":")[0].lstrip(".")
    return pattern == "*" or host == name or (bool(name) and host.endswith(f".{name}"))


def hosts_reached(host: Host, _: Readings) -> Iterator[Said]:
    """Hosts that do not get an answer from each other."""
    return _ways(host, "host")


def packets_lost(host: Host, readings: Readings) -> Iterator[Said]:
    """Hosts some of whose packets do not arrive: the one that has to do with most of the losses."""
    for question in host.answers:
        if question.startswith("to loss "):
            host.answer(question)
    lost = _losses(readings)
    own = {pair: share for pair, share in lost.items() if host.name in pair}
    peers = [next(iter(pair - {host.name})) for pair in own]
    many = {name for name in readings.hosts if sum(name in pair for pair in lost) > 1}
    if host.name in many:
        seen = f"{max(own.values()):g} % of packets from or to {', '.join(peers)} are lost"
        yield Said(seen, "none", about=tuple(peers), look=f"ping -c 50 {peers[0]}")
        return
    for peer, (pair, share) in zip(peers, own.items(), strict=True):
        first = next(name for name in readings.hosts if name in pair)
        # Else the other one says it.
        if first == host.name and peer not in many:
            yield Said(f"{share:g} % of packets are lost", "none", peer, (peer,))


def _losses(readings: Readings) -> dict[frozenset[str], float]:
    """The greatest share of packets that was lost between two hosts, where it is too great."""
    found: dict[frozenset[str], float] = {}
    for host in readings.hosts.values():
        for question in (name for name in host.answers if name.startswith("to loss ")):
            share = re.search(r"([\d.]+)% packet loss", host.answers[question].text)
            # Who answers no ping at all may not want to.
            if share and _LOST < float(share[1]) < 100:
                pair = frozenset({host.name, question.split(" ")[2]})
                found[pair] = max(found.get(pair, 0), float(share[1]))
    return found


def api_reached(host: Host, readings: Readings) -> Iterator[Said]:
    """Hosts that do not reach the API."""
    return (one._replace(about=readings.control_plane) for one in _ways(host, "api"))


def service_reached(host: Host, readings: Readings) -> Iterator[Said]:
    """Hosts from which the API's service does not answer."""
    return (one._replace(about=readings.control_plane) for one in _ways(host, "service"))


def pods_reached(host: Host, _: Readings) -> Iterator[Said]:
    """Pods that do not get an answer from each other."""
    return _ways(host, "pods")


def kubelets_asked(host: Host, _: Readings) -> Iterator[Said]:
    """Kubelets that give the apiserver no answer."""
    return _ways(host, "kubelet")


def registries(host: Host, _: Readings) -> Iterator[Said]:
    """Mirrors of registries that do not answer."""
    return (one._replace(state="warning") for one in _ways(host, "registry"))


def log_receiver(host: Host, _: Readings) -> Iterator[Said]:
    """A receiver of logs that takes none; what it did not take is kept for a while."""
    return (one._replace(state="warning") for one in _ways(host, "logs"))


def _ways(host: Host, kind: str) -> Iterator[Said]:
    """The questions of a kind: ``to KIND TARGET`` or ``to KIND TARGET DETAIL``."""
    asked = [name for name in host.answers if name.startswith(f"to {kind} ")]
    for name in asked:
        _, _, target, *detail = name.split(" ", 3)
        answer = host.answer(name)
        if not answer.good:
            seen = answer.text.strip().rpartition("\n")[2].rpartition(": ")[2] or "no answer"
            text = f"{target} {detail[0]}" if detail else target
            yield Said(seen, "an answer", text, (target,))


def dns(host: Host, readings: Readings, kind: str) -> Iterable[Said]:
    """
    Give the servers of the cluster's DNS that do not answer.

    + kind: ``dns-pod`` or ``dns-service``
    """
    places = tuple(
        readings.host_of(pod["spec"].get("nodeName", ""))
        for pod in readings.objects.pods or ()
        if (pod["metadata"].get("labels") or {}).get("k8s-app") == "kube-dns"
    )
    for one in _ways(host, kind):
        yield one._replace(about=one.about if kind == "dns-pod" else places)


def dns_pods(host: Host, readings: Readings) -> Iterable[Said]:
    """Pods of CoreDNS that do not answer a host."""
    return dns(host, readings, "dns-pod")


def dns_service(host: Host, readings: Readings) -> Iterable[Said]:
    """Hosts from which the service of DNS does not answer."""
    return dns(host, readings, "dns-service")


def dns_node(host: Host, _: Readings) -> Iterator[Said]:
    """A DNS cache that does not answer the pods of its node."""
    return _ways(host, "dns-node")
