"""Checks of the pod network on a host, and of the ways that packets take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netaddr import IPNetwork

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Readings, Untold, told
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.firewall import obstacles, of_iptables
from pyinfra_kube.facts.iptables import Rule, Ruleset

# Chains whose rules see every packet of a pod that leaves.
_LEAVING = ("POSTROUTING", "FLANNEL-POSTRTG")


def plugins(host: Host, _: Readings) -> Iterator[Said]:
    """CNI's programs that are missing."""
    missing = [
        one for one in host.wanted.plugins if one not in told(host.cni, "its plugins").plugins
    ]
    if missing:
        yield Said(f"{', '.join(missing)} missing", "there")


def networks(host: Host, _: Readings) -> Iterator[Said]:
    """The network that the runtime gives to pods, if that is not ours."""
    wanted, found = host.wanted.network_file, told(host.cni, "its CNI networks").configurations
    if wanted and found[:1] != (wanted,):
        seen = f"{found[0]} comes first" if wanted in found else f"{wanted} is not there"
        yield Said(seen, f"{wanted} first", found[0] if found else wanted)


def bridge(host: Host, _: Readings) -> Iterator[Said]:
    """The pod bridge, and its address."""
    link = _bridge(host)
    if not link and host.wanted.bridge:
        yield Said("not there", host.wanted.bridge_address or "there", host.wanted.bridge)
    elif link:
        wanted = host.wanted.bridge_address
        if not link.up:
            yield Said("down", "up", link.name)
        elif wanted and wanted not in link.addresses:
            yield Said(", ".join(link.addresses) or "no address", wanted, link.name)


def bridge_mtu(host: Host, _: Readings) -> Iterator[Said]:
    """The MTU of the pod bridge."""
    link, wanted = _bridge(host), host.wanted.bridge_mtu
    if link and wanted and link.mtu != wanted:
        yield Said(f"MTU {link.mtu}", f"MTU {wanted}", link.name)


def twice(host: Host, _: Readings) -> Iterator[Said]:
    """Links other than the bridge that have an address of its network."""
    own = _network(host)
    if not own:
        return
    for name, link in told(host.links, "its links").items():
        others = [a for a in link.addresses if a.split("/")[1] != "32" and IPNetwork(a).cidr in own]
        if others and name != host.wanted.bridge and name != host.wanted.device:
            yield Said(f"{name} has {others[0]}", f"{host.wanted.bridge} alone has {own}", name)


def overlay(host: Host, _: Readings) -> Iterator[Said]:
    """The overlay's device, and whether its packets fit into those of the hosts."""
    links, wanted = told(host.links, "its links"), host.wanted
    if not wanted.device:
        return
    device = links.get(wanted.device)
    if not device or not device.up:
        yield Said("down" if device else "not there", "up", wanted.device)
        return
    below = [
        link
        for link in links.values()
        if any(one.startswith(f"{wanted.address}/") for one in link.addresses)
    ]
    if below and device.mtu > below[0].mtu - wanted.overhead:
        most = below[0].mtu - wanted.overhead
        yield Said(f"MTU {device.mtu} over {below[0].name}", f"at most {most}", wanted.device)
    bridge = links.get(wanted.bridge)
    if bridge and device.mtu < bridge.mtu:
        yield Said(f"MTU {device.mtu}", f"that of {bridge.name}, {bridge.mtu}", wanted.device)


def routes(host: Host, readings: Readings) -> Iterator[Said]:
    """Routes to the pods of other nodes."""
    found = told(host.routes, "its routes")
    owners = {one.wanted.address: name for name, one in readings.hosts.items()}
    for destination, via in host.wanted.routes:
        ways = [route for route in found if route.destination == destination]
        if not any(way.via == via for way in ways):
            seen = f"via {ways[0].via or ways[0].dev}" if ways else "no route"
            about = (owners[via],) if via in owners else ()
            mend = f"ip route replace {destination} via {via}"
            yield Said(seen, f"via {via}", destination, about, mend=mend)


