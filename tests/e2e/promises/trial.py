"""
A path on trial: hosts of the lab, an inventory whose settings may change, and runs that are
watched by :mod:`tests.e2e.promises.driver`.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.e2e.paths import _COLOR, REPOSITORY, Run, Site, each
from tests.e2e.promises.driver import ENVIRONMENT, Orders, Report
from tests.lab import Lab, go_build

# An operation's name and a host.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Path_:
    """
    A path, as a row of data.

    + name: of the path; of its deploy's file too, unless ``deploy`` is that
    + release: of Kubernetes
    + groups: group → hosts; hosts that no start has but the last are in ``added``
    + settings: of the inventory, of all hosts
    + late_settings: more of them, which take a build
    + labels: node → its labels
    + changes: name → settings that are changed on a settled cluster, of all hosts
    + read_late: the start of a file's path that every such change touches; whoever reads it is
      restarted by a later command
    + with_added: settings that change in the run with a node that joins later
    + added: that node
    + sampled: whether it is tried without ``--full`` too
    + family, runtime: what its hosts are like
    + kubectl: the administrator's kubectl, on the first control-plane host
    """

    name: str
    release: str
    groups: Mapping[str, Sequence[str]]
    read_late: str
    with_added: Mapping[str, Any]
    deploy: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    late_settings: Callable[[], Mapping[str, Any]] = dict
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    added: str = ""
    sampled: bool = True
    family: str = "debian"
    runtime: str = ""
    kubectl: str = "kubectl"

    @property
    def file(self) -> Path:
        """The deploy."""
        return REPOSITORY / f"deploys/{self.deploy or self.name}.py"

    @property
    def every_change(self) -> dict[str, Any]:
        """All of the changes at once."""
        return {key: one[key] for one in self.changes.values() for key in one}

    @property
    def hosts(self) -> list[str]:
        return list(dict.fromkeys(name for names in self.groups.values() for name in names))

    @property
    def control_plane(self) -> str:
        return self.groups["control_plane"][0]


_HOSTS = {"control_plane": ["kube-master"], "nodes": ["kube-node-1", "kube-node-2"]}

SCRATCH = Path_(
    name="scratch",
    release="1.37",
    groups=_HOSTS,
    labels={"kube-node-1": {"disk": "ssd"}},
    changes={
        "log_level": {"log_level": 3},
        "kubelet field": {"kubelet_configuration": {"maxPods": 50}},
        "kube-proxy field": {"proxy_configuration": {"conntrack": {"min": 65536}}},
        "scheduler field": {"scheduler_configuration": {"parallelism": 8}},
        "apiserver flag": {"apiserver_flags": {"event-ttl": "2h0m0s"}},
        "bridge_mtu": {"bridge_mtu": 1400},
        "node label": {"labels": {"kube-node-1": {"disk": "hdd"}}},
    },
    read_late="/var/lib/kubelet/config.yaml",
    with_added={"kubelet_configuration": {"maxPods": 50}},
    added="kube-node-3",
)

_DOCKER_NOFILE = {"docker_nofile": 900_000}
_DOCKER_UNIT = "/etc/systemd/system/docker"

SCRATCH_DOCKER = Path_(
    name="scratch_docker",
    deploy="scratch",
    release="1.20",
    groups=_HOSTS,
    labels={"kube-node-1": {"disk": "ssd"}},
    changes={
        "log_level": {"log_level": 3},
        "docker_nofile": _DOCKER_NOFILE,
        "kubelet flag": {"kubelet_flags": {"max-pods": 50}},
        "apiserver flag": {"apiserver_flags": {"event-ttl": "2h0m0s"}},
        "bridge_mtu": {"bridge_mtu": 1400},
        "node label": {"labels": {"kube-node-1": {"disk": "hdd"}}},
    },
    read_late=_DOCKER_UNIT,
    with_added=_DOCKER_NOFILE,
    added="kube-node-3",
    # The scratch path of today and the others, on docker, have its parts.
    sampled=False,
)

_FEDORA_CHANGES: dict[str, dict[str, Any]] = {
    "log_level": {"log_level": 3},
    "docker_nofile": _DOCKER_NOFILE,
    "kubelet flag": {"kubelet_flags": {"max-pods": 50}},
    "apiserver flag": {"apiserver_flags": {"event-ttl": "2h0m0s"}},
    "node label": {"labels": {"fed-node-1": {"disk": "hdd"}}},
}

SINGLE_NODE = Path_(
    name="fedora_single_node",
    release="1.20",
    groups={"control_plane": ["fed-master"], "nodes": ["fed-node-1"]},
    labels={"fed-node-1": {"disk": "ssd"}},
    changes=_FEDORA_CHANGES,
    read_late=_DOCKER_UNIT,
    with_added=_DOCKER_NOFILE,
    # The multi-node path has its parts.
    sampled=False,
    family="fedora",
)

MULTINODE = Path_(
    name="multinode",
    release="1.20",
    groups={"control_plane": ["fed-master"], "nodes": ["fed-node-1", "fed-node-2"]},
    settings={"network": "flannel", "cluster_cidr": "10.16.0.0/16"},
    labels={"fed-node-1": {"disk": "ssd"}},
    changes=_FEDORA_CHANGES,
    read_late=_DOCKER_UNIT,
    with_added=_DOCKER_NOFILE,
    added="fed-node-3",
    family="fedora",
)

_FEDORA_44_CHANGES: dict[str, dict[str, Any]] = {
    "log_level": {"log_level": 3},
    "kubelet field": {"kubelet_configuration": {"maxPods": 50}},
    "kube-proxy field": {"proxy_configuration": {"conntrack": {"min": 65536}}},
    "apiserver flag": {"apiserver_flags": {"event-ttl": "2h0m0s"}},
    "node label": {"labels": {"fed-node-1": {"disk": "hdd"}}},
}
_PACKAGED = {"kubernetes_version": "1.37", "runtime_source": None, "containerd_version": None}

SINGLE_NODE_44 = Path_(
    name="fedora_44_single_node",
    deploy="fedora_single_node",
    release="1.37",
    groups=SINGLE_NODE.groups,
    settings=_PACKAGED,
    labels=SINGLE_NODE.labels,
    changes=_FEDORA_44_CHANGES,
    read_late=SCRATCH.read_late,
    with_added=SCRATCH.with_added,
    sampled=False,
    family="fedora-44",
)


def flannel_of_source() -> dict[str, Any]:
    """The settings of a flannel that no package brings, over etcd."""
    program = go_build.built("flannel")
    return {
        "network": "flannel",
        "flannel_store": "etcd",
        "flannel_source": str(program),
        "flannel_version": (program / "version").read_text().strip(),
    }


MULTINODE_44 = Path_(
    name="fedora_44_multinode",
    deploy="multinode",
    release="1.37",
    groups=MULTINODE.groups,
    settings={**_PACKAGED, "cluster_cidr": "10.16.0.0/16", "container_runtime": "containerd"},
    late_settings=flannel_of_source,
    labels=MULTINODE.labels,
    changes=_FEDORA_44_CHANGES,
    read_late=SCRATCH.read_late,
    with_added=SCRATCH.with_added,
    added="fed-node-3",
    sampled=False,
    family="fedora-44",
)

PATHS = [SCRATCH, SCRATCH_DOCKER, SINGLE_NODE, MULTINODE, SINGLE_NODE_44, MULTINODE_44]


class Watched(Run):
    """What a run said, and the report of the one who watched it."""

    report: Report = Report()

    @property
    def ahead(self) -> set[Pair]:
        """What it planned to change, once its preparation was over."""
        return self._pairs(self.report.plan, "hosts_with_change")

    @property
    def maybe(self) -> set[Pair]:
        return self._pairs(self.report.plan, "hosts_with_conditional_change")

    @property
    def made(self) -> set[Pair]:
        """What it changed."""
        return self._pairs(self.report.results.get("operations", []), "success")

    @property
    def failed(self) -> set[Pair]:
        return self._pairs(self.report.results.get("operations", []), "error")


class Trial(Site):
    """
    A path's hosts and inventory, and what was done to them.

    + path: which one
    + lab: where its hosts are
    + folder: one that is not there yet; what is beside it no run knows of by itself
    """

    def __init__(self, path: Path_, lab: Lab, folder: Path) -> None:
        super().__init__(folder)
        self.path = path
        self.cloud_config = folder.with_name("cloud.conf")
        self.cloud_config.write_text(f"password = {token_hex()}\n")
        self.lab = lab
        self.hosts = path.hosts
        self.groups = {group: list(names) for group, names in path.groups.items()}
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write the inventory anew: the path's settings and these; ``labels`` is by node."""

        labels = changes.pop("labels", self.path.labels)
        data = {
            # A busy machine is slow, and nobody's fault.
            "verify_timeout": 600,
            "credentials_dir": str(self.folder / "credentials"),
            "cloud_config": str(self.cloud_config),
            **self.path.settings,
            **self.path.late_settings(),
            **changes,
        }
        lines = [
            "from runpy import run_path",
            f"_lab = run_path({str(REPOSITORY / 'inventories/lab.py')!r})",
            '_hosts = dict([*_lab["control_plane"][0], *_lab["nodes"][0]])',
            f'_data = {{**_lab["control_plane"][1], **{data!r}}}',
            f"_labels = {dict(labels)!r}",
            "_more = {name: {'node_labels': labels} for name, labels in _labels.items()}",
            "_host = lambda name: (name, {**_hosts[name], **_more.get(name, {})})",
        ]
        lines += [
            f"{group} = ([_host(name) for name in {names!r}], _data)"
            for group, names in self.groups.items()
        ]
        self.inventory.write_text("\n".join(lines) + "\n")

    @property
    def store(self) -> Path:
        return self.folder / "credentials"

    def root(self, host: str) -> str:
        """What goes before the paths of a host on this machine; nothing before its own."""
        return f"/proc/{self.lab.host(host).leader()}/root" if host else ""

    def blank(self) -> None:
        """Make the hosts blank."""
        self.lab.reset(self.hosts)

    def dry(self, *options: str) -> Run:
        """What pyinfra says it would do."""
        return self.run("--dry", *options, deploy=self.path.file)

    def plan(self) -> set[Pair]:
        """What a dry run names; a conditional change is wrong at once."""
        said = self.dry("--json")
        assert said.code == 0, said.said
        assert not said.conditional, said.conditional
        return said.planned

    def watched(
        self, *options: str, timeout: float = 900, fine: bool = True, **orders: Any
    ) -> Watched:
        """Run it for good, watched."""

        process, report = self.start(*options, **orders)
        out, said = process.communicate(timeout=timeout)
        found = Watched(process.returncode, out, _COLOR.sub("", said))
        if report.exists():
            object.__setattr__(found, "report", pickle.loads(report.read_bytes()))
        assert not fine or found.code == 0, found.said[-6000:]
        return found

    def start(self, *options: str, **orders: Any) -> tuple[subprocess.Popen[str], Path]:
        """Begin a watched run, in a process group of its own."""

        report = self.folder.with_name(f"report-{time.monotonic_ns()}")
        given = Orders(report=str(report), **orders)
        driver = "tests.e2e.promises.driver"
        process = subprocess.Popen(
            [sys.executable, "-m", driver, str(self.inventory), str(self.path.file), *options],
            cwd=self.folder,
            env={
                **self.environment,
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
                ENVIRONMENT: json.dumps(asdict(given)),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return process, report

    def execute(self, name: str, command: str, timeout: float = 300) -> str:
        """Run shell in a host, past its network; it must succeed."""

        done = self.lab.exec(name, command, timeout=timeout)
        assert done.returncode == 0, (name, command, done.stdout, done.stderr)
        return done.stdout

    def everywhere(self, command: str) -> dict[str, str]:
        """The same on every host, at once."""

        said = each(lambda name: self.execute(name, command), self.hosts)
        return dict(zip(self.hosts, said, strict=True))


def hosts_for(path: Path_, lab: Lab) -> None:
    """Have the hosts and the release that a path needs, whatever was there before, and no more."""

    lab.provide(path.release)
    for name in set(lab.hosts) - set(path.hosts):
        lab.remove(name)
    for name in path.hosts:
        known = lab.hosts.get(name)
        if known and (known.family, known.runtime) != (path.family, path.runtime):
            lab.remove(name)
        if name not in lab.hosts:
            lab.add(name, family=path.family, runtime=path.runtime)
