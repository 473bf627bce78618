"""etcd's own users and roles, through etcdctl: who may do what where authentication is on."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import understanding
from pyinfra_kube.facts.etcdctl import Reply, asking, etcdctl, replies

Status = Literal["ok", "down", "refused", "etcdctl missing"]

_KINDS = ("read", "write", "readwrite")
_ABSENT = re.compile(r"(user|role) name not found")
# A password is refused where passwords mean something. Nobody has this one.
_PASSWORD = "--user=root:none user list"
_ON = re.compile(r"authentication failed|invalid user ID or password")
_REFUSED = re.compile(r"permission denied|user name is empty|auth(entication)? failed", re.I)


class Permission(NamedTuple):
    """
    What a role lets do.

    + kind: ``read``, ``write`` or ``readwrite``
    + begin: the first key
    + end: the key after the last one; empty for one key
    """

    kind: str
    begin: str
    end: str = ""


@dataclass(frozen=True)
class Roles(Printable):
    """
    What :class:`EtcdRoles` returns.

    + status: ``ok``, or why there is no answer
    + enabled: whether etcd asks who somebody is
    + roles: of those asked for that exist, what each lets do
    + users: of those asked for that exist, which roles each has
    + said: what etcdctl said where it is not ok
    """

    status: Status = "etcdctl missing"
    enabled: bool = False
    roles: Mapping[str, tuple[Permission, ...]] = field(default_factory=dict)
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    said: str = ""


class EtcdRoles(FactBase[Roles]):
    """
    Returns whether etcd's authentication is on, with some of its roles and users.

    + roles, users: names
    + endpoint: URL
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        Roles(
            status="ok",
            enabled=True,
            roles={"flannel": (Permission("readwrite", "/a/", "/a0"),)},
            users={"flannel": ("flannel",)},
        )
    """

    shared = True

    default = Roles

    @override
    def command(
        self,
        roles: Sequence[str],
        users: Sequence[str],
        endpoint: str,
        ca: str = "",
        cert: str = "",
        key: str = "",
    ) -> str:
        self.roles, self.users = roles, users
        questions = [
            _PASSWORD,
            *(f"role get {shlex.quote(role)}" for role in roles),
            *(f"user get {shlex.quote(user)}" for user in users),
        ]
        client = etcdctl(endpoint, ca, cert, key)
        return asking([f"{client} {question}" for question in questions])

    @override
    def process(self, output: Iterable[str]) -> Roles:
        found = replies(output)
        if found is None:
            return Roles()
        if len(found) != 1 + len(self.roles) + len(self.users):
            raise FactProcessError("etcdctl does not work: its answer was cut off")
        password, *answers = found
        enabled = not password.ok and bool(_ON.search(password.text))
        for one in [*([] if enabled else [password]), *answers]:
            if not one.ok and not _ABSENT.search(one.text):
                status: Status = "refused" if _REFUSED.search(one.text) else "down"
                return Roles(status, enabled, said=one.text[:120])
        split = len(self.roles)
        with understanding("etcdctl"):
            return Roles(
                "ok",
                enabled,
                {name: _permissions(it) for name, it in _told(self.roles, answers[:split])},
                {
                    name: tuple(sorted(it.get("roles") or ()))
                    for name, it in _told(self.users, answers[split:])
                },
            )


def _told(names: Sequence[str], answers: Sequence[Reply]) -> Iterable[tuple[str, dict[str, Any]]]:
    for name, answer in zip(names, answers, strict=True):
        if answer.ok:
            yield name, json.loads(answer.text)


def _permissions(answer: dict[str, Any]) -> tuple[Permission, ...]:
    return tuple(
        Permission(
            # The first kind is left out.
            _KINDS[one.get("permType", 0)],
            *(base64.b64decode(one.get(end, "")).decode() for end in ("key", "range_end")),
        )
        for one in answer.get("perm") or ()
    )
