"""
Etcd through its HTTP interface, which needs only curl: health, members and keys.

A daemon that is down, a key that is not there and a curl that is missing are different answers.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from pyinfra.api import FactBase
from typing_extensions import override

Status = Literal["ok", "down", "refused", "unsupported", "curl missing"]
Api = Literal["v2", "v3"]

# The JSON gateway of the v3 interface: from etcd 3.4, in 3.3, before.
GATEWAYS = ("v3", "v3beta", "v3alpha")

# Exit codes of curl that speak of TLS: no handshake, a bad certificate, none of ours accepted.
_TLS_ERRORS = (35, 51, 53, 54, 56, 58, 59, 60, 66, 77, 80, 82, 83, 90, 91)


def curl(ca: str = "", cert: str = "", key: str = "") -> str:
    """
    Return the words of curl with the files on the host that it takes for TLS.

    + ca: certificate of the authority
    + cert, key: of this client
    """

    words = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10"]
    for option, path in (("--cacert", ca), ("--cert", cert), ("--key", key)):
        words += [option, path] if path else []
    return shlex.join(words)


def to_base64(text: str) -> str:
    """Return text as the JSON gateway takes it."""

    return base64.b64encode(text.encode()).decode()


@dataclass(frozen=True)
class Answer:
    """
    What one request got.

    + url: as it was asked
    + exit_code: of curl
    + code: of HTTP, 0 for none
    + body: as JSON, ``None`` where it is not
    """

    url: str
    exit_code: int
    code: int
    body: Any

    @property
    def status(self) -> Status:
        if self.exit_code == 127:
            return "curl missing"
        if self.exit_code in _TLS_ERRORS or self.code in (401, 403):
            return "refused"
        if self.exit_code or self.code in (502, 503, 504):
            return "down"
        if self.code in (404, 405, 501) and "errorCode" not in (self.body or {}):
            return "unsupported"
        return "ok"


def _ask(curl_words: str) -> str:
    # The body goes out as it comes; the code of HTTP comes after it on a line of its own.
    return (
        f"ask() {{ url=$1; shift; {curl_words} --write-out '\\nanswer %{{http_code}}' "
        '"$@" "$url" 2>/dev/null; echo " $? $url"; }\n'
    )


def _answers(output: Iterable[str]) -> list[Answer]:
    answers: list[Answer] = []
    body: list[str] = []
    for line in output:
        words = line.split(" ")
        if words[:1] == ["answer"] and len(words) == 4:
            answers.append(Answer(words[3], int(words[2]), int(words[1]), _json("".join(body))))
            body = []
        elif line.startswith(" 127 "):
            answers.append(Answer(line.split(" ")[2], 127, 0, None))
            body = []
        else:
            body.append(line)
    return answers


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


@dataclass(frozen=True)
class Health:
    """
    One endpoint of etcd.

    + status: ``ok`` where it answers, else ``down``, ``refused`` (TLS) or ``curl missing``
    + healthy: whether it has a leader and can write
    + version: of the server
    """

    status: Status = "down"
    healthy: bool = False
    version: str = ""


class EtcdHealth(FactBase[dict[str, Health]]):
    """
    Returns the health of etcd's members, each asked by itself.

    + endpoints: URLs, as ``http://127.0.0.1:2379``
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        {"http://127.0.0.1:2379": Health(status="ok", healthy=True, version="3.4.13")}
    """

    shared = True

    default = dict

    @override
    def command(self, endpoints: Sequence[str], ca: str = "", cert: str = "", key: str = "") -> str:
        self.endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        asks = [
            f"ask {shlex.quote(endpoint + path)}"
            for endpoint in self.endpoints
            for path in ("/health", "/version")
        ]
        return _ask(curl(ca, cert, key)) + "\n".join(asks)

    @override
    def process(self, output: Iterable[str]) -> dict[str, Health]:
        answers = {answer.url: answer for answer in _answers(output)}
        return {
            endpoint: _health(answers[f"{endpoint}/health"], answers[f"{endpoint}/version"])
            for endpoint in self.endpoints
            if f"{endpoint}/version" in answers
        }


def _health(health: Answer, version: Answer) -> Health:
    found = health.body.get("health") if isinstance(health.body, dict) else None
    # A member without a leader says so with the code 503: it is up, and not healthy.
    status = version.status if version.status != "unsupported" else "ok"
    return Health(
        status=status,
        healthy=health.code == 200 and str(found).lower() == "true",
        version=version.body.get("etcdserver", "") if isinstance(version.body, dict) else "",
    )


@dataclass(frozen=True)
class Member:
    """
    One member of the cluster, as its members know it.

    + id: hexadecimal
    + name: empty until it first starts
    """

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@dataclass(frozen=True)
class Members:
    """
    What :class:`EtcdMembers` returns.

    + status: ``ok``, or why there is no answer
    + members: by name; those that never started by their id
    """

    status: Status = "down"
    members: dict[str, Member] = field(default_factory=dict)


class EtcdMembers(FactBase[Members]):
    """
    Returns the members of etcd's cluster, from the first endpoint that answers, through
    whichever interface it has.

    + endpoints: URLs
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        Members(
            status="ok",
            members={
                "master1": Member(
                    id="8e9e05c52164694d", name="master1",
                    peer_urls=("http://192.0.2.11:2380",),
                    client_urls=("http://192.0.2.11:2379",),
                ),
            },
        )
    """

    shared = True

    @staticmethod
    @override
    def default() -> Members:
        return Members()

    @override
    def command(self, endpoints: Sequence[str], ca: str = "", cert: str = "", key: str = "") -> str:
        asks = []
        for endpoint in endpoints:
            base = endpoint.rstrip("/")
            asks += [
                f"ask {shlex.quote(f'{base}/{gateway}/cluster/member/list')} --data '{{}}'"
                for gateway in GATEWAYS
            ]
            asks.append(f"ask {shlex.quote(f'{base}/v2/members')}")
        return _ask(curl(ca, cert, key)) + "\n".join(asks)

    @override
    def process(self, output: Iterable[str]) -> Members:
        answers = _answers(output)
        answer = _first(answers)
        if answer is None or answer.status != "ok" or not isinstance(answer.body, dict):
            return Members(answer.status if answer else "down")
        found = [_member(item) for item in answer.body.get("members") or []]
        return Members("ok", {member.name or member.id: member for member in found})


def _first(answers: Sequence[Answer]) -> Answer | None:
    """The first good answer, or else the first that says why there is none."""

    good = [answer for answer in answers if answer.status == "ok" and answer.code < 400]
    telling = [answer for answer in answers if answer.status != "unsupported"]
    return next(iter([*good, *telling, *answers]), None)


def _member(item: dict[str, Any]) -> Member:
    # The v3 interface gives ids as decimal numbers.
    return Member(
        id=f"{int(item['ID']):x}" if "ID" in item else str(item.get("id", "")),
        name=item.get("name", ""),
        peer_urls=tuple(item.get("peerURLs") or ()),
        client_urls=tuple(item.get("clientURLs") or ()),
    )


@dataclass(frozen=True)
class KeyState:
    """
    One key of etcd.

    + value: its text
    + revision: of its last change, for comparing before setting
    + ttl: seconds that it has left, in the v2 interface; ``None`` where it stays
    """

    value: str
    revision: int
    ttl: int | None = None


@dataclass(frozen=True)
class Keys:
    """
    What :class:`EtcdKeys` returns.

    + status: ``ok``, or why there is no answer; ``unsupported`` where etcd has not this interface
    + base: URL under which keys are set: of the endpoint that answered, with its interface
    + keys: by path; what is not there is left out
    """

    status: Status = "down"
    base: str = ""
    keys: dict[str, KeyState] = field(default_factory=dict)


class EtcdKeys(FactBase[Keys]):
    """
    Returns keys of etcd from the first endpoint that answers. Never ask it for secrets: ``-vvv``
    prints what facts read.

    + endpoints: URLs
    + paths: single keys, as ``/coreos.com/network/config``
    + prefix: everything below it too, as ``/coreos.com/network/``
    + api: ``v2`` or ``v3``: two separate worlds of keys
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        Keys(
            status="ok",
            base="http://127.0.0.1:2379/v3",
            keys={"/coreos.com/network/config": KeyState('{"Network":"10.10.0.0/16"}', 5)},
        )
    """

    shared = True

    @staticmethod
    @override
    def default() -> Keys:
        return Keys()

    @override
    def command(
        self,
        endpoints: Sequence[str],
        paths: Sequence[str] = (),
        prefix: str = "",
        api: Api = "v3",
        ca: str = "",
        cert: str = "",
        key: str = "",
    ) -> str:
        asks = _v2_asks if api == "v2" else _v3_asks
        lines = [line for endpoint in endpoints for line in asks(endpoint, paths, prefix)]
        return _ask(curl(ca, cert, key)) + "\n".join(lines)

    @override
    def process(self, output: Iterable[str]) -> Keys:
        bases: dict[str, list[Answer]] = {}
        for answer in _answers(output):
            base = answer.url.partition("/kv/range")[0].partition("/keys/")[0]
            bases.setdefault(base, []).append(answer)
        failed: Status = "down"
        for base, answers in bases.items():
            bad = [answer.status for answer in answers if answer.status != "ok"]
            if not bad:
                keys: dict[str, KeyState] = {}
                for answer in answers:
                    keys |= _keys(answer.body)
                return Keys("ok", base, keys)
            failed = bad[0] if failed in ("down", "unsupported") else failed
        return Keys(failed)


def _v2_asks(endpoint: str, paths: Sequence[str], prefix: str) -> list[str]:
    base = f"{endpoint.rstrip('/')}/v2/keys"
    urls = [f"{base}{quote(path)}" for path in paths]
    if prefix:
        urls.append(f"{base}{quote(prefix.rstrip('/') or '/')}?recursive=true")
    return [f"ask {shlex.quote(url)}" for url in urls]


def _v3_asks(endpoint: str, paths: Sequence[str], prefix: str) -> list[str]:
    base = endpoint.rstrip("/")
    ranges = [{"key": to_base64(path)} for path in paths]
    if prefix:
        # The end of a prefix is the prefix with its last character raised by one.
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        ranges.append({"key": to_base64(prefix), "range_end": to_base64(end)})
    return [
        f"ask {shlex.quote(f'{base}/{gateway}/kv/range')} --data {shlex.quote(json.dumps(item))}"
        for gateway in GATEWAYS
        for item in ranges
    ]


def _keys(body: Any) -> dict[str, KeyState]:
    if not isinstance(body, dict) or "errorCode" in body:
        return {}
    if "node" in body:
        return dict(_v2_nodes(body["node"]))
    return {
        base64.b64decode(item["key"]).decode(): KeyState(
            base64.b64decode(item.get("value", "")).decode("utf-8", "replace"),
            int(item["mod_revision"]),
        )
        for item in body.get("kvs") or []
    }


def _v2_nodes(node: dict[str, Any]) -> Iterable[tuple[str, KeyState]]:
    if not node.get("dir"):
        yield node["key"], KeyState(node.get("value", ""), node["modifiedIndex"], node.get("ttl"))
    for child in node.get("nodes") or []:
        yield from _v2_nodes(child)
