"""Text of hosts without its secrets, so that it can be given to somebody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "(hidden)"
"""What stands in place of a secret."""

OWN_CONTAINERS = frozenset(
    {
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
        *("coredns", "kube-router", "metrics-server", "otelcol"),
    }
)
"""Containers of kube-system whose arguments and variables are a cluster's own."""

# No pattern here begins with something that repeats, unless what stands before it cannot be a part
# of that: each would be tried from each letter on, and a long line would take hours.

_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(-----END \1-----|\Z)", re.DOTALL | re.IGNORECASE
)
# A key that a base64 of PEM begins with: "-----BEGIN " … of a private key or a certificate alike.
_PACKED_KEY = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{40,}")
_JWT = re.compile(r"eyJ(?:(?!eyJ)[\w-])*\.[\w-]{4,}(?:\.[\w-]*){0,3}", re.ASCII)
_URL = re.compile(r"(?<=://)(?:[^\s/\"'<>]+(?=@)|[^\s/:@\"'<>]+:(?!\d+/)[^\s@\"'<>]{1,200}(?=@))")
_SCHEME = re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)

# What a name of a secret has in it, in a flag, a key of JSON or YAML, a variable.
_SECRET = re.compile(
    r"passw(?:or)?d|passphrase|secret|token|credential|key[_-]?data|(?<![a-z])auth$"
    r"|(?:^|[_.-])(?:pass|pwd|pat|creds?|psk|dsn)(?:$|[_.\d-])|(?<!by)(?<!com)pass$|pwd$"
    r"|[a-z0-9][_.-]?key$",
    re.IGNORECASE,
)
_SECRET_CAMEL = re.compile(r"[a-z](?:Pass|Pwd|Pat|Creds?|Psk|Dsn|Auth)(?:$|[A-Z\d])")
_NO_SECRET = re.compile(
    r"(?:topology|label|public|pub|cache|sort|object|pod|node|queue)[_.-]?key$", re.IGNORECASE
)
# Headers, whose values have blanks and commas.
_HEADER = re.compile(r"(?:^|[._-])(?:authorization|cookie)$|^x-.*token$", re.IGNORECASE)
# Resources that rules of access name.
_RESOURCES = ("secrets", "tokenreviews", "serviceaccounts.token")

_NAME = r"(?<![\w.-])(?P<name>[\w.-]+)"
# What begins or ends a word of JSON; in a text within JSON it is escaped.
_QUOTE = r"\\{0,9}[\"']?"
_PAIR = re.compile(rf"{_NAME}(?P<gap>{_QUOTE}[ \t]*[:=][ \t]*)")
# Up to a blank, or to what ends an item of a list or of a struct. An equals sign is in base64 too:
# what is before it may be a part of the secret, unless a quotation, a list or a header begins.
_OPENS = r"[\w.-]+(?::|=\\{0,9}[\"'\[{])|(?i:[\w.-]*(?:authorization|cookie|token))="
_BARE = rf"[^\s,}}\]\"'](?:[^\s,}}\]]|[,}}\]](?!\s|$|[\"'\\,}}\]]|{_OPENS}))*"
_VALUE = re.compile(
    r"(?P<escapes>\\{1,9})[\"'](?:(?!(?<!\\)(?P=escapes)[\"'])[^\n])*(?:(?P=escapes)[\"'])?"
    r"|\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\n]|'')*'?"
    r"|\[[ \t\n]*(?:\"(?:[^\"\\\n]|\\.)*\"[ \t\n,]*)+\]?"
    rf"|\[[^\]\n]+\]?|{_BARE}"
)
_QUOTED = re.compile(r"(\\{0,9}[\"'])(.*)\1", re.DOTALL)
_MORE = re.compile(r"[^\s,;:}\])\"'\\]+")
_LINE = re.compile(r"[^\n]+")
# A word of a list or a command, before the next one.
_NEXT = re.compile(
    rf"{_NAME}(?P<gap>\\{{0,9}}[\"'][ \t\n]*,[ \t\n]*|,[ \t]*|[ \t]+"
    r"|[\"']?[ \t]*\n[ \t]*(?:-[ \t]+)?)(?=[^\s,])"
)
_BEGINS_LINE = re.compile(r"(?:^|\n)[ \t]*(?:-[ \t]+)?\Z")
_BEGINS_ITEM = re.compile(r"(?:^|\n)[ \t]*-[ \t]+[\"']?\Z")
_BLOCK = re.compile(r"[|>][-+0-9]*[ \t]*\n")
_LIST_BELOW = re.compile(r"(?:\n[ \t]*-[ \t]+(?![^\n]*:(?:[ \t\n]|\Z))[^\n]*)+")
_ITEM = re.compile(r"-[ \t]+([^\n]+)")
# Variables of containers are a name and a value, in either order.
_WORD = re.compile(rf"{_QUOTE}(?P<name>[\w.-]+)")
_VALUE_OF = re.compile(rf"{_QUOTE},?\s*{_QUOTE}value{_QUOTE}[ \t]*:[ \t]*")
_NAME_OF = re.compile(rf",?\s*{_QUOTE}\Z")
_DURATION = re.compile(r"(\d+(\.\d+)?(h|m|s|ms))+")
_PATH = re.compile(
    r"/(?:(?:etc|var|srv|run|usr|opt|root|home|tmp|dev|lib|mnt|proc|sys)(?:/[^\s+=:]*)?)?"
)
_NAMES_PATH = re.compile(r"(?:files?|dir|path|folder|root)$", re.IGNORECASE)

