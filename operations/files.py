"""
Manage files, directories and links, secret ones among them.

pyinfra's own ``files`` operations take one path each, need three round trips for it, and print
secrets with ``--diff``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.engine.files import File, plan_files
from pyinfra_kube.engine.operation import operation

__all__ = ["File", "files"]


@operation()
def files(files: Sequence[File]) -> Generator[StringCommand, None, None]:
    """
    Set any number of files, directories and links.

    A file appears under its name only when it is whole, with its mode and owner. What is already
    as wanted is not touched. A service that reads one of the files takes it up when it is
    restarted: name the file in ``config`` of its ``services.Unit``.

    + files: list of ``File``; directories before what lies in them. With ``secret=True`` the
      content of a file is never shown, and its mode is ``600``, or ``640`` for a group

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import files

        files.files(
            name="Set the apiserver's key and tokens",
            files=[
                files.File("/srv/kubernetes", kind="directory", mode="755"),
                files.File("/srv/kubernetes/server.key", key, mode="600", secret=True),
                files.File("/srv/kubernetes/known_tokens.csv", tokens, mode="600", secret=True),
            ],
        )
    """

    script = plan_files(files)
    if script:
        yield script
    else:
        ctx_host.get().noop(f"{len(files)} paths are as wanted")
