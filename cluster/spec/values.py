"""
The types of values in an inventory. Nothing is coerced: a version that is a float or a number in
quotes is refused, with what to write instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from posixpath import expanduser, normpath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from pyinfra_kube.cluster.containerd_versions import known_lines, newest_configuration
from pyinfra_kube.cluster.errors import Wrong
from pyinfra_kube.cluster.networks import (
    ADDRESS,
    DNS_NAME,
    NETWORK,
    parse_address,
    parse_network,
)
from pyinfra_kube.cluster.releases import newest_etcd, newest_patch
from pyinfra_kube.cluster.spec.endpoint import ENDPOINT, parse_endpoint
from pyinfra_kube.cluster.spec.problems import did_you_mean


class Settings(BaseModel):
    """Settings of one subject. A field's description is the docstring below it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


@dataclass(frozen=True)
class Checked:
    """
    What a text must be, for pydantic and for people.

    + allowed: what may stand there
    + check: raises ``Wrong`` for a text that is not that
    + any_type: whether ``check`` wants values of any type, before their type is looked at
    """

    allowed: str
    check: Callable[[Any], object]
    any_type: bool = False

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def _checked(self, value: object) -> object:
        if self.any_type or isinstance(value, str):
            self.check(value)
        return value


def _like(pattern: str, allowed: str, fix: Callable[[str], str] | None = None) -> Checked:
    """Text of a pattern; `fix` makes a right value of a wrong one."""

    def check(value: str) -> None:
        if not re.fullmatch(pattern, value):
            better = fix(value) if fix else None
            right = better is not None and re.fullmatch(pattern, better)
            raise Wrong(allowed, f'write "{better}"' if right else None)

    return Checked(allowed, check)


def node_name(name: str) -> str:
    """
    Give the name of the node of a host: lower-case as kubelet does, with a dash for what no DNS
    name has. Of a name that is too long for a node it is the first part. Empty where nothing is
    left.

    + name: of the host

    ```
    >>> node_name("Kube_Node.example.com")
    'kube-node.example.com'
    ```
    """
    parts = (re.sub("[^a-z0-9]+", "-", part).strip("-") for part in name.lower().split("."))
    found = [part for part in parts if part]
    whole = ".".join(found)
    return whole if len(whole) <= 63 else found[0]


# A line of a unit ends where that of a value does.
_LINE = r"[^\x00-\x1f\x7f]*"
VERSION = 'a release in quotes, such as "1.37.2"'
_ETCD = 'a version of etcd in quotes, such as "3.6.11"'
AUTHORIZATION_MODES = ("AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook", "RBAC", "Node")
_MODES = f"some of {', '.join(AUTHORIZATION_MODES)}, with a comma between"


def _kubernetes_version(value: object) -> None:
    if not (isinstance(value, str) and re.fullmatch(r"\d+\.\d+", value)):
        _three_numbers(value, VERSION, newest_patch)


def _etcd_version(value: object) -> None:
    _three_numbers(value, _ETCD, newest_etcd)


def _three_numbers(value: object, allowed: str, newest: Callable[[str], str | None]) -> None:
    """Refuse what names no patch, with the newest one that is known."""

    if isinstance(value, (int, float)) and not isinstance(value, bool):
        lines = [str(value)]
        lines += [f"{value}0"] if re.fullmatch(r"1\.[1-3]", str(value)) else []
        either = " or ".join(f'"{found}"' for found in map(newest, lines) if found)
        raise Wrong(allowed, f"write {either} in quotes" if either else None)
    if not isinstance(value, str):
        raise Wrong(allowed)
    if re.fullmatch(r"v?\d+\.\d+", value):
        found = newest(value.lstrip("v"))
        raise Wrong(allowed, f'write "{found}"' if found else None)
    if re.fullmatch(r"v\d+\.\d+\.\d+\S*", value):
        raise Wrong(allowed, f'write "{value[1:]}"')
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", value):
        raise Wrong(allowed)


_CONTAINERD = f'a version of containerd, such as "2.4.2", of {known_lines()}'


def _containerd_version(value: str) -> None:
    known = re.fullmatch(r"\d+\.\d+(\.\d+\S*)?", value) and newest_configuration(value)
    if not known:
        bare = value.removeprefix("v")
        raise Wrong(_CONTAINERD, f'write "{bare}"' if bare != value else None)


def _modes(value: str) -> None:
    if wrong := [mode for mode in value.split(",") if mode not in AUTHORIZATION_MODES]:
        raise Wrong(_MODES, did_you_mean(wrong[0], AUTHORIZATION_MODES))


_LOCAL = "text of one line; ~NAME is the home of a user here"


def _local(value: str) -> None:
    if not re.fullmatch(_LINE, value) or expanduser(value).startswith("~"):
        raise Wrong(_LOCAL)


_JSON = "a dictionary of text, numbers, True, False, lists and dictionaries"


def _json(value: object) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise Wrong(_JSON) from None


def _list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, str) else _list(value)


# A node's name is the value of one of its labels too.
_NODE = rf"(?=.{{1,63}}$){DNS_NAME}"
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LETTERS = "lower-case letters, digits and -, in parts with dots between"


