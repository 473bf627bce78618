"""What both sides have in common: doors to hosts, and a run with what it took."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import Lab
from tests.lab.places import KNOWN_HOSTS

_FIRST_PORT = 22200


@dataclass(frozen=True)
class Door:
    """Where a host is reached, and with what."""

    address: str
    port: int
    key: str
    known_hosts: str


@dataclass(frozen=True)
class Timed:
    """
    + seconds: from the command's start to its end
    + changed: how many changes it made, or plans to make
    + trips: commands and transfers sent, by host
    + said: what it printed
    + cpu: seconds of the control machine's processors
    + memory: its most memory, in MiB
    """

    seconds: float
    changed: int
    trips: Mapping[str, int] = field(default_factory=dict)
    said: str = ""
    cpu: float = 0
    memory: float = 0


@contextmanager
def doors(lab: Lab, milliseconds: int, folder: Path) -> Iterator[dict[str, Door]]:
    """
    Reach the lab's hosts, as far away as is wanted.

    + milliseconds: of round trip time to add; 0 is the way without a relay
    + folder: for a file of known hosts
    """

    records = lab.hosts
    known = KNOWN_HOSTS.read_text()
    if not milliseconds:
        yield {
            name: Door(record.ip, 22, record.ssh_key, str(KNOWN_HOSTS))
            for name, record in records.items()
        }
        return
    ports = {name: _FIRST_PORT + number for number, name in enumerate(records)}
    here = folder / "known_hosts"
    keys = {line.split()[0]: line.split(maxsplit=1)[1] for line in known.splitlines()}
    here.write_text(
        "".join(f"[127.0.0.1]:{ports[name]} {keys[r.ip]}\n" for name, r in records.items())
    )
    delay = str(milliseconds / 2000)
    pairs = [f"{ports[name]}={record.ip}" for name, record in records.items()]
    relay = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.relay", delay, *pairs], stdout=subprocess.PIPE
    )
    try:
        assert relay.stdout is not None
        assert relay.stdout.readline() == b"open\n"
        yield {
            name: Door("127.0.0.1", ports[name], record.ssh_key, str(here))
            for name, record in records.items()
        }
    finally:
        relay.terminate()
        relay.wait()
