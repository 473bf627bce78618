"""
Manage flannel: its network in etcd, flanneld, and what docker or CNI make of a host's subnet.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Iterable, Sequence

from netaddr import IPNetwork
from pyinfra.api import OperationError, OperationValueError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.cluster.components import flanneld as daemon
from pyinfra_kube.cluster.components.flanneld import PREFIX, Backend
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
    FlannelState,
    Lease,
    LeaseStates,
    SubnetEnv,
    lease_states,
)
from pyinfra_kube.operations import etcd
from pyinfra_kube.operations.environment import EnvironmentFile, plan_environment_files
from pyinfra_kube.operations.files import File, plan_files
from pyinfra_kube.operations.flannel_agreement import HostNetwork

SYSCONFIG = "/etc/sysconfig/flanneld"
UNIT = "/etc/systemd/system/flanneld.service"
DROP_IN = "/etc/systemd/system/flanneld.service.d/kubernetes.conf"
DOCKER_DROP_IN = "/etc/systemd/system/docker.service.d/flannel.conf"
DOCKER_FORGETS = "/run/systemd/system/docker.service.d/zz-forget.conf"
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
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Set flannel's network in etcd, only when it means something else than what is there.

    While hosts have leases of another range, or of subnets of another length, it refuses: their
    pods would lose their network. With ``allow_network_change`` it is set nevertheless, and
    ``lease`` on the nodes gets them new leases.

    + network: the range of all nodes' subnets; one that is not public
    + subnet_len: the length of one node's subnet
    + backend: how packets travel: ``vxlan``, ``udp`` or ``host-gw``
    + vni: VXLAN's network identifier
    + port: UDP port; by default the backend's own
    + endpoints: etcd's URLs, as this host reaches it
    + prefix: the key under which flannel's keys are
    + api: ``v2`` for flannel through 0.17, ``v3`` from 0.18 on
    + allow_network_change: change it while hosts have leases
    + ca, cert, key: files on the host, for TLS

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel

        flannel.network_config(
            name="Set flannel's network",
            network="10.16.0.0/16",
        )
    """

    config = daemon.network_config(network, subnet_len, backend, vni, port)
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
    api: Api = "v2",
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Set flanneld's options, under both names that its packages know, and see to it that it
    waits for etcd at boot. Running it is left to ``services``.

    Fails, when it runs, if this host does not reach etcd or finds no network there.

    + endpoints: etcd's URLs, as this host reaches it
    + prefix: the key under which flannel's keys are
    + iface: the interface that packets leave by, or its address; by default that of the default
      route
    + ip_masq: whether flannel masquerades what leaves its network; by default docker does
    + options: further flags
    + binary: absolute path of a flanneld without a package, which then gets a unit of ours
    + api: ``v2`` for flannel through 0.17, ``v3`` from 0.18 on
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
    files = [File(DROP_IN, render(f"{DROP_IN[1:]}.j2"))]
    if binary:
        text = render(
            f"{UNIT[1:]}.j2", binary=binary, subnet_file=SUBNET_FILE, docker_file=DOCKER_FILE
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
) -> Generator[StringCommand, None, None]:
    """
    Restart a running flanneld whose lease is not, or no longer, one of the network as it is
    configured: it gets another then, and the old one goes, with the devices and routes of another
    backend. So it does where flanneld's device is not as that made it. Docker restarts with it,
    for its unit requires flannel's. For after ``services``, which starts flanneld.

    + network: the range of all nodes' subnets
    + endpoints: etcd's URLs, as this host reaches it
    + prefix: the key under which flannel's keys are
    + backend, vni, port: as configured; the port by default the backend's own
    + api: ``v2`` for flannel through 0.17, ``v3`` from 0.18 on
    + ca, cert, key: files on the host, for TLS

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
        # Before the run it may be down; one that refuses says nothing of leases.
        if found.status in ("refused", "not understood") or ctx_state.get().is_executing:
            _require(found, endpoints, prefix, api)
        device = daemon.device_of(backend, vni)
        wrong = _wrong_device(device, links, port or FLANNEL_PORTS.get(backend), state.subnet)
        reason = (
            _outside(state.subnet, network)
            or wrong
            or _wrong_lease(state.subnet, found, links, backend, device)
        )
        addresses = HostNetwork("", links).addresses
        own = [lease for lease in found.leases if lease.public_ip in addresses]
        stale = [etcd.Key(lease.key, present=False) for lease in stale_leases(own, network)]
        reach = (endpoints, api, ca, cert, key)
        if reason or stale:
            changes.show(f"flanneld.service: restarted: {reason or 'it has an old lease too'}")
            removal = etcd.keys._inner(stale, *reach) if stale else ()
            # flanneld keeps a device that is there, with a wrong MTU too.
            keep = "none" if wrong else device or "none"
            script = _renewal(removal, state.subnet.network or network, keep)
    yield from run_or_noop(script, "flanneld's lease is of the network that is configured")


def stale_leases(leases: Iterable[Lease], network: str) -> list[Lease]:
    """
    Give the leases that lie outside a range.

    + leases: those in etcd
    + network: the range
    """

    return [lease for lease in leases if IPNetwork(lease.subnet) not in IPNetwork(network)]


def _renewal(removal: Iterable[object], network: str, device: str) -> Script:
    """
    Restart flanneld, and remove its old leases between: other hosts forget the device of a lease
    that goes, and would forget the same device of one that came before that.
    """

    scripts = [script for script in removal if isinstance(script, Script)]
    clear = f"clear_others {device} {network}\n"
    text = _CLEAR + _STOP + clear + "".join(script.text for script in scripts) + _START
    return Script(text, "; ".join(["restart flanneld.service", *(s.summary for s in scripts)]))


# Its routes and the devices that it no longer uses would lead packets the old way.
_CLEAR = """\
clear_others() {
  for path in /sys/class/net/flannel0 /sys/class/net/flannel.[0-9]*; do
    if [ -e "$path" ] && [ "${path##*/}" != "$1" ]; then ip link delete dev "${path##*/}"; fi
  done
  ip -4 route flush root "$2" proto boot
}
"""
# What systemd stops along with flanneld comes up again, whatever happens between.
_STOP = """\
along=
for unit in docker.service kubelet.service; do
  if systemctl is-active --quiet $unit; then along="$along $unit"; fi
