"""
How docker's options are spelled: as flags of a command line, and as keys of daemon.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Keys of daemon.json that take a list or an object; their flags are in the singular.
_FLAGS = {
    "add-runtimes": "add-runtime",
    "cluster-store-opts": "cluster-store-opt",
    "default-address-pools": "default-address-pool",
    "default-ulimits": "default-ulimit",
    "dns-opts": "dns-opt",
    "exec-opts": "exec-opt",
    "hosts": "host",
    "insecure-registries": "insecure-registry",
    "labels": "label",
    "log-opts": "log-opt",
    "registry-mirrors": "registry-mirror",
    "runtimes": "add-runtime",
    "storage-opts": "storage-opt",
}
_SHORT = {"-H": "host", "-b": "bridge", "-D": "debug", "-l": "log-level", "-s": "storage-driver"}
_SHORT |= {"-g": "data-root", "-G": "group", "-p": "pidfile"}
_RENAMED = {"graph": "data-root"}

# The type of value that docker takes for some keys of daemon.json.
_OBJECTS = ("cluster-store-opts", "default-ulimits", "log-opts", "runtimes")
_LISTS = (*(key for key in _FLAGS if key not in (*_OBJECTS, "add-runtimes")), "dns", "dns-search")
_SWITCHES = (
    *("debug", "icc", "init", "ip-forward", "ip-masq", "iptables", "ip6tables", "ipv6"),
    *("live-restore", "no-new-privileges", "selinux-enabled", "tls", "tlsverify", "userland-proxy"),
)
_TEXTS = (
    *("bip", "bridge", "data-root", "default-ipc-mode", "fixed-cidr", "graph", "log-driver"),
    "storage-driver",
)
_KINDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(_OBJECTS, (dict, "an object")),
    **dict.fromkeys(_LISTS, (list, "a list")),
    **dict.fromkeys(_SWITCHES, (bool, "true or false")),
    **dict.fromkeys(_TEXTS, (str, "a string")),
    "mtu": (int, "a whole number"),
}


def flag_name(key: str) -> str:
    """
    Return the name of a flag, without dashes, such as ``insecure-registry``.

    + key: of daemon.json
    """

    name = _FLAGS.get(key, key)
    return _RENAMED.get(name, name)


@dataclass(frozen=True)
class Flag:
    """
    One flag of docker's.

    + name: of the long form, without dashes
    + value: such as ``cbr0``; ``true`` for a switch without a value
    + words: of the command line
    + where: the place that sets it, for people; empty for a command line
    + path: of the file that sets it
    + variable: the variable that holds it, in one of the distribution's files of options
    """

    name: str
    value: str
    words: tuple[str, ...]
    where: str = ""
    path: str = ""
    variable: str = ""


def split_flags(words: Sequence[str]) -> list[Flag]:
    """
    Return the flags of a command line.

    + words: without the program's name
    """

    return [Flag(name, _value(parts), tuple(parts)) for name, parts in _parts(words)]


def _parts(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    parts: list[tuple[str, list[str]]] = []
    for word in words:
        long = word.startswith("--")
        if long:
            name = word[2:].partition("=")[0]
            parts.append((_RENAMED.get(name, name), [word]))
        elif word.startswith("-") and word != "-":
            parts.append((_SHORT.get(word[:2], word[:2]), [word]))
        elif parts and _takes_more(*parts[-1]):
            parts[-1][1].append(word)
        else:
            parts.append((word, [word]))
    return parts


def _takes_more(name: str, parts: list[str]) -> bool:
    """Whether the next word is the value of a flag."""

    whole = len(parts) > 1 or name in _SWITCHES or not parts[0].startswith("-")
    return not (whole or _inline(parts[0]))


def _inline(word: str) -> str:
    """The value inside a flag's word: ``=cbr0`` of ``--bridge=cbr0``, ``cbr0`` of ``-bcbr0``."""

    return word[2:] if not word.startswith("--") else "".join(word.partition("=")[1:])


def _value(parts: Sequence[str]) -> str:
    found = parts[1] if len(parts) > 1 else _inline(parts[0]).removeprefix("=")
    return found or ("" if "=" in parts[0] or len(parts) > 1 else "true")


def members(text: str) -> list[tuple[str, str]]:
    """
    Return the keys of daemon.json, with their values as they are written there.

    + text: of daemon.json

    Raises ``ValueError`` if docker would not start with it.

    ```
    >>> members('{"a": 1.50, "b": {"c" : []}}')
    [('a', '1.50'), ('b', '{"c" : []}')]
    ```
    """

    if not text.strip():
        return []
    decoder = json.JSONDecoder(parse_constant=_no_json)
    try:
        value = decoder.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    for key, (kind, wanted) in _KINDS.items():
        of = value.get(key)
        right = isinstance(of, kind) and (kind is bool or not isinstance(of, bool))
        if of is not None and not right:
            raise ValueError(f"{key} is not {wanted}")
    return _members(text, decoder)


def _no_json(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _members(text: str, decoder: json.JSONDecoder) -> list[tuple[str, str]]:
    """The members of a valid object."""

    found = []
    at = _skip(text, 0, "{")
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at, ":")
        _, end = decoder.raw_decode(text, at)
        found.append((key, text[at:end]))
        at = _skip(text, end, ",")
    return found


def _skip(text: str, at: int, letter: str) -> int:
    while text[at] in f" \t\n\r{letter}":
        at += 1
    return at


def texts(value: Any) -> list[str]:
    """
    Return the values of the flags that mean the same as a value of daemon.json.

    + value: a list gives one for each item
    """

    if isinstance(value, dict):
        return [f"{name}={item}" for name, item in value.items()]
    items = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in items]
