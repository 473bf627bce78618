"""Text of hosts without its secrets, so that it can be given to somebody else."""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
"""What stands in place of a secret."""

_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(-----END \1-----|\Z)", re.DOTALL | re.IGNORECASE
)
# A key that a base64 of PEM begins with: "-----BEGIN " … of a private key or a certificate alike.
_PACKED_KEY = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{40,}")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(\.[A-Za-z0-9_-]*)?")
_URL = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/@\"'<>]+(?=@)", re.IGNORECASE)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*token)(\"?'?\s*[:=]\s*)[^\r\n]+",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)

# What a name of a secret has in it, in a flag, a key of JSON, YAML or an environment's variable.
_NAME = (
    r"(?:[\w.-]*(?<![a-z])auth|[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|credential|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|client[_-]?key(?:[_-]?data)?|encryption[_-]?key|key[_-]data"
    r"|identity[_-]?token)[\w.-]*)"
)
# A value in quotes, or up to a blank or a comma; a path is no secret.
_VALUE = r"(?P<value>\"(?:[^\"\\\n]|\\.)*\"?|'[^'\n]*'?|[^\s,}\]\"'][^\s,}\]]*)"
_DURATION = re.compile(r"(\d+(\.\d+)?(h|m|s|ms))+")
_PAIR = re.compile(
    rf"(?P<name>\\*[\"']?{_NAME}\\*[\"']?)(?P<gap>[ \t]*[:=][ \t]*){_VALUE}", re.IGNORECASE
)
_WORDS = re.compile(rf"(?P<name>--{_NAME})(?P<gap>[ \t]+){_VALUE}", re.IGNORECASE)
_ESCAPED = re.compile(
    rf"(?P<name>\\+\"{_NAME}\\+\")(?P<gap>\s*:\s*)(?P<value>\\+\"[^\"\\]*\\+\")", re.IGNORECASE
)
# Variables of containers: a name and a value.
_NAMED = re.compile(
    rf"(?P<name>name\\*[\"']?\s*:\s*\\*[\"']?{_NAME}\\*[\"']?)"
    rf"(?P<gap>,?\s*\\*[\"']?value\\*[\"']?\s*:\s*)(?P<value>\\+\"[^\"\\]*\\+\"|{_VALUE[10:]}",
    re.IGNORECASE,
)
_BLOCK = re.compile(
    rf"^(?P<head>(?P<indent>[ \t]*)(?:- )?[\"']?{_NAME}[\"']?[ \t]*:[ \t]*[|>][-+0-9]*[ \t]*\n)"
    r"(?P<body>(?:(?P=indent)[ \t]+[^\n]*(?:\n|\Z)|[ \t]*\n)+)",
    re.MULTILINE | re.IGNORECASE,
)
_SECRET_YAML = re.compile(
    r"^(?P<head>(?P<indent>[ \t]*)(?:data|stringData):[ \t]*\n)"
    r"(?P<body>(?:(?P=indent)[ \t]+[^\n]*(?:\n|\Z))+)",
    re.MULTILINE,
)
_SECRET_JSON = re.compile(r"(?P<head>\\*\"(?:data|stringData)\\*\"\s*:\s*)\{[^{}]*\}")
_IS_SECRET = re.compile(r"\\*[\"']?kind\\*[\"']?\s*:\s*\\*[\"']?Secret\b")


def redact(text: str) -> str:
    """
    Give text without what opens a door: private keys, passwords, tokens, the data of Secrets.

    + text: of any kind: a log, a configuration, YAML, JSON, a command line

    ```
    >>> redact("--token=abc --kubeconfig=/etc/k https://joe:pw@proxy:3128")
    '--token=(hidden) --kubeconfig=/etc/k https://(hidden)@proxy:3128'
    ```
    """
    text = _PEM.sub(HIDDEN, text)
    if _IS_SECRET.search(text):
        text = _SECRET_JSON.sub(rf'\g<head>"{HIDDEN}"', text)
        text = "\n---".join(map(_of_secret, text.split("\n---")))
    text = _BLOCK.sub(lambda found: f"{found['head']}{found['indent']}  {HIDDEN}\n", text)
    for pattern in (_PACKED_KEY, _JWT):
        text = pattern.sub(HIDDEN, text)
    text = _URL.sub(rf"\1{HIDDEN}", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _SCHEME.sub(rf"\1\2{HIDDEN}", text)
    for pattern in (_NAMED, _ESCAPED, _PAIR, _WORDS):
        text = pattern.sub(_hidden, text)
    return text


def _of_secret(document: str) -> str:
    if not _IS_SECRET.search(document):
        return document
    return _SECRET_YAML.sub(rf"\g<head>\g<indent>  {HIDDEN}\n", document)


def _hidden(found: re.Match[str]) -> str:
    value = found["value"]
    bare = value.strip("\"'\\")
    if (
        bare.startswith("/")
        or _DURATION.fullmatch(bare)
        or bare in ("", "true", "false", "null", "{", "[", HIDDEN)
    ):
        return found[0]
    end = value[-1] if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0] else ""
    begin = value[0] if end else ""
    return f"{found['name']}{found['gap']}{begin}{HIDDEN}{end}"
