"""The lab's network: a switch in a namespace of its own, and an outside that ends there.

No namespace of the lab has a route to the machine's own network, so nothing leaves it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from tests.lab.machine import LabError, run
from tests.lab.places import LINK, SWITCH

# Networks for documentation (RFC 5737) and for measurements (RFC 2544): no real host is there.
_NETWORKS = [
    *map(IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")),
    *list(IPv4Network("198.18.0.0/15").subnets(new_prefix=24))[:32],
]
_CHOICE = "PYINFRA_KUBE_LAB_NETWORK"
_FIRST_HOST = 10

# Some machines have their package mirrors in such a network, too.
_NEEDED = ("deb.debian.org", "security.debian.org", "pypi.org", "files.pythonhosted.org")
_PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
_ADDRESS = re.compile(r"https?://(?:[^@/\s]*@)?([\w.-]+)")
_NO_WAY_OUT = ("iif", LINK, "prohibit")


@dataclass(frozen=True)
class Network:
    """Who has which address."""

    hosts: IPv4Network
    outside: IPv4Network

    @property
    def control(self) -> IPv4Address:
        return self.hosts[1]

    @property
    def gateway(self) -> IPv4Address:
        return self.hosts[254]

    @property
    def outside_address(self) -> IPv4Address:
        """A server outside of the cluster, behind the gateway."""
        return self.outside[1]

    def free_address(self, taken: set[IPv4Address]) -> IPv4Address:
        for number in range(_FIRST_HOST, 254):
            if self.hosts[number] not in taken:
                return self.hosts[number]
        raise LabError(f"No address is left in {self.hosts}.")


def choose() -> Network:
    """The first of the networks that nobody uses here, or the one asked for."""
    if Path(f"/sys/class/net/{LINK}").exists():
        raise LabError(
            f"Somebody else here has a network link named {LINK}. "
            "Give this lab another name: PYINFRA_KUBE_LAB=other"
        )
    used = _used_networks()
    free = [network for network in _NETWORKS if not any(map(network.overlaps, used))]
    asked = os.environ.get(_CHOICE)
    if asked:
        hosts = IPv4Network(asked)
        if hosts.prefixlen != 24:
            raise LabError(f"{_CHOICE}={asked}: the lab needs a /24.")
        for network in used:
            if hosts.overlaps(network):
                raise LabError(f"{_CHOICE}={asked}: {network} is in use on this machine.")
        free = [hosts, *(network for network in free if not network.overlaps(hosts))]
    if len(free) < 2:
        taken = ", ".join(str(network) for network in used)
        raise LabError(
            f"The lab needs two free networks, and {taken} are in use on this machine. "
            f"Name a free /24 in {_CHOICE}."
        )
    return Network(hosts=free[0], outside=free[1])


def _used_networks() -> list[IPv4Network]:
    """What this machine has an address or a route in, and where it finds names and packages."""
    used = set()
    for link in json.loads(run("ip", "-json", "-4", "address").stdout):
        for entry in link["addr_info"]:
            used.add(IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False))
    routes = run("ip", "-json", "-4", "route", "show", "table", "all").stdout
    for route in json.loads(routes or "[]"):
        if route["dst"] != "default":
            used.add(IPv4Network(route["dst"], strict=False))
    # Behind the default route nothing tells what is there, so what the machine needs is asked.
    return sorted(used | {IPv4Network(address) for address in _needed_addresses()})


def _needed_addresses() -> set[str]:
    resolvers = re.findall(r"^nameserver\s+([\d.]+)$", _text("/etc/resolv.conf"), re.MULTILINE)
    sources = [*Path("/etc/apt/sources.list.d").glob("*"), Path("/etc/apt/sources.list")]
    apt = [host for path in sources for host in _ADDRESS.findall(_text(path))]
    proxies = [host for key in _PROXIES for host in _ADDRESS.findall(os.environ.get(key, ""))]
    with ThreadPoolExecutor() as pool:
        found = pool.map(_addresses, {*_NEEDED, *apt, *proxies})
    return {*resolvers, *(address for addresses in found for address in addresses)}


def _addresses(name: str) -> list[str]:
    """What a name stands for; nothing when that takes long, as on a machine without a network."""
    try:
        lines = run("getent", "ahostsv4", name, check=False, timeout=3).stdout.splitlines()
    except subprocess.TimeoutExpired:
        return []
    return [line.split()[0] for line in lines]


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def make(network: Network) -> None:
    """Lay the switch and the control side's cable."""
    SWITCH.touch()
    # Held by a file, not by a process: it lives until the file is unmounted.
    run("unshare", f"--net={SWITCH}", "true")
    on_switch("ip link add switch type bridge")
    on_switch("ip link set switch up")
    on_switch(f"ip link add control type veth peer name {LINK} netns {os.getpid()}")
    on_switch("ip link set control master switch up")
    ipv6 = Path(f"/proc/sys/net/ipv6/conf/{LINK}/disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")
    # The machine never passes a host's packet on, even where it forwards for others.
    run("ip", "rule", "add", *_NO_WAY_OUT)
    run("ip", "address", "add", f"{network.control}/24", "dev", LINK)
    run("ip", "link", "set", LINK, "up")
    # Should the cable go, no packet for a host takes the machine's default route.
    run("ip", "route", "add", "unreachable", str(network.hosts), "metric", "4278198272")


def remove(network: Network) -> None:
    """Take away what `make` laid, whatever of it is there."""
    if Path(f"/sys/class/net/{LINK}").exists():
        run("ip", "link", "delete", LINK, check=False)
    run("ip", "rule", "delete", *_NO_WAY_OUT, check=False)
    run("ip", "route", "delete", "unreachable", str(network.hosts), check=False)


def remove_switch() -> None:
    while SWITCH.exists() and run("umount", SWITCH, check=False).returncode == 0:
        pass


def on_switch(command: str) -> None:
    run("nsenter", f"--net={SWITCH}", *command.split())


def port(address: IPv4Address) -> str:
    """The switch's end of a host's cable."""
    return f"port{int(address) & 255}"


def mac(address: IPv4Address) -> str:
    """A host's own, the same after each reboot, so neighbours need not learn it again."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in address.packed)


def unplug(address: IPv4Address) -> None:
    """At once: the kernel takes a dead host's network away in its own time."""
    gone = ("nsenter", f"--net={SWITCH}", "ip", "link", "delete", port(address))
    run(*gone, check=False)


def cut(address: IPv4Address) -> None:
    on_switch(f"ip link set {port(address)} down")


def mend(address: IPv4Address) -> None:
    on_switch(f"ip link set {port(address)} up")
