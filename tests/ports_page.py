"""docs/ports.md, made from the table of doors: `make settings`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.doors import DOORS, Door
from pyinfra_kube.cluster.releases import minor_of, value_at
from tests.settings import table

PAGE = Path(__file__).parents[1] / "docs/ports.md"

HEAD = """\
# Ports

Every port on which a part of a cluster listens. What is open to the host alone listens on the
loopback. What is open to *hosts and pods* is reached by whoever reaches the host's address. End-to-
end tests scan all ports of all hosts, from another host and from a pod, and compare what they find
with this table. They ask each of them without a credential, with a wrong token, and with client
certificates of another CA, of the right CA but expired, and of the right CA for a user whom nobody
knows.

Such a user is let in by no role of ours. Kubernetes' own let every user of the CA ask which APIs
there are, and what they may do themselves.

What a cluster's users open is not here: node ports of services, host ports of pods, and pods
themselves. What the hosts had before, such as sshd, stays as it is.

This page is made from [cluster/doors.py](../cluster/doors.py) by `make settings`.

"""
EXCEPTIONS = """\

## What is told without a credential

Beyond health, versions and DNS. From the host alone, metrics; from elsewhere only these, each with
what closes it:

"""

_WHERE = {
    "loopback": "the host alone",
    "node": "the host and its pods",
    "hosts": "hosts and pods",
    "pods": "hosts and pods, as a pod",
}
_ANSWERS = {"nothing": "nothing", "health": "health, version", "names": "DNS", "all": "all"}
# The kubelet of a control plane that is no node, and settings that change little.
_SETTINGS = {
    "etcd_alone": {True: "one member beside one apiserver", False: "several members or apiservers"},
    "standalone": {True: "hosts of the control plane that are no nodes", False: ""},
}


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    """The text of the page."""
    head = ["program", "port", "open to", "where", "why", "without a credential"]
    known = [door for door in DOORS if door.closes and door.where != "loopback"]
    return "".join(
        [
            HEAD,
            table(head, map(_row, DOORS)),
            EXCEPTIONS,
            table(
                ["program", "port", "where", "closed by"],
                ([door.program, _port(door), _where(door), door.closes] for door in known),
            ),
        ]
    )


def _row(door: Door) -> list[str]:
    return [
        door.program,
        _port(door),
        _WHERE[door.where],
        _where(door) or "everywhere",
        door.reason,
        _ANSWERS[door.answers],
    ]


def _port(door: Door) -> str:
    if not door.port:
        return f"any, {door.protocol}"
    name = door.port.strip("{}")
    own = COMPONENTS[door.program].ports if door.program in COMPONENTS else {}
    if name in own:
        first = minor_of(door.releases.partition("-")[0])
        return f"{value_at(own[name], first)}, {door.protocol}"
    return f"{f'`{name}`' if name != door.port else name}, {door.protocol}"


def _where(door: Door) -> str:
    return ", ".join(_conditions(door))


def _conditions(door: Door) -> Iterator[str]:
    first, _, last = door.releases.partition("-")
    if door.releases != "1.2-":
        yield f"{first} to {last}" if last else f"{first} and newer"
    for key, value in door.when.items():
        if key not in _SETTINGS:
            yield f"`{key} = {value!r}`"
        elif words := _SETTINGS[key][bool(value)]:
            yield words


if __name__ == "__main__":
    main()
