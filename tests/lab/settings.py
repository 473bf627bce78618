"""The machine's own settings that hosts might change: remembered, and put back."""

from __future__ import annotations

from pathlib import Path

from tests.lab.machine import first_lines

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


def remember() -> dict[str, str]:
    found = first_lines(_PROC / key for key in _MACHINE_WIDE)
    return {str(path.relative_to(_PROC)): value for path, value in found.items()}


def put_back(remembered: dict[str, str]) -> None:
    now = remember()
    for key, value in remembered.items():
        if now.get(key) != value:
            (_PROC / key).write_text(value)
