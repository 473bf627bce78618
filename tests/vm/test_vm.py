"""
Debian 13 with a kernel, modules and control groups of its own: from blank to a cluster of one host,
over a user who is not root, and back after a reboot.

One cluster for all: each test is a step of its life, made from the one before.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.paths import REPOSITORY, Run, succeeded
from tests.lab import kubernetes
from tests.vm import disk, machine
from tests.vm.machine import ADDRESS, NAME, Machine

# Minutes after which a step is given up.
BOOT, RUN, READY = 15, 60, 20

_INVENTORY = """\
_data = {data!r}
control_plane = nodes = ([{host!r}], _data)
"""


class Site:
    """A person's folder with an inventory of the machine."""

    def __init__(self, folder: Path, vm: Machine, release: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.py"
        (folder / "home").mkdir()
        host = (NAME, {"ssh_hostname": "127.0.0.1", "ssh_port": vm.port, "address": ADDRESS})
        data = {
            **{"ssh_user": disk.USER, "ssh_key": str(vm.ssh_key), "_sudo": True},
            **{"ssh_known_hosts_file": str(vm.known_hosts), "ssh_strict_host_key_checking": "yes"},
            **{"ssh_allow_agent": False, "ssh_look_for_keys": False},
            **{
                "cluster_name": "vm",
                "cluster_cidr": "10.10.0.0/16",
                "service_cidr": "10.254.0.0/24",
            },
            **{"kubernetes_source": str(release), "kubernetes_version": _text(release / "version")},
            "etcd_version": _text(release / "etcd_version"),
            "verify_timeout": 1200,
        }
        self.inventory.write_text(_INVENTORY.format(data=data, host=host))

    def run(self, *options: str) -> Run:
        """Run the scratch path."""
        pyinfra = Path(sys.executable).with_name("pyinfra")
        words: list[str | Path] = [
            pyinfra,
            self.inventory,
            REPOSITORY / "deploys/scratch.py",
            "--json",
        ]
        words += options
        environment = {"HOME": str(self.folder / "home")}
        what = f"pyinfra {' '.join(options)}"
        return Run(*machine.watched(words, self.folder, environment, what, RUN))


def _text(path: Path) -> str:
    return path.read_text().strip()


@pytest.fixture(scope="module")
def release() -> Path:
    return kubernetes.release("1.37")


@pytest.fixture(scope="module")
def vm(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    # Debian has no crictl.
    files = {"/usr/bin/crictl": release / "crictl"}
    with machine.running(tmp_path_factory.mktemp("vm"), files, BOOT) as found:
        yield found


@pytest.fixture(scope="module")
def site(vm: Machine, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), vm, release)


@pytest.fixture(scope="module")
def dry(site: Site) -> Run:
    return succeeded(site.run("--dry"))


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return succeeded(site.run("-y"))


def node(vm: Machine) -> dict[str, Any]:
    """The node, as the API has it."""
    found = json.loads(vm.ask(f"sudo kubectl get node {NAME} --output=json"))
    status: dict[str, Any] = found["status"]
    return status


def is_ready(vm: Machine) -> bool:
    """Whether the node is ready, and so is each of its pods."""
    conditions = {one["type"]: one["status"] for one in node(vm)["conditions"]}
    pods = json.loads(vm.ask("sudo kubectl get pods --all-namespaces --output=json"))["items"]
    states = [state for pod in pods for state in pod["status"].get("containerStatuses", [{}])]
    return conditions["Ready"] == "True" and all(state.get("ready") for state in states)


def test_it_is_a_host_of_its_own(vm: Machine) -> None:
    assert vm.ask("id --user --name").strip() == disk.USER
    assert vm.ask("uname --kernel-release").strip() != platform.release()
    assert vm.ask("stat --file-system --format=%T /sys/fs/cgroup").strip() == "cgroup2fs"
    assert "containerd" not in vm.ask("ls /etc /usr/bin")


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert built.changed == dry.planned
    assert dry.conditional == set()


def test_the_node_is_ready(built: Run, vm: Machine) -> None:
    vm.eventually("the node's readiness", lambda: is_ready(vm), READY)
    info = node(vm)["nodeInfo"]
    assert info["osImage"] == "Debian GNU/Linux 13 (trixie)"
    assert info["containerRuntimeVersion"].startswith("containerd://1.7.")
    loaded = {line.split()[0] for line in vm.ask("cat /proc/modules").splitlines()}
    assert {"br_netfilter", "nf_tables", "overlay"} <= loaded


def test_systemd_keeps_the_control_groups(built: Run, vm: Machine) -> None:
    assert "cgroupDriver: systemd" in vm.ask("sudo cat /var/lib/kubelet/config.yaml")
    scopes = vm.ask("systemctl list-units --type=scope --plain --no-legend 'cri-containerd-*'")
    groups = vm.ask("find /sys/fs/cgroup/kubepods.slice -name 'cri-containerd-*.scope'")
    assert len(scopes.splitlines()) == len(groups.splitlines()) >= 2 * 4


def test_the_second_run_changes_nothing(built: Run, site: Site) -> None:
    assert succeeded(site.run("-y")).changed == set()


def test_it_is_ready_after_a_reboot(built: Run, vm: Machine, site: Site) -> None:
    vm.reboot(BOOT)
    vm.eventually("the node's readiness", lambda: is_ready(vm), READY)
    assert vm.ask("systemctl --failed --no-legend --plain") == ""
    dry = succeeded(site.run("--dry"))
    assert (dry.planned, dry.conditional) == (set(), set())