_SECRET_YAML = re.compile(
    r"^(?P<head>(?P<indent>[ \t]*)(?:data|stringData):[ \t]*\n)"
    r"(?P<body>(?:(?P=indent)[ \t]+[^\n]*(?:\n|\Z))+)",
    re.MULTILINE,
)
_SECRET_JSON = re.compile(
    r"(?P<head>\"(?:data|stringData)\\*\"\s*:\s*)\{(?:(?:[^{}\"]|\"(?:[^\"\\]|\\.)*\")*|[^{}]*)\}"
)
_IS_SECRET = re.compile(r"kind\\*[\"']?\s*:\s*\\*[\"']?Secret(?:List)?\b")
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def redact(text: str) -> str:
    """
    Give text without what opens a door: private keys, passwords, tokens, the data of Secrets.

    JSON is taken apart; of the API's objects, variables and arguments of containers that are not
    the cluster's own go whole.

    + text: of any kind: a log, a configuration, YAML, JSON, a command line

    ```
    >>> redact("--token=abc --kubeconfig=/etc/k https://joe:pw@proxy:3128")
    '--token=(hidden) --kubeconfig=/etc/k https://(hidden)@proxy:3128'
    ```
    """
    if found := document(text):
        begin, end, value = found
        try:
            clean = _clean(value, "", "", True)
        except RecursionError:
            return _of_text(text)
        if clean != value:
            rest = _of_text(text[:begin]), _of_text(text[end:])
            return json.dumps(clean, separators=(",", ":")).join(rest)
    return _of_text(text)


def document(text: str) -> tuple[int, int, Any] | None:
    """
    Return where a text's JSON begins and ends, and what it says; ``None`` if it has none.

    + text: JSON, below lines that begin with ``#``
    """

    begin = re.match(r"(?:#[^\n]*\n|\s)*", text)
    start = begin.end() if begin else 0
    if text[start : start + 1] not in ("{", "["):
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return start, end, value


# JSON


def _clean(value: Any, name: str, namespace: str, own: bool) -> Any:
    """
    + name: the key that it has
    + namespace: of the object of the API that it is in; empty elsewhere
    + own: whether its arguments and variables may be shown
    """
    if isinstance(value, dict):
        return _clean_members(value, namespace, own)
    if isinstance(value, list):
        if not own and name in ("args", "command"):
            return [HIDDEN]
        before = ["", *(_listed(one) for one in value)]
        return [
            _clean(one, word or name, namespace, own)
            for word, one in zip(before, value, strict=False)
        ]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return value
    if value != "" and is_secret(name) and not _is_harmless(name, str(value)):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def _clean_members(value: Mapping[str, Any], namespace: str, own: bool) -> dict[str, Any]:
    metadata, name = value.get("metadata"), value.get("name")
    if isinstance(metadata, dict) and isinstance(metadata.get("namespace"), str):
        namespace, own = metadata["namespace"], False
    if namespace and "image" in value:
        own = namespace == "kube-system" and name in OWN_CONTAINERS
    hidden = {_APPLIED}
    if value.get("kind") in ("Secret", "SecretList"):
        hidden |= {"data", "stringData", "items"}
    if isinstance(name, str) and (not own or is_secret(name)):
        # A container's variable, or a header of a probe.
        hidden.add("value")
    return {
        key: HIDDEN if key in hidden and one else _clean(one, key, namespace, own)
        for key, one in value.items()
    }


def _listed(word: Any) -> str:
    """A word of a list, if the next one is a secret."""

    found = isinstance(word, str) and re.fullmatch(r"[\w.-]+", word) and is_secret(word)
    return word if found and word.lower() not in _RESOURCES else ""


# Text


def is_secret(name: str) -> bool:
    """
    Return whether what a name stands for is taken to be a secret.

    + name: of a flag, a key, a variable
    """

    found = _SECRET.search(name) or _SECRET_CAMEL.search(name)
    return bool(found) and not _NO_SECRET.search(name)


