"""A cluster of the lab that is judged: how it is built, asked and looked at afterwards."""

from __future__ import annotations

import platform
import shlex
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyinfra_kube.deploys.phases.credentials import ADMIN
from tests.conformance import images
from tests.conformance.images import Programs
from tests.conformance.left_over import SHELL, Told, left_over, pods_of
from tests.conformance.mirror import Mirror
from tests.conformance.report import Phase
from tests.conformance.suite import Suite
from tests.e2e.paths import REPOSITORY, Site, each, eventually, execute, ssh, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.machine import run, say

# What conformance asks for and a cluster has not by itself, by its runtime.
_NEEDED = {"docker": {"dns": True}}

# Pods that end take their time, and so does what a node had for them.
_GONE_AFTER = 180


class Judged:
    """
    A cluster to be judged.

    + lab: its hosts
    + programs: what the suite and its images are made from
    + settings: of the cluster, over those of `make lab`
    """

    def __init__(self, lab: Lab, programs: Programs, settings: dict[str, Any]) -> None:
        self.lab = lab
        self.mirror = Mirror.of(lab.release.container_runtime, f"{lab.network.control}:5000")
        self.suite = Suite(programs.suite, self.mirror.registries)
        self.settings = settings
        self.control_plane = next(name for name in lab.hosts if "master" in name)
        self.node = next(name for name in lab.hosts if name != self.control_plane)
        self.kubectl = Kubectl(lab, self.control_plane)
        self._names = [
            self.mirror.name(name)
            for image in images.images(programs, images.names(programs.suite))
            for name in image.names
        ]

    def build(self, folder: Path) -> None:
        """
        Have the package build the cluster, with a mirror of the suite's images.

        + folder: of the inventory
        """
        say("building the cluster")
        needed = _NEEDED.get(self.lab.release.container_runtime, {})
        site = Site(folder, {**needed, **self.settings, **self.mirror.settings})
        succeeded(site.run("-y"))

    def pull(self) -> None:
        """Have the images on the nodes, from the mirror."""
        say(f"pulling {len(self._names)} images on each host")
        pull = self.mirror.pull
        words = " && ".join(f"{pull} {shlex.quote(name)} >/dev/null" for name in self._names)
        each(lambda name: execute(self.lab, name, words, timeout=900), self.lab.hosts)

    def run(self, folder: Path, name: str, **options: Any) -> Phase:
        """
        Run specs; `options` are those of `Suite.run`.

        + folder: for what is said
        + name: of the phase
        """
        folder.mkdir(parents=True, exist_ok=True)
        assert self.lab.kubernetes
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(0o600)
        kubeconfig.write_text(ssh(self.lab, self.control_plane, f"cat {ADMIN}"))
        say(f"running specs: {name}")
        started = time.monotonic()
        outcomes = self.suite.run(
            folder / name, kubeconfig, self.lab.kubernetes / "kubectl", **options
        )
        bad = sum(not outcome.passed for outcome in outcomes.values())
        say(f"{name}: {len(outcomes) - bad} passed, {bad} did not")
        return Phase(name, options.get("processes", 1), time.monotonic() - started, outcomes)

    def cluster(self, network: str) -> str:
        """What the page calls it."""
        (mode,) = execute(self.lab, self.node, "curl -s -f http://127.0.0.1:10249/proxyMode")
        return f"Kubernetes {self.lab.release.version}, {network}, kube-proxy {mode}"

    def left_over(self) -> list[str]:
        """What the hosts have for pods that are gone, once they had time to remove it."""
        found: list[str] = []

        def clean() -> bool:
            pods = self.kubectl.get("pods --all-namespaces")
            nodes = {it["metadata"]["name"]: it["spec"] for it in self.kubectl.get("nodes")}
            found[:] = [
                f"{name}: {line}"
                for name in nodes
                for line in left_over(
                    Told.read(execute(self.lab, name, SHELL)),
                    pods_of(pods, name),
                    nodes[name].get("podCIDR", ""),
                )
            ]
            return not found

        try:
            eventually(clean, _GONE_AFTER)
        except AssertionError:
            return found
        return []

    def facts(self) -> dict[str, str]:
        """What is said of the cluster and of the machine."""
        info = self.kubectl.get(f"node {self.node}")["status"]["nodeInfo"]
        commit = run("git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=12")
        memory = Path("/proc/meminfo").read_text().split()[1]
        processors = Path("/proc/cpuinfo").read_text().count("processor\t")
        cgroups = "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1"
        return {
            "Date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "Commit": commit.stdout.strip(),
            "Suite": f"of {run(self.suite.folder / 'e2e.test', '--version').stdout.strip()}",
            "Runtime": f"{info['containerRuntimeVersion']}, on {info['osImage']}",
            "Machine": f"{processors} processors and {int(memory) // 2**20} GiB for all hosts, "
            f"Linux {platform.release()}, cgroups version {cgroups}",
        }
