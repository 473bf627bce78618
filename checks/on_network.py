"""Checks of the pod network on a host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netaddr import IPNetwork

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Readings, Untold, told
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.firewall import obstacles, of_iptables
from pyinfra_kube.facts.iptables import Rule, Ruleset
from pyinfra_kube.facts.routes import Route

_NOWHERE = ("blackhole", "unreachable", "prohibit")
# Chains whose rules see every packet of a pod that leaves.
_LEAVING = ("POSTROUTING", "FLANNEL-POSTRTG")


def plugins(host: Host, _: Readings) -> Iterator[Said]:
    """CNI's programs that are missing."""
    missing = [
        one for one in host.wanted.plugins if one not in told(host.cni, "its plugins").plugins
    ]
    if missing:
        yield Said(f"{', '.join(missing)} missing, or not executable", "programs")


def addresses_left(host: Host, _: Readings) -> Iterator[Said]:
    """Whether CNI has an address for one more pod."""
    pods = _network(host)
    if host.wanted.network_file and pods:
        held = [one for one in host.answer("pods' addresses").text.split() if one[0].isdigit()]
        # The first, the bridge's and the last are no pod's.
        if len(held) >= pods.size - 3:
            yield Said(f"all {len(held)} are held", "some that are free", str(pods))


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
    elif link and not host.wanted.device and host.uplink and host.uplink.mtu < link.mtu:
        seen = f"MTU {host.uplink.mtu}, less than {link.name}'s"
        mend = f"ip link set {{of}} mtu 1500, or set bridge_mtu to {host.uplink.mtu} or less"
        yield Said(seen, f"at least {link.mtu}", host.uplink.name, mend=mend)


def twice(host: Host, readings: Readings) -> Iterator[Said]:
    """Links other than the bridge that have an address of pods."""
    own, bridge = _network(host), host.wanted.bridge
    if not own or not bridge:
        return
    networks = [own, *([IPNetwork(readings.cluster_cidr)] if readings.cluster_cidr else [])]
    for name, link in told(host.links, "its links").items():
        wide = (one for one in link.addresses if not one.endswith("/32"))
        others = [one for one in wide if any(IPNetwork(one).cidr in it for it in networks)]
        if others and name not in (bridge, host.wanted.device):
            yield Said(f"{name} has {others[0]}", f"{bridge} alone has one of pods", name)


def service_addresses(host: Host, readings: Readings) -> Iterator[Said]:
    """Links that have addresses of services, as a kube-proxy of another mode leaves them."""
    # Whoever serves services himself may put them anywhere.
    if not readings.service_cidr or readings.proxy_mode in ("ipvs", "none"):
        return
    services = IPNetwork(readings.service_cidr)
    for name, link in told(host.links, "its links").items():
        held = [one for one in link.addresses if IPNetwork(one).ip in services]
        if held:
            yield Said(f"it has {held[0]}", "no address of a service", name)


def hairpins(host: Host, _: Readings) -> Iterator[Said]:
    """Pods that get no packet of their own back from the bridge."""
    ports = _ports(host)
    off = [port for port, mode in ports.items() if mode == "0" and port.startswith("veth")]
    if off:
        seen = f"off for {len(off)} of {len(ports)} ports, such as {off[0]}"
        yield Said(seen, "on", host.wanted.bridge)


def one_address(host: Host, readings: Readings) -> Iterator[Said]:
    """Links that have the address of another host."""
    owners = {one.wanted.address: name for name, one in readings.hosts.items() if one is not host}
    for name, link in told(host.links, "its links").items():
        for address in link.addresses:
            owner = owners.get(address.partition("/")[0])
            if owner and not address.startswith(f"{host.wanted.address}/"):
                mend = f"ip address delete {{of}} dev {name}"
                yield Said(f"{name} has it", f"{owner} alone has it", address, (owner,), mend=mend)


def neighbours(host: Host, readings: Readings) -> Iterator[Said]:
    """Hosts that are taken for others on their network."""
    uplink = host.uplink
    fixed = dict(line.split()[:2] for line in host.answer("neighbours").text.splitlines())
    for name, other in readings.hosts.items():
        if other is host or not other.links:
            continue
        entry = fixed.get(other.wanted.address)
        if entry and entry not in {one.mac for one in other.links.values()}:
            mend = f"ip neighbour delete {other.wanted.address} dev {uplink.name if uplink else ''}"
            seen = f"{other.wanted.address} is set to be {entry}"
            yield Said(seen, f"what {name} says", name, (name,), mend=mend)
        if uplink and other.uplink and uplink.mac and uplink.mac == other.uplink.mac:
            yield Said(f"{uplink.mac}, as {name} has", "its own", uplink.name, (name,))


