"""
Manage files, directories and links as a whole.

pyinfra's own ``files`` operations take one path each, three round trips a path, and print the
content of secrets with ``--diff``; this one takes all of a phase's paths and hides what is secret.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.engine.files import File, plan_files
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop

__all__ = ["File", "files"]


@operation()
def files(files: Sequence[File]) -> Generator[StringCommand, None, None]:
    """
    Set any number of files, directories and links.

    Each file appears under its name only when it is whole, with its mode and owner. What
    already is as wanted is not touched.

    + files: list of ``File``; directories before what lies in them

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import files

        files.files(
            name="Write the known tokens",
            files=[
                files.File("/srv/kubernetes", kind="directory", mode="755"),
                files.File("/srv/kubernetes/known_tokens.csv", tokens, mode="600", secret=True),
            ],
        )
    """

    yield from run_or_noop(plan_files(files), f"{len(files)} paths are as wanted")
