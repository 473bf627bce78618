"""What a fault of a running cluster is, and how it is put in, seen and mended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.e2e.paths import Site
from tests.lab import Lab
from tests.lab.lab import HOSTS

CONTROL_PLANE, NODE, OTHER = HOSTS
CLUSTER = "the cluster"

Do = str | Callable[[Lab, Site], object]


class Fault(NamedTuple):
    """
    + check, host: what it must be called, and where
    + put_in, mend: shell on ``on``, or a function
    + on: the host that is broken; by default the one that is named
    + options: of the run of verification
    + patience: seconds in which it must be seen
    + quick: whether it is tried by default
    """

    check: str
    host: str
    put_in: Do
    mend: Do
    on: str = ""
    options: tuple[str, ...] = ()
    patience: float = 20
    quick: bool = False


def named(site: Site, *options: str) -> list[tuple[str, str, str, str]]:
    """Each cause that verification finds, in its order: check, host, subject, state."""
    file = site.folder / "found.json"
    file.unlink(missing_ok=True)
    run = site.run("-y", "--data", f"verify_json={file}", *options, deploy="verify", timeout=120)
    found = json.loads(file.read_text())
    assert (run.code == 0) == (found["failed"] == 0), run.said[-4000:]
    return [(one["check"], one["host"], one["subject"], one["state"]) for one in found["causes"]]


def until_well(site: Site, patience: float = 150) -> None:
    """Wait until verification finds nothing."""
    deadline = time.monotonic() + patience
    while found := named(site):
        assert time.monotonic() < deadline, found
        time.sleep(2)


@contextmanager
def put_in(fault: Fault, lab: Lab, site: Site) -> Iterator[None]:
    """Put a fault in, and mend it."""
    _do(fault.put_in, fault.on or fault.host, lab, site)
    try:
        yield
    finally:
        _do(fault.mend, fault.on or fault.host, lab, site)


def see(fault: Fault, lab: Lab, site: Site) -> None:
    """Put a fault in, and see it called what it is and nothing beside it."""
    with put_in(fault, lab, site):
        deadline = time.monotonic() + fault.patience
        while True:
            found = named(site, *fault.options)
            if [(check, host) for check, host, *_ in found] == [(fault.check, fault.host)]:
                return
            assert time.monotonic() < deadline, found
            time.sleep(1)


def _do(what: Do, host: str, lab: Lab, site: Site) -> None:
    if not isinstance(what, str):
        what(lab, site)
        return
    done = lab.exec(host, f"set -e\n{what}")
    assert done.returncode == 0, (host, what, done.stdout, done.stderr)
