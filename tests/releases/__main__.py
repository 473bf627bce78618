"""
`make releases`: builds a cluster of every release that can be had here, tries it, and writes
docs/releases.md. What fails is named at the end, and keeps the row that it had.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

# A lab of its own. Read when the lab is imported.
os.environ["PYINFRA_KUBE_LAB"] = os.environ.get("PYINFRA_KUBE_RELEASES_LAB", "release")

from tests.e2e.paths import REPOSITORY
from tests.lab import Lab, down, held, kubernetes
from tests.lab.machine import LabError, say
from tests.releases import report, steps


def main() -> int:
    every = kubernetes.versions_to_build()
    parser = argparse.ArgumentParser(prog="python -m tests.releases", description=__doc__)
    parser.add_argument("releases", nargs="*", default=every, help=f"of {', '.join(every)}")
    failed = {}
    for release in parser.parse_args().releases:
        try:
            built = _build(kubernetes.choice(release))
        except (AssertionError, LabError, subprocess.SubprocessError) as error:
            failed[release] = error
            say(f"{release} failed: {error}")
            continue
        report.keep({**report.known(), built["version"]: built})
        say(f"{built['version']}: {built['seconds']}")
    for release, error in failed.items():
        print(f"\n{release} failed:\n{error}", file=sys.stderr)
    return 1 if failed else 0


def _build(version: str) -> dict[str, Any]:
    with held(), tempfile.TemporaryDirectory(prefix="release-") as folder:
        # What a run that was killed left.
        down()
        try:
            built = steps.build(Lab.up(release=version), Path(folder) / "site")
        finally:
            down()
    commit = ("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty")
    return {
        **asdict(built),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": subprocess.run(commit, capture_output=True, text=True).stdout.strip(),
        "machine": f"{os.cpu_count()} processors, Linux {platform.release()}",
    }


if __name__ == "__main__":
    sys.exit(main())
