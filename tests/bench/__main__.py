"""
`make bench`: what a run costs, beside a playbook for the same resources; writes
docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

# A lab of the bench's own. Read when the lab is imported.
os.environ["PYINFRA_KUBE_LAB"] = os.environ.get("PYINFRA_KUBE_BENCH_LAB", "bench")

from tests.bench import ansible, limit, ours, report
from tests.bench.many import gateway, grown
from tests.bench.report import Beside, Growth, Pair, Result
from tests.bench.timed import Door, doors
from tests.e2e.paths import REPOSITORY, Site
from tests.lab.lab import HOSTS, Lab, down
from tests.lab.machine import say

_PAGE = REPOSITORY / "docs/performance.md"
# Releases of the scratch path, with what runs their containers. From afar today's only.
_RELEASES = {"1.37": "containerd", "1.20": "docker"}
_KINDS = (("no-op run", (), ()), ("dry run", ("--dry",), ("--check",)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="of each kind; the middle one counts")
    parser.add_argument("--hosts", type=int, nargs="*", default=[3, 10], help="light ones")
    parser.add_argument(
        "--many", type=int, nargs="*", default=[10, 60, 200, 500], help="of which one answers"
    )
    parser.add_argument(
        "--distances",
        type=int,
        nargs="*",
        default=[0, 50, 150],
        help="round trip times that are added for the first release, in ms",
    )
    parser.add_argument("--skip-ansible", action="store_true", help="only our own growth")
    arguments = parser.parse_args()

    ours.compile_all()
    result = Result(ansible="" if arguments.skip_ansible else ansible.install())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if not arguments.skip_ansible:
            distances = arguments.distances
            for release, runtime in _RELEASES.items():
                beside = result.beside(f"Kubernetes {release} on {runtime}")
                own = Path(folder) / release
                own.mkdir()
                compare = partial(
                    _compare, folder=own, distances=distances, runs=arguments.runs, result=beside
                )
                _with_lab(release, (), compare)
                _write(result)
                distances = distances[:1]
        real = max([*arguments.hosts, 1])
        # Their own names are none of the inventory's, under which one stands in for many.
        names = [f"real-{number}" for number in range(real + 1)]
        if arguments.hosts or arguments.many:
            grow = partial(_grow, folder=Path(folder), numbers=arguments.hosts, result=result)
            _with_lab(None, names, partial(grow, many=arguments.many))
    if arguments.skip_ansible:
        print(report.page(result))
    else:
        _write(result)


def _write(result: Result) -> None:
    """Say what is known by now, and keep it."""

    text = report.page(result)
    print(text, flush=True)
    _PAGE.write_text(text)


def _with_lab(release: str | None, names: Iterable[str], do: Callable[[Lab], None]) -> None:
    try:
        do(Lab.up(names or HOSTS, release=release))
    finally:
        down()


def _compare(lab: Lab, folder: Path, distances: list[int], runs: int, result: Beside) -> None:
    """Our scratch path and the playbook, on the same hosts by turns."""

    store, made_of = folder / "store", folder / "limit"
    settings = {"credentials_dir": str(store)}
    playbook: ansible.Playbook | None = None
    for distance in distances:
        with doors(lab, distance, folder) as there:
            addresses = {name: record.ip for name, record in lab.hosts.items()}
            site = ours.site(folder / f"site-{distance}", there, settings, addresses=addresses)
            say(f"{distance} ms: first run of ours")
            first = ours.run(site, ours.SCRATCH)
            playbook = playbook or _playbook(folder, site)
            lowest = _lowest(lab, there, store, made_of)
            lab.reset()
            ansible.prepare(lab, lab.hosts)
            say(f"{distance} ms: first run of the playbook")
            result.add(Pair("first run", distance, [first], [playbook.run(there)], lowest))
            left = ours.run(site, ours.SCRATCH, "--dry").said
            result.differences = sorted({*result.differences, *left.splitlines()})
            ours.run(site, ours.SCRATCH)
            _by_turns(site, playbook, there, distance, runs, result)
            if not distance:
                _count_trips(site, playbook, there, result)
        lab.reset()


def _lowest(lab: Lab, there: Mapping[str, Door], store: Path, made_of: Path) -> float:
    """The lower limit of a first run on today's path; 0 on others."""

    if lab.release.container_runtime != "containerd":
        return 0
    if not made_of.exists():
        limit.learn(lab, there, store, made_of)
    lab.reset()
    say("the lower limit of a first run")
    return limit.run(made_of, there, lab.hosts[limit.CONTROL_PLANE].ip)


def _playbook(folder: Path, site: Site) -> ansible.Playbook:
    """Ask the deploy what it wants, and write it down for the playbook."""

    written = folder / "report"
    environment = {
        **os.environ,
        "PROMISE_ORDERS": f'{{"report": "{written}"}}',
        "PYTHONPATH": str(REPOSITORY),
    }
    scratch = (site.inventory, ours.SCRATCH)
    for module, *words in (
        ("tests.e2e.promises.driver", *scratch, "--dry"),
        ("tests.bench.wanted", written, folder / "playbook"),
    ):
        subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=site.folder,
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    return ansible.Playbook(folder / "playbook")


def _by_turns(
    site: Site,
    playbook: ansible.Playbook,
    there: Mapping[str, Door],
    distance: int,
    runs: int,
    result: Beside,
) -> None:
    for kind, mine, theirs in _KINDS:
        pair = Pair(kind, distance, [], [])
        for number in range(runs):
            say(f"{distance} ms: {kind} {number + 1}")
            pair.ours.append(ours.run(site, ours.SCRATCH, *mine))
            pair.theirs.append(playbook.run(there, *theirs))
        result.add(pair)


def _count_trips(
    site: Site, playbook: ansible.Playbook, there: Mapping[str, Door], result: Beside
) -> None:
    for kind, mine, theirs in _KINDS:
        counted = ours.count(site, ours.SCRATCH, *mine), playbook.run(there, "-vvv", *theirs)
        result.trips[kind] = (max(counted[0].trips.values()), max(counted[1].trips.values()))


def _grow(
    lab: Lab, folder: Path, numbers: Iterable[int], many: Iterable[int], result: Result
) -> None:
    """A light deploy on more and more hosts, and on one with more and more files."""

    with doors(lab, 0, folder) as there:
        *old, new = there.values()
        for number in numbers:
            say(f"{number} light hosts")
            lab.reset()
            result.growth.append(_light(folder / f"light-{number}", old[:number], new, 20))
        for number in many:
            say(f"{number} light hosts, of which one answers for all")
            lab.reset()
            own = folder / f"many-{number}"
            own.mkdir()
            result.many.append(grown(own, number, [old[0], new]))
        for files in (200, 1000):
            say(f"{files} files on a host")
            lab.reset()
            result.size.append((files, _light(folder / f"files-{files}", old[:1], new, files)))


def _light(folder: Path, old: list[Door], new: Door, files: int) -> Growth:
    """What the light deploy takes on hosts, and with one more."""

    def site(called: Path, there: Iterable[Door]) -> Site:
        named = {f"light-{number}": door for number, door in enumerate(there)}
        addresses = {name: door.address for name, door in named.items()}
        data = {"bench_files": files, "bench_gateway": gateway(new)}
        return ours.site(called, named, data, {"light": [*named]}, addresses)

    own = site(folder, old)
    first = ours.run(own, ours.LIGHT)
    growth = ours.growth(own, len(old), first)
    return replace(growth, added=ours.run(site(folder / "wider", [*old, new]), ours.LIGHT).seconds)


if __name__ == "__main__":
    main()
