"""
Manage the routes to the pods of other hosts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from netaddr import AddrFormatError, IPAddress, IPNetwork
from pyinfra.api import OperationValueError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts import routes as facts
from pyinfra_kube.operations.boot_units import plan_boot_unit

# The number in the kernel's "proto" field that marks our routes; no routing daemon uses it.
PROTOCOL = 76


@dataclass(frozen=True)
class Route:
    """
    One wanted route.

    + destination: network in CIDR form
    + via: address of the host that has it
    + dev: the link to that host; the kernel finds it by itself
    """

    destination: str
    via: str
    dev: str | None = None

    def __post_init__(self) -> None:
        try:
            network, gateway = IPNetwork(self.destination), IPAddress(self.via)
        except (AddrFormatError, ValueError) as error:
            raise OperationValueError(f"route {self.destination} via {self.via}: {error}") from None
        if network.ip != network.cidr.ip or (network.version, gateway.version) != (4, 4):
            raise OperationValueError(
                f"destination: {self.destination!r} is not an IPv4 network without host bits, "
                "as 10.10.2.0/24"
            )


@operation()
def routes(
    routes: Sequence[Route] = (),
    present: bool = True,
    persist: bool = True,
    protocol: int = PROTOCOL,
    unit: str = "kube-routes",
) -> Generator[StringCommand, None, None]:
    """
    Manage the routes to other hosts' pods as a whole.

    A protocol number marks our routes. One that is no longer in the list is removed. Another's
    route is replaced only if it has a wanted destination and the same metric. A destination that
    is a network of the host itself is an error when the routes are set.

    + routes: list of ``Route``
    + present: ``False`` removes every route of ours
    + persist: whether the unit sets the routes again at every boot, as soon as the links exist
    + protocol: the number that marks the routes; ``ip route show proto 76`` lists them
    + unit: name of the unit

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import routes

        routes.routes(
            name="Route to the pods of other nodes",
            routes=[
                routes.Route("10.10.2.0/24", via="192.0.2.12"),
                routes.Route("10.10.3.0/24", via="192.0.2.13"),
            ],
        )
    """

    wanted = list(routes) if present else []
    # A host without iproute2 gets it in the same run.
    found = read(facts.Routes) or []
    adding = [route for route in wanted if not any(_is(route, f, protocol) for f in found)]
    lines = _set(adding, found, protocol) + _remove(wanted, adding, found, protocol)
    live = Script("\n".join(lines), summary="set the routes to other hosts' pods")
    persistent = plan_boot_unit(
        unit,
        "Routes to the pods of other hosts",
        [_command("replace", route, protocol) for route in wanted],
        after=["network-online.target"],
        retry=True,
        present=bool(wanted) and persist,
    )
    yield from run_or_noop(join([live if lines else None, persistent]), "routes are as wanted")


def _is(wanted: Route, found: facts.Route, protocol: int) -> bool:
    return (
        _same_place(wanted, found)
        and found.protocol == str(protocol)
        and found.via == wanted.via
        and wanted.dev in (None, found.dev)
    )


def _same_place(wanted: Route, found: facts.Route) -> bool:
    """Whether one route would replace the other in the kernel."""

    return found.destination == facts.network(wanted.destination) and found.metric == 0


def _set(adding: Iterable[Route], found: Sequence[facts.Route], protocol: int) -> list[str]:
    lines = []
    for route in adding:
        # "replace" would take a network of the host's own links away; "add" refuses to.
        others = [f for f in found if _same_place(route, f) and f.protocol != "kernel"]
        before = _text(others[0]) if others else "absent"
        changes.show(f"route {route.destination}: {before} → via {route.via} proto {protocol}")
        lines.append(_command("replace" if others else "add", route, protocol))
    return lines


def _remove(
    wanted: Sequence[Route],
    adding: Sequence[Route],
    found: Sequence[facts.Route],
    protocol: int,
) -> list[str]:
    """Delete routes with our number that are neither wanted nor just replaced."""

    replaced = [next((f for f in found if _same_place(a, f)), None) for a in adding]
    stale = [
        f
        for f in found
        if f.protocol == str(protocol)
        and f not in replaced
        and not any(_is(route, f, protocol) for route in wanted)
    ]
    for route in stale:
        changes.show(f"route {route.destination}: {_text(route)} → absent")
    return [f"ip route del {r.destination} {_text(r)} metric {r.metric}" for r in stale]


def _text(route: facts.Route) -> str:
    parts = {"via": route.via, "dev": route.dev, "proto": route.protocol}
    return " ".join(f"{word} {value}" for word, value in parts.items() if value)


def _command(action: str, route: Route, protocol: int) -> str:
    dev = f" dev {route.dev}" if route.dev else ""
    return f"ip route {action} {route.destination} via {route.via}{dev} proto {protocol}"
