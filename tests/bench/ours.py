"""Our side: pyinfra in a folder, timed or counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any

from tests.bench.report import Growth
from tests.bench.timed import Door, Timed
from tests.e2e.paths import REPOSITORY, Site
from tests.lab.places import SSH_KEY

LIGHT = Path(__file__).with_name("light.py")
SCRATCH = REPOSITORY / "deploys/scratch.py"


def compile_all() -> None:
    """Compile our modules, as an installation from a package does (and did for Ansible)."""

    folders = ("cluster", "ansible_2016", "engine", "facts", "operations", "templates", "deploys")
    paths = [str(REPOSITORY / name) for name in folders]
    subprocess.run([sys.executable, "-m", "compileall", "-q", *paths], check=True)


def site(
    folder: Path,
    doors: Mapping[str, Door],
    settings: Mapping[str, Any],
    groups: Mapping[str, list[str]] | None = None,
    addresses: Mapping[str, str] | None = None,
) -> Site:
    """
    An inventory that reaches hosts through doors.

    + settings: of all hosts
    + groups: group → hosts; by default control_plane and nodes
    + addresses: host → the address that others know it by, where its door has another
    """

    own = {
        name: {
            "ssh_hostname": door.address,
            "ssh_port": door.port,
            "ssh_key": str(SSH_KEY),
            **({"address": addresses[name]} if addresses else {}),
        }
        for name, door in doors.items()
    }
    known = next(iter(doors.values())).known_hosts
    return Site(folder, {"ssh_known_hosts_file": known, **settings}, groups, own)


def run(site: Site, deploy: Path, *options: str) -> Timed:
    """
    Run a deploy.

    + options: of pyinfra, as ``--dry``
    """

    command = [Path(sys.executable).with_name("pyinfra")]
    return _run(command, site, deploy, *options)


def count(site: Site, deploy: Path, *options: str) -> Timed:
    """Run a deploy, and count what is sent to each host."""

    return _run([sys.executable, "-m", "tests.bench.counted"], site, deploy, *options)


def record(site: Site, deploy: Path, host: str, folder: str) -> Any:
    """Run a deploy on one host, and return what it answers; as ``tests.bench.recorded`` has it."""

    path = site.folder / "recording.json"
    more = {"BENCH_RECORDING": str(path), "BENCH_FOLDER": folder}
    _run([sys.executable, "-m", "tests.bench.recorded"], site, deploy, "--limit", host, more=more)
    return json.loads(path.read_text())


def growth(site: Site, number: int, first: Timed) -> Growth:
    """
    Run the light deploy with nothing to do, and dry, three times each; count what is sent.

    + number: of hosts
    + first: the first run
    """

    noop = [run(site, LIGHT) for _ in range(3)]
    dry = [run(site, LIGHT, "--dry") for _ in range(3)]
    if any(one.changed for one in [*noop, *dry]):
        raise RuntimeError(f"a run after the first one changes something: {noop[0].said}")
    counted = count(site, LIGHT), count(site, LIGHT, "--dry")
    return Growth(
        number,
        first.seconds,
        None,
        median(one.seconds for one in noop),
        median(one.seconds for one in dry),
        *(max(one.trips.values()) for one in counted),
        median(one.cpu for one in noop),
        max(one.memory for one in noop),
    )


def _run(
    command: list[Any],
    site: Site,
    deploy: Path,
    *options: str,
    more: Mapping[str, str] | None = None,
) -> Timed:
    counts = site.folder / "counts.json"
    options = options if "--dry" in options else (*options, "-y")
    path = f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        start = time.monotonic()
        process = subprocess.Popen(
            [*command, site.inventory, deploy, "--json", *options],
            cwd=site.folder,
            env={**os.environ, "BENCH_COUNTS": str(counts), "PYTHONPATH": path, **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        printed, said = (one.seek(0) or one.read() for one in (stdout, stderr))
    if process.returncode:
        lines = [line for line in said.splitlines() if not line.endswith("No changes")]
        said = "\n".join(lines)[-4000:]
        raise RuntimeError(f"pyinfra {deploy.name} {options}:\n{said}\n{printed[-2000:]}")
    document = json.loads(printed)
    if "--dry" in options:
        keys = ("hosts_with_change", "hosts_with_conditional_change")
        changes = [
            f"{host}: {operation['name']}"
            for operation in document["plan"]
            for key in keys
            for host in operation[key]
        ]
    else:
        changes = [
            f"{host}: {operation['name']}"
            for operation in document["results"]["operations"]
            for host in operation["success"]
        ]
    trips = json.loads(counts.read_text()) if counts.exists() else {}
    cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return Timed(seconds, len(changes), trips, "\n".join(changes), cpu, memory)