done
trap 'systemctl start flanneld.service $along' EXIT
systemctl stop flanneld.service
"""
_START = """\
trap - EXIT
systemctl start flanneld.service $along
"""


def _outside(subnet: SubnetEnv, network: str) -> str:
    """Why a subnet is none of the network; empty when it is one."""

    inside = IPNetwork(subnet.subnet) in IPNetwork(network)
    if inside and subnet.network in (None, network):
        return ""
    return f"its subnet {subnet.subnet} is not of {network}"


def _wrong_device(
    device: str | None, links: dict[str, Link], port: int | None, subnet: SubnetEnv
) -> str:
    """Why the backend's device is another than configured; empty when it is that one."""

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
    found: LeaseStates,
    links: dict[str, Link],
    backend: Backend,
    device: str | None,
) -> str:
    """Why the lease in etcd is not the one of this flanneld; empty when it is, or none knows."""

    if found.status != "ok":
        return ""
    cidr = IPNetwork(subnet.subnet).cidr
    addresses = HostNetwork("", links).addresses
    own = [
        lease
        for lease in found.leases
        if lease.public_ip in addresses and IPNetwork(lease.subnet) == cidr
    ]
    if not own:
        return f"etcd has no lease of {cidr} for this host"
    if own[0].backend != backend:
        return f"its lease is of {own[0].backend}"
    if device and own[0].vtep_mac not in ("", links[device].mac):
        return f"its lease is of another device than {device}"
    return ""


@operation()
def docker_options(
    bridge: str = "docker0", predict: bool = False
) -> Generator[StringCommand, None, None]:
    """
    Have docker use the subnet that flannel got for this host.

    A drop-in makes docker read its network options from the file that flannel's unit writes, with
    the subnet that flannel has by then, and remove its bridge, before it starts, when that has an
    address of another subnet. A docker that runs is restarted only when its bridge is down, or has
    not the address that subnet.env has now, whatever became of earlier runs. A docker that does not
    run is left to ``services``.

    Fails when docker does not take the subnet.

    + bridge: docker's bridge
    + predict: whether an earlier operation of this run gets flannel another subnet: give the
      ``will_change`` of ``lease``; it counts where docker does not restart along with flanneld

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel, services

        flannel.docker_options(name="Have docker use flannel's subnet", predict=lease.will_change)
        services.services(name="Run docker", units=[services.Unit("docker.service")])
    """

    state = read(Flannel)
    text = render(
        f"{DOCKER_DROP_IN[1:]}.j2",
        docker_file=DOCKER_FILE,
        subnet_file=SUBNET_FILE,
        bridge=bridge,
        start=_start(state.docker_start),
    )
    scripts = [plan_files([File(DOCKER_DROP_IN, text)])]
    reason = _stale(state, read(Links).get(bridge), bridge)
    if not reason and predict and not (state.docker_follows or ctx_state.get().is_executing):
        reason = "flannel gets another subnet"
    if reason:
        changes.show(f"docker.service: restarted: {reason}")
        scripts.append(_restart(bridge))
    yield from run_or_noop(join(scripts), "docker uses flannel's subnet")


