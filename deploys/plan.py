"""
Print who gets which address, without touching a host.

    python -m pyinfra_kube.deploys.plan INVENTORY
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from traceback import StackSummary, TracebackException

from pyinfra.api.exceptions import PyinfraError

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.deploys.run.addresses_file import Allocations
from pyinfra_kube.deploys.run.context import folder_of, read_spec
from pyinfra_kube.deploys.run.manifests import read_manifests
from pyinfra_kube.engine.internals import inventory_state
from pyinfra_kube.engine.phase import explain


def plan(inventory: str) -> str:
    """
    Give the plan of an inventory as text.

    + inventory: path of its file

    Pod CIDRs that hosts already have are not known here: only a run asks the hosts.
    Raises ``InputError``.
    """

    with inventory_state(inventory, os.getcwd()) as state:
        spec = read_spec(state)
    read_manifests(spec)
    found = make_plan(spec, recorded=Allocations(folder_of(spec)).read())
    left = CredentialStore(folder_of(spec)).days_left(spec, found)
    return "\n\n".join(filter(None, [found.table(), left]))


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command, and return its exit status.

    + arguments: its arguments; by default the program's own
    """

    parser = ArgumentParser(
        prog="python -m pyinfra_kube.deploys.plan",
        description="Print who gets which address, without touching a host.",
    )
    parser.add_argument(
        "inventory", metavar="INVENTORY", type=_file, help="path of the inventory's file"
    )
    inventory = parser.parse_args(arguments).inventory
    try:
        print(plan(inventory))
    except InputError as error:
        print(explain(error), file=sys.stderr)
        return 1
    except PyinfraError as error:
        print(error, file=sys.stderr)
        return 1
    # The inventory is somebody's Python, which may raise anything.
    except Exception as error:
        print(_where(error, inventory), file=sys.stderr)
        return 1
    return 0


def _file(path: str) -> str:
    if not Path(path).is_file():
        raise ArgumentTypeError(f"there is no file {path}")
    return path


def _where(error: Exception, inventory: str) -> str:
    """The part of a traceback that is in the inventory's own file."""

    # pyinfra wraps what an inventory raises.
    cause = error if isinstance(error, SyntaxError) else error.__context__ or error
    trace = TracebackException.from_exception(cause)
    own = [frame for frame in trace.stack if frame.filename == inventory]
    if own or isinstance(cause, SyntaxError):
        trace.stack = StackSummary.from_list(own)
    return "".join(trace.format()).rstrip()


if __name__ == "__main__":
    sys.exit(main())
