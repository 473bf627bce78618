"""Where the lab keeps things, and what it is called."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Labs of different names live side by side on one machine. At most 7 letters: links bear it.
NAME = os.environ.get("PYINFRA_KUBE_LAB", "lab")

# What is, while the lab is up; gone with it.
RUN = Path(f"/run/pyinfra-kube-{NAME}")
STATE = RUN / "hosts.json"
KNOWN_HOSTS = RUN / "known_hosts"
SSH_KEY = RUN / "ssh_key"
SWITCH = RUN / "switch"
LOCK = RUN.with_suffix(".lock")

# The control side's end of its cable to the switch.
LINK = f"pyinfra-{NAME}"
CONTROL_GROUP = f"pyinfra-kube-{NAME}"

# What was made once; outlives the lab and lies outside any checkout.
CACHE = Path(os.environ.get("PYINFRA_KUBE_LAB_CACHE", "/var/cache/pyinfra-kube-lab"))
DISKS = CACHE / "disks" / NAME
LOGS = CACHE / "logs"


def all_states() -> list[Path]:
    """The state of each lab that is up on this machine."""
    return list(Path("/run").glob("pyinfra-kube-*/hosts.json"))
