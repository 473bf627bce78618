"""
State that the kernel forgets: a oneshot unit sets it again at every boot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyinfra.api import OperationError

from pyinfra_kube.engine.script import Script, join
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import FileContents
from pyinfra_kube.operations.files import File, plan_files

FOLDER = "/etc/systemd/system"


def boot_unit(
    name: str,
    description: str,
    commands: Sequence[str],
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    retry: bool = False,
    present: bool = True,
) -> list[File]:
    """
    Return the files that make a host run shell commands at every boot: a unit, and the link that
    enables it. :func:`plan_unit` sets them. The operation sets the same state live.

    + name: name of the unit, without ``.service``
    + description: one line, shown by ``systemctl status``
    + commands: idempotent lines of shell, one ``ExecStart`` each
    + before: units that need the state
    + after: units that must be up first; ``network-online.target`` is also asked for
    + retry: try again every five seconds until every command works
    + present: whether the unit is wanted

    **Example:**

    .. code:: python

        plan_unit(
            boot_unit(
                "kube-bridge-cbr0",
                "Bridge cbr0 of the pods",
                ["ip link set dev cbr0 up"],
                before=["docker.service", "kubelet.service"],
            ),
            "Bridge cbr0 of the pods",
        )
    """

    path = f"{FOLDER}/{name}.service"
    link = f"{FOLDER}/multi-user.target.wants/{name}.service"
    if not present:
        return [File(link, kind="absent"), File(path, kind="absent")]
    text = _text(description, commands, before, after, retry)
    return [File(path, text), File(link, kind="link", target=path)]


def plan_unit(files: Sequence[File], description: str) -> Script | None:
    """
    Return the script that sets the files of a unit and lets systemd know, or ``None``.

    A unit of this name with another description is somebody else's: it is neither replaced nor
    removed.

    + files: what ``boot_unit`` returned
    + description: the one that ``boot_unit`` was given

    Raises ``OperationError`` where somebody else's unit is in the way.
    """

    path = next((file.path for file in files if file.path.rpartition("/")[0] == FOLDER), "")
    wanted = all(file.kind != "absent" for file in files)
    if path and (other := _of_others(path, description)):
        if not wanted:
            return None
        raise OperationError(
            f"{path}: somebody else's unit has this name ({other}), and is not replaced; give it "
            f"another name, or remove it where nobody needs it"
        )
    script = plan_files(files)
    # Nothing to reload where systemd does not run, for example while an image is built.
    reload = "[ ! -d /run/systemd/system ] || systemctl daemon-reload"
    return join([script, Script(reload, summary="reload systemd")]) if script else None


def _of_others(path: str, description: str) -> str:
    """The description of somebody else's unit at this path; empty for ours, or for none."""

    text = read(FileContents, paths=[path]).get(path, b"").decode(errors="replace")
    says = f"Description={description}"
    if says in text.splitlines() or not re.search(r"^ExecStart *=", text, re.M):
        return ""
    found = re.search(r"^Description *=.*$", text, re.M)
    return found[0] if found else "without a description"


def _text(
    description: str,
    commands: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    retry: bool,
) -> str:
    unit = [f"Description={description}"]
    if "network-online.target" in after:
        unit.append("Wants=network-online.target")
    unit += [f"After={' '.join(after)}"] if after else []
    unit += [f"Before={' '.join(before)}"] if before else []
    unit += ["StartLimitIntervalSec=0"] if retry else []

    service = ["Type=oneshot", "RemainAfterExit=yes"]
    service += ["Restart=on-failure", "RestartSec=5"] if retry else []
    service += [f"ExecStart=/bin/sh -c {_quote(command)}" for command in commands]

    sections = {"Unit": unit, "Service": service, "Install": ["WantedBy=multi-user.target"]}
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in sections.items())


def _quote(command: str) -> str:
    """A command as one word of a unit file, with ``%`` and ``$`` escaped."""

    text = command.replace("%", "%%").replace("$", "$$")
    if not set(text) & set("'\\\n"):
        return f"'{text}'"
    for special, escape in {"\\": "\\\\", '"': '\\"', "\n": "\\n"}.items():
        text = text.replace(special, escape)
    return f'"{text}"'
