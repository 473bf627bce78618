"""
Oneshot units that restore at every boot what the kernel forgets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from pyinfra.api import OperationError

from pyinfra_kube.engine.script import Script, join
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.files import FileContents
from pyinfra_kube.operations.files import File, plan_files

FOLDER = "/etc/systemd/system"

# What loads rules at boot may flush those of others: ours come after it.
FIREWALLS = tuple(
    f"{name}.service"
    for name in ("firewalld", "iptables", "netfilter-persistent", "nftables", "ufw")
)


def plan_boot_unit(
    name: str,
    description: str,
    commands: Sequence[str],
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    retry: bool = False,
    present: bool = True,
    replaces: str = "",
) -> Script | None:
    """
    Return the script that makes a host run shell commands at every boot, or ``None`` where it does.
    It sets a unit and the link that enables it. The operation itself sets the same state now.

    A unit with this name and another description belongs to somebody else. It is never removed, and
    replacing it raises ``OperationError``.

    + name: name of the unit, without ``.service``
    + description: one line, shown by ``systemctl status``; it marks the unit as ours
    + commands: idempotent shell commands, one ``ExecStart`` each
    + before: units that start after it
    + after: units that start before it; it also wants ``network-online.target`` if that is named
    + retry: try again every five seconds until every command succeeds
    + present: whether the unit must exist
    + replaces: the description of another unit of ours with this name, in whose place it may come

    **Example:**

    .. code:: python

        plan_boot_unit(
            "kube-bridge-cbr0",
            "Bridge cbr0 of the pods",
            ["ip link set dev cbr0 up"],
            before=["docker.service", "kubelet.service"],
        )
    """

    path = f"{FOLDER}/{name}.service"
    link = f"{FOLDER}/multi-user.target.wants/{name}.service"
    # What may be replaced is not removed: it is needed by another one.
    if other := _of_others(path, {description, replaces if present else ""}):
        if not present:
            return None
        raise OperationError(
            f"{path}: somebody else's unit has this name ({other}), and is not replaced; give it "
            "another name, or remove it where nobody needs it"
        )
    text = render(
        "etc/systemd/system/boot.service.j2",
        description=description,
        commands=[_quote(command) for command in commands],
        before=list(before),
        after=list(after),
        retry=retry,
    )
    files = [File(link, kind="absent"), File(path, kind="absent")]
    if present:
        files = [File(path, text), File(link, kind="link", target=path)]
    script = plan_files(files)
    # A new unit is read when it is first needed. A host without a running systemd, such as an image
    # under construction, has nothing to reload.
    reload = (
        f"[ ! -d /run/systemd/system ] || systemctl show --property=NeedDaemonReload -- {name} |\n"
        "  grep -q =no || systemctl daemon-reload"
    )
    return join([script, Script(reload, summary="reload systemd")]) if script else None


def _of_others(path: str, ours: Set[str]) -> str:
    """The description of somebody else's unit; empty for ours, and where there is none."""

    text = read(FileContents, paths=[path]).get(path, b"").decode(errors="replace")
    says = {f"Description={one}" for one in ours if one}
    if says & {*text.splitlines()} or not re.search(r"^ExecStart *=", text, re.M):
        return ""
    found = re.search(r"^Description *=.*$", text, re.M)
    return found[0] if found else "without a description"


def _quote(command: str) -> str:
    """A command as one word of a unit file, where ``%`` and ``$`` have a special meaning."""

    text = command.replace("%", "%%").replace("$", "$$")
    if not set(text) & set("'\\\n"):
        return f"'{text}'"
    for special, escape in {"\\": "\\\\", '"': '\\"', "\n": "\\n"}.items():
        text = text.replace(special, escape)
    return f'"{text}"'
