"""The page that a bench writes: ratios, and the machine that they were measured on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.bench.timed import Timed

_PAGE = """\
# What a run costs

Written by `make bench`; ratios are what counts, for seconds are those of the machine. {machine}.
Ours is pyinfra {pyinfra}, theirs ansible-core {ansible} with pipelining, ControlPersist and a fork
a host.

## The scratch path beside a playbook

Three hosts, a control-plane host and two nodes. The playbook (`tests/bench/playbook.yml`) sets the
same resources with Ansible's own modules; its files, rules, units, images and checks are taken
from our deploy itself. No-op and dry runs were made by turns on the hosts that the playbook had
built, and found nothing to change; the middle one of {runs} counts, first runs were made once.
Round trip time is added by a relay that holds each packet back, for both sides alike. The lower
limit is that of a first run by a few lines of shell (`tests/bench/limit.sh`): every file of a host
goes there in one transfer, everything is started at once, and nothing is looked at or checked; the
last column is ours in multiples of it.

{beside}

Less for the playbook: it starts a component again only for what it changed itself, compares
images by name, does not look at rules and routes that should not be, and leaves out the API's
objects with `--check`. Its hosts got Python before the clock ran. More for it: some parent folders,
which ours makes as it writes into them.

## More hosts

A deploy of 20 files, kernel settings, names of all hosts, 5 rules, 5 routes and a unit, which share
the machine's processors with us. Trips are round trips of the busiest host; CPU and memory are of
the control machine in a no-op run.

| hosts | first run | one more host | no-op run | dry run | trips, no-op / dry | CPU | memory |
|---|---|---|---|---|---|---|---|
{growth}

More than the machine can carry: one program answers over SSH for all hosts what a real one has
answered to the same commands (`tests/bench/many.py`), so that only the control machine works.

| hosts | first run | one more host | no-op run | dry run | trips, no-op / dry | CPU | memory |
|---|---|---|---|---|---|---|---|
{many}

## More files, rules and routes

The same on one host. A quarter as many rules, and as many routes.

| files | first run | one more host | no-op run | dry run | trips, no-op / dry | CPU | memory |
|---|---|---|---|---|---|---|---|
{size}

## Where the time goes

{parts}
"""

_BESIDE = """\
### {title}

| run | added round trip time | ours | playbook | ratio | lower limit | of it |
|---|---|---|---|---|---|---|
{pairs}

After the playbook built the cluster, our own run found {differences}.

A no-op run of ours sends {trips[0]} commands and transfers to the busiest host, a dry run
{trips[2]}; the playbook {trips[1]} and {trips[3]} (`--check`).
"""

_PARTS = """\
One command gathers what the plan must know of a host, and one reads all that the deploy asks:
a discovery pass has listed it before (`engine/prefetch.py`), and questions of one kind are asked as
one (`engine/joining.py`). A run that begins at once uses what its plan has read
(`engine/snapshot.py`). Then each part of the cluster is asked whether it works. The rest is
Python's start with pyinfra and paramiko, and on the hosts the digests of the Kubernetes binaries
and the answers of kubectl and the runtime. On the control machine the digest of a large file is
computed once for as long as the file does not change (`engine/digest.py`).
"""


@dataclass
class Pair:
    """Runs of one kind on both sides, and the lower limit of a first run, in seconds."""

    kind: str
    distance: int
    ours: list[Timed]
    theirs: list[Timed]
    limit: float = 0


@dataclass
class Growth:
    """
    Runs of the light deploy: seconds, ``added`` with one more host, which all others write into
    their /etc/hosts; round trips of the busiest host; what a no-op run takes of
    the control machine, in seconds of its processors and MiB.
    """

    hosts: int
    first: float
    added: float | None
    noop: float
    dry: float
    noop_trips: int
    dry_trips: int
    cpu: float
    memory: float


@dataclass
class Beside:
    """What was measured on both sides, with one release."""

    title: str
    pairs: list[Pair] = field(default_factory=list)
    trips: dict[str, tuple[int, int]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        for run in [*pair.ours, *pair.theirs]:
            if pair.kind != "first run" and run.changed:
                raise RuntimeError(f"a {pair.kind} changes something:\n{run.said}")
        self.pairs.append(pair)

    def text(self) -> str:
        trips = [*self.trips.get("no-op run", (0, 0)), *self.trips.get("dry run", (0, 0))]
        found = "; ".join(self.differences)
        return _BESIDE.format(
            title=self.title,
            pairs="\n".join(_row(pair) for pair in self.pairs),
            differences=f"this to change: {found}" if found else "nothing to change",
            trips=trips,
        )


@dataclass
class Result:
    """All that was measured."""

    ansible: str
    both: list[Beside] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    many: list[Growth] = field(default_factory=list)
    size: list[tuple[int, Growth]] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def beside(self, title: str) -> Beside:
        """Make room for the figures of one more release."""
        self.both.append(Beside(title))
        return self.both[-1]


def page(result: Result) -> str:
    beside = [one for one in result.both if one.pairs]
    return _PAGE.format(
        machine=_machine(result.load),
        pyinfra=version("pyinfra"),
        ansible=result.ansible,
        runs=max((len(pair.ours) for one in beside for pair in one.pairs), default=0),
        beside="\n".join(one.text() for one in beside).rstrip("\n"),
        growth="\n".join(f"| {g.hosts} {_cells(g)}" for g in result.growth),
        many="\n".join(f"| {g.hosts} {_cells(g)}" for g in result.many),
        size="\n".join(f"| {files} {_cells(g)}" for files, g in result.size),
        parts=_PARTS.rstrip("\n"),
    )


def _row(pair: Pair) -> str:
    ours = median(run.seconds for run in pair.ours)
    theirs = median(run.seconds for run in pair.theirs)
    ratio = f"**{theirs / ours:.1f}**"
    cells = [pair.kind, f"{pair.distance} ms", f"{ours:.1f} s", f"{theirs:.1f} s", ratio]
    cells += [f"{pair.limit:.1f} s", f"{ours / pair.limit:.1f}"] if pair.limit else ["", ""]
    return f"| {' | '.join(cells)} |"


def _cells(growth: Growth) -> str:
    seconds = " | ".join(
        "" if n is None else f"{n:.1f} s"
        for n in (growth.first, growth.added, growth.noop, growth.dry)
    )
    trips = f"{growth.noop_trips} / {growth.dry_trips}"
    return f"| {seconds} | {trips} | {growth.cpu:.1f} s | {growth.memory:.0f} MiB |"


def _machine(load: float) -> str:
    """The machine in one line."""

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    cores = f"{os.cpu_count()} cores ({model})"
    return f"This one has {cores}, shared by all hosts; its load was {load:.1f} before the bench"
