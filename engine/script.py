"""
Shell text that a host reads from standard input: in one round trip, and never in a process list, a
log or a label.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from pyinfra.api import QuoteString, StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.engine.tools import OWN_DOCKER, OWN_PATH


class Script(StringCommand):
    """
    A command that runs shell text given on standard input, whole or not at all.

    The first failing line ends it and fails the operation. Text that arrives cut off does not
    parse, so no line of it runs.

    + text: POSIX shell
    + summary: what is shown in its place, for example ``write /etc/hosts``

    **Example:**

    .. code:: python

        yield Script("ip link set dev cbr0 up", summary="set cbr0 up")
    """

    def __init__(self, text: str, summary: str) -> None:
        self.text = text.rstrip("\n") + "\n"
        self.summary = summary
        super().__init__(
            "sh",
            "-s",
            "--",
            QuoteString(summary),
            _stdin=f"{{\nset -eu\n{OWN_PATH}{OWN_DOCKER}{self.text}exit 0\n}} </dev/null\n",
        )


def join(scripts: Iterable[Script | None]) -> Script | None:
    """
    Return one script that runs several in order, or ``None`` for none.

    + scripts: what to join; ``None`` is left out
    """

    parts = [script for script in scripts if script is not None]
    if not parts:
        return None
    return Script("".join(part.text for part in parts), "; ".join(part.summary for part in parts))


def run_or_noop(script: Script | None, reason: str) -> Generator[StringCommand, None, None]:
    """
    Yield a script, or say why there is nothing to do.

    + script: what sets a thing; ``None`` where it is as wanted
    + reason: why there is nothing to do

    **Example:**

    .. code:: python

        yield from run_or_noop(plan_files(files), f"{len(files)} paths are as wanted")
    """

    if script:
        yield script
    else:
        ctx_host.get().noop(reason)
