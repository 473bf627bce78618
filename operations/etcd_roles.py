"""
Manage etcd's own users and roles: which of its keys a client may read and write, by the common
name of the certificate that it shows.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.failing import failure
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.etcd import trouble
from pyinfra_kube.facts.etcd_roles import EtcdRoles, Permission
from pyinfra_kube.facts.etcdctl import etcdctl

ROOT = "root"
"""The role that may do everything; etcd brings it, and wants a user of that name."""


@operation()
def roles(
    users: Mapping[str, Sequence[str]],
    prefixes: Mapping[str, str],
    endpoint: str = "https://127.0.0.1:2379",
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Have etcd let each client do what its roles let it do, and nothing else. Whoever is no user
    is then refused. Users and roles that are not named stay as they are.

    It takes etcd 3.4 or newer, and etcdctl on the host. From then on nobody gets keys over HTTP,
    where etcd does not learn the name of a certificate.

    + users: common name of a certificate → its roles; ``root`` may do everything. One of them is
      that of ``cert``
    + prefixes: role → what the keys begin with that it may read and write
    + endpoint: URL of etcd
    + ca, cert, key: files on the host, for TLS

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import etcd_roles

        etcd_roles.roles(
            name="Limit flannel to its own keys",
            users={
                "m1": ["root"],
                "kube-apiserver-etcd-client": ["root"],
                "flannel": ["flannel"],
            },
            prefixes={"flannel": "/coreos.com/network/"},
            ca="/srv/kubernetes/etcd-ca.crt",
            cert="/srv/kubernetes/etcd-server.crt",
            key="/srv/kubernetes/etcd-server.key",
        )
    """

    access = {"ca": ca, "cert": cert, "key": key}
    wanted = {ROOT: frozenset({ROOT})} | {name: frozenset(of) for name, of in users.items()}
    grants = {role: frozenset({_of(prefix)}) for role, prefix in prefixes.items()}
    found = read(EtcdRoles, roles=[ROOT, *grants], users=[*wanted], endpoint=endpoint, **access)
    unknown = found.status != "ok"
    if found.status == "refused" or (unknown and ctx_state.get().is_executing):
        error = OperationError(trouble(found.status, found.said, [endpoint]))
        if not ctx_state.get().is_executing:
            raise error
        yield failure(error)
        return
    there = {name: frozenset(of) for name, of in found.users.items()}
    may = {role: frozenset(of) for role, of in found.roles.items()}
    lines = [*_roles(grants, may), *_users(wanted, there)]
    if not found.enabled:
        changes.show("etcd authentication: off → on")
        lines.append("auth enable")
    text = _RUN % etcdctl(endpoint, **access) + "\n".join(f"etcd_does {line}" for line in lines)
    script = Script(text, "set users and roles of etcd") if lines else None
    yield from run_or_noop(script, "etcd's users and roles are as wanted")


_RUN = """\
etcd_does() {
  if ! said=$(%s "$@" 2>&1); then
    echo "etcd did not take $1 $2: $said" >&2
    exit 1
  fi
}
"""


def _of(prefix: str) -> Permission:
    """The permission for all keys that begin so: up to what follows the last of them."""

    return Permission("readwrite", prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))


_Permissions = Mapping[str, frozenset[Permission]]


def _roles(grants: _Permissions, found: _Permissions) -> Iterator[str]:
    for role, wanted in {ROOT: None, **grants}.items():
        there = found.get(role)
        if there is None:
            yield shlex.join(["role", "add", role])
        # etcd's own is not granted anything.
        if wanted is None or there == wanted:
            continue
        changes.show(f"etcd role {role}: {_shown(there)} → {_shown(wanted)}")
        for one in sorted((there or frozenset()) - wanted):
            yield shlex.join(["role", "revoke-permission", role, *filter(None, one[1:])])
        for one in sorted(wanted - (there or frozenset())):
            yield shlex.join(["role", "grant-permission", role, one.kind, *filter(None, one[1:])])


def _shown(permissions: frozenset[Permission] | None) -> str:
    if permissions is None:
        return "absent"
    texts = [
        f"{one.kind} {one.begin}" + (f" to {one.end}" if one.end else "")
        for one in sorted(permissions)
    ]
    return ", ".join(texts) or "nothing"


def _users(
    users: Mapping[str, frozenset[str]], found: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    for user, wanted in users.items():
        there = found.get(user)
        if there == wanted:
            continue
        was = "absent" if there is None else ", ".join(sorted(there)) or "no role"
        changes.show(f"etcd user {user}: {was} → {', '.join(sorted(wanted))}")
        if there is None:
            yield shlex.join(["user", "add", "--no-password", user])
        for role in sorted(wanted - (there or frozenset())):
            yield shlex.join(["user", "grant-role", user, role])
        for role in sorted((there or frozenset()) - wanted):
            yield shlex.join(["user", "revoke-role", user, role])
