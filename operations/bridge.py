"""
Manage bridges of the pod network, and remove docker's.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence

from netaddr import AddrFormatError, IPNetwork
from pyinfra.api import OperationError, OperationValueError, StringCommand

from pyinfra_kube.cluster.runtimes import runtime_named
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.bridge import Link, Links, LoosePorts
from pyinfra_kube.operations.boot_units import plan_boot_unit


@operation()
def bridge(
    bridge: str = "cbr0",
    address: str | None = None,
    mtu: int = 1460,
    present: bool = True,
    persist: bool = True,
    runtime: str = "docker",
) -> Generator[StringCommand, None, None]:
    """
    Manage a bridge: its MTU, its IPv4 address, that it is up, and that it comes back at boot.

    The bridge is managed whole: other IPv4 addresses are removed, after the given one was added.
    Links of pods with addresses of its network, which a bridge of before has left behind, become
    its ports. A link of that name that is not a bridge is an error; it is never replaced.

    + bridge: name of the bridge
    + address: its address with prefix length, the first of the node's pod CIDR; ``None`` leaves the
      addresses as they are
    + mtu: in bytes; 1460 suits most clouds, 1450 a VXLAN overlay
    + present: whether the bridge must exist
    + persist: whether the unit ``kube-bridge-NAME.service`` makes it again at every boot
    + runtime: container runtime, which needs the bridge when it starts

    **Examples:**

    .. code:: python

        from pyinfra_kube.operations import bridge

        bridge.bridge(
            name="Make the bridge of the pods",
            bridge="cbr0",
            address="10.10.1.1/24",
        )

        bridge.bridge(
            name="Remove docker's own bridge",
            bridge="docker0",
            present=False,
        )
    """

    _check_name(bridge)
    wanted = _checked(address)
    link = read(Links).get(bridge)
    if link and link.kind != "bridge":
        raise OperationError(
            f"{bridge} is a link of kind {link.kind or 'hardware'!r}, not a bridge; "
            "give the bridge another name or remove that link"
        )

    ports = _ports(wanted) if present and wanted else {}
    live = _set(bridge, link, wanted, mtu, ports) if present else _remove(bridge, link)
    unit = plan_boot_unit(
        f"kube-bridge-{bridge}",
        f"Bridge {bridge}",
        _boot(bridge, wanted, mtu),
        before=[runtime_named(runtime).unit, "kubelet.service"],
        present=present and persist,
    )
    yield from run_or_noop(
        join([live, unit]),
        f"bridge {bridge} is {'as wanted' if present else 'absent'}",
    )


def _check_name(bridge: str) -> None:
    if not re.fullmatch(r"[\w.-]{1,15}", bridge):
        raise OperationValueError(
            f"bridge: {bridge!r} is not a name of up to 15 letters, digits, dots and dashes"
        )


def _checked(address: str | None) -> str | None:
    if address is None:
        return None
    try:
        network = IPNetwork(address)
    except (AddrFormatError, ValueError):
        network = None
    if network is None or "/" not in address or network.version != 4:
        raise OperationValueError(
            f"address: {address!r} is not an IPv4 address with a prefix length, as 10.10.1.1/24"
        )
    return str(network)


def _ports(address: str) -> dict[str, str]:
    """Links that lack their bridge, with the addresses of their pods."""

    network = IPNetwork(address)
    return {name: own for name, own in read(LoosePorts).items() if IPNetwork(own) in network}


def _set(
    bridge: str, link: Link | None, address: str | None, mtu: int, ports: Mapping[str, str]
) -> Script | None:
    """Change what differs; an address goes only once the right one is there."""

    lines = []
    if not link:
        changes.show(f"bridge {bridge}: absent → present")
        lines.append(f"ip link add name {bridge} type bridge")
    # A bridge that was never given an MTU follows the smallest of its members.
    if not link or link.mtu != mtu:
        changes.show(f"bridge {bridge}: mtu {link.mtu if link else 'default'} → {mtu}")
        lines.append(f"ip link set dev {bridge} mtu {mtu}")
    lines += _address_lines(bridge, link.addresses if link else (), address)
    if not link or not link.up:
        changes.show(f"bridge {bridge}: down → up")
        lines.append(f"ip link set dev {bridge} up")
    for name, own in ports.items():
        changes.show(f"bridge {bridge}: port {name} of the pod {own}: absent → present")
        lines.append(f"ip link set {name} master {bridge}")
        # A pod that asks a service may be answered by itself.
        lines.append(f"echo 1 > /sys/class/net/{name}/brport/hairpin_mode")
    return Script("\n".join(lines), summary=f"set bridge {bridge}") if lines else None


def _address_lines(bridge: str, found: Sequence[str], address: str | None) -> list[str]:
    if address is None or list(found) == [address]:
        return []
    wrong = [other for other in found if other != address]
    changes.show(f"bridge {bridge}: address {', '.join(found) or 'none'} → {address}")
    lines = [] if address in found else [f"ip address add {address} dev {bridge}"]
    lines += [f"ip address del {other} dev {bridge}" for other in wrong]
    # The kernel drops a network's other addresses along with its primary one.
    return [*lines, f"ip address replace {address} dev {bridge}"] if wrong else lines


def _remove(bridge: str, link: Link | None) -> Script | None:
    if not link:
        return None
    changes.show(f"bridge {bridge}: present → absent")
    return Script(f"ip link delete dev {bridge} type bridge", summary=f"remove bridge {bridge}")


def _boot(bridge: str, address: str | None, mtu: int) -> list[str]:
    return [
        f"ip link show dev {bridge} >/dev/null 2>&1 || ip link add name {bridge} type bridge",
        f"ip link set dev {bridge} mtu {mtu}",
        *([f"ip address replace {address} dev {bridge}"] if address else []),
        f"ip link set dev {bridge} up",
    ]
