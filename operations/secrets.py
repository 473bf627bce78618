"""
Manage files that hold secrets: keys, tokens, passwords.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.operations.util.files import File, plan_files
from pyinfra_kube.operations.util.operation import operation


@operation()
def secret_files(
    files: Mapping[str, str | bytes],
    mode: str = "600",
    user: str = "root",
    group: str = "root",
) -> Generator[StringCommand, None, None]:
    """
    Set files that hold secrets (C1, C3, C7): never shown, and closed from their first byte.

    + files: content by absolute path
    + mode: ``600``, or ``640`` for a group; anything more open is refused
    + user, group: owners

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import secrets

        secrets.secret_files(
            name="Set the API server's key and tokens",
            files={
                "/srv/kubernetes/server.key": server_key,
                "/srv/kubernetes/known_tokens.csv": known_tokens,
            },
        )
    """

    wanted = [
        File(path, content, mode, user, group, secret=True) for path, content in files.items()
    ]
    script = plan_files(wanted)
    if script:
        yield script
    else:
        ctx_host.get().noop(f"{len(wanted)} secret files are as wanted")