def _start(line: str) -> str:
    """The command line that docker's unit must get; empty where its own reads the options."""

    if not line or ("DOCKER_NETWORK_OPTIONS" in line and not line.endswith(_OPTIONS)):
        return ""
    return line.removesuffix(_OPTIONS) + _OPTIONS


# A line that ends so may be ours, and then has to stay.
_OPTIONS = " $DOCKER_NETWORK_OPTIONS"


def _stale(state: FlannelState, link: Link | None, bridge: str) -> str:
    """Why a running docker must be restarted; empty when it need not."""

    if not state.docker_words or state.subnet is None:
        return ""
    addresses = link.addresses if link else ()
    if state.subnet.subnet not in addresses:
        return f"{bridge} has {', '.join(addresses) or 'no address'}, not {state.subnet.subnet}"
    if link and not link.up:
        return f"{bridge} is down"
    sizes = [word for word in state.docker_words if word.startswith("--mtu=")]
    if sizes and sizes[-1] != f"--mtu={state.subnet.mtu}":
        return f"it was started with {sizes[-1]}, and flannel carries {state.subnet.mtu}"
    return ""


def _restart(bridge: str) -> Script:
    link = shlex.quote(bridge)
    return Script(
        f"""\
systemctl daemon-reload
systemctl restart docker.service
. {SUBNET_FILE}
ip -4 -o address show dev {link} | grep -qF " $FLANNEL_SUBNET " || {{
  echo "docker has started, and "{link}" has not the address $FLANNEL_SUBNET" >&2
  exit 1
}}""",
        summary="restart docker.service",
    )


@operation()
def cni_options() -> Generator[StringCommand, None, None]:
    """
    Have a container runtime use the subnet that flannel got for this host, through CNI's
    ``flannel`` plugin, which reads subnet.env whenever a pod starts: nothing is to be restarted.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel

        flannel.cni_options(name="Have pods use flannel's subnet")
    """

    text = render(f"{CNI_CONFIG[1:]}.j2", subnet_file=SUBNET_FILE)
    yield from run_or_noop(plan_files([File(CNI_CONFIG, text)]), "CNI uses flannel's subnet")


@operation()
def flannel_absent(network: str, bridge: str = "docker0") -> Generator[StringCommand, None, None]:
    """
    Remove what flannel left on a host that is no node any more: its devices and routes, and what
    made docker use its subnet, or start flanneld again. Docker then runs with its own network. For
    after ``services``, which stops flanneld.

    + network: the range of all nodes' subnets
    + bridge: docker's bridge

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import flannel, services

        services.services(
            name="Stop flanneld",
            units=[services.Unit("flanneld.service", running=False, enabled=False)],
        )
        flannel.flannel_absent(name="Remove flannel's network", network="10.16.0.0/16")
    """

    state, links = read(Flannel), read(Links)
    paths = (DOCKER_DROP_IN, DROP_IN, UNIT, CNI_CONFIG, DOCKER_FILE, SUBNET_FILE, DOCKER_FORGETS)
    files = plan_files([File(path, kind="absent") for path in paths])
    left = [name for name in links if re.fullmatch(r"flannel(0|\.\d+)", name)]
    if bridge in links and any(
        IPNetwork(address) in IPNetwork(network) for address in links[bridge].addresses
    ):
        left.append(bridge)
    # A killed run may have left it so.
    stopped = bool(state.docker_start and not state.docker_words)
    if not (files or left or stopped):
        ctx_host.get().noop("nothing is left of flannel")
        return
    for name in left:
        changes.show(f"link {name}: present → absent")
    if state.docker_start:
        changes.show("docker.service: restarted: it gets its own network")
    lines = [f"clear_others none {network}"]
    lines += [shlex.join(["ip", "link", "delete", "dev", bridge])] if bridge in left else []
    if state.docker_start:
        lines = [_forget(state.docker_start), *lines, _REMEMBER]
    else:
        lines = ["systemctl daemon-reload", *lines]
    rest = Script(_CLEAR + "\n".join(lines), "remove flannel's devices and routes")
    script = join([files, rest])
    if script:
        yield script


def _forget(start: str) -> str:
    """
    Stop docker, and have it start without a bridge: until it has done so once, it keeps the subnet
    of the one that it had, and makes that anew.
    """

    text = f"[Service]\nExecStart=\nExecStart={start} --bridge=none\n"
    return f"""\
mkdir -p "$(dirname {DOCKER_FORGETS})"
printf %s {shlex.quote(text)} > {DOCKER_FORGETS}
systemctl daemon-reload
systemctl stop docker.service"""


_REMEMBER = f"""\
systemctl start docker.service
rm {DOCKER_FORGETS}
systemctl daemon-reload
systemctl restart docker.service"""
