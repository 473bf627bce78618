"""
Manage kubelet's unit, and the rotation of what the components log to files.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.engine.files import File, plan_files
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.templates import render

UNIT = "/etc/systemd/system/kubelet.service"

# The second are those that a component names itself, as kube-apiserver.HOST.root.log.INFO.DATE.1;
# what was turned over, and ends in .gz, is none of them.
LOGS = ("/var/log/kube*.log", "/var/log/kube*.log.*[0-9]", "/var/log/etcd*.log")


@operation()
def kubelet(
    flags: Sequence[str],
    binary: str = "/usr/local/bin/kubelet",
    after: Sequence[str] = (DOCKER.unit,),
    environment: Mapping[str, str] | None = None,
    nofile: int = 1_000_000,
    restart_sec: int = 5,
) -> Generator[StringCommand, None, None]:
    """
    Set the unit that runs kubelet, one flag a line (N1); it is restarted whenever it ends (N7).

    Running it is left to ``services``, which restarts it when the unit has changed.

    + flags: the whole command line, as ``["--kubeconfig=/var/lib/kubelet/kubeconfig"]``
    + binary: kubelet's absolute path
    + after: units that start before it, and with it; the container runtime
    + environment: variables for it
    + nofile: open files at most
    + restart_sec: seconds until it is started again

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import kubelet, services

        kubelet.kubelet(
            name="Set up kubelet",
            flags=[
                "--api-servers=http://192.0.2.10:8080",
                "--config=/etc/kubernetes/manifests",
                "--configure-cbr0=true",
            ],
        )
        services.services(
            name="Run kubelet",
            units=[services.Unit("kubelet.service")],
        )
    """

    text = render(
        "etc/systemd/system/kubelet.service.j2",
        binary=binary,
        flags=list(flags),
        after=list(after),
        environment=dict(environment or {}),
        nofile=nofile,
        restart_sec=restart_sec,
    )
    script = plan_files([File(UNIT, text)])
    if script:
        yield script
    else:
        ctx_host.get().noop("kubelet's unit is as wanted")


@operation()
def log_rotation(
    paths: Sequence[str] = LOGS,
    size: str = "100M",
    keep: int = 5,
) -> Generator[StringCommand, None, None]:
    """
    Set how logrotate turns over the logs that components write to files (N7).

    What units print goes to the journal, which bounds itself.

    + paths: absolute paths without spaces, wildcards allowed
    + size: the size from which a log is turned over, as ``100M``
    + keep: how many old ones stay

    **Example:**

    .. code:: python

        kubelet.log_rotation(name="Rotate the logs of the components", size="50M")
    """

    text = render(
        "etc/logrotate.d/kubernetes.j2",
        paths=list(paths),
        size=size,
        keep=keep,
    )
    script = plan_files([File("/etc/logrotate.d/kubernetes", text)])
    if script:
        yield script
    else:
        ctx_host.get().noop("log rotation is as wanted")
