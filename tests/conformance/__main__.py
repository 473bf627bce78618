"""`python -m tests.conformance`: build a cluster in the lab, judge it, and write the page."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyinfra_kube.cluster.releases import minor_of
from pyinfra_kube.deploys.phases.credentials import ADMIN
from tests.conformance import images, registry, report
from tests.conformance.images import Programs
from tests.conformance.left_over import SHELL, Told, left_over, pods_of
from tests.conformance.report import Phase, Result
from tests.conformance.suite import PARALLEL, SERIAL, Suite
from tests.e2e.paths import REPOSITORY, Site, each, eventually, execute, ssh, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, down, go_build, held, kubernetes, state
from tests.lab.machine import LabError, require_root, run, say
from tests.lab.places import LOGS, NAME, RUN

PAGE = REPOSITORY / "docs/conformance.md"

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
        self.suite = Suite(programs.suite)
        self.settings = settings
        self.control_plane = next(name for name in lab.hosts if "master" in name)
        self.kubectl = Kubectl(lab, self.control_plane)
        self._names = [
            name
            for image in images.images(programs, images.names(programs.suite))
            for name in image.names
        ]

    def build(self, folder: Path, mirror: str) -> None:
        """
        Have the package build the cluster, with a mirror of the suite's images.

        + folder: of the inventory
        + mirror: URL of the registry
        """
        say("building the cluster")
        site = Site(folder, {**self.settings, "registry_mirrors": {images.REGISTRY: mirror}})
        succeeded(site.run("-y"))

    def pull(self) -> None:
        """Have the images on the nodes, through the mirror."""
        say(f"pulling {len(self._names)} images on each host")
        words = " && ".join(f"crictl pull {shlex.quote(name)} >/dev/null" for name in self._names)
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
        proxy = "grep -o '^mode: .*' /var/lib/kube-proxy/config.yaml | cut -d ' ' -f 2"
        node = next(name for name in self.lab.hosts if name != self.control_plane)
        (mode,) = execute(self.lab, node, proxy)
        return f"Kubernetes {self.lab.release.version}, {network}, kube-proxy {mode}"

    def left_over(self) -> list[str]:
        """What the hosts have for pods that are gone, once they had time to remove it."""
        found: list[str] = []

        def clean() -> bool:
            pods = self.kubectl.get("pods --all-namespaces")
            nodes = {it["metadata"]["name"]: it["spec"] for it in self.kubectl.get("nodes")}
            found[:] = [
                f"{name}: {line}"
                for name in self.lab.hosts
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
        info = self.kubectl.get(f"node {self.control_plane}")["status"]["nodeInfo"]
        commit = run("git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=12")
        memory = Path("/proc/meminfo").read_text().split()[1]
        processors = Path("/proc/cpuinfo").read_text().count("processor\t")
        cgroups = "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1"
        return {
            "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "Commit": commit.stdout.strip(),
            "Runtime": f"{info['containerRuntimeVersion']}, on {info['osImage']}",
            "Machine": f"{processors} processors and {int(memory) // 2**20} GiB for all hosts, "
            f"Linux {platform.release()}, cgroups version {cgroups}",
        }


def judge(judged: Judged, folder: Path, processes: int, cluster: str) -> Result:
    """
    Run the whole suite, and whatever did not pass once more, alone.

    + folder: for what is said
    + processes: how many specs at once, of those that may run beside others
    + cluster: what the page calls it
    """
    specs = judged.suite.specs()
    phases = [
        judged.run(folder, "parallel", label=PARALLEL, processes=processes),
        judged.run(folder, "serial", label=SERIAL),
    ]
    result = Result(cluster, specs, phases, facts=judged.facts())
    repeated = None
    if result.unfinished:
        repeated = judged.run(folder, "repeated", only=result.unfinished)
    return Result(cluster, specs, phases, repeated, result.facts, judged.left_over())


@contextmanager
def a_lab(release: str, keep: bool) -> Iterator[Lab]:
    """The lab that is up, or else one that is down again afterwards."""
    with held():
        if state.load():
            yield Lab.load()
            return
        try:
            yield Lab.up(release=release)
        finally:
            if not keep:
                down()


@contextmanager
def a_cluster(options: argparse.Namespace) -> Iterator[Judged]:
    """The cluster that is asked for, with the images of the suite at hand."""
    release = "{}.{}".format(*minor_of(kubernetes.choice(os.environ.get("KUBERNETES_VERSION", ""))))
    programs = Programs.built(release)
    storage = images.stored(programs)
    settings = {"network": options.network, "credentials_dir": str(RUN / "credentials")}
    if options.network == "flannel":
        settings["flannel_source"] = str(go_build.built("flannel"))
    if options.proxy_mode:
        settings["proxy_mode"] = options.proxy_mode
    with a_lab(release, options.keep) as lab:
        judged = Judged(lab, programs, settings)
        mirror = registry.serving(storage, f"{lab.network.control}:5000", read_only=True)
        with mirror as url, tempfile.TemporaryDirectory() as folder:
            judged.build(Path(folder) / "site", url)
            judged.pull()
            yield judged


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--network", choices=("routes", "flannel"), default="routes")
    parser.add_argument("--proxy-mode", choices=("iptables", "nftables"), help="another than usual")
    parser.add_argument("--processes", type=int, default=8, help="specs at once, by default 8")
    parser.add_argument("--keep", action="store_true", help="leave a lab up that was down")
    options = parser.parse_args()
    folder = LOGS / f"conformance-{NAME}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    try:
        require_root()
        with a_cluster(options) as judged:
            result = judge(judged, folder, options.processes, judged.cluster(options.network))
    except (LabError, AssertionError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(report.page(PAGE.read_text() if PAGE.exists() else "", result))
    print(report.section(result))
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
