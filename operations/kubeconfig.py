"""
Manage kubeconfigs: how a component or a person reaches the API server, and as whom.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

from pyinfra.api import StringCommand

from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.operations.files import File, plan_files


@operation()
def kubeconfig(
    paths: Mapping[str, str],
    mode: str = "600",
    user: str = "root",
    group: str = "root",
) -> Generator[StringCommand, None, None]:
    """
    Set kubeconfigs (C5, C6). They hold credentials, so ``--diff`` does not show them.

    What reads one takes it up when it is restarted: name it in the ``config`` of its unit.

    + paths: the whole text by absolute path
    + mode: ``600``, or ``640`` for a group
    + user, group: owners

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import kubeconfig

        kubeconfig.kubeconfig(
            name="Set kubelet's kubeconfig",
            paths={"/var/lib/kubelet/kubeconfig": text},
        )
    """

    files = [File(path, text, mode, user, group, secret=True) for path, text in paths.items()]
    yield from run_or_noop(plan_files(files), f"{len(files)} kubeconfigs are as wanted")