def overlay(host: Host, _: Readings) -> Iterator[Said]:
    """The overlay's device, and whether its packets fit into those of the hosts."""
    links, wanted = told(host.links, "its links"), host.wanted
    if not wanted.device:
        return
    device = links.get(wanted.device)
    if not device or not device.up:
        yield Said("down" if device else "not there", "up", wanted.device)
        return
    below = host.uplink
    if below and device.mtu > below.mtu - wanted.overhead:
        most = below.mtu - wanted.overhead
        yield Said(f"MTU {device.mtu} over {below.name}", f"at most {most}", wanted.device)
    elif _mtu_of(wanted.device) in dict(host.disagreements or ()):
        yield Said(f"MTU {device.mtu}", "that of subnet.env", wanted.device)
    bridge = links.get(wanted.bridge)
    # Docker gives its bridge no MTU; without ports it has one that means nothing.
    if bridge and device.mtu < bridge.mtu and (wanted.bridge_mtu or _ports(host)):
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
    for one in found if host.wanted.bridge else ():
        own = [readings.cluster_cidr, readings.service_cidr]
        if one.type in _NOWHERE and any(_meet(one.destination, it) for it in own if it):
            yield Said(
                one.type,
                "no such route",
                one.destination,
                mend=f"ip route delete {one.type} {{of}}",
            )


def default_route(host: Host, readings: Readings) -> Iterator[Said]:
    """A host without a way to what is not near, services among it."""
    found, services = told(host.routes, "its routes"), readings.service_cidr
    # kube-proxy sends packets elsewhere only once the kernel has found them a way.
    near = [one for one in found if services and _covers(one.destination, services)]
    if not near:
        yield Said("there is none", "a default route, or one to services", services)


def _covers(network: str, other: str) -> bool:
    return IPNetwork(other) in IPNetwork(network)


def kernel_ways(host: Host, _: Readings) -> Iterator[Said]:
    """Ways that the kernel chooses for packets of pods, in spite of the routes."""
    for destination, via in host.wanted.routes:
        answer = host.answer(f"way to {destination}")
        way = answer.text.strip().partition("\n")[0]
        if f"via {via} " not in way:
            seen = way if answer.good else f"the kernel refuses it: {way}"
            yield Said(seen, f"via {via}", destination)


def _meet(one: str, other: str) -> bool:
    pair = IPNetwork(one), IPNetwork(other)
    return pair[0].prefixlen > 0 and (pair[0] in pair[1] or pair[1] in pair[0])


def flannel_routes(host: Host, readings: Readings) -> Iterator[Said]:
    """Ways of flannel to the pods of other nodes."""
    if readings.network != "flannel" or not host.is_a("node"):
        return
    found, device = told(host.routes, "its routes"), host.wanted.device
    for name, other in readings.hosts.items():
        cidr = other.wanted.pod_cidr
        if other is host or not cidr or not other.is_a("node"):
            continue
        if other.silent or not other.takes_part:
            continue
        address = other.wanted.address
        ways = [one for one in found if _covers(one.destination, cidr) and not _is_default(one)]
        way = max(ways, key=lambda one: IPNetwork(one.destination).prefixlen, default=None)
        if not way or (way.dev != device if device else way.via != address):
            seen = f"via {way.via or way.dev}" if way else "no route"
            yield Said(seen, f"via {device or address}, to {name}", cidr, (name,))


def _is_default(route: Route) -> bool:
    return route.destination == "0.0.0.0/0"


_OF_LEASE = ("lease and host", "subnet.env", "subnet.env and network", "lease and subnet.env")


def leases(host: Host, readings: Readings) -> Iterator[Said]:
    """What flannel leased for a host and wrote there, where these differ."""
    for what, detail in _disagreements(host, readings):
        if what in _OF_LEASE:
            yield Said(detail, "the same", what)


def agreement(host: Host, readings: Readings) -> Iterator[Said]:
    """What of flannel's device and the bridge differs from what it wrote."""
    for what, detail in _disagreements(host, readings):
        if what not in (*_OF_LEASE, _mtu_of(host.wanted.device)):
            yield Said(detail, "the same", what)


def _disagreements(host: Host, readings: Readings) -> Iterable[tuple[str, str]]:
    if readings.network != "flannel" or not host.is_a("node"):
        return ()
    return told(host.disagreements, "flannel's leases")


def _mtu_of(device: str) -> str:
    return f"MTU of {device}"


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
    if host.wanted.by_docker:
        # It asks for packets that leave its bridge, and flannel may ask for some of them as well.
        if not leaving:
            yield Said("never", "once")
    elif inside:
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


def _ports(host: Host) -> dict[str, str]:
    """Whether the ports of the pod bridge turn packets back, by their names."""
    ports = [line.split() for line in host.answer("ports of bridges").text.splitlines()]
    return {port: mode for port, bridge, mode in ports if bridge == host.wanted.bridge}


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
