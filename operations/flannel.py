"""
Manage flannel: its network in etcd, flanneld, its lease of a subnet, and CNI's use of that.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence

from netaddr import IPNetwork
from pyinfra.api import OperationError, OperationValueError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import flanneld as daemon
from pyinfra_kube.cluster.components.flanneld import PREFIX, Backend
from pyinfra_kube.cluster.runtimes import runtime_named
from pyinfra_kube.cluster.spec.settings import FLANNEL_PORTS
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.bridge import Link, Links
from pyinfra_kube.facts.etcd import Api, EtcdKeys, trouble
from pyinfra_kube.facts.flannel import (
    DOCKER_FILE,
    SUBNET_FILE,
    Flannel,
    Lease,
    LeaseStates,
    SubnetEnv,
    lease_states,
)
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.operations import etcd
from pyinfra_kube.operations.environment import EnvironmentFile, plan_environment_files
from pyinfra_kube.operations.files import File, plan_files
from pyinfra_kube.operations.flannel_agreement import HostNetwork

SYSCONFIG = "/etc/sysconfig/flanneld"
UNIT = "/etc/systemd/system/flanneld.service"
DROP_IN = "/etc/systemd/system/flanneld.service.d/kubernetes.conf"
CNI_CONFIG = "/etc/cni/net.d/10-flannel.conflist"

# What a running flanneld read when it started: for services' ``config``.
CONFIG = (SYSCONFIG,)


@operation()
def network_config(
    network: str,
    subnet_len: int = 24,
    backend: Backend = "vxlan",
    vni: int = 1,
    port: int | None = None,
    endpoints: Sequence[str] = ("http://127.0.0.1:2379",),
    prefix: str = PREFIX,
    api: Api = "v2",
    allow_network_change: bool = False,
    whole: bool = False,
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Set flannel's network in etcd if the one that is there means something else.

    It refuses while hosts have leases of another range, or of subnets of another length: their
    pods would lose their network. With ``allow_network_change`` it sets the network anyway; run
    ``lease`` on the nodes to get them new leases.

    + network: the range of all nodes' subnets; not a public one
    + subnet_len: the length of one node's subnet
    + backend: how packets travel: ``vxlan``, ``udp`` or ``host-gw``
    + vni: VXLAN's network identifier
    + port: UDP port; by default the backend's own
    + endpoints: etcd's URLs, as this host reaches it
    + prefix: the key under which flannel's keys are
    + api: ``v2`` for flannel through 0.17, ``v3`` from 0.18 on, ``grpc`` for it with etcd's roles
    + allow_network_change: change it while hosts have leases
    + whole: whether the first subnet is one of a node too, which flannel itself leaves out
    + ca, cert, key: files on the host, for TLS

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel

        flannel.network_config(
            name="Set flannel's network",
            network="10.16.0.0/16",
        )
    """

    config = daemon.network_config(network, subnet_len, backend, vni, port, whole)
    found = _etcd(endpoints, prefix, api, ca, cert, key)
    another = not found.config or not daemon.same_range(found.config, config)
    foreign = [lease for lease in found.leases if not daemon.gives(config, lease.subnet)]
    if foreign and another and not allow_network_change:
        raise OperationValueError(_refusal(foreign, found.config, config, prefix))
    yield from etcd.keys._inner(
        keys=[etcd.Key(f"{prefix}/config", config, json=True)],
        endpoints=endpoints,
        api=api,
        ca=ca,
        cert=cert,
        key=key,
    )


def _etcd(
    endpoints: Sequence[str], prefix: str, api: Api, ca: str, cert: str, key: str
) -> LeaseStates:
    """What flannel has in etcd now."""

    keys = read(
        EtcdKeys, endpoints=endpoints, prefix=f"{prefix}/", api=api, ca=ca, cert=cert, key=key
    )
    return lease_states(keys, prefix)


