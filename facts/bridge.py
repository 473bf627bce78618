"""
Network links of a host, bridges among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from netaddr import IPNetwork
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.iproute import answers, if_there


@dataclass(frozen=True)
class Link(Printable):
    """
    One network link.

    + name: for example ``cbr0``
    + kind: ``bridge``, ``veth``, ``vxlan`` …; empty for hardware and the loopback
    + mtu: in bytes
    + mac: link-layer address
    + addresses: IPv4 addresses with their prefix length, the primary one first
    + up: whether it is set up (a bridge without members is up and has no carrier)
    + master: the bridge or bond that it belongs to
    + port: the UDP port of a ``vxlan``
    """

    name: str
    kind: str
    mtu: int
    mac: str
    addresses: tuple[str, ...]
    up: bool
    master: str | None
    port: int | None = None


class Links(FactBase[dict[str, Link]]):
    """
    Returns every network link by its name. Every host has a loopback, so an empty answer means that
    iproute2 is missing.

    .. code:: python

        {
            "eth0": Link(
                name="eth0", kind="", mtu=1500, mac="52:54:00:12:34:56",
                addresses=("192.0.2.11/24",), up=True, master=None,
            ),
        }
    """

    default = dict

    @override
    def command(self) -> str:
        return if_there("ip -j -d address show")

    @override
    def process(self, output: Iterable[str]) -> dict[str, Link]:
        with understanding("ip"):
            (found,) = answers(output, 1)
            links = {link.name: link for link in map(_link, found)}
        if "lo" not in links:
            raise FactProcessError("ip does not tell the host's links: it names no loopback")
        return links


class LoosePorts(FactBase[dict[str, str]]):
    """
    Returns the host's ends of pods' links that belong to no bridge, each with the IPv4 address of
    the pod. A bridge that is removed leaves them behind, and another one of its name lacks them.

    + mounts: the table of mounts, where runtimes keep the network namespaces of pods

    .. code:: python

        {"veth88c75d51": "10.10.2.2/24"}
    """

    default = dict

    @override
    def command(self, mounts: str = "/proc/self/mountinfo") -> str:
        # A pod may go while it is asked.
        return if_there(
            f"""ip -j address show type veth || exit 1
there() {{
while read -r _ _ _ _ path _; do [ "$path" != "$1" ] || return 0; done < {mounts}; return 1
}}
seen=
while read -r _ _ _ root path _; do
case $root in net:*) ;; *) continue ;; esac
case $seen in *"$root"*) continue ;; esac
seen="$seen $root"
if said=$(nsenter --net="$path" ip -j address show </dev/null); then printf 'pod\\n%s\\n' "$said"
elif there "$path"; then echo "nsenter does not enter $path" >&2; exit 1; fi
done < {mounts}"""
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        with understanding("ip, or nsenter,"):
            _, here_said, *said = output
            (here,), pods = answers([here_said], 1), answers(said, said.count("pod"))
            loose = {link["ifindex"]: link for link in here if "master" not in link}
            return {
                loose[link["link_index"]]["ifname"]: f"{address['local']}/{address['prefixlen']}"
                for pod in pods
                for link in pod
                if loose.get(link.get("link_index"), {}).get("link_index") == link["ifindex"]
                for address in link.get("addr_info", [])
                if address.get("family") == "inet"
            }


def _link(data: dict[str, Any]) -> Link:
    info = data.get("linkinfo", {})
    link = Link(
        name=data["ifname"],
        kind=info.get("info_kind", ""),
        mtu=data["mtu"],
        mac=data.get("address", ""),
        addresses=tuple(
            str(IPNetwork(f"{address['local']}/{address['prefixlen']}"))
            for address in data.get("addr_info", [])
            if address.get("family") == "inet"
        ),
        up="UP" in data.get("flags", []),
        master=data.get("master"),
        port=info.get("info_data", {}).get("port"),
    )
    return sound(link)
