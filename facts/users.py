"""
Users in the API server's files of tokens and passwords.
"""

from __future__ import annotations

import base64
import csv
import io
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable


@dataclass(frozen=True)
class UserRow(Printable):
    """
    One user. The token or password is only in ``text``.

    + user, uid: name and id
    + groups: separated by commas
    + text: the whole row as written; a secret
    """

    user: str
    uid: str
    groups: str = ""
    text: str = field(default="", repr=False)


class UserTables(FactBase[dict[str, tuple[UserRow, ...]]]):
    """
    Returns the users in each of the files. A file that does not exist is left out.

    + paths: absolute paths of the API server's ``--token-auth-file`` or ``--basic-auth-file``:
      rows of a secret, a user, an id and, where there are any, groups

    .. code:: python

        {
            "/srv/kubernetes/known_tokens.csv": (
                UserRow(user="alice", uid="alice-uid", groups="developers,viewers"),
            ),
        }
    """

    default = dict
    secret = True

    @override
    def command(self, paths: Sequence[str]) -> str:
        return (
            f"for path in {shlex.join(paths)}; do "
            '[ -e "$path" ] || continue; '
            'text=$(base64 -w 0 < "$path") || exit 1; printf "%s %s\\n" "$text" "$path"; done'
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, tuple[UserRow, ...]]:
        found = {}
        for line in output:
            text, _, path = line.partition(" ")
            try:
                found[path] = rows(base64.b64decode(text, validate=True).decode())
            except (ValueError, csv.Error) as error:
                # The text is a secret, in an error too.
                why = str(error) if isinstance(error, _Wrong) else "no rows of values"
                raise FactProcessError(
                    f"{path}: {why}; no API server starts with it: mend it, or move it away"
                ) from None
        return found


class _Wrong(ValueError):
    pass


def rows(text: str) -> tuple[UserRow, ...]:
    """
    Read a table of users.

    + text: of the file

    Raises ``ValueError`` or ``csv.Error`` where the API server would not read it.
    """

    lines = list(io.StringIO(text, newline="\n"))
    reader = csv.reader(lines, strict=True)
    found, start = [], 0
    for values in reader:
        own, start = "".join(lines[start : reader.line_num]), reader.line_num
        if not values:
            continue
        if len(values) < 3:
            raise _Wrong(f"line {reader.line_num} has not three values")
        _, user, uid, *groups = values
        found.append(UserRow(user, uid, ",".join(groups), own.rstrip("\r\n") + "\n"))
    return tuple(found)
