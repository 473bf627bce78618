"""The machine's own settings that a lab changes, or that its hosts might: put back afterwards."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab.machine import first_lines
from tests.lab.places import STATE, all_states

_PROC = Path("/proc/sys")

# A host has copies of these; a privileged container with its own /proc has not.
_MACHINE_WIDE = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/pid_max",
    "kernel/printk",
    "vm/max_map_count",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "vm/swappiness",
]

# Each systemd takes several of these, and all hosts' roots are one user to the kernel.
_RAISED = {"fs/inotify/max_user_instances": 8192}


def change() -> dict[str, str]:
    """Make room for many hosts; returns the settings as they were before any lab."""
    before = _read()
    for state in _other_labs():
        before |= json.loads(state.read_text())["settings"]
    for key, enough in _RAISED.items():
        if int(before.get(key, enough)) < enough:
            (_PROC / key).write_text(str(enough))
    return before


def put_back(before: dict[str, str]) -> None:
    """Undo what was done to them, once the last lab of this machine goes."""
    now = _read()
    for key, value in before.items():
        if now.get(key) != value and not (key in _RAISED and _other_labs()):
            (_PROC / key).write_text(value)


def _read() -> dict[str, str]:
    found = first_lines(_PROC / key for key in [*_MACHINE_WIDE, *_RAISED])
    return {str(path.relative_to(_PROC)): value for path, value in found.items()}


def _other_labs() -> list[Path]:
    return [state for state in all_states() if state != STATE]
