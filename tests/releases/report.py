"""The page that `make releases` writes, from what each release showed when it was last built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.paths import REPOSITORY

PAGE = REPOSITORY / "docs/releases.md"
RESULTS = Path(__file__).with_name("results.json")

_PAGE = """\
# Releases that were built

Written by `make releases`; `make releases RELEASES="1.36 1.37"` builds these anew and keeps the
others. Each row is one cluster of three hosts, a control-plane host and two nodes, made from blank
hosts in the lab (`tests/lab/`) with the real programs of that release.

{table}

Columns, in seconds of the machine that is named below:

- **tables**: `cluster/data/flags.json`, and `other_flags.json` where it is whole, were held against
  what each program takes; every field of `fields.json` was read by the program itself. No
  difference was left; in parentheses how many flags and fields there are.
- **plan**: `--dry` on blank hosts.
- **Ready**: the run, until nodes are Ready, packets of pods arrive and DNS answers. It changed what
  the plan had named; in parentheses how many steps.
- **services**: pods reach pods, a service and, with DNS, its name; what they send outside comes
  from their node.
- **again**: a second run, which changed and restarted nothing.
- **drift**: the scheduler's manifest was lost, kube-proxy stopped and forwarding turned off, on a
  host each. The next run mended these three and nothing else, and a plan was empty.

{where}

## Releases that were not built

The programs of Kubernetes are built from Go modules, and 1.20 from Debian's source. The modules of
1.24 to 1.29 and of 1.31 cannot be had whole. Their rows of flags and fields come from their
sources; unit tests render each release from 1.2 to 1.37 and hold it against these rows, and no
cluster of them was built. `RELEASES=https://dl.k8s.io KUBERNETES_VERSION=1.31.14 make lab-up`
builds one where that site is in reach.
"""

_HEAD = (
    *("release", "runs in", "etcd", "tables", "plan", "Ready", "services", "again", "drift"),
    *("date", "commit"),
)
_STEPS = {
    "tables": "tables and programs",
    "plan": "plan",
    "Ready": "blank to Ready",
    "services": "services and DNS",
    "again": "second run",
    "drift": "drift and repair",
}


def known() -> dict[str, Any]:
    """What each release showed when it was last built."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def keep(results: Mapping[str, Any]) -> None:
    """Keep what releases showed, and write the page."""
    ordered = dict(sorted(results.items(), key=lambda one: _number(one[0])))
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
    PAGE.write_text(page(ordered))


def page(results: Mapping[str, Any]) -> str:
    """Give the page as text."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *(_row(one) for one in results.values())]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    places = dict.fromkeys(one["machine"] for one in results.values())
    return _PAGE.format(table=table, where="\n".join(f"Measured on {one}." for one in places))


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    counts = one["counts"]
    notes = {
        "tables": f" ({counts['flags']} and {counts['fields']})",
        "Ready": f" ({counts['changes']})",
    }
    steps = (f"{one['seconds'][step]:.0f}{notes.get(name, '')}" for name, step in _STEPS.items())
    return (one["version"], one["runtime"], one["etcd"], *steps, one["date"], one["commit"])


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
