"""
A deploy of a few of our operations that needs no docker, for any number of hosts and files.

    pyinfra INVENTORY tests/bench/light.py --data bench_files=20
"""

from __future__ import annotations

from functools import cache

from pyinfra.api import State
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.prefetch import prefetch
from pyinfra_kube.operations import files, hosts, iptables, routes, services, sysctl

_UNIT = "bench-sleep.service"
_SERVICE = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


@phase("Light")
def light() -> None:
    prefetch(build)
    build()


def build() -> None:
    """Files, kernel settings, names, rules, routes and a unit."""

    host = ctx_host.get()
    data = host.data
    number = int(data.get("bench_files", 20))
    names = _names(ctx_state.get())
    # Of its own, for one real host answers for many.
    path = own_folder(host.name)
    folder = files.File(path, kind="directory", mode="755")
    unit = files.File(f"/etc/systemd/system/{_UNIT}", _SERVICE)
    some = [files.File(f"{path}/{n}.conf", f"value = {n}\n") for n in range(number)]
    files.files(name="Files", files=[folder, *some])
    unit_file = files.files(name="Unit file", files=[unit])
    sysctl.sysctls(name="Kernel settings", settings={"net.ipv4.ip_forward": 1})
    hosts.hosts(name="Names", entries=names)
    iptables.rules(
        name="Rules",
        rules=[f"-A FORWARD -d 10.77.{n}.0/24 -j ACCEPT" for n in range(number // 4)],
        owner="bench-light",
    )
    routes.routes(
        name="Routes",
        routes=[
            routes.Route(f"10.78.{n}.0/24", via=data.bench_gateway) for n in range(number // 4)
        ],
    )
    services.services(
        name="Unit", units=[services.Unit(_UNIT, restart=bool(unit_file.will_change))]
    )


def own_folder(name: str) -> str:
    """The folder that only one host has."""

    return f"/etc/bench/{name}.d"


@cache
def _names(state: State) -> dict[str, str]:
    return {host.name: host.data.address for host in state.inventory}


if "__name__" not in globals():
    light()
