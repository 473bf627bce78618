"""
etcd through its HTTP interface, which needs only curl: health, members and keys.

A daemon that is down, a certificate that is not accepted, a refusal, an answer of another service,
a key that does not exist and a missing curl are different answers.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.etcdctl import Reply, asking, etcdctl, replies

T = TypeVar("T")

Status = Literal[
    "ok",
    "down",
    "no trust",
    "refused",
    "unsupported",
    "not understood",
    "curl missing",
    "etcdctl missing",
]
Api = Literal["v2", "v3", "grpc"]
"""
``v2`` and ``v3`` are asked over HTTP, with curl. ``grpc`` is v3 with etcdctl: etcd knows the client
by its certificate, and its roles decide.
"""

# The JSON gateway of the v3 interface: from etcd 3.4, in 3.3, before.
GATEWAYS = ("v3", "v3beta", "v3alpha")

# Exit codes of curl for TLS: a bad certificate, ours refused; and, where the URL is https, a failed
# handshake and a connection that ends in the middle of one.
_TLS_ERRORS = (51, 53, 54, 58, 59, 60, 66, 77, 80, 82, 83, 90, 91)
_ERRORS_WITH_TLS = (35, 56)
# Exit codes of curl for an answer that is no HTTP, or not all of it.
_STRANGE = (1, 8, 18, 61)

# What etcd says to an unknown client. The HTTP status differs: v3 answers 400, v2 its own code.
_REFUSALS = re.compile(
    r"user name (is empty|not found)|user name or password|permission|auth token|authenticat"
    r"|credentials",
    re.I,
)
_NO_USER, _NO_KEY = 110, 100

_TROUBLES = {
    "down": "does not answer this host{said}; see whether it runs, and what it said last",
    "no trust": "and this host do not accept each other's certificates{said}; see which have ended,"
    " and give ca, cert and key of its cluster",
    "refused": "refuses this host{said}; give ca, cert and key of a client that may, or turn etcd's"
    " authentication off: etcdctl auth disable",
    "unsupported": "has no {api} interface (from 3.4 v2 needs --enable-v2; 3.6 has none)",
    "not understood": "gives an answer that is none of etcd's{said}; see what listens there",
    "curl missing": "cannot be asked: curl is not installed on this host",
    "etcdctl missing": "cannot be asked: etcdctl is not installed; etcd's package has it",
}
# From the most telling status to the least.
_TELLING: tuple[Status, ...] = (
    *("refused", "no trust", "not understood", "down", "unsupported"),
    *("curl missing", "etcdctl missing"),
)


def trouble(status: Status, said: str, endpoints: Sequence[str], api: Api = "v3") -> str:
    """
    Return why etcd has no answer, and what to do.

    + status: other than ``ok``
    + said: what etcd or curl said
    + endpoints: the URLs asked
    + api: the interface asked for
    """

    text = _TROUBLES[status].format(api=api, said=f" ({said})" if said else "")
    return f"etcd at {', '.join(endpoints)} {text}"


def curl(ca: str = "", cert: str = "", key: str = "") -> str:
    """
    Return the command line of curl, with the files on the host that it uses for TLS.

    + ca: certificate of the authority
    + cert, key: of this client
    """

    words = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10"]
    for option, path in (("--cacert", ca), ("--cert", cert), ("--key", key)):
        words += [option, path] if path else []
    return shlex.join(words)


def to_base64(text: str) -> str:
    """Return text in base64, which the JSON gateway takes."""

    return base64.b64encode(text.encode()).decode()


@dataclass(frozen=True)
class Answer:
    """
    What one request got.

    + url: as it was asked
    + exit_code: of curl
    + code: of HTTP, 0 for none
    + text: the body
    + error: what curl said
    """

    url: str
    exit_code: int = 0
    code: int = 0
    text: str = ""
    error: str = ""

    @cached_property
    def body(self) -> dict[str, Any]:
        """The body as JSON; empty where it is no object."""

        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def said(self) -> str:
        """What etcd, or else curl, said of an error, in one line."""

        parts = [self.body.get(key) for key in ("error", "message", "cause")]
        words = [part for part in parts if isinstance(part, str) and part]
        text = ": ".join(dict.fromkeys(words)) or self.error or self.text
        return " ".join(text.split())[:120] or (f"HTTP {self.code}" if self.code else "")

    @property
    def status(self) -> Status:
        if self.exit_code in _TLS_ERRORS or self._ended_in_tls:
            return "no trust"
        if self._is_refusal:
            return "refused"
        if self.exit_code in _STRANGE:
            return "not understood"
        if self.exit_code:
            return "down"
        # etcd has no pages; a proxy's for 502 to 504 is of an etcd that is down.
        if self.text.startswith("<") and self.code not in (502, 503, 504):
            return "not understood"
        if self.code in (404, 405, 501) and "errorCode" not in self.body:
            return "unsupported"
        if self.code >= 500:
            return "down"
        good = self.code == 200 and self.body and not self.body.keys() & {"error", "errorCode"}
        return "ok" if good or self.is_absent else "not understood"

    @property
    def is_absent(self) -> bool:
        """Whether v2 says that there is no such key."""

        return self.code == 404 and self.body.get("errorCode") == _NO_KEY

    @property
    def _ended_in_tls(self) -> bool:
        return self.url.startswith("https:") and self.exit_code in _ERRORS_WITH_TLS

    @property
    def _is_refusal(self) -> bool:
        says = self.code >= 400 and bool(self.body) and bool(_REFUSALS.search(self.said))
        return self.code in (401, 403) or self.body.get("errorCode") == _NO_USER or says


def _asking(words: str, requests: Iterable[str]) -> str:
    """The shell text that makes requests, each with the code of HTTP on a line after its body."""

    return (
        "if ! command -v curl >/dev/null 2>&1; then echo 'curl missing'; else\n"
        f"ask() {{ url=$1; shift; {words} --write-out '\nanswer %{{http_code}}' "
        '"$@" "$url" 2>&1; echo " $? $url"; }\n' + "\n".join([*requests, "fi"])
    )


def _answers(output: Iterable[str], asked: Sequence[str]) -> list[Answer] | None:
    """What each request got, in their order; ``None`` where curl is missing."""

    answers: list[Answer] = []
    body: list[str] = []
    error = ""
    for line in output:
        if line == "curl missing" and not (answers or body):
            return None
        words = line.split(" ")
        if words[0] == "answer" and len(words) == 4 and words[3] in asked:
            with understanding("curl"):
                answers.append(
                    Answer(words[3], int(words[2]), int(words[1]), "\n".join(body).strip(), error)
                )
            body, error = [], ""
        elif re.match(r"curl: \(\d+\) ", line):
            error = line
        else:
            body.append(line)
    if [answer.url for answer in answers] != list(asked):
        last = next((line for line in reversed(body) if line.strip()), "it prints nothing")
        raise FactProcessError(f"curl does not work: {error or ' '.join(last.split())[:120]}")
    return answers


@dataclass(frozen=True)
class Health(Printable):
    """
    One endpoint of etcd.

    + status: ``ok`` where it answers, else why not
    + healthy: whether it has a leader and can write
    + version: of the server
    + said: what it, or curl, said where it is not ok
    """

    status: Status = "down"
    healthy: bool = False
    version: str = ""
    said: str = ""


class EtcdHealth(FactBase[dict[str, Health]]):
    """
    Returns the health of etcd's members. Each is asked separately.

    + endpoints: URLs, for example ``http://127.0.0.1:2379``
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        {"http://127.0.0.1:2379": Health(status="ok", healthy=True, version="3.4.13")}
    """

    shared = True

    default = dict

    @override
    def command(self, endpoints: Sequence[str], ca: str = "", cert: str = "", key: str = "") -> str:
        self.endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        self.asked = [e + path for e in self.endpoints for path in ("/health", "/version")]
        return _asking(curl(ca, cert, key), [f"ask {shlex.quote(url)}" for url in self.asked])

    @override
    def process(self, output: Iterable[str]) -> dict[str, Health]:
        answers = _answers(output, self.asked)
        if answers is None:
            return dict.fromkeys(self.endpoints, Health("curl missing"))
        pairs = zip(self.endpoints, answers[::2], answers[1::2], strict=True)
        return {endpoint: _health(health, version) for endpoint, health, version in pairs}


def _health(health: Answer, version: Answer) -> Health:
    # A member without a leader says so with the code 503: it is up, and not healthy.
    number = version.body.get("etcdserver")
    if version.status != "ok" or not isinstance(number, str):
        known = version.status in ("ok", "unsupported")
        return Health("not understood" if known else version.status, said=version.said)
    healthy = health.code == 200 and str(health.body.get("health")).lower() == "true"
    return Health("ok", healthy, number, "" if healthy else health.said)


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
class Members(Printable):
    """
    What :class:`EtcdMembers` returns.

    + status: ``ok``, or why there is no answer
    + members: by name; those that never started by their id
    + said: what etcd, or curl, said where it is not ok
    """

    status: Status = "down"
    members: dict[str, Member] = field(default_factory=dict)
    said: str = ""


class EtcdMembers(FactBase[Members]):
    """
    Returns the members of etcd's cluster from the first endpoint that answers, through the
    interface that it has.

    + endpoints: URLs
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        Members(
            status="ok",
            members={
                "m1": Member(
                    id="8e9e05c52164694d", name="m1",
                    peer_urls=("http://192.0.2.11:2380",),
                    client_urls=("http://192.0.2.11:2379",),
                ),
            },
        )
    """

    shared = True

    default = Members

    @override
    def command(self, endpoints: Sequence[str], ca: str = "", cert: str = "", key: str = "") -> str:
        bases = [endpoint.rstrip("/") for endpoint in endpoints]
        paths = [*(f"{gateway}/cluster/member/list" for gateway in GATEWAYS), "v2/members"]
        self.asked = [f"{base}/{path}" for base in bases for path in paths]
        data = ["--data '{}'"] * len(GATEWAYS) + [""]
        asks = zip(self.asked, data * len(bases), strict=True)
        return _asking(curl(ca, cert, key), [f"ask {shlex.quote(url)} {d}" for url, d in asks])

    @override
    def process(self, output: Iterable[str]) -> Members:
        answers = _answers(output, self.asked)
        if answers is None:
            return Members("curl missing")
        for answer in answers:
            if members := _read(_members, answer):
                return Members("ok", members)
        status, said = _why(answers)
        return Members(status, said=said)


def _members(answer: Answer) -> dict[str, Member]:
    members = [_member(item) for item in answer.body["members"]]
    return {member.name or member.id: member for member in members}


def _member(item: dict[str, Any]) -> Member:
    # The v3 interface gives ids as decimal numbers.
    member = Member(
        id=f"{int(item['ID']):x}" if "ID" in item else item["id"],
        name=item.get("name", ""),
        peer_urls=tuple(item.get("peerURLs") or ()),
        client_urls=tuple(item.get("clientURLs") or ()),
    )
    return sound(member)


def _read(read: Callable[[Answer], T], answer: Answer) -> T | None:
    """What a good answer holds; ``None`` where it is another, or not understood."""

    if answer.status != "ok":
        return None
    try:
        with understanding("etcd"):
            return read(answer)
    except FactProcessError:
        return None


def _why(answers: Sequence[Answer]) -> tuple[Status, str]:
    """Why none of the answers is one, and what was said of it."""

    # A good one that is here was not understood.
    found = [("not understood" if a.status == "ok" else a.status, a.said) for a in answers]
    first = min(found, key=lambda one: _TELLING.index(one[0]), default=("down", ""))
    return cast("tuple[Status, str]", first)


@dataclass(frozen=True)
class KeyState:
    """
    One key of etcd.

    + value: its text
    + revision: of its last change, for comparing before setting
    """

    value: str
    revision: int


@dataclass(frozen=True)
class Keys(Printable):
    """
    What :class:`EtcdKeys` returns.

    + status: ``ok``, or why there is no answer; ``unsupported`` where etcd lacks this interface
    + base: URL under which keys are set: of the endpoint that answered, with its interface
    + keys: by path; a key that does not exist is left out
    + said: what etcd, or curl, said where it is not ok
    """

    status: Status = "down"
    base: str = ""
    keys: dict[str, KeyState] = field(default_factory=dict)
    said: str = ""


class EtcdKeys(FactBase[Keys]):
    """
    Returns keys of etcd from the first endpoint that answers. Not for secrets: ``-vvv`` prints what
    facts read.

    + endpoints: URLs
    + paths: single keys, for example ``/coreos.com/network/config``
    + prefix: everything below it too, for example ``/coreos.com/network/``
    + api: ``v2``, ``v3`` or ``grpc``; v2 does not share its keys with the others
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        Keys(
            status="ok",
            base="http://127.0.0.1:2379/v3",
            keys={"/coreos.com/network/config": KeyState('{"Network":"10.10.0.0/16"}', 5)},
        )
    """

    shared = True

    default = Keys

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
        self.api = api
        if api == "grpc":
            ranges = [
                *map(shlex.quote, paths),
                *([f"--prefix {shlex.quote(prefix)}"] if prefix else []),
            ]
            self.asked = [endpoint for endpoint in endpoints for _ in ranges]
            return asking(
                [f"{etcdctl(at, ca, cert, key)} get {one}" for at in endpoints for one in ranges]
            )
        requests_of = _v2_asks if api == "v2" else _v3_asks
        requests = [one for at in endpoints for one in requests_of(at, paths, prefix)]
        self.asked = [url for url, _ in requests]
        lines = [f"ask {shlex.quote(url)}{data}" for url, data in requests]
        return _asking(curl(ca, cert, key), lines)

    @override
    def process(self, output: Iterable[str]) -> Keys:
        read = _grpc_answers if self.api == "grpc" else _answers
        answers = read(output, self.asked)
        if answers is None:
            return Keys("etcdctl missing" if self.api == "grpc" else "curl missing")
        bases: dict[str, list[Answer]] = {}
        for answer in answers:
            base = answer.url.partition("/kv/range")[0].partition("/keys/")[0]
            bases.setdefault(base, []).append(answer)
        for base, parts in bases.items():
            found = [_read(_keys, part) for part in parts]
            keys = [some for some in found if some is not None]
            if len(keys) == len(parts):
                return Keys("ok", base, {path: key for some in keys for path, key in some.items()})
        # Of an endpoint that answers some of the questions, the others say why.
        bad = [answer for answer in answers if _read(_keys, answer) is None]
        status, said = _why(bad)
        return Keys(status, said=said)


def _grpc_answers(output: Iterable[str], asked: Sequence[str]) -> list[Answer] | None:
    """As if they had come over HTTP: the gateway gives the same JSON."""

    found = replies(output)
    if found is None:
        return None
    if len(found) != len(asked):
        raise FactProcessError("etcdctl does not work: its answer was cut off")
    return [_grpc_answer(at, reply) for at, reply in zip(asked, found, strict=True)]


def _grpc_answer(endpoint: str, reply: Reply) -> Answer:
    if reply.ok:
        answer = Answer(endpoint, code=200, text=reply.text)
        if "header" not in answer.body:
            raise FactProcessError(f"etcdctl does not work: {answer.said}")
        return answer
    # etcdctl tells nothing else apart.
    code = 0 if _REFUSALS.search(reply.text) else 7
    return Answer(endpoint, code, 400, json.dumps({"error": reply.text}))


def _v2_asks(endpoint: str, paths: Sequence[str], prefix: str) -> list[tuple[str, str]]:
    base = f"{endpoint.rstrip('/')}/v2/keys"
    urls = [f"{base}{quote(path)}" for path in paths]
    if prefix:
        urls.append(f"{base}{quote(prefix.rstrip('/') or '/')}?recursive=true")
    return [(url, "") for url in urls]


def _v3_asks(endpoint: str, paths: Sequence[str], prefix: str) -> list[tuple[str, str]]:
    base = endpoint.rstrip("/")
    ranges = [{"key": to_base64(path)} for path in paths]
    if prefix:
        # The end of a prefix is the prefix with its last character raised by one.
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        ranges.append({"key": to_base64(prefix), "range_end": to_base64(end)})
    return [
        (f"{base}/{gateway}/kv/range", f" --data {shlex.quote(json.dumps(item))}")
        for gateway in GATEWAYS
        for item in ranges
    ]


def _keys(answer: Answer) -> dict[str, KeyState]:
    body = answer.body
    if answer.is_absent:
        return {}
    if "node" in body:
        return dict(_v2_nodes(body["node"]))
    # etcd never leaves it out, and whoever else answers knows nothing of it.
    _ = body["header"]["revision"]
    return {
        base64.b64decode(item["key"], validate=True).decode(): sound(
            KeyState(
                base64.b64decode(item.get("value", ""), validate=True).decode("utf-8", "replace"),
                int(item["mod_revision"]),
            )
        )
        for item in body.get("kvs") or []
    }


def _v2_nodes(node: dict[str, Any]) -> Iterable[tuple[str, KeyState]]:
    if not node.get("dir"):
        key = KeyState(node.get("value", ""), node["modifiedIndex"])
        yield _text(node["key"]), sound(key)
    for child in node.get("nodes") or []:
        yield from _v2_nodes(child)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
