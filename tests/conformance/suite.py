"""The suite's programs: its specs, a run of them on a cluster, and what came of each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyinfra_kube.cluster.releases import Minor, minor_of
from tests.lab.machine import LabError, run, say

SERIAL = "Conformance && Serial"
PARALLEL = "Conformance && !Serial"

_SAID_EVERY = 60.0
_POLICIES = "NetworkPolicy between server and client"


@dataclass(frozen=True)
class Outcome:
    """
    What came of a spec.

    + state: as ginkgo says it: passed, failed, timedout, interrupted, panicked, skipped
    + seconds: how long it took
    + message: why it did not pass
    """

    state: str
    seconds: float = 0
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.state == "passed"


@dataclass(frozen=True)
class Suite:
    """
    The suite of a release.

    + folder: of its programs
    """

    folder: Path

    def specs(self) -> dict[str, Minor]:
        """Every spec of conformance, by its whole name, and the release that it came with."""
        listed = run(self.folder / "e2e.test", "--list-conformance-tests").stdout
        return since(yaml.safe_load(listed))

    def policy_specs(self) -> list[str]:
        """Every spec of what enforces NetworkPolicies, but those over SCTP, by its name."""
        listed = run(self.folder / "e2e.test", "--list-tests").stdout.splitlines()
        names = [line.partition(".go:")[2].partition(": ")[2] for line in listed]
        return [name for name in names if _POLICIES in name and "using SCTP" not in name]

    def run(
        self,
        into: Path,
        kubeconfig: Path,
        kubectl: Path,
        *,
        label: str = "Conformance",
        only: Sequence[str] = (),
        without: Sequence[str] = (),
        processes: int = 1,
        hours: int = 2,
    ) -> dict[str, Outcome]:
        """
        Run specs, and return what came of each that was begun.

        + into: a folder for what is said
        + kubeconfig: of the cluster's administrator
        + kubectl: the program
        + label: which specs, as ginkgo's label filter
        + only: of those, the ones of these names; by default all
        + without: of those, the ones of other names
        + processes: how many at once
        + hours: when it is given up
        """
        into.mkdir(parents=True)
        report = into / "report.json"
        words = [
            *(self.folder / "ginkgo", f"--procs={processes}", f"--timeout={hours}h"),
            *("--no-color", "--silence-skips", f"--label-filter={label}"),
            *(f"--focus={_escaped(name)}$" for name in only),
            *(f"--skip={_escaped(name)}$" for name in without),
            *(f"--output-dir={into}", f"--json-report={report.name}"),
            *(self.folder / "e2e.test", "--"),
            *(f"--kubeconfig={kubeconfig}", f"--kubectl-path={kubectl}", "--provider=skeleton"),
            *(f"--e2e-output-dir={into}", "--disable-log-dump"),
        ]
        started = time.monotonic()
        with (into / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in words],
                cwd=into,
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    try:
                        process.wait(_SAID_EVERY)
                    except subprocess.TimeoutExpired:
                        say(f"  … {time.monotonic() - started:.0f} s, see {into / 'log'}")
            finally:
                process.terminate()
                process.wait()
        if not report.exists():
            tail = (into / "log").read_text(errors="replace")[-2000:]
            raise LabError(f"The suite ended with {process.returncode}, without a report:\n{tail}")
        return outcomes(json.loads(report.read_text()))


def since(specs: Iterable[dict[str, Any]]) -> dict[str, Minor]:
    """
    The release that each spec became one of conformance with, by its whole name.

    + specs: as the suite lists them; one that changed since names several releases
    """
    return {
        spec["codename"]: min(
            minor_of(one.strip().removeprefix("v")) for one in str(spec["release"]).split(",")
        )
        for spec in specs
    }


def outcomes(reports: Iterable[dict[str, Any]]) -> dict[str, Outcome]:
    """
    What came of each spec that was begun, by its whole name.

    + reports: of ginkgo, in the form of ``--json-report``
    """
    return {
        " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]]): Outcome(
            spec["State"], spec["RunTime"] / 1e9, spec.get("Failure", {}).get("Message", "")
        )
        for report in reports
        for spec in report["SpecReports"] or []
        if spec["LeafNodeType"] == "It" and spec["NumAttempts"]
    }


def _escaped(name: str) -> str:
    """A name as a pattern of Go; what is matched has the name of the suite before it."""
    return re.sub(r"([^\w\s])", r"\\\1", name)
