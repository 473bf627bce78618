"""
IPv4 routes of a host's main table.
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
class Route(Printable):
    """
    One route.

    + destination: network in CIDR form; ``0.0.0.0/0`` is the default route
    + via: the gateway's address, ``None`` for a network on the link itself
    + dev: the link; wanted as ``None``, the kernel chooses it
    + protocol: who made it: ``kernel``, ``static``, ``dhcp`` … or a number
    + metric: the lower wins
    + type: ``unicast``, ``blackhole``, ``unreachable`` …
    """

    destination: str
    via: str | None = None
    dev: str | None = None
    protocol: str = "boot"
    metric: int = 0
    type: str = "unicast"


class Routes(FactBase["list[Route] | None"]):
    """
    Returns the routes of the main table in the kernel's order; ``None`` where iproute2 is missing.

    .. code:: python

        [
            Route("0.0.0.0/0", via="192.0.2.1", dev="eth0", protocol="dhcp", metric=100),
            Route("192.0.2.0/24", dev="eth0", protocol="kernel"),
            Route("10.10.2.0/24", via="192.0.2.12", dev="eth0", protocol="76"),
        ]
    """

    @override
    def command(self) -> str:
        # The loopback is always there: its routes show that ip(8) works.
        return if_there("ip -j link show dev lo && ip -4 -j route show table main")

    @override
    def process(self, output: Iterable[str]) -> list[Route]:
        with understanding("ip"):
            (loopback,), found = answers(output, 2)
            routes = [_route(data) for data in found]
            if loopback["ifname"] != "lo":
                raise FactProcessError("ip does not tell the host's routes: it knows no loopback")
        return routes


def _route(data: dict[str, Any]) -> Route:
    route = Route(
        destination=network(data["dst"]),
        via=data.get("gateway"),
        dev=data.get("dev"),
        protocol=data.get("protocol", "boot"),
        metric=data.get("metric", 0),
        type=data.get("type", "unicast"),
    )
    return sound(route)


def network(text: str) -> str:
    """A destination of iproute2 (``default``, ``192.0.2.1``) in CIDR form."""

    return "0.0.0.0/0" if text == "default" else str(IPNetwork(text).cidr)
