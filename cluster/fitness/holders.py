"""
How a port is freed: what a person types, by who holds it.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from pyinfra_kube.cluster.fitness.states import Stranger

PODS_GROUPS = ["kubepods", "/docker-", "/docker/", "cri-containerd"]
"""What the control groups of pods' containers have in their names, with any of our runtimes."""


class Holder(NamedTuple):
    """
    A kind of program that holds a port.

    + groups: pattern of its control groups
    + fix: what a person types, with the pattern's names, and ``pid``, ``kind`` and ``number`` of
      the port
    + program: pattern of its name
    """

    groups: str
    fix: str
    program: str = ".*"


_AS_USER = 'runuser -u "$(id -nu {user})" -- env XDG_RUNTIME_DIR=/run/user/{user} '
_KILL = "kill {pid}, and keep it from starting at boot"
_USER = r"/user@(?P<user>\d+)\.service/"
_ID = r"(?P<id>[0-9a-f]{12})"
_UNIT = r"(?P<unit>[^/\s]+\.service)(?!\S)"
# The manager's own group, beside those of the service that got the socket from it.
_MANAGER = r":/init\.scope(?!\S)"

HOLDERS: tuple[Holder, ...] = (
    Holder(
        "",
        "docker rm --force $(docker ps --quiet --filter publish={number}/{kind})",
        "docker-proxy|dockerd",
    ),
    Holder(rf"{_USER}\S*libpod-(?:conmon-)?{_ID}", f"{_AS_USER}podman rm --force {{id}}"),
    Holder(rf"/libpod-(?:conmon-)?{_ID}", "podman rm --force {id}"),
    Holder(rf"/docker[-/]{_ID}", "docker rm --force {id}"),
    Holder(
        rf"kubepods\S*[-/:]{_ID}[0-9a-f]{{52}}",
        "delete the pod whose container is {id}, as crictl ps or docker ps shows, where it is from",
    ),
    Holder(
        rf"{_USER}init\.scope",
        f"{_AS_USER}systemctl --user disable --now the socket that the same user's "
        "systemctl --user list-sockets shows for it",
    ),
    Holder(rf"{_USER}\S*/{_UNIT}", f"{_AS_USER}systemctl --user disable --now {{unit}}"),
    Holder(_USER, _KILL),
    Holder(
        rf"{_MANAGER}.*/{_UNIT}",
        "systemctl disable --now $(systemctl show --property=TriggeredBy --value {unit}) {unit}",
    ),
    Holder(_MANAGER, "systemctl disable --now the socket that systemctl list-sockets shows for it"),
    Holder(r"/(?P<unit>[^/\s]+\.service)", "systemctl disable --now {unit}"),
)
"""Who may hold a port: the first that fits."""


def freeing(one: Stranger) -> str:
    """
    Return what a person types to free a port.

    + one: who holds it

    ```
    >>> freeing(Stranger("tcp 6443", "kube-apiserver", "nginx", 7, "0::/system.slice/web.service"))
    'systemctl disable --now web.service'
    ```
    """

    kind, _, number = one.port.partition(" ")
    words = {"pid": one.pid, "kind": kind, "number": number}
    for holder in HOLDERS:
        found = re.search(holder.groups, one.groups)
        if found and re.fullmatch(holder.program, one.program):
            names = {name: shlex.quote(text) for name, text in found.groupdict().items()}
            return holder.fix.format(**words, **names)
    if not one.pid:
        return f"stop what the kernel serves there, such as NFS: ss -ln 'sport = :{number}'"
    return _KILL.format(**words)
