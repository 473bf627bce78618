"""
Manage keys of etcd, through its v2 or its v3 interface, and the URLs of its members.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.failing import failure
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.etcd import (
    GATEWAYS,
    Api,
    EtcdKeys,
    EtcdMembers,
    Keys,
    KeyState,
    curl,
    to_base64,
    trouble,
)
from pyinfra_kube.facts.etcdctl import etcdctl

__all__ = ["Key", "keys", "peer_urls"]


@dataclass(frozen=True)
class Key:
    """
    One wanted key.

    + path: such as ``/coreos.com/network/config``
    + value: its text
    + present: whether it must exist
    + previous: the only value that may be replaced or removed; ``None`` for any, empty text for a
      key that does not exist yet
    + json: compare as JSON, so that only a different meaning is a change
    """

    path: str
    value: str = ""
    present: bool = True
    previous: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or self.path.endswith("/"):
            raise ValueError(f"path: {self.path!r} does not begin, or ends, with a slash")
        if self.json and self.present:
            json.loads(self.value)

    def same(self, found: str, wanted: str) -> bool:
        """Whether two values are the same for this key."""

        with suppress(json.JSONDecodeError):
            if self.json:
                return bool(json.loads(found) == json.loads(wanted))
        return found == wanted


@operation()
def keys(
    keys: Sequence[Key],
    endpoints: Sequence[str] = ("http://127.0.0.1:2379",),
    api: Api = "v3",
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Set or remove keys of etcd. A key is written only if it still has the value that was read,
    otherwise the operation fails. Only a removal through v2 without ``previous`` ignores the value.

    An etcd that does not answer yet, or whose certificate has ended, may answer when the keys are
    set, so the plan goes on, unless a key must be absent. An etcd that refuses this host's user, or
    whose answer is not understood, is an error in the plan.

    Values are not for secrets: ``--diff`` shows them.

    + keys: list of ``Key``
    + endpoints: URLs; the first that answers is used
    + api: ``v2``, ``v3``, or ``grpc`` for v3 with etcdctl, where etcd's roles decide
    + ca, cert, key: files on the host, for TLS

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import etcd

        etcd.keys(
            name="Set flannel's network",
            keys=[
                etcd.Key(
                    "/coreos.com/network/config",
                    '{"Network": "10.10.0.0/16", "Backend": {"Type": "vxlan", "VNI": 1}}',
                    json=True,
                ),
            ],
            endpoints=["http://127.0.0.1:2379"],
            api="v2",
        )
    """

    paths = [item.path for item in keys]
    state = read(EtcdKeys, endpoints=endpoints, paths=paths, api=api, ca=ca, cert=cert, key=key)
    if not _may_go_on(keys, state):
        raise OperationError(trouble(state.status, state.said, endpoints, api))
    differing = [item for item in keys if _differs(item, state.keys.get(item.path))]
    if conflicts := [text for item in differing if (text := _conflict(item, state))]:
        raise OperationError("; ".join(conflicts))
    for item in differing:
        found = state.keys.get(item.path)
        was, becomes = found.value if found else "absent", item.value if item.present else "absent"
        changes.show(f"etcd {item.path}: {was} → {becomes}")
    if not differing:
        ctx_host.get().noop(f"{len(keys)} keys of etcd are as wanted")
    elif state.status == "ok":
        words = etcdctl(state.base, ca, cert, key) if api == "grpc" else curl(ca, cert, key)
        yield _script(differing, state, api, words)
    else:
        yield failure(OperationError(trouble(state.status, state.said, endpoints, api)))


def _may_go_on(keys: Sequence[Key], state: Keys) -> bool:
    """Whether what is known of etcd is enough for a plan."""

    if state.status in ("down", "no trust", "unsupported", "curl missing", "etcdctl missing"):
        return all(item.present for item in keys)
    return state.status == "ok"


def _differs(item: Key, found: KeyState | None) -> bool:
    if item.present:
        return found is None or not item.same(found.value, item.value)
    return found is not None


def _conflict(item: Key, state: Keys) -> str:
    """Why a run may not replace what somebody else set; empty if it may."""

    found = state.keys.get(item.path)
    may = item.previous is None or item.same(found.value if found else "", item.previous)
    if may or state.status != "ok":
        return ""
    has = repr(found.value) if found else "no value"
    return f"etcd key {item.path}: it has {has}, and only {item.previous!r} may be replaced"


_FAIL = 'fail() { echo "etcd did not take $1: $2" >&2; exit 1; }'


def _script(items: Sequence[Key], state: Keys, api: Api, words: str) -> Script:
    write = {"v2": _v2, "v3": _v3, "grpc": _grpc}[api]
    lines = [_FAIL, *(write(item, state, words) for item in items)]
    summary = "set keys of etcd: " + ", ".join(item.path for item in items)
    return Script("\n".join(lines), summary)


def _v2(item: Key, state: Keys, words: str) -> str:
    found = state.keys.get(item.path)
    condition = f"?prevIndex={found.revision}" if found else "?prevExist=false"
    # flanneld watches its leases, and stops at a removal with a condition, which it does not know.
    condition = condition if item.present or item.previous is not None else ""
    url = shlex.quote(f"{state.base}/keys{quote(item.path)}{condition}")
    request = "--request PUT --data-urlencode value@-" if item.present else "--request DELETE"
    return _send(f"{words} {request} {url}", item, item.value, "*'\"action\":'*")


