"""
Manage the users in the apiserver's files of tokens and passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from pyinfra.api import StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.users import UserRow, UserTables, rows
from pyinfra_kube.operations.files import File, plan_files


@operation()
def user_tables(
    tables: Mapping[str, str],
    ours: Callable[[UserRow], bool],
    mode: str = "600",
    group: str = "root",
) -> Generator[StringCommand, None, None]:
    """
    Set users in the apiserver's files of tokens or passwords. ``--diff`` names each user that is
    added or removed and shows no secret.

    Rows of others stay, after ours.

    + tables: our rows by absolute path. A row is a secret, a user, an id and, optionally, groups
    + ours: tells whether a row on the host is ours; such a row is removed when it is not wanted
    + mode: ``600``, or ``640`` for a group
    + group: the group that may read them with ``640``

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import users

        users.user_tables(
            name="Set the robots of the apiserver",
            tables={"/srv/kubernetes/known_tokens.csv": f"{token},robot,robot-1\\n"},
            ours=lambda row: row.uid.startswith("robot-"),
        )
    """

    found = read(UserTables, paths=list(tables))
    wanted = []
    for path, text in tables.items():
        there = found.get(path, ())
        others = [row for row in there if not ours(row)]
        _show_users(path, rows(text), there, others)
        content = text + "".join(row.text for row in others)
        wanted.append(File(path, content, mode, group=group, secret=True))
    yield from run_or_noop(plan_files(wanted), "the apiserver's users are as wanted")


def _show_users(
    path: str,
    wanted: tuple[UserRow, ...],
    there: tuple[UserRow, ...],
    others: list[UserRow],
) -> None:
    before = {_named(row) for row in there if row not in others}
    after = {_named(row) for row in wanted}
    changed = {row.text for row in wanted} ^ {row.text for row in there if row not in others}
    for sign, names in (("comes", after - before), ("goes", before - after)):
        for name in sorted(names):
            changes.show(f"{path}: {name} {sign}")
    if changed and others:
        stay = ", ".join(sorted(_named(row) for row in others))
        changes.show(f"{path}: {stay} of others: kept")


def _named(row: UserRow) -> str:
    return f"{row.user} ({row.uid})"
