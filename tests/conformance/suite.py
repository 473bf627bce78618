"""The suite's programs: its specs, a run of them on a cluster, and what came of each."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pyinfra_kube.cluster.releases import Minor, minor_of
from tests.conformance.ginkgo import Asked, Outcome, of_version
from tests.lab.machine import LabError, run, say

CONFORMANCE = ("Conformance",)
SERIAL = ("Serial", "Conformance")
PARALLEL = ("!Serial", "Conformance")

_SAID_EVERY = 60.0
_POLICIES = "NetworkPolicy between server and client"

# What asks for more than releases before this one answer, though it names earlier ones: that a
# template without a creationTimestamp is stored so, why a job is complete, a pod's generation.
_ASKS_MORE = {
    "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is "
    "RollingUpdate [Conformance]": minor_of("1.34"),
    "[sig-apps] Job should create pods for an Indexed job with completion indexes and specified "
    "hostname [Conformance]": minor_of("1.31"),
    "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally "
    "restarted [Conformance]": minor_of("1.31"),
    "[sig-apps] Job should manage the lifecycle of a job [Conformance]": minor_of("1.31"),
    "[sig-node] Ephemeral Containers [NodeConformance] will start an ephemeral container in an "
    "existing pod [Conformance]": minor_of("1.33"),
    "[sig-node] Ephemeral Containers [NodeConformance] should update the ephemeral containers in "
    "an existing pod [Conformance]": minor_of("1.33"),
}


@dataclass(frozen=True)
class Suite:
    """
    The suite of a release.

    + folder: of its programs
    + registries: where its images are, by e2e.test's own keys; by default where they are published
    """

    folder: Path
    registries: Mapping[str, str] = field(default_factory=dict)

    def specs(self) -> dict[str, Minor]:
        """Every spec of conformance, by its whole name, and the first release that it judges."""
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
        labels: Sequence[str] = CONFORMANCE,
        **more: Any,
    ) -> dict[str, Outcome]:
        """
        Run specs, and return what came of each that was begun.

        + into: a folder for what is said
        + kubeconfig: of the cluster's administrator
        + kubectl: the program
        + labels: which specs, and `more`: as `Asked` has them
        """
        into.mkdir(parents=True)
        ginkgo = of_version(run(self.folder / "ginkgo", "version").stdout)
        asked = Asked(into, labels, **more)
        words = [
            *(self.folder / "ginkgo", *ginkgo.options(asked)),
            *(self.folder / "e2e.test", "--", *ginkgo.suite_options(asked)),
            *(f"--kubeconfig={kubeconfig}", f"--kubectl-path={kubectl}", "--provider=skeleton"),
            *(f"--e2e-output-dir={into}", "--disable-log-dump"),
        ]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        if self.registries:
            registries = into / "registries.yaml"
            # JSON is YAML, too.
            registries.write_text(json.dumps(self.registries))
            environment["KUBE_TEST_REPO_LIST"] = str(registries)
        started = time.monotonic()
        with (into / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in words],
                cwd=into,
                env=environment,
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
        reports = [path.read_text() for path in sorted(into.glob(ginkgo.reports))]
        if not reports:
            tail = (into / "log").read_text(errors="replace")[-2000:]
            raise LabError(f"The suite ended with {process.returncode}, without a report:\n{tail}")
        return ginkgo.outcomes(reports)


def since(specs: Iterable[dict[str, Any]]) -> dict[str, Minor]:
    """
    The first release that each spec judges, by its whole name: mostly the one that it became one of
    conformance with.

    + specs: as the suite lists them; one that changed since names several releases
    """
    found = {
        spec["codename"]: min(
            minor_of(one.strip().removeprefix("v")) for one in str(spec["release"]).split(",")
        )
        for spec in specs
    }
    newest = max(found.values())
    more = {name: at for name, at in _ASKS_MORE.items() if name in found and newest >= at}
    return found | more
