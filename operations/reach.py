"""
See that containers of all hosts reach each other (M5).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, MutableMapping

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.operations.util.operation import operation
from pyinfra_kube.operations.util.script import Script

NAME = "pyinfra-kube-reach"


@operation()
def start(
    addresses: MutableMapping[str, str],
    image: str,
    needed: Callable[[], bool] = lambda: True,
) -> Generator[StringCommand, None, None]:
    """
    Run a container to be reached, and note its address; ``stop`` takes it away.

    What comes and goes within a run counts as no change.

    + addresses: where the container's address is noted, by host
    + image: any image that keeps running, as that of the release's pause container
    + needed: says, when its turn has come, whether to look at all

    **Example:**

    .. code:: python

        addresses: dict[str, str] = {}
        reach.start(name="Run a container to be reached", addresses=addresses, image=pause)
        reach.reach(name="Reach the containers of all hosts", addresses=addresses)
        reach.stop(name="Take the container away", addresses=addresses)
    """

    host = ctx_host.get()
    if ctx_state.get().is_executing and needed():
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        _, output = host.run_shell_command(
            StringCommand(
                f"docker rm --force {NAME} >/dev/null 2>&1; "
                f"docker run --detach --name {NAME} {shlex.quote(image)} >/dev/null && "
                f"docker inspect --format {shlex.quote(template)} {NAME}"
            )
        )
        if not output.stdout.strip():
            yield Script(
                f"echo {shlex.quote(output.stderr or 'no address')} >&2; exit 1",
                summary="say why no container runs",
            )
            return
        addresses[host.name] = output.stdout.strip()
    host.noop("a container runs only while it is looked at")


@operation()
def reach(addresses: MutableMapping[str, str]) -> Generator[StringCommand, None, None]:
    """
    Ping every container from inside this host's own, as its network has it.

    Fails with the hosts whose containers do not answer.

    + addresses: as ``start`` noted them

    **Example:**

    .. code:: python

        reach.reach(name="Reach the containers of all hosts", addresses=addresses)
    """

    host = ctx_host.get()
    if ctx_state.get().is_executing and host.name in addresses:
        others = {name: address for name, address in addresses.items() if name != host.name}
        pings = "\n".join(
            f"nsenter --target $pid --net ping -n -q -c 1 -w 10 {address} >/dev/null 2>&1"
            f' || silent="$silent {name}({address})"'
            for name, address in others.items()
        )
        inspect = shlex.quote("{{.State.Pid}}")
        _, output = host.run_shell_command(
            StringCommand(
                f"silent=; pid=$(docker inspect --format {inspect} {NAME})\n{pings}\n"
                'echo "silent:$silent"'
            )
        )
        silent = output.stdout.partition("silent:")[2].strip()
        if silent or "silent:" not in output.stdout:
            text = f"✗ a container here does not reach those of: {silent or 'any host'}"
            hint = "  try: ip route; iptables -L FORWARD -v; the table of flannel above"
            yield Script(
                f"printf '%s\\n' {shlex.quote(text)} {shlex.quote(hint)} >&2; exit 1",
                summary="say which containers are out of reach",
            )
            return
        host.noop(f"{len(others)} containers of other hosts are reached")
    else:
        host.noop("nothing to reach")


@operation()
def stop(addresses: MutableMapping[str, str]) -> Generator[StringCommand, None, None]:
    """
    Take away the container that ``start`` ran.

    + addresses: as ``start`` noted them

    **Example:**

    .. code:: python

        reach.stop(name="Take the container away", addresses=addresses)
    """

    host = ctx_host.get()
    if host.name in addresses:
        host.run_shell_command(StringCommand(f"docker rm --force {NAME} >/dev/null 2>&1 || true"))
    host.noop("no container is left")
    yield from ()
