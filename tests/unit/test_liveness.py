"""What supervisord's monitors do, and which hosts get them."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from pyinfra_kube.cluster.runtimes import CONTAINERD
from pyinfra_kube.deploys.fedora_single_node import fedora_single_node
from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.remove_node import remove_nodes
from pyinfra_kube.deploys.reset import reset
from pyinfra_kube.deploys.run.artifacts import CNI_PLUGINS
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.facts.services import UnitState, UnitStates
from pyinfra_kube.operations.supervisor import CONFIG, FEDORA_CONFIG, MONITOR
from tests.unit.blank import ONE_NODE, TWO_NODES, Groups, Path_, prepared
from tests.unit.test_scratch_runs import DEBIAN, PROGRAMS, TODAY

# The monitor


RUNS = "ActiveState=active\nMainPID=7\nUnitFileState=enabled"
STOPPED = "ActiveState=inactive\nMainPID=0\nUnitFileState=enabled"
# Shell in place of tools. A monitor ends after some rounds; who asks it says how its unit is.
TOOLS = {
    "systemctl": 'if [ "$1" = show ]; then cat state; else echo "$*" >> restarts; fi',
    "logger": 'echo "$*" >> log',
    "sleep": "echo >> slept; [ $(wc -l < slept) -lt $ROUNDS ] || kill $PPID",
}


def tool(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def environment(folder: Path, rounds: int = 0) -> dict[str, str]:
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "ROUNDS": str(rounds)}


def restarts(folder: Path, rounds: int, state: str, command: str) -> int:
    """How often a monitor restarts its unit."""
    monitor = folder / "monitor"
    for name, text in {"monitor": "", **TOOLS}.items():
        tool(folder, name, text)
    monitor.write_text(render(f"{MONITOR[1:]}.j2"))
    (folder / "state").write_text(state)
    words = [monitor, "kubelet.service", "sh", "-c", command]
    subprocess.run(words, cwd=folder, env=environment(folder, rounds), timeout=60)
    found = folder / "restarts"
    lines = found.read_text().splitlines() if found.exists() else []
    assert {*lines} <= {"restart -- kubelet.service"}
    return len(lines)


@pytest.mark.parametrize(
    ("rounds", "state", "command", "times"),
    [
        (40, RUNS, "true", 0),
        # After a start it has long to answer for the first time.
        (16, RUNS, "false", 0),
        (17, RUNS, "false", 1),
        # Then it has not: it answers at first only.
        (5, RUNS, "[ ! -e slept ]", 0),
        (6, RUNS, "[ ! -e slept ]", 1),
        # Now and then an answer fails.
        (40, RUNS, "[ $(($(wc -l < slept || echo 0) % 5)) = 0 ]", 0),
        (40, STOPPED, "false", 0),
        (40, RUNS.replace("=active", "=activating"), "false", 0),
        (40, RUNS.replace("=enabled", "=disabled"), "false", 0),
        # Another process each time: it is starting all the time.
        (40, RUNS, "echo 'ActiveState=active' > state; wc -l slept >> state; false", 0),
    ],
)
def test_a_unit_is_restarted_where_it_does_not_answer(
    tmp_path: Path, rounds: int, state: str, command: str, times: int
) -> None:
    assert restarts(tmp_path, rounds, state, command) == times


def test_what_it_does_is_logged(tmp_path: Path) -> None:
    assert restarts(tmp_path, 17, RUNS, "false") == 1
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].startswith("--tag kube-health-monitor kubelet.service: no good answer; 16 more")
    assert lines[-1] == "--tag kube-health-monitor kubelet.service: it is restarted"


def test_a_monitor_ends_with_its_supervisord(tmp_path: Path) -> None:
    assert restarts(tmp_path, 1, RUNS, "true") == 0
    tool(tmp_path, "sleep", "exec /bin/sleep 0.2")
    supervisord = "./monitor kubelet.service true & echo $!; /bin/sleep 1; kill -0 $! && echo runs"
    subprocess.run(
        ["sh", "-c", supervisord],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=(tmp_path / "said").open("w"),
        check=True,
    )
    pid, runs = (tmp_path / "said").read_text().split()
    assert runs == "runs"
    for _ in range(50):
        if not Path("/proc", pid).exists():
            break
        time.sleep(0.1)
    assert not Path("/proc", pid).exists()


# The paths


FEDORA = PackageStates("dnf", "fedora", "34")
ON = {"liveness_monitor": "supervisord"}
THERE = FileState("file", "644", "root", "root", 1, 1.0, points_at="file", sha256="a" * 64)


def shown(
    path: Path_, groups: Groups, packages: PackageStates, folder: Path, **data: Any
) -> Mapping[str, str]:
    for name in PROGRAMS:
        (folder / name).write_text(name)
    folders = {"credentials_dir": str(folder / "none"), "kubernetes_source": str(folder)}
    more = data.pop("more", {})
    found = prepared(path, groups, {**folders, **data}, packages, more=more)[1]
    return defaultdict(str, found)


@pytest.mark.parametrize(
    ("data", "runtime", "proxied"),
    [
        (TODAY, "containerd.service timeout 20 crictl ", True),
        ({}, "docker.service timeout 20 docker ps ", False),
    ],
)
def test_what_is_asked_from_scratch(
    tmp_path: Path, data: dict[str, Any], runtime: str, proxied: bool
) -> None:
    found = shown(scratch, ONE_NODE, DEBIAN, tmp_path, **data, **ON)
    for text in (
        "package supervisor: absent → installed",
        "supervisor.service: not installed → enabled",
        f"{MONITOR}: absent → file",
        f"{CONFIG}: absent → file",
        f"kube-health-monitor {runtime}",
        "kube-health-monitor kubelet.service curl ",
        "http://127.0.0.1:10248/healthz",
    ):
        assert text in found["m"]
        assert text in found["n"]
    asked = "kube-health-monitor kube-proxy.service curl "
    assert asked in found["n"]
    assert (asked in found["m"]) is proxied


@pytest.mark.parametrize(
    ("path", "more", "port"),
    [
        (fedora_single_node, {}, 10256),
        (fedora_single_node, {"kubernetes_version": "1.2.7"}, 10249),
        (multinode, {"network": "flannel"}, 10256),
    ],
)
def test_what_is_asked_on_fedora(
    tmp_path: Path, path: Path_, more: dict[str, Any], port: int
) -> None:
    found = shown(path, ONE_NODE, FEDORA, tmp_path, **more, **ON)
    for text in (
        "package supervisor: absent → installed",
        "supervisord.service: not installed → enabled",
        f"{FEDORA_CONFIG}: absent → file",
        "kube-health-monitor docker.service timeout 20 docker ps ",
        f"http://127.0.0.1:{port}/healthz",
    ):
        assert text in found["n"]
    # It has no unit that is asked.
    assert "supervisor" not in found["m"]


def test_a_supervisord_that_runs_is_not_restarted(tmp_path: Path) -> None:
    unit = UnitState(load="loaded", active="active", enabled="enabled", started=1.0)
    newer = UnitStates(
        "systemd",
        units={"supervisor.service": UnitState(**{**vars(unit), "reload_needed": True})},
    )
    found = shown(scratch, ONE_NODE, DEBIAN, tmp_path, **ON, more={"services.Units": newer})
    assert "supervisor.service:" not in found["n"]
    assert f"{CONFIG}: absent → file" in found["n"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    ("path", "data"),
    [
        (scratch, {}),
        (remove_nodes, {"remove_nodes": ["n"], **ON}),
        (reset, {"reset": "yes", **ON}),
    ],
)
def test_monitors_go(tmp_path: Path, path: Path_, data: dict[str, Any], there: bool) -> None:
    more = {"files.Files": {CONFIG: THERE, MONITOR: THERE} if there else {}}
    found = shown(path, TWO_NODES, DEBIAN, tmp_path, **data, more=more)["n"]
    lines = [line for line in found.splitlines() if line.startswith((MONITOR, CONFIG))]
    gone = [f"{MONITOR}: present → absent", f"{CONFIG}: present → absent"]
    assert lines == (gone if there else [])
    if there and path is not scratch:
        # Before units stop: a monitor might start one again.
        assert found.index(CONFIG) < found.find("stopped") or "stopped" not in found


def test_another_monitor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PyinfraError, match=r"liveness_monitor = 'monit'; allowed: 'systemd'"):
        shown(scratch, ONE_NODE, DEBIAN, tmp_path, liveness_monitor="monit")


def test_a_system_without_the_package(tmp_path: Path) -> None:
    rocky = PackageStates("dnf", "rocky", "9.6")
    for name in (*CONTAINERD.programs, *CONTAINERD.helpers, "crictl", *CNI_PLUGINS):
        (tmp_path / name).write_text(name)
    data = {**TODAY, **ON, "runtime_source": str(tmp_path)}
    with pytest.raises(PyinfraError, match=r'supervisor comes from.*set it to "systemd"'):
        shown(scratch, ONE_NODE, rocky, tmp_path, **data)
