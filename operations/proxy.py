"""
Manage kube-proxy's unit.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations.files import File, plan_files

UNIT = "/etc/systemd/system/kube-proxy.service"


@operation()
def proxy(
    flags: Sequence[str],
    binary: str = "/usr/local/bin/kube-proxy",
    after: Sequence[str] = (),
    nofile: int = 1_000_000,
    restart_sec: int = 5,
) -> Generator[StringCommand, None, None]:
    """
    Set the unit that runs kube-proxy, one flag a line (N2); it is restarted whenever it ends (N7).

    Running it is left to ``services``, which restarts it when the unit has changed.

    + flags: the whole command line, as ``["--master=http://192.0.2.10:8080"]``
    + binary: kube-proxy's absolute path
    + after: units that start before it, beside the network
    + nofile: open files at most
    + restart_sec: seconds until it is started again

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import proxy, services

        proxy.proxy(
            name="Set up kube-proxy",
            flags=["--master=http://192.0.2.10:8080", "--v=2"],
        )
        services.services(
            name="Run kube-proxy",
            units=[services.Unit("kube-proxy.service")],
        )
    """

    text = render(
        "etc/systemd/system/kube-proxy.service.j2",
        binary=binary,
        flags=list(flags),
        after=list(after),
        nofile=nofile,
        restart_sec=restart_sec,
    )
    yield from run_or_noop(plan_files([File(UNIT, text)]), "kube-proxy's unit is as wanted")
