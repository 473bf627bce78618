"""
Manage files that hold secrets: keys, tokens, passwords.
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
    yield from run_or_noop(plan_files(wanted), f"{len(wanted)} secret files are as wanted")


@operation()
def user_tables(
    tables: Mapping[str, str],
    ours: Callable[[UserRow], bool],
    mode: str = "600",
    user: str = "root",
    group: str = "root",
) -> Generator[StringCommand, None, None]:
    """
    Set users of the API server in its files of tokens or passwords (C3). Users that somebody else
    put there stay, after ours; ``--diff`` names whoever comes and goes, and shows no secret.

    + tables: our rows by absolute path: a secret, a user, an id and, where there are any, groups
    + ours: says whether a row that is there is ours, and goes where it is not wanted
    + mode: ``600``, or ``640`` for a group
    + user, group: owners

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import secrets

        secrets.user_tables(
            name="Set the robots of the API server",
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
        wanted.append(File(path, content, mode, user, group, secret=True))
    yield from run_or_noop(plan_files(wanted), "the users of the API server are as wanted")


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
