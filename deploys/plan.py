"""
Print who gets which address, without touching a host (P1–P6).

    python -m pyinfra_kube.deploys.plan INVENTORY
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from pyinfra.api import Config, State
from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import ctx_config, ctx_state
from pyinfra_cli.inventory import make_inventory

from pyinfra_kube.cluster.addressing import make_plan
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.deploys.address_book import AddressBook
from pyinfra_kube.deploys.context import folder_of, read_spec
from pyinfra_kube.deploys.phase import explain


def plan(inventory: str) -> str:
    """
    Give the plan of an inventory as text.

    + inventory: path of its file

    What hosts already carry is not known here; a run asks them, and lets them keep it.
    Raises ``InputError``.
    """

    state = State()
    state.cwd = os.getcwd()
    ctx_config.set(Config())
    with ctx_state.use(state):
        state.init(make_inventory(inventory, cwd=state.cwd), Config())
        spec = read_spec(state)
    return make_plan(spec, remembered=AddressBook(folder_of(spec)).read()).table()


def main(arguments: Sequence[str] | None = None) -> int:
    """
    The command; gives its exit status.

    + arguments: its words; by default those that the program was called with
    """

    parser = ArgumentParser(
        prog="python -m pyinfra_kube.deploys.plan",
        description="Print who gets which address, without touching a host.",
    )
    parser.add_argument("inventory", metavar="INVENTORY", help="path of the inventory's file")
    try:
        print(plan(parser.parse_args(arguments).inventory))
    except InputError as error:
        print(explain(error), file=sys.stderr)
        return 1
    except PyinfraError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