def _refusal(leases: Sequence[Lease], there: str | None, config: str, prefix: str) -> str:
    subnets = ", ".join(f"{lease.subnet} of {lease.public_ip}" for lease in leases)
    return (
        f"etcd key {prefix}/config: it is {there or 'not there'}, and hosts have leases "
        f"({subnets}) that {config} does not give: it would take their network from running pods; "
        "set allow_network_change for that, or keep the range"
    )


@operation()
def flanneld(
    endpoints: Sequence[str],
    prefix: str = PREFIX,
    iface: str | None = None,
    ip_masq: bool = False,
    options: Sequence[str] = (),
    binary: str | None = None,
    subnet: str = "",
    api: Api = "v2",
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Set flanneld's options, under both names that its packages know, and have it wait for etcd at
    boot. Running it is left to ``services``.

    Fails, when it runs, if this host does not reach etcd or finds no network there.

    + endpoints: etcd's URLs, as this host reaches it
    + prefix: the key under which flannel's keys are
    + iface: the interface that packets leave by, or its address; by default that of the default
      route
    + ip_masq: whether flannel masquerades what leaves its network; by default the
      container runtime does
    + options: further flags
    + binary: absolute path of a flanneld that no package brought; it gets a unit of ours
    + subnet: what it asks for when it has no lease, such as ``10.10.1.1/24``; by default it chooses
      one, and its unit tells docker
    + api: ``v2`` for flannel through 0.17, ``v3`` from 0.18 on, ``grpc`` for it with etcd's roles
    + ca, cert, key: files on the host, for TLS

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel, services

        flannel.flanneld(
            name="Set flanneld's options",
            endpoints=["http://fed-master:2379"],
            iface="eth1",
        )
        services.services(
            name="Run flanneld",
            units=[services.Unit("flanneld.service", config=flannel.CONFIG)],
        )
    """

    if ctx_state.get().is_executing:
        _require(_etcd(endpoints, prefix, api, ca, cert, key), endpoints, prefix, api)
    tls = {"-etcd-cafile": ca, "-etcd-certfile": cert, "-etcd-keyfile": key}
    words = [*(f"{flag}={path}" for flag, path in tls.items() if path), *options]
    variables = daemon.sysconfig(endpoints, prefix, iface, ip_masq, words)
    files = [File(DROP_IN, render(f"{DROP_IN[1:]}.j2", subnet=subnet, subnet_file=SUBNET_FILE))]
    if binary:
        docker_file = "" if subnet else DOCKER_FILE
        text = render(
            f"{UNIT[1:]}.j2", binary=binary, subnet_file=SUBNET_FILE, docker_file=docker_file
        )
        files.append(File(UNIT, text))
    script = join(
        [plan_environment_files([EnvironmentFile(SYSCONFIG, variables)]), plan_files(files)]
    )
    yield from run_or_noop(script, "flanneld's options are as wanted")


def _require(found: LeaseStates, endpoints: Sequence[str], prefix: str, api: Api) -> None:
    if found.status != "ok":
        raise OperationError(trouble(found.status, found.said, endpoints, api))
    if found.config is None:
        urls = ", ".join(endpoints)
        raise OperationError(f"etcd at {urls} has no {prefix}/config: flanneld would wait for it")


@operation()
def lease(
    network: str,
    endpoints: Sequence[str],
    prefix: str = PREFIX,
    backend: Backend = "vxlan",
    vni: int = 1,
    port: int | None = None,
    api: Api = "v2",
    ca: str = "",
    cert: str = "",
    key: str = "",
    runtime: str = "docker",
    subnet: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Restart a running flanneld if its lease is not of the network that is configured, or if its
    device is not as flanneld made it.

    flanneld then gets another lease. The old one goes, with the devices and routes of another
    backend. A container runtime whose unit requires flannel's restarts too. Start flanneld with
    ``services`` first.

    + network: the range of all nodes' subnets
    + endpoints: etcd's URLs, as this host reaches it
    + prefix: the key under which flannel's keys are
    + backend, vni, port: as configured; the port by default the backend's own
    + api: ``v2`` for flannel through 0.17, ``v3`` from 0.18 on, ``grpc`` for it with etcd's roles
    + ca, cert, key: files on the host, for TLS
    + runtime: container runtime, which systemd may stop along with flanneld
    + subnet: what the lease must be of, such as ``10.10.1.1/24``; by default any of the network

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel

        flannel.lease(
            name="Get a lease of flannel's network",
            network="10.16.0.0/16",
            endpoints=["http://fed-master:2379"],
        )
    """

    state = read(Flannel)
    script = None
    if state.running and state.subnet:
        links = read(Links)
        found = _etcd(endpoints, prefix, api, ca, cert, key)
        # In the plan etcd may be down, or have a certificate that this run replaces.
        if found.status in ("refused", "not understood") or ctx_state.get().is_executing:
            _require(found, endpoints, prefix, api)
        device = daemon.device_of(backend, vni)
        wrong = _wrong_device(device, links, port or FLANNEL_PORTS.get(backend), state.subnet)
        addresses = HostNetwork("", links).addresses
        own = [lease for lease in found.leases if lease.public_ip in addresses]
        reason = _outside(state.subnet, network, subnet) or wrong
        if not reason and found.status == "ok":
            reason = _wrong_lease(state.subnet, own, links, backend, device)
        stale = [
            etcd.Key(lease.key, present=False) for lease in stale_leases(own, subnet or network)
        ]
        reach = (endpoints, api, ca, cert, key)
        if reason or stale:
            changes.show(f"flanneld.service: restarted: {reason or 'it has an old lease too'}")
            removal = etcd.keys._inner(stale, *reach) if stale else ()
            # flanneld keeps a device that exists, even with a wrong MTU.
            keep = "none" if wrong else device or "none"
            script = _renewal(removal, state.subnet.network or network, keep, runtime)
    yield from run_or_noop(script, "flanneld's lease is of the network that is configured")


def stale_leases(leases: Iterable[Lease], network: str) -> list[Lease]:
    """
    Return the leases outside a range.

    + leases: those in etcd
    + network: the range
    """

    return [lease for lease in leases if IPNetwork(lease.subnet) not in IPNetwork(network)]


def _renewal(removal: Iterable[object], network: str, device: str, runtime: str) -> Script:
    """
    Restart flanneld, and remove its old leases between stop and start: other hosts forget the
    device of a lease that goes, which may be that of the new lease too.
    """

    scripts = [script for script in removal if isinstance(script, Script)]
    clear = f"clear_others {device} {network}\n"
    stop = _STOP.format(unit=runtime_named(runtime).unit)
    text = CLEAR_OTHERS + stop + clear + "".join(script.text for script in scripts) + _START
    return Script(text, "; ".join(["restart flanneld.service", *(s.summary for s in scripts)]))


# Its routes, and devices that it no longer uses, would still carry packets the old way.
CLEAR_OTHERS = """\
clear_others() {
  for path in /sys/class/net/flannel0 /sys/class/net/flannel.[0-9]*; do
    if [ -e "$path" ] && [ "${path##*/}" != "$1" ]; then ip link delete dev "${path##*/}"; fi
  done
  ip -4 route flush root "$2" proto boot
}
"""


@operation()
def devices_absent(network: str, keep: str = "") -> Generator[StringCommand, None, None]:
    """
    Remove the devices that flannel made and does not use any more, and, where none is kept, its
    routes and subnet.env. Stop flanneld first where it is to go.

    + network: the range of all nodes' subnets
    + keep: the device that it uses now; empty where flannel goes

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel, services

        services.services(
            name="Stop flanneld",
            units=[services.Unit("flanneld.service", running=False, enabled=False)],
        )
        flannel.devices_absent(name="Remove flannel's devices", network="10.10.0.0/16")
    """

    left = [name for name in read(Links) if re.fullmatch(_DEVICES, name) and name != keep]
    scripts: list[Script | None] = []
    for name in left:
        changes.show(f"link {name}: present → absent")
    if left:
        text = "\n".join(f"ip link delete dev {name}" for name in left)
        scripts.append(Script(text, f"remove {', '.join(left)}"))
    if not keep:
        scripts += [_routes_absent(network, left), plan_files([File(SUBNET_FILE, kind="absent")])]
    yield from run_or_noop(join(scripts), "nothing is left of flannel")


_DEVICES = r"flannel(0|\.\d+)"


def _routes_absent(network: str, gone: Sequence[str]) -> Script | None:
    """Remove flannel's routes, but those that go with their devices."""

    found = [
        route.destination
        for route in read(Routes) or ()
        if route.protocol == "boot"
        and route.dev not in gone
        and IPNetwork(route.destination) in IPNetwork(network)
    ]
    for destination in found:
        changes.show(f"route {destination}: present → absent")
    lines = [f"ip -4 route delete {destination} proto boot" for destination in found]
    return Script("\n".join(lines), "remove flannel's routes") if lines else None


# What systemd stops along with flanneld starts again, even if the script fails in between.
_STOP = """\
along=
for unit in {unit} kubelet.service; do
  if systemctl is-active --quiet $unit; then along="$along $unit"; fi
done
trap 'systemctl start flanneld.service $along' EXIT
systemctl stop flanneld.service
"""
_START = """\
trap - EXIT
systemctl start flanneld.service $along
"""


def _outside(subnet: SubnetEnv, network: str, wanted: str = "") -> str:
    """Why a subnet is not of the network, or not the wanted one; empty if it is."""

    inside = IPNetwork(subnet.subnet) in IPNetwork(wanted or network)
    if inside and subnet.network in (None, network):
        return ""
    return f"its subnet {subnet.subnet} is not of {wanted or network}"


def _wrong_device(
    device: str | None, links: dict[str, Link], port: int | None, subnet: SubnetEnv
) -> str:
    """Why the backend's device is not as configured; empty if it is."""

    if not device:
        return ""
    if device not in links:
        return f"it has no {device}"
    link, cidr = links[device], IPNetwork(subnet.subnet).cidr
    if link.port not in (None, port):
        return f"{device} is on port {link.port}"
    if not link.up:
        return f"{device} is down"
    if link.mtu != subnet.mtu:
        return f"{device} has an MTU of {link.mtu}, not {subnet.mtu}"
    if not any(IPNetwork(address).ip in cidr for address in link.addresses):
        return f"{device} has {', '.join(link.addresses) or 'no address'}, none of {cidr}"
    return ""


def _wrong_lease(
    subnet: SubnetEnv,
    leases: Iterable[Lease],
    links: dict[str, Link],
    backend: Backend,
    device: str | None,
) -> str:
    """Why none of the host's leases is that of this flanneld; empty if one is."""

    cidr = IPNetwork(subnet.subnet).cidr
    own = next((lease for lease in leases if IPNetwork(lease.subnet) == cidr), None)
    if own is None:
        return f"etcd has no lease of {cidr} for this host"
    if own.backend != backend:
        return f"its lease is of {own.backend}"
    if device and own.vtep_mac not in ("", links[device].mac):
        return f"its lease is of another device than {device}"
    return ""


@operation()
def cni_options() -> Generator[StringCommand, None, None]:
    """
    Have a container runtime use the subnet that flannel got for this host, through CNI's
    ``flannel`` plugin. That reads subnet.env whenever a pod starts, so nothing is restarted.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel

        flannel.cni_options(name="Have pods use flannel's subnet")
    """

    text = render(f"{CNI_CONFIG[1:]}.j2", subnet_file=SUBNET_FILE)
    yield from run_or_noop(plan_files([File(CNI_CONFIG, text)]), "CNI uses flannel's subnet")
