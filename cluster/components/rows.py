"""
What a component is made of: rows that hold in some releases, and the rest of its description.

``releases`` of a row is text such as ``"1.2-1.7"`` or ``"1.2-1.5,1.10-"``; etcd's rows count in
etcd's own releases. ``when`` of a row names settings and the values that they must have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

ALWAYS: Mapping[str, object] = MappingProxyType({})

Role = Literal["etcd", "control_plane", "node"]


class Flag(NamedTuple):
    """
    One flag of a command line.

    + name: without leading dashes
    + value: text with ``{settings}`` in it; the row is left out where one of them is ``None``
    + releases: where the row holds
    + when: settings that must have these values
    + rereads: releases in which the component reads the file that the value names again by itself

    ```
    Flag("bind-address", "127.0.0.1", "1.20-")
    ```
    """

    name: str
    value: str
    releases: str = "1.2-"
    when: Mapping[str, object] = ALWAYS
    rereads: str = ""


class Field(NamedTuple):
    """
    One field of a configuration file.

    + name: the path of the field, with dots between
    + value: a value as it is, or text with ``{settings}`` in it; a text that is one setting alone
      gives the setting's own value, a number or a list too; the row is left out where a setting
      is ``None``
    + releases: where the row holds
    + when: settings that must have these values
    + rereads: releases in which the component reads the file that the value names again by itself

    ```
    Field("authentication.anonymous.enabled", False, "1.24-")
    ```
    """

    name: str
    value: object
    releases: str = "1.2-"
    when: Mapping[str, object] = ALWAYS
    rereads: str = ""


class Times(NamedTuple):
    """
    When a container is asked, in seconds.

    + delay: before the first time; 0 where it is asked at once
    + period: between two times; ``None`` leaves it to kubelet, which takes 10
    + failures: how often in a row it must fail
    + timeout: how long an answer may take
    """

    delay: int = 15
    period: int | None = None
    failures: int = 8
    timeout: int = 15


Asked = Literal["liveness", "readiness", "startup"]


class Probe(NamedTuple):
    """
    How a component is asked whether it lives, is ready, or has started.

    + scheme: "HTTP", "HTTPS" or "TCP"
    + host: the address to ask
    + port: the port, as text; ``{names}`` of the component's ports and of settings
    + path: the path; empty for TCP
    + releases: where the row holds
    + when: settings that must have these values
    + asked: what it tells
    + times: when it is asked
    """

    scheme: str
    host: str
    port: str
    path: str
    releases: str = "1.2-"
    when: Mapping[str, object] = ALWAYS
    asked: Asked = "liveness"
    times: Times = Times()


class User(NamedTuple):
    """
    Who a component is to the apiserver. ``{node}`` stands for the node's name.

    + name: what the credential store calls it
    + user: the user's name
    + groups: the user's groups
    """

    name: str
    user: str
    groups: tuple[str, ...] = ()


class Pod(NamedTuple):
    """
    What a component's static pod needs.

    + cpu: CPU request
    + grace: seconds to end in
    + volumes: folders of the host: ``credentials``, ``logs``, ``data`` and ``ssl``, which is
      /etc/ssl
    + written: folders of the host that it writes to where a flag names a file in them
    + files: releases → a file of the host that the component reads when it starts
    + priority_class: releases → its priority class
    + seccomp: releases → its seccomp profile
    """

    cpu: str
    grace: int = 30
    volumes: tuple[Literal["credentials", "logs", "data", "ssl"], ...] = ("credentials", "logs")
    written: tuple[str, ...] = ()
    files: Mapping[str, str] = MappingProxyType({})
    priority_class: Mapping[str, str] = MappingProxyType({"1.24-": "system-node-critical"})
    seccomp: Mapping[str, str] = MappingProxyType({"1.24-": "RuntimeDefault"})


@dataclass(frozen=True)
class Component:
    """
    All that is to be known of a component.

    + name: as the release calls its program
    + role: of the hosts that it runs on
    + rows: its flags, and the fields of its configuration file
    + probes: exactly one of liveness holds in any cluster, and at most one of each other kind
    + ports: name → releases → port, of the ports that no setting names; ``None`` where it is closed
    + users: ``credential_policy`` → who it is to the apiserver; empty for what asks no apiserver
    + kubeconfig: the path of its kubeconfig on its host
    + configuration: the path of its configuration file, in releases that have one
    + pod: of its static pod; ``None`` for what runs as a unit
    + variables: of its own file in Fedora's /etc/kubernetes, in the order of that file; each holds
      the first of these flags that the component's command line has
    + shared_variables: those of Fedora's /etc/kubernetes/config that its unit reads
    + other_flags: Fedora's variable for all other flags
    """

    name: str
    role: Role
    rows: tuple[Flag | Field, ...]
    probes: tuple[Probe, ...]
    ports: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    kubeconfig: str = ""
    configuration: str = ""
    pod: Pod | None = None
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared_variables: tuple[str, ...] = ()
    other_flags: str = ""
