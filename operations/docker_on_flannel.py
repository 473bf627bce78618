"""
Manage docker on a host with flannel: the subnet that it takes from flannel, and the end of that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Sequence

from netaddr import IPNetwork
from pyinfra.api import StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.bridge import Link, Links
from pyinfra_kube.facts.docker_on_flannel import DockerOnFlannel
from pyinfra_kube.facts.flannel import DOCKER_FILE, SUBNET_FILE, Flannel, SubnetEnv
from pyinfra_kube.operations import flannel
from pyinfra_kube.operations.files import File, plan_files
from pyinfra_kube.operations.services import FOLLOW

DROP_IN = "/etc/systemd/system/docker.service.d/flannel.conf"
# Makes docker start once without a bridge.
WITHOUT_BRIDGE = "/run/systemd/system/docker.service.d/zz-forget.conf"


@operation()
def docker_options(
    bridge: str = "docker0", predict: bool = False
) -> Generator[StringCommand, None, None]:
    """
    Have docker use the subnet that flannel got for this host.

    A drop-in makes docker read its network options from the file that flannel's unit writes. Before
    docker starts, the drop-in puts flannel's current subnet into that file, and removes docker's
    bridge if its address is of another subnet. A docker that runs is restarted if its bridge is
    down or has another address than subnet.env says. One that does not run is left to ``services``.

    Fails if docker does not take the subnet.

    + bridge: docker's bridge
    + predict: whether an earlier operation of this run gets flannel another subnet: the
      ``will_change`` of ``flannel.lease``. It matters if docker does not restart with flanneld

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker_on_flannel, services

        docker_on_flannel.docker_options(
            name="Have docker use flannel's subnet", predict=lease.will_change
        )
        services.services(name="Run docker", units=[services.Unit("docker.service")])
    """

    subnet, state = read(Flannel).subnet, read(DockerOnFlannel)
    text = render(
        f"{DROP_IN[1:]}.j2",
        docker_file=DOCKER_FILE,
        subnet_file=SUBNET_FILE,
        bridge=bridge,
        start=_start(state.start),
    )
    scripts = [plan_files([File(DROP_IN, text)])]
    reason = _stale(state.words, subnet, read(Links).get(bridge), bridge)
    if not reason and predict and not (state.follows or ctx_state.get().is_executing):
        reason = "flannel gets another subnet"
    if reason:
        changes.show(f"docker.service: restarted: {reason}")
        scripts.append(_restart(bridge))
    yield from run_or_noop(join(scripts), "docker uses flannel's subnet")


def _start(line: str) -> str:
    """The command line that docker's unit needs; empty if its own reads the options."""

    if not line or ("DOCKER_NETWORK_OPTIONS" in line and not line.endswith(_OPTIONS)):
        return ""
    return line.removesuffix(_OPTIONS) + _OPTIONS


# A command line that ends in this may be ours, and must then stay.
_OPTIONS = " $DOCKER_NETWORK_OPTIONS"


def _stale(words: Sequence[str], subnet: SubnetEnv | None, link: Link | None, bridge: str) -> str:
    """Why a running docker must be restarted; empty if it need not be."""

    if not words or subnet is None:
        return ""
    addresses = link.addresses if link else ()
    if subnet.subnet not in addresses:
        return f"{bridge} has {', '.join(addresses) or 'no address'}, not {subnet.subnet}"
    if link and not link.up:
        return f"{bridge} is down"
    sizes = [word for word in words if word.startswith("--mtu=")]
    if sizes and sizes[-1] != f"--mtu={subnet.mtu}":
        return f"it was started with {sizes[-1]}, and flannel carries {subnet.mtu}"
    return ""


def _restart(bridge: str) -> Script:
    link = shlex.quote(bridge)
    return Script(
        f"""\
{FOLLOW}\
systemctl daemon-reload
systemctl restart docker.service
follow docker.service
. {SUBNET_FILE}
ip -4 -o address show dev {link} | grep -qF " $FLANNEL_SUBNET " || {{
  echo "docker has started, and "{link}" has not the address $FLANNEL_SUBNET" >&2
  exit 1
}}""",
        summary="restart docker.service",
    )


@operation()
def flannel_absent(network: str, bridge: str = "docker0") -> Generator[StringCommand, None, None]:
    """
    Remove what flannel left on a host that is no longer a node: its devices and routes, its units,
    and what made docker use its subnet. docker then runs with its own network. Stop flanneld with
    ``services`` first.

    + network: the range of all nodes' subnets
    + bridge: docker's bridge

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker_on_flannel, services

        services.services(
            name="Stop flanneld",
            units=[services.Unit("flanneld.service", running=False, enabled=False)],
        )
        docker_on_flannel.flannel_absent(
            name="Remove flannel's network", network="10.16.0.0/16"
        )
    """

    state, links = read(DockerOnFlannel), read(Links)
    paths = [DROP_IN, flannel.DROP_IN, flannel.UNIT, flannel.CNI_CONFIG]
    paths += [DOCKER_FILE, SUBNET_FILE, WITHOUT_BRIDGE]
    files = plan_files([File(path, kind="absent") for path in paths])
    left = [name for name in links if re.fullmatch(r"flannel(0|\.\d+)", name)]
    if bridge in links and any(
        IPNetwork(address) in IPNetwork(network) for address in links[bridge].addresses
    ):
        left.append(bridge)
    # A killed run may have left it so.
    stopped = bool(state.start and not state.words)
    if not (files or left or stopped):
        ctx_host.get().noop("nothing is left of flannel")
        return
    for name in left:
        changes.show(f"link {name}: present → absent")
    if state.start:
        changes.show("docker.service: restarted: it gets its own network")
    lines = [f"clear_others none {network}"]
    lines += [shlex.join(["ip", "link", "delete", "dev", bridge])] if bridge in left else []
    if state.start:
        lines = [_stop(state.start), *lines, _START]
    else:
        lines = ["systemctl daemon-reload", *lines]
    rest = Script(flannel.CLEAR_OTHERS + "\n".join(lines), "remove flannel's devices and routes")
    script = join([files, rest])
    if script:
        yield script


def _stop(start: str) -> str:
    """
    Stop docker, and have it start once without a bridge. Otherwise it would make its bridge again
    with the subnet that this had.
    """

    text = f"[Service]\nExecStart=\nExecStart={start} --bridge=none\n"
    return f"""\
mkdir -p "$(dirname {WITHOUT_BRIDGE})"
printf %s {shlex.quote(text)} > {WITHOUT_BRIDGE}
systemctl daemon-reload
systemctl stop docker.service"""


_START = f"""\
systemctl start docker.service
rm {WITHOUT_BRIDGE}
systemctl daemon-reload
systemctl restart docker.service"""
