"""
More hosts than a machine can carry: one program answers for all of them, over SSH, what real ones
answered to the same commands before.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench import ours
from tests.bench.light import own_folder
from tests.bench.recorded import FOLDER, MARK
from tests.bench.report import Growth
from tests.bench.timed import Door
from tests.e2e.paths import Site
from tests.lab import go_build
from tests.lab.places import LOGS, SSH_KEY

_PORT = 22022
# The answers of hosts that are there already, and of one that comes.
OLD, NEW = "old", "new"

Answers = Mapping[str, Sequence[Mapping[str, Any]]]


class Fleet:
    """
    Names of light hosts, and how real ones stand in for them while answers are recorded.

    + folder: for inventories
    + number: how many hosts there are already; one more comes
    + real: doors to two real hosts, where the first is to be one of the old, the second the new one
    """

    def __init__(self, folder: Path, number: int, real: Sequence[Door]) -> None:
        self.folder, self.real = folder, real
        self.names = [f"light-{one}" for one in range(1, number + 1)]
        self.new = "light-new"
        self.addresses = {
            name: f"127.1.{index // 250}.{index % 250 + 1}"
            for index, name in enumerate([*self.names, self.new])
        }

    def site(self, called: str, names: Sequence[str], doors: Mapping[str, Door]) -> Site:
        """An inventory with these names; those without a door are not called."""

        own = {name: doors.get(name, self.real[0]) for name in names}
        data = {"bench_gateway": gateway(self.real[0])}
        return ours.site(self.folder / called, own, data, {"light": [*names]}, self.addresses)

    def recorded(self, site: Site, name: str) -> Answers:
        """Run the light deploy on one real host, and keep what it answers."""

        return ours.record(site, ours.LIGHT, name, own_folder(name))

    @contextmanager
    def answering(
        self, names: Sequence[str], roles: Mapping[str, Answers]
    ) -> Iterator[dict[str, Door]]:
        """Doors to hosts that answer what was recorded; ``NEW`` is the role of the new one."""

        hosts = [
            {
                "address": f"{self.addresses[name]}:{_PORT}",
                "folder": own_folder(name),
                "role": NEW if name == self.new else OLD,
            }
            for name in names
        ]
        recording = self.folder / "answers.json"
        recording.write_text(
            json.dumps({"hosts": hosts, "folder": FOLDER, "mark": MARK, "roles": roles})
        )
        program = go_build.built("light-hosts") / "light-hosts"
        with (LOGS / "light-hosts.log").open("w") as log:
            process = subprocess.Popen(
                [program, recording], stdout=subprocess.PIPE, stderr=log, text=True
            )
            try:
                assert process.stdout is not None
                key = process.stdout.readline().strip()
                known = self.folder / "known_hosts"
                known.write_text("".join(f"[{self.addresses[n]}]:{_PORT} {key}\n" for n in names))
                yield {
                    name: Door(self.addresses[name], _PORT, str(SSH_KEY), str(known))
                    for name in names
                }
            finally:
                process.terminate()
                process.wait()


def gateway(door: Door) -> str:
    """An address of a host's network at which nobody needs to be."""

    return f"{door.address.rpartition('.')[0]}.254"


def grown(folder: Path, number: int, real: Sequence[Door]) -> Growth:
    """
    Run the light deploy on many hosts: the first time, with one more, with nothing to do, and dry.

    + folder, number, real: as of ``Fleet``
    """

    fleet = Fleet(folder, number, real)
    names, wider = fleet.names, [*fleet.names, fleet.new]
    at = {names[0]: real[0], fleet.new: real[1]}
    site = fleet.site("recorded", names, at)
    first, again = (fleet.recorded(site, names[0]) for _ in range(2))
    site = fleet.site("recorded-wider", wider, at)
    old, new = (fleet.recorded(site, name) for name in (names[0], fleet.new))

    with fleet.answering(names, {OLD: first}) as doors:
        first_run = ours.run(fleet.site("first", names, doors), ours.LIGHT)
    with fleet.answering(names, {OLD: again}) as doors:
        growth = ours.growth(fleet.site("again", names, doors), number, first_run)
    with fleet.answering(wider, {OLD: old, NEW: new}) as doors:
        added = ours.run(fleet.site("wider", wider, doors), ours.LIGHT)
    return replace(growth, added=added.seconds)
