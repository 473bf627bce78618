"""
The environment files of Fedora's packages: which variable holds which flags of a component, as the
packages' units read them.

A variable holds whole flags, ``KUBE_MASTER="--master=http://fed-master:8080"``; an empty one drops
them. The file ``config`` is the same on all hosts, and most units read it: a flag stands there only
where each of the components that read its variable has it, with one value; elsewhere the variable
is empty, and the flag stands with the rest of its component's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.components.rows import Component
from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.releases import flags_setting

Variables = dict[str, str]

FOLDER = "/etc/kubernetes"
CONFIG = f"{FOLDER}/config"

SHARED = {
    "KUBE_LOGTOSTDERR": "logtostderr",
    "KUBE_LOG_LEVEL": "v",
    "KUBE_ALLOW_PRIV": "allow-privileged",
    "KUBE_MASTER": "master",
}
"""Variables of the file config, in its order, and the flag that each can hold."""


def own_file(component: str) -> str:
    """
    Give the path of a component's own file.

    + component: such as "kube-apiserver"

    ```
    >>> own_file("kube-apiserver")
    '/etc/kubernetes/apiserver'
    ```
    """
    return f"{FOLDER}/{component.removeprefix('kube-')}"


def environment(lines: Mapping[str, Sequence[str]]) -> dict[str, Variables]:
    """
    Split the command lines of a cluster into the variables of the files in /etc/kubernetes.

    + lines: component → its flags, ``--flag=value`` each, as ``command_line`` gives them; of every
      component that reads the file ``config`` anywhere, so that it is the same on all hosts

    Returns absolute path → variable → value, ``config`` first. Raises ``InputError`` for a value
    that no unit could read back from an environment file.

    ```
    >>> files = environment({"kube-proxy": ["--master=http://fed-master:8080", "--v=0"]})
    >>> files["/etc/kubernetes/config"]["KUBE_MASTER"]
    '--master=http://fed-master:8080'
    >>> files["/etc/kubernetes/proxy"]
    {'KUBE_PROXY_ARGS': ''}
    ```
    """

    flags = {component: _by_name(component, line) for component, line in lines.items()}
    shared = {variable: _shared(variable, flags) for variable in SHARED}
    files = {CONFIG: shared}
    for name, own in flags.items():
        component = COMPONENTS[name]
        held = {shared[variable] for variable in component.shared_variables}
        left = {flag: word for flag, word in own.items() if word not in held}
        files[own_file(name)] = _own(component, left)
    return files


def etcd_environment(flags: Sequence[str]) -> Variables:
    """
    Give the variables of /etc/etcd/etcd.conf.

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

    flag = SHARED[variable]
    words = {
        own.get(flag, "")
        for component, own in flags.items()
        if variable in COMPONENTS[component].shared_variables
    }
    return words.pop() if len(words) == 1 else ""


def _own(component: Component, flags: Mapping[str, str]) -> Variables:
    left = dict(flags)
    variables = {}
    for variable, held in component.variables.items():
        flag = next((flag for flag in held if flag in left), "")
        variables[variable] = left.pop(flag, "")
    return {**variables, component.other_flags: " ".join(left.values())}


def _by_name(component: str, line: Sequence[str]) -> dict[str, str]:
    allowed = "a flag without spaces, quotes, backslashes and dollar signs"
    wrong = [word for word in line if not _PLAIN.fullmatch(word)]
    refuse(Problem(flags_setting(component), word, None, allowed) for word in wrong)
    return {word.lstrip("-").partition("=")[0]: word for word in line}


# What systemd and a shell read alike between double quotes, split at spaces.
_PLAIN = re.compile(r"""[^\s"'\\$`]+""")
