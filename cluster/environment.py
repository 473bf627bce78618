"""
The environment files of Fedora's packages (F2–F4, F8): which variable holds which flags of a
component, as the packages' units read them.

A variable holds whole flags, ``KUBE_MASTER="--master=http://fed-master:8080"``; an empty one drops
them. The file ``config`` is the same on all hosts, and most units read it: a flag stands there only
where each of the components that read its variable has it, with one value; elsewhere the variable
is empty, and the flag stands with the rest of its component's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS, NODE_COMPONENTS
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.releases import EXTRA_FLAGS

Variables = dict[str, str]


class Row(NamedTuple):
    """
    One variable of a component's own file.

    + variable: its name
    + flags: what it can hold; the first that the component's command line has
    """

    variable: str
    flags: tuple[str, ...]


class Component(NamedTuple):
    """
    A component's own file.

    + file: its name in /etc/kubernetes
    + rows: its variables, in the order in which the file has them
    + rest: the variable of all other flags
    """

    file: str
    rows: tuple[Row, ...]
    rest: str


FOLDER = "/etc/kubernetes"

# Variables of the file config: the flag, and the components whose units read it.
SHARED: dict[str, tuple[str, tuple[str, ...]]] = {
    "KUBE_LOGTOSTDERR": (
        "logtostderr",
        (*CONTROL_PLANE_COMPONENTS, *NODE_COMPONENTS),
    ),
    "KUBE_LOG_LEVEL": (
        "v",
        (*CONTROL_PLANE_COMPONENTS, *NODE_COMPONENTS),
    ),
    "KUBE_ALLOW_PRIV": ("allow-privileged", ("kube-apiserver", "kubelet")),
    "KUBE_MASTER": ("master", ("kube-controller-manager", "kube-scheduler", "kube-proxy")),
}

COMPONENTS: dict[str, Component] = {
    "kube-apiserver": Component(
        "apiserver",
        (
            Row("KUBE_API_ADDRESS", ("insecure-bind-address", "address", "bind-address")),
            Row("KUBE_API_PORT", ("insecure-port", "port", "secure-port")),
            Row("KUBELET_PORT", ("kubelet-port",)),
            Row("KUBE_ETCD_SERVERS", ("etcd-servers",)),
            Row("KUBE_SERVICE_ADDRESSES", ("service-cluster-ip-range",)),
            Row("KUBE_ADMISSION_CONTROL", ("admission-control", "enable-admission-plugins")),
        ),
        "KUBE_API_ARGS",
    ),
    "kube-controller-manager": Component("controller-manager", (), "KUBE_CONTROLLER_MANAGER_ARGS"),
    "kube-scheduler": Component("scheduler", (), "KUBE_SCHEDULER_ARGS"),
    "kubelet": Component(
        "kubelet",
        (
            Row("KUBELET_ADDRESS", ("address",)),
            Row("KUBELET_PORT", ("port",)),
            Row("KUBELET_HOSTNAME", ("hostname-override",)),
            Row("KUBELET_API_SERVER", ("api-servers",)),
        ),
        "KUBELET_ARGS",
    ),
    "kube-proxy": Component("proxy", (), "KUBE_PROXY_ARGS"),
}


def environment(lines: Mapping[str, Sequence[str]]) -> dict[str, Variables]:
    """
    Split the command lines of a cluster into the variables of the files in /etc/kubernetes.

    + lines: component → its flags, ``--flag=value`` each, as ``components.command_line`` gives
      them; of every component that reads the file ``config`` anywhere, so that it is the same on
      all hosts

    Returns absolute path → variable → value, ``config`` first. Raises ``InputError`` for a value
    that no unit could read back from an environment file.

    ```
    >>> files = environment({"kube-scheduler": ["--master=http://fed-master:8080", "--v=0"]})
    >>> files["/etc/kubernetes/config"]["KUBE_MASTER"]
    '--master=http://fed-master:8080'
    >>> files["/etc/kubernetes/scheduler"]
    {'KUBE_SCHEDULER_ARGS': ''}
    ```
    """

    flags = {component: _by_name(component, line) for component, line in lines.items()}
    shared = {variable: _shared(variable, flags) for variable in SHARED}
    files = {f"{FOLDER}/config": shared}
    for component, own in flags.items():
        held = {shared[v] for v, (_, readers) in SHARED.items() if component in readers}
        left = {name: word for name, word in own.items() if word not in held}
        files[f"{FOLDER}/{COMPONENTS[component].file}"] = _own(COMPONENTS[component], left)
    return files


def etcd_environment(flags: Sequence[str]) -> Variables:
    """
    Give the variables of /etc/etcd/etcd.conf (F4).

    + flags: etcd's command line, ``--flag=value`` each

    ```
    >>> etcd_environment(["--listen-client-urls=http://0.0.0.0:2379"])
    {'ETCD_LISTEN_CLIENT_URLS': 'http://0.0.0.0:2379'}
    ```
    """

    words = _by_name("etcd", flags).items()
    return {f"ETCD_{n.upper().replace('-', '_')}": word.partition("=")[2] for n, word in words}


def _shared(variable: str, flags: Mapping[str, Mapping[str, str]]) -> str:
    """What a variable of the file config holds: nothing, unless all its readers agree."""

    flag, readers = SHARED[variable]
    words = {flags[component].get(flag, "") for component in readers if component in flags}
    return words.pop() if len(words) == 1 else ""


def _own(component: Component, flags: Mapping[str, str]) -> Variables:
    left = dict(flags)
    variables = {}
    for row in component.rows:
        name = next((flag for flag in row.flags if flag in left), None)
        variables[row.variable] = left.pop(name) if name else ""
    return {**variables, component.rest: " ".join(left.values())}


def _by_name(component: str, line: Sequence[str]) -> dict[str, str]:
    for word in line:
        _checked(component, word)
    return {_name(word): word for word in line}


def _name(word: str) -> str:
    return word.lstrip("-").partition("=")[0]


# What systemd and a shell read alike between double quotes, split at spaces.
_PLAIN = re.compile(r"""[^\s"'\\$`]+""")


def _checked(component: str, word: str) -> None:
    if not _PLAIN.fullmatch(word):
        allowed = "a flag without spaces, quotes, backslashes and dollar signs"
        raise InputError([Problem(EXTRA_FLAGS[component], word, None, allowed)])