def flannel_routes(host: Host, readings: Readings) -> Iterator[Said]:
    """Ways of flannel to the pods of other nodes."""
    if readings.network != "flannel" or not host.wanted.pod_cidr:
        return
    found = {route.destination for route in told(host.routes, "its routes")}
    for name, other in readings.hosts.items():
        cidr = other.wanted.pod_cidr
        if other is host or not cidr or not other.is_a("node") or other.silent:
            continue
        if cidr not in found and readings.cluster_cidr not in found and other.takes_part:
            yield Said("no route", f"through flannel to {name}", cidr, (name,))


def masquerade(host: Host, readings: Readings) -> Iterator[Said]:
    """Whether packets of pods get the host's address exactly once, and only outside the cluster."""
    pods, found = _network(host), _rules(host)
    if not host.wanted.masquerades or not pods:
        return
    leaving = [
        rule
        for rule in found.rules
        if rule.table == "nat"
        and rule.chain in _LEAVING
        and rule.target in ("MASQUERADE", "SNAT")
        and _of_pods(rule, pods)
    ]
    inside = [rule for rule in leaving if not _only_outside(rule, readings.cluster_cidr)]
    if inside:
        yield Said(f"{inside[0]} hides pods from each other", "only what leaves the cluster")
    elif len(leaving) != 1:
        yield Said("never" if not leaving else f"{len(leaving)} times", "once")


def _of_pods(rule: Rule, pods: IPNetwork) -> bool:
    """Whether packets of these pods that go to a far host meet a rule."""
    source = rule.value("-s")
    known = {"-s", "-d", "-o", "-j", "--dst-type", "--random-fully", "--comment", "", "-m"}
    return {option.name for option in rule.options} <= known and (
        not source or pods in IPNetwork(source) or IPNetwork(source) in pods
    )


def _only_outside(rule: Rule, cluster: str) -> bool:
    """Whether packets between pods pass a rule by."""
    for option in rule.options:
        if option.name == "-d" and option.negated and cluster:
            return IPNetwork(cluster) in IPNetwork(option.values[0])
        if option.name == "-o" and option.negated:
            return True
    return False


def firewall(host: Host, _: Readings) -> Iterator[Said]:
    """Rules of anybody that stop packets of the cluster."""
    chains = [*of_iptables(_rules(host)), *told(host.firewall, "its firewalls").chains]
    for one in obstacles(chains, host.wanted.packets):
        where = f"{one.chain.flavour}, table {one.chain.table}, chain {one.chain.name}"
        state = "failed" if one.certain else "warning"
        yield Said(f"{where}: {one.text}", "packets pass", where, state=state)  # type: ignore[arg-type]


def service_rules(host: Host, _: Readings) -> Iterator[Said]:
    """kube-proxy's rules."""
    asked = "kube-proxy" in host.wanted.units and "service rules" in host.answers
    if asked and not host.answer("service rules").text.strip():
        yield Said("there are none", "rules of kube-proxy")


def hosts_reached(host: Host, _: Readings) -> Iterator[Said]:
    """Hosts that do not get an answer from each other."""
    return _ways(host, "host")


def api_reached(host: Host, readings: Readings) -> Iterator[Said]:
    """Hosts that do not reach the API."""
    return (one._replace(about=readings.control_plane) for one in _ways(host, "api"))


def service_reached(host: Host, readings: Readings) -> Iterator[Said]:
    """Hosts from which the API's service does not answer."""
    return (one._replace(about=readings.control_plane) for one in _ways(host, "service"))


def pods_reached(host: Host, _: Readings) -> Iterator[Said]:
    """Pods that do not get an answer from each other."""
    return _ways(host, "pods")


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


def _bridge(host: Host) -> Link | None:
    return told(host.links, "its links").get(host.wanted.bridge)


def _network(host: Host) -> IPNetwork | None:
    """The network of the host's pods: as planned, or else that of the bridge."""
    link = _bridge(host)
    wanted = host.wanted.pod_cidr or next(iter(link.addresses if link else ()), "")
    return IPNetwork(wanted).cidr if wanted else None


def _rules(host: Host) -> Ruleset:
    rules = told(host.rules, "iptables' rules")
    if rules.error:
        raise Untold(f"iptables-save: {rules.error}")
    return rules


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
