"""What is up: one file that the lab, its tests and the lab inventory read."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TextIO

from tests.lab.machine import LabError
from tests.lab.network import Network
from tests.lab.places import KNOWN_HOSTS, LOCK, SSH_KEY, STATE


@dataclass(frozen=True)
class HostRecord:
    """What is known of a host, whether it runs or not."""

    name: str
    ip: str
    family: str
    runtime: str
    usr: str
    apt: str
    blank_disk: str
    ssh_key: str = str(SSH_KEY)

    @property
    def address(self) -> IPv4Address:
        return IPv4Address(self.ip)


@dataclass
class State:
    """All that must be known to use the lab and to take it down."""

    network: Network
    kubernetes: str | None
    # The machine's settings as they were, to be put back.
    settings: dict[str, str]
    hosts: dict[str, HostRecord] = field(default_factory=dict)

    def save(self) -> None:
        text = json.dumps(
            {
                "network": str(self.network.hosts),
                "control": str(self.network.control),
                "gateway": str(self.network.gateway),
                "outside_network": str(self.network.outside),
                "outside": str(self.network.outside_address),
                "known_hosts": str(KNOWN_HOSTS),
                "kubernetes": self.kubernetes,
                "settings": self.settings,
                "hosts": [asdict(host) for host in self.hosts.values()],
            },
            indent=2,
        )
        half_written = STATE.with_suffix(".part")
        half_written.write_text(text + "\n")
        half_written.rename(STATE)


def load() -> State | None:
    """The state of the lab; none when it is down."""
    try:
        found = json.loads(STATE.read_text())
    except FileNotFoundError:
        return None
    return State(
        network=Network(
            hosts=IPv4Network(found["network"]), outside=IPv4Network(found["outside_network"])
        ),
        kubernetes=found["kubernetes"],
        settings=found["settings"],
        hosts={host["name"]: HostRecord(**host) for host in found["hosts"]},
    )


_held_by_us = 0


@contextmanager
def held() -> Iterator[None]:
    """Hold the lab: whoever else wants to change it meanwhile is refused."""
    global _held_by_us
    lock = None if _held_by_us else _take()
    _held_by_us += 1
    try:
        yield
    finally:
        _held_by_us -= 1
        if lock:
            LOCK.unlink()
            lock.close()


def _take() -> TextIO:
    while True:
        lock = LOCK.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LabError(
                f"Another run holds the lab ({lock.read().strip()}). Try again when it has ended."
            ) from None
        # Whoever held it may have removed the file after it was opened here.
        if LOCK.exists() and os.fstat(lock.fileno()).st_ino == LOCK.stat().st_ino:
            lock.truncate(0)
            lock.write(f"process {os.getpid()}: {_own_command()}")
            lock.flush()
            return lock
        lock.close()


def _own_command() -> str:
    return Path("/proc/self/cmdline").read_text().replace("\0", " ").strip()