def _squeezed(path: str) -> str:
    return normpath(re.sub("/+", "/", path))


EtcdVersion = Annotated[str, Checked(_ETCD, _etcd_version, any_type=True)]
KubernetesVersion = Annotated[str, Checked(VERSION, _kubernetes_version, any_type=True)]
FlannelVersion = Annotated[str, _like(r"v?\d+\.\d+\S*", 'a version of flannel, such as "0.9.0"')]
ContainerdVersion = Annotated[str, Checked(_CONTAINERD, _containerd_version)]
Modes = Annotated[str, Checked(_MODES, _modes)]
Network = Annotated[str, Checked(NETWORK, parse_network)]
Address = Annotated[str, Checked(ADDRESS, parse_address)]
EndpointText = Annotated[str, Checked(ENDPOINT, parse_endpoint)]
DnsName = Annotated[str, _like(DNS_NAME, f"a DNS name: {_DNS_LETTERS}", node_name)]
NodeName = Annotated[
    str, _like(_NODE, f"a DNS name of at most 63 characters: {_DNS_LETTERS}", node_name)
]
_NAMESPACE = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
Namespace = Annotated[
    str, _like(_NAMESPACE, "a namespace: at most 63 lower-case letters, digits and -", str.lower)
]
Namespaces = Annotated[tuple[Namespace, ...], BeforeValidator(_list)]
Word = Annotated[str, _like(_WORD, "letters, digits, -, _ and ., at most 63 of them")]
KeyName = Annotated[
    str, _like(r"[a-z0-9][-a-z0-9.]{0,15}", "at most 16 lower-case letters, digits, - and .")
]
_OCTET = r"(25[0-5]|2[0-4]\d|1?\d?\d)"
_POD = r"[a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9.]*"
PodName = Annotated[str, _like(_POD, "NAMESPACE/POD")]
PacketTarget = Annotated[
    str,
    _like(
        rf"({_POD}|{_OCTET}(\.{_OCTET}){{3}}(?!:\D))(:[a-z0-9][-a-z0-9]*)?",
        "NAMESPACE/POD, NAMESPACE/SERVICE or an IPv4 address, and :PORT where it is wanted",
    ),
]
PersonName = Annotated[
    str,
    _like(
        r"[a-z0-9]([-a-z0-9.]{0,38}[a-z0-9])?",
        "a person's name: at most 40 lower-case letters, digits, - and ., no user of the system",
        lambda name: re.sub("[^a-z0-9]+", ".", name.lower().removeprefix("system:")).strip("."),
    ),
]
# None of its parts leads elsewhere, or ends a line of a unit.
_PATH = r"(/(?!\.\.?(/|$))[^/\x00-\x1f\x7f]+)+"
Path = Annotated[str, _like(_PATH, "an absolute path below /, without . and ..", _squeezed)]
Digest = Annotated[str, _like("[0-9a-f]{64}", "a SHA-256 digest", str.lower)]
Strings = Annotated[tuple[str, ...], BeforeValidator(_list)]
Local = Annotated[str, Checked(_LOCAL, _local)]
Locals = Annotated[tuple[Local, ...], BeforeValidator(_list)]
_REGISTRY = 'a registry, such as "registry.k8s.io" or "registry.example.com:5000", or "_default"'
Registry = Annotated[
    str,
    _like(
        rf"{DNS_NAME}(:\d+)?|_default", _REGISTRY, lambda name: name.partition("//")[2].strip("/")
    ),
]
_URL = 'a URL, such as "https://mirror.example.com"'
Url = Annotated[
    str,
    _like(
        r"""https?://[^/\s"'\\@]+(/[^\s"'\\]*)?""",
        _URL,
        lambda text: f"https://{re.split('//|@', text)[-1]}",
    ),
]
Mirrors = dict[Registry, Annotated[tuple[Url, ...], BeforeValidator(_one_or_several)]]
ResetData = Annotated[tuple[Literal["etcd", "volumes"], ...], BeforeValidator(_one_or_several)]
Flag = Annotated[
    str, _like("[a-z0-9][-a-z0-9.]*", "a flag without dashes before it", lambda f: f.lstrip("-"))
]
FlagText = Annotated[str, _like(_LINE, "text of one line")]
Flags = dict[Flag, FlagText | int | bool]
Configuration = Annotated[dict[str, Any], Checked(_JSON, _json, any_type=True)]
LabelKey = Annotated[
    str, _like(rf"({DNS_NAME}/)?{_WORD}", 'a label\'s key, such as "disk" or "example.com/disk"')
]
LabelValue = Annotated[
    str, _like(rf"|{_WORD}", "a label's value: at most 63 letters, digits, -, _ and .")
]
Labels = dict[LabelKey, LabelValue]
Port = Annotated[int, Field(ge=1, le=65535)]
Mtu = Annotated[int, Field(ge=576, le=65535)]
Length = Annotated[int, Field(ge=1, le=32)]
Positive = Annotated[int, Field(ge=1)]
# A hundred years: no calendar goes on for ever.
Days = Annotated[int, Field(ge=1, le=36500)]