def _v3(item: Key, state: Keys, words: str) -> str:
    found, name = state.keys.get(item.path), to_base64(item.path)
    request: dict[str, Any] = {"requestDeleteRange": {"key": name}}
    if item.present:
        request = {"requestPut": {"key": name, "value": to_base64(item.value)}}
    revision = str(found.revision if found else 0)
    comparison = {"key": name, "target": "MOD", "result": "EQUAL", "modRevision": revision}
    text = json.dumps({"compare": [comparison], "success": [request]})
    url = shlex.quote(f"{state.base}/kv/txn")
    return _send(f"{words} --data-binary @- {url}", item, text, "*'\"succeeded\":true'*")


def _grpc(item: Key, state: Keys, words: str) -> str:
    found, name = state.keys.get(item.path), json.dumps(item.path)
    change = f"put {name} {json.dumps(item.value)}" if item.present else f"del {name}"
    condition = f'mod({name}) = "{found.revision if found else 0}"'
    # What holds, what is done then, and otherwise: nothing.
    text = f"{condition}\n\n{change}\n\n\n\n"
    return _send(f"{words} txn 2>&1", item, text, "*'\"succeeded\":true'*")


def _send(command: str, item: Key, text: str, success: str) -> str:
    """Send text through standard input, and look for the sign of success in the answer."""

    return (
        f"answer=$(printf %s {shlex.quote(text)} | {command})\n"
        f'case "$answer" in {success}) ;; *) fail {shlex.quote(item.path)} "$answer" ;; esac'
    )


@operation()
def peer_urls(
    member: str,
    urls: Sequence[str],
    endpoints: Sequence[str] = ("http://127.0.0.1:2379",),
    ca: str = "",
    cert: str = "",
    key: str = "",
    comes: bool = False,
) -> Generator[StringCommand, None, None]:
    """
    Set the URLs by which the other members of etcd reach one. What it listens on is its own
    ``--listen-peer-urls``.

    Where etcd does not answer, nothing is changed.

    + member: its name
    + urls: with scheme and port
    + endpoints: URLs of etcd; the first that answers is used
    + ca, cert, key: files on the host, for TLS
    + comes: it follows a step of this run, without which etcd would not answer: it is planned as
      it is, and fails where etcd does not answer then

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import etcd

        etcd.peer_urls(
            name="Register the member with TLS",
            member="m1",
            urls=["https://192.0.2.11:2380"],
            endpoints=["https://192.0.2.11:2379"],
            ca="/srv/kubernetes/etcd-ca.crt",
            cert="/srv/kubernetes/etcd-server.crt",
            key="/srv/kubernetes/etcd-server.key",
        )
    """

    words = curl(ca, cert, key)
    if comes and not ctx_state.get().is_executing:
        changes.show(f"etcd member {member}: reached by {', '.join(urls)}")
        yield _registration(member, "", urls, endpoints[0], words)
        return
    state = read(EtcdMembers, endpoints=endpoints, ca=ca, cert=cert, key=key)
    found = state.members.get(member)
    if comes and not found:
        said = trouble(state.status, state.said, endpoints) if state.status != "ok" else ""
        yield failure(OperationError(said or f"etcd has no member {member}"))
    elif not found or sorted(found.peer_urls) == sorted(urls):
        known = "as wanted" if found else "not known: etcd does not tell them"
        ctx_host.get().noop(f"the URLs of the member {member} are {known}")
    else:
        was, becomes = ", ".join(found.peer_urls), ", ".join(urls)
        changes.show(f"etcd member {member}: reached by {was} → {becomes}")
        yield _registration(member, found.id, urls, endpoints[0], words)


# The v3 interface answers with a header, or an error; v2 with a code of HTTP alone.
_REGISTER = """\
register() {
  for gateway in %(gateways)s; do
    said=$(%(curl)s --data %(v3)s "%(endpoint)s/$gateway/cluster/member/update" 2>&1) || :
    case $said in *'"header"'*) return ;; esac
  done
  json='Content-Type: application/json'
  code=$(%(curl)s --output /dev/null --write-out '%%{http_code}' --request PUT \\
    --header "$json" --data %(v2)s %(endpoint)s/v2/members/%(id)s) || :
  if [ "$code" != 204 ]; then
    echo "etcd did not take the URLs of %(member)s: $said" >&2
    exit 1
  fi
}
register"""


def _registration(member: str, id: str, urls: Sequence[str], endpoint: str, words: str) -> Script:
    body = {"peerURLs": list(urls)}
    text = _REGISTER % {
        "gateways": " ".join(GATEWAYS),
        "curl": words,
        "v3": shlex.quote(json.dumps({"ID": str(int(id or "0", 16)), **body})),
        "v2": shlex.quote(json.dumps(body)),
        "endpoint": endpoint.rstrip("/"),
        "id": id,
        "member": member,
    }
    return Script(text, f"register etcd's member {member}")
