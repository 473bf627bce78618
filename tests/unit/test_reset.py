"""What a reset does where, on hosts that told what was there before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from pyinfra_kube.deploys.reset import reset
from pyinfra_kube.engine.record import MARK
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.fitness import FitnessState
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.facts.record import Recorded
from pyinfra_kube.facts.selinux import LabelStates
from pyinfra_kube.facts.services import UnitState, UnitStates
from pyinfra_kube.operations import policy_rules
from tests.unit.blank import TWO_NODES, prepared
from tests.unit.test_scratch_runs import DEBIAN, TODAY

RAN = {
    "containerd.service": UnitState(load="loaded", active="active", enabled="enabled"),
    "kubelet.service": UnitState(load="loaded", active="active", enabled="enabled"),
    "dropped.service": UnitState(load="loaded", active="active", enabled="enabled"),
}
WAS = Recorded(
    exists=True,
    was={
        "unit": {
            "kubelet.service": "disabled inactive",
            "containerd.service": "disabled active",
            "firewalld.service": "enabled active",
        },
        "file": {
            "/etc/systemd/system/kubelet.service": "absent",
            "/etc/systemd/system/dropped.service": "absent",
        },
    },
)


def plan(tmp_path: Path, packages: PackageStates = DEBIAN, **data: Any) -> dict[str, list[str]]:
    more = {"record.Record": WAS, "services.Units": UnitStates("systemd", units=RAN)}
    given = {**TODAY, "credentials_dir": str(tmp_path / "none"), **data}
    # A folder of programs that is gone stops nobody.
    given["kubernetes_source"] = "/nowhere"
    _, shown = prepared(reset, TWO_NODES, given, packages, more=more)
    return {name: text.splitlines() for name, text in shown.items()}


def test_units_are_shown_before_they_stop_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    for lines in plan(tmp_path).values():
        assert "kubelet.service: active → stopped" in lines
        # Of a setting that is no more.
        assert "dropped.service: active → stopped" in lines
        assert "containerd.service: enabled → disabled" in lines
        assert "containerd.service: active → stopped" not in lines
        assert any(line.startswith("firewalld.service:") and "running" in line for line in lines)


def test_sets_of_kube_router_go_where_they_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    gone = "rules of kube-router: removed"
    state = FileState("file", "600", "root", "root", 1, 1.0, points_at="file")
    data = {**TODAY, "credentials_dir": str(tmp_path / "none")}
    more: dict[str, Any] = {"record.Record": WAS, "leftovers.KubeRules": {"iptables": 6}}
    for there in (True, False):
        more["files.Files"] = {policy_rules.MARKER: state} if there else {}
        _, shown = prepared(reset, TWO_NODES, data, DEBIAN, more=more)
        lines = shown["n"].splitlines()
        assert (gone in lines) == there
        chains = lines.index("iptables: 6 chains of Kubernetes: present → absent")
        assert not there or lines.index(gone) < chains


def test_data_of_some_members_of_etcd_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    groups = {"control_plane": ["m", "n", "o"], "nodes": ["o"]}
    given = {**TODAY, "credentials_dir": str(tmp_path / "none"), "reset_data": ["etcd"]}
    with pytest.raises(PyinfraError, match="data of etcd only with all of its members"):
        prepared(reset, groups, given, DEBIAN, left_out=["n"])


def test_a_cluster_without_a_record_loses_its_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    paths = (MARK, "/srv/kubernetes/server.key", "/etc/kubernetes/manifests/etcd.yaml")
    state = FileState("file", "600", "root", "root", 1, 1.0, points_at="file", sha256="a" * 64)
    more = {"files.Files": dict.fromkeys(paths, state), "services.Units": UnitStates("systemd")}
    given = {**TODAY, "credentials_dir": str(tmp_path / "none")}
    _, shown = prepared(reset, TWO_NODES, given, DEBIAN, more=more)
    lines = [line for line in shown["m"].splitlines() if line.startswith("/")]
    assert {f"{path}: present → absent" for path in paths} <= {*lines}
    assert lines[-1] == f"{MARK}: present → absent"


SWAP, NFS = "/dev/sda2 none swap sw 0 0\n", "fs:/data /data nfs defaults 0 0\n"
NETWORKD = "/etc/systemd/networkd.conf.d/50-pyinfra-kube.conf"


@pytest.mark.parametrize("late", [False, True])
def test_lines_that_others_wrote_to_fstab_stay(
    late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    stored = "/var/lib/pyinfra-kube/record/files/etc/fstab"
    contents = {"/etc/fstab": f"# {SWAP}{NFS}".encode(), stored: SWAP.encode()}
    state = FileState("file", "644", "root", "root", 1, 1.0, points_at="file", sha256="b" * 64)
    was = Recorded(
        exists=True,
        late=late,
        was={"file": {"/etc/fstab": "kept"}},
        wrote={"/etc/fstab": "a" * 64},
    )
    more = {
        "record.Record": was,
        "files.FileContents": contents,
        "files.Files": dict.fromkeys(contents, state),
    }
    given = {**TODAY, "credentials_dir": str(tmp_path / "none")}
    _, shown = prepared(reset, TWO_NODES, given, DEBIAN, more=more)
    assert f"  - # {SWAP}  + {SWAP}" in f"{shown['n']}\n"
    assert f"- {NFS}" not in shown["n"]


def test_systemd_networkd_takes_its_own_routes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    unit = UnitState(load="loaded", active="active", enabled="enabled")
    was = {"unit": {"systemd-networkd.service": "enabled active"}, "file": {NETWORKD: "absent"}}
    more = {
        "record.Record": Recorded(exists=True, was=was),
        "files.Files": {NETWORKD: FileState("file", "644", "root", "root", 1, 1.0)},
        "services.Units": UnitStates("systemd", units={"systemd-networkd.service": unit}),
    }
    given = {**TODAY, "credentials_dir": str(tmp_path / "none")}
    _, shown = prepared(reset, TWO_NODES, given, DEBIAN, more=more)
    assert f"{NETWORKD}: present → absent" in shown["n"]
    assert "systemd-networkd.service: restarted: its configuration changes" in shown["n"]


def test_a_rule_of_selinux_that_was_there_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    etcd = "/var/lib/etcd(/.*)?"
    rules = {"/srv/kubernetes(/.*)?": "container_share_t", etcd: "container_file_t"}
    more = {
        "record.Record": Recorded(exists=True, was={"rule": {etcd: "absent"}}),
        "fitness.Fitness": FitnessState(selinux="enforcing"),
        "selinux.Labels": LabelStates("enforcing", rules=rules),
    }
    given = {**TODAY, "credentials_dir": str(tmp_path / "none")}
    _, shown = prepared(reset, TWO_NODES, given, DEBIAN, more=more)
    assert f"SELinux's rule for {etcd}: container_file_t → absent" in shown["m"]
    assert "SELinux's rule for /srv" not in shown["m"]
