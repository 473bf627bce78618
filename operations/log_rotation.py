"""
Manage the rotation of what the components log to files.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations.files import File, plan_files

PATH = "/etc/logrotate.d/kubernetes"

# A component names a log by itself, such as kube-apiserver.HOST.root.log.INFO.DATE.1. One that was
# rotated ends in .gz and does not match.
LOGS = ("/var/log/kube*.log", "/var/log/kube*.log.*[0-9]", "/var/log/etcd*.log")


@operation()
def log_rotation(
    paths: Sequence[str] = LOGS,
    size: str = "100M",
    keep: int = 5,
) -> Generator[StringCommand, None, None]:
    """
    Set how logrotate rotates the logs that components write to files.

    What units print goes to the journal, which limits its own size.

    + paths: absolute paths without spaces; wildcards are allowed
    + size: the size at which a log is rotated, such as ``100M``
    + keep: how many rotated logs stay

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import log_rotation

        log_rotation.log_rotation(name="Rotate the logs of the components", size="50M")
    """

    text = render(f"{PATH[1:]}.j2", paths=list(paths), size=size, keep=keep)
    yield from run_or_noop(plan_files([File(PATH, text)]), "log rotation is as wanted")
