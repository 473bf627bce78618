"""A control group of its own for each host, in every hierarchy that the machine has mounted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.lab.machine import LabError, folders
from tests.lab.places import CONTROL_GROUP


def groups(name: str) -> list[Path]:
    """The host's group in each hierarchy."""
    return [hierarchy / CONTROL_GROUP / name for hierarchy in _hierarchies()]


def make(name: str) -> None:
    """In each hierarchy a group `host` for it, and one `supervisor` for what boots it."""
    for hierarchy in _hierarchies():
        group = hierarchy
        for step in (CONTROL_GROUP, name):
            _add(group, step)
            group = group / step
        # In the unified hierarchy a group with children holds no process itself.
        _add(group, "host")
        _add(group, "supervisor")


def _add(parent: Path, name: str) -> None:
    _pass_controllers_on(parent)
    group = parent / name
    group.mkdir(exist_ok=True)
    _copy_cpuset(group)


def processes(name: str) -> list[int]:
    """All that runs in a host, as the machine numbers it, oldest numbers first."""
    found: set[int] = set()
    # A process is in every hierarchy once, so one tells of all; groups come and go meanwhile.
    for folder, _, _ in os.walk(next(_hierarchies()) / CONTROL_GROUP / name):
        with suppress(OSError):
            listing = Path(folder, "cgroup.procs").read_text()
            found.update(int(pid) for pid in listing.split())
    return sorted(found - {0})


def remove(name: str, *, patience: float = 10) -> None:
    """Remove a host's groups, once their processes are gone."""
    for hierarchy in _hierarchies():
        _remove_tree(hierarchy / CONTROL_GROUP / name, time.monotonic() + patience)


def remove_all() -> None:
    for hierarchy in _hierarchies():
        _remove_tree(hierarchy / CONTROL_GROUP, time.monotonic() + 10)
        _take_controllers_back(hierarchy)


def left() -> list[str]:
    """Names of the hosts that have groups."""
    groups = (folders(hierarchy / CONTROL_GROUP) for hierarchy in _hierarchies())
    return sorted({group.name for found in groups for group in found})


def _hierarchies() -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1].startswith("cgroup"):
            yield Path(fields[4])


def _pass_controllers_on(group: Path) -> None:
    """In the unified hierarchy a group offers its children only what it is told to."""
    available = group / "cgroup.controllers"
    if available.exists():
        wanted = " ".join(f"+{controller}" for controller in available.read_text().split())
        (group / "cgroup.subtree_control").write_text(wanted)


def _take_controllers_back(root: Path) -> None:
    """Where nobody else has a group, nobody wants the controllers either."""
    passed_on = root / "cgroup.subtree_control"
    if passed_on.exists() and not folders(root):
        wanted = " ".join(f"-{controller}" for controller in passed_on.read_text().split())
        passed_on.write_text(wanted)


def _copy_cpuset(group: Path) -> None:
    """A new version 1 cpuset is empty, and takes no process until it has something."""
    for key in ("cpuset.cpus", "cpuset.mems"):
        if (group / "tasks").exists() and (group / key).exists():
            (group / key).write_text((group.parent / key).read_text())


def _remove_tree(group: Path, deadline: float) -> None:
    inner = (path for path in group.rglob("*") if path.is_dir())
    for folder in [*sorted(inner, key=lambda path: -len(path.parts)), group]:
        while folder.is_dir():
            try:
                folder.rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"{folder} cannot be removed: {error.strerror}") from error
                time.sleep(0.05)
