"""What is done with a release: from blank hosts to a cluster that a run leaves alone and heals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.e2e.paths import Run, Site, each, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS
from tests.lab.machine import say
from tests.releases import programs

CONTROL_PLANE, *NODES = HOSTS
T = TypeVar("T")

# On which host what goes wrong, and which step of a run must mend it, and no other.
_DRIFTS = {
    (CONTROL_PLANE, "rm /etc/kubernetes/manifests/kube-scheduler.yaml"): (
        "Control plane | Run the control plane as static pods"
    ),
    (NODES[0], "systemctl stop kube-proxy.service"): "kube-proxy | Run kube-proxy",
    (NODES[1], "sysctl -q -w net.ipv4.ip_forward=0"): (
        "Host preparation | Forward packets, and pass bridged ones to iptables"
    ),
}


@dataclass
class Built:
    """
    What was seen of one release.

    + version: of Kubernetes
    + runtime, etcd: what it ran with
    + seconds: how long each step took, in order
    + counts: what was counted, such as the changes of the first run
    """

    version: str
    runtime: str
    etcd: str
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def build(lab: Lab, folder: Path) -> Built:
    """
    Build a cluster of the release that a lab of blank hosts has, and try it. Raises
    ``AssertionError`` at the first thing that is not as it must be.

    + lab: with blank hosts
    + folder: an empty one, for the inventory
    """
    assert lab.kubernetes
    version = (lab.kubernetes / "version").read_text().strip()
    etcd = (lab.kubernetes / "etcd_version").read_text().strip()
    contained = lab.kubernetes / "containerd_version"
    runtime = f"containerd {contained.read_text().strip()}" if contained.exists() else "docker"
    built = Built(version, runtime, etcd)
    settings = {"dns": True} if lab.release.fact("coredns") else {}
    site, kubectl = Site(folder, settings), Kubectl(lab, CONTROL_PLANE)
    for name, step in _steps(lab, site, kubectl, built):
        say(f"{version}: {name}")
        began = time.monotonic()
        step()
        built.seconds[name] = time.monotonic() - began
    return built


def _steps(
    lab: Lab, site: Site, kubectl: Kubectl, built: Built
) -> Iterator[tuple[str, Callable[[], object]]]:
    assert lab.kubernetes
    folder = lab.kubernetes
    runs: dict[str, Run] = {}

    def tables() -> None:
        found = programs.compare(folder, built.version)
        assert not found.problems, "\n".join(found.problems)
        built.counts |= {"flags": found.flags, "fields": found.fields}

    def plan() -> None:
        runs["dry"] = succeeded(site.run("--dry", "--json"))
        assert runs["dry"].conditional == set()

    def first() -> None:
        run = succeeded(site.run("-y", "--json", timeout=1800))
        assert run.changed == runs["dry"].planned
        built.counts["changes"] = len(run.changed)

    def answers() -> None:
        ready = kubectl.ready_nodes()
        assert ready >= {*NODES}, ready
        pods = kubectl.run_web(NODES)
        kubectl.see_pods_reach_pods(pods)
        kubectl.see_a_service_lead_to_pods(pods)
        kubectl.see_pods_leave_as_their_nodes()
        if lab.release.fact("coredns"):
            for pod in pods:
                eventually(lambda pod=pod: kubectl.fetch(pod, "http://web.default/") in pods)

    def second() -> None:
        before = each(lambda name: starts(lab, name), HOSTS)
        assert succeeded(site.run("-y", "--json")).changed == set()
        assert each(lambda name: starts(lab, name), HOSTS) == before

    def drift() -> None:
        for (host, command), _ in _DRIFTS.items():
            execute(lab, host, command)
        run = succeeded(site.run("-y", "--json"))
        assert run.changed == {(step, host) for (host, _), step in _DRIFTS.items()}
        left = succeeded(site.run("--dry", "--json"))
        assert left.planned == left.conditional == set()
        kubectl.see_a_service_lead_to_pods(kubectl.web(len(NODES)))

    yield "tables and programs", tables
    yield "plan", plan
    yield "blank to Ready", first
    yield "services and DNS", answers
    yield "second run", second
    yield "drift and repair", drift