def _is_harmless(name: str, value: str) -> bool:
    """Whether a value of a secret's name is none, such as a path."""

    bare = value.strip("\"'\\[]")
    return bool(
        bare in ("", "true", "false", "null", "{", HIDDEN)
        or _DURATION.fullmatch(bare)
        or _PATH.fullmatch(bare)
        or (bare.startswith("/") and _NAMES_PATH.search(name))
    )


def _of_text(text: str) -> str:
    text = _PEM.sub(HIDDEN, text)
    if _IS_SECRET.search(text):
        text = _SECRET_JSON.sub(rf'\g<head>"{HIDDEN}"', text)
        text = "\n---".join(map(_of_secret, text.split("\n---")))
    for pattern in (_PACKED_KEY, _JWT, _URL):
        text = pattern.sub(HIDDEN, text)
    text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
    text = _without(text, _values(text))
    return _without(text, _words(text))


def _of_secret(document: str) -> str:
    if not _IS_SECRET.search(document):
        return document
    return _SECRET_YAML.sub(rf"\g<head>\g<indent>  {HIDDEN}\n", document)


_Spans = Iterator[tuple[int, int]]


def _without(text: str, spans: _Spans) -> str:
    """Text with spans of it hidden."""

    parts, done = [], 0
    for begin, end in sorted(spans):
        if begin >= done:
            parts += [text[done:begin], HIDDEN]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _values(text: str) -> _Spans:
    """Where values are of names with ``:`` or ``=``."""

    done = value_at = 0
    for found in _PAIR.finditer(text):
        name, at = found["name"], found.end()
        if found.start() < done:
            continue
        if name == "value":
            value_at = at
        if name == "name" and (word := _WORD.match(text, at)) and is_secret(word["name"]):
            if after := _VALUE_OF.match(text, word.end()):
                name, at = word["name"], after.end()
            elif value_at and (value := _VALUE.match(text, value_at)):
                between = text[value.end() : found.start()]
                value_at = 0
                if _NAME_OF.match(between):
                    yield _inside(text, value)
        if _HEADER.search(name):
            spans = [one.span() for one in [_LINE.match(text, at)] if one]
        elif is_secret(name):
            spans = [*_value(text, name, found, at)]
        else:
            continue
        yield from spans
        done = max([done, *(end for _, end in spans)])


def _value(text: str, name: str, pair: re.Match[str], at: int) -> _Spans:
    """
    + pair: the name with what follows it
    + at: where the value begins
    """
    if head := _BLOCK.match(text, at):
        line = text.rfind("\n", 0, pair.start()) + 1
        before = text[line : pair.start()]
        indent = before[: len(before) - len(before.lstrip(" \t"))]
        body = re.compile(rf"(?:{indent}[ \t]+[^\n]*(?:\n|\Z)|[ \t]*\n)+").match(text, head.end())
        if body and (kept := body[0].strip()):
            begin = body.start() + body[0].index(kept)
            yield begin, begin + len(kept)
        return
    if below := _LIST_BELOW.match(text, at):
        yield from (one.span(1) for one in _ITEM.finditer(text, *below.span()))
        return
    value = _VALUE.match(text, at)
    if not value or _is_harmless(name, value[0]):
        return
    before = text[max(0, pair.start() - 200) : pair.start()]
    in_yaml = pair["gap"].strip() == ":" and value[0][0] not in "\"'\\[{"
    if in_yaml and _BEGINS_LINE.search(before) and (whole := _LINE.match(text, at)):
        yield whole.span()
    else:
        yield _inside(text, value)


def _inside(text: str, value: re.Match[str]) -> tuple[int, int]:
    """Where a value is, without its quotes."""

    begin, end = value.span()
    if more := _MORE.match(text, end):
        return begin, more.end()
    quoted = _QUOTED.fullmatch(value[0])
    return (begin + quoted.start(2), begin + quoted.end(2)) if quoted else (begin, end)


def _words(text: str) -> _Spans:
    """Where values are that follow a word in a list or a command."""

    done = 0
    for found in _NEXT.finditer(text):
        name, gap, at = found["name"], found["gap"], found.end()
        if found.start() < done or not _listed(name):
            continue
        is_item = "\n" in gap and gap.endswith(("- ", "-\t"))
        before = text[max(0, found.start() - 200) : found.start()]
        if not name.startswith("-"):
            if is_item and not _BEGINS_ITEM.search(before):
                continue
            if not is_item and gap.lstrip("\\")[0] not in "\"'":
                continue
        value = _VALUE.match(text, at)
        if not value or _is_harmless(name, value[0]) or value[0].startswith("--"):
            continue
        line = _LINE.match(text, at) if is_item and value[0][0] not in "\"'" else None
        span = line.span() if line else _inside(text, value)
        yield span
        done = span[1]
