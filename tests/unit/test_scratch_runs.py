"""What the scratch path does where, with its choices; preparing a run writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import State
from pyinfra.api.exceptions import PyinfraError

from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.deploys.remove_node import remove_nodes
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.packages import LockStates, PackageStates
from tests.unit.blank import ONE_NODE, TWO_NODES, Groups, Path_, prepared

DEBIAN = PackageStates("apt", "debian", "12")
PROGRAMS = ("kubelet", "kube-proxy", "kubectl")

Case = tuple[Path_, Groups, dict[str, Any], set[str], set[str]]

TODAY = {
    "kubernetes_version": "1.37.2",
    "containerd_version": "2.4.2",
    # Any file will do: a plan looks at nothing but its digest.
    "flannel_source": __file__,
    "runtime_sha256": {"crictl-v1.37.0-linux-amd64.tar.gz": "0" * 64},
}

# The path, its groups and data, some of what it must do and where, and what it must not.
CASES: dict[str, Case] = {
    "scratch": (
        scratch,
        TWO_NODES,
        {},
        {
            "m: Run the control plane as static pods",
            "m: Set the nodes' pod CIDRs and labels",
            "n: Make the bridge cbr0 of the pods",
            "o: Run kube-proxy",
        },
        {"m: Make the bridge cbr0 of the pods", "m: Run kube-proxy", "n: Let root use kubectl"},
    ),
    "the guide's own time": (
        scratch,
        ONE_NODE,
        {
            "kubernetes_version": "1.3.10",
            "apiserver_approach": "http",
            "bridge_approach": "kubelet",
            "hyperkube": True,
        },
        {"m: Run the control plane as static pods", "n: Make the bridge cbr0 of the pods"},
        {"n: Masquerade packets that leave the cluster"},
    ),
    "the first release": (
        scratch,
        ONE_NODE,
        {"kubernetes_version": "1.2.7", "log_to_host": True, "basic_auth": True},
        {
            "m: Give the control plane its credentials",
            "n: Masquerade packets that leave the cluster",
        },
        set(),
    ),
    "the last release with docker": (
        scratch,
        ONE_NODE,
        {"kubernetes_version": "1.23.1", "bridge_approach": "kubelet", "open_ports": False},
        {"m: Run the control plane as static pods", "n: Run kubelet"},
        {"n: Make the bridge cbr0 of the pods", "m: Open the apiserver's port"},
    ),
    "nodes by hand, several members of etcd": (
        scratch,
        {**TWO_NODES, "etcd": ["m", "n", "o"]},
        {"node_registration": "manual", "credential_kind": "certificate", "route_pods": False},
        {"o: Run the control plane as static pods", "m: Set the nodes' pod CIDRs and labels"},
        {"n: Route to the pods of the other nodes"},
    ),
    "Secrets encrypted on docker": (
        scratch,
        TWO_NODES,
        {"kubernetes_version": "1.20.2", "encryption": True},
        {"m: Give the control plane its credentials", "m: Run the control plane as static pods"},
        {"m: Let administrators in", "m: Rewrite Secrets", "m: Forget the old key"},
    ),
    "flannel on the API": (
        scratch,
        TWO_NODES,
        {**TODAY, "network": "flannel"},
        {
            "m: Let flanneld read nodes",
            "m: Run flanneld",
            "o: Run flanneld",
            "o: Describe the pod network",
        },
        {"n: Route to the pods of the other nodes", "n: Remove devices that flannel does not use"},
    ),
    "neither a network nor a kube-proxy": (
        scratch,
        TWO_NODES,
        {**TODAY, "network": "none", "proxy_mode": "none"},
        {"n: Run kubelet", "m: Set CoreDNS and its service"},
        {
            "n: Make the bridge cbr0 of the pods",
            "n: Describe the pod network",
            "n: Forward the packets of pods",
            "n: Masquerade packets that leave the cluster",
            "n: Run kube-proxy",
            "n: Remove kube-proxy's rules",
        },
    ),
    "removal of a node on containerd that was made anew": (
        remove_nodes,
        TWO_NODES,
        {**TODAY, "network": "flannel", "remove_nodes": ["o"]},
        set(),
        {"o: Run docker", "o: Restore docker's own network", "m: Delete the nodes' leases"},
    ),
    "removal of a node that was made anew": (
        remove_nodes,
        TWO_NODES,
        {"remove_nodes": ["o"]},
        {"m: Route to the pods of the other nodes"},
        {"n: Run docker", "o: Run docker"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_prepared(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only then an operation of several hosts is one, by the line that calls it.
    monkeypatch.setattr("pyinfra.is_cli", True)
    path, groups, data, wanted, unwanted = CASES[case]
    for name in PROGRAMS:
        (tmp_path / name).write_text(name)
    folders = {"kubernetes_source": str(tmp_path), "credentials_dir": str(tmp_path / "store")}
    state, _ = prepared(path, groups, folders | data, DEBIAN)
    does = {
        f"{host.name}: {name.rpartition(' | ')[2]}"
        for host in state.inventory
        for operation, done in state.ops[host].items()
        for name in state.op_meta[operation].names
        if done.operation_meta.will_change
    }
    assert wanted <= does
    assert not unwanted & does
    assert {found.name for found in tmp_path.iterdir()} == set(PROGRAMS)


SILENT = {"hosts.Reachable": {"192.0.2.1": True, "192.0.2.11": True, "192.0.2.12": False}}


@pytest.mark.parametrize(
    ("out", "failed"),
    [
        # A host that has failed is nobody else's trouble, nor is a node of another run.
        ({"dead": ["o"]}, {"o"}),
        ({"left_out": ["o"]}, set()),
    ],
)
def test_a_host_that_is_away_stops_no_other(
    out: dict[str, Any], failed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    data = {"credentials_dir": str(tmp_path)}
    state, _ = prepared(prepare_host, TWO_NODES, data, DEBIAN, more=SILENT, **out)
    assert {host.name for host in state.failed_hosts} == failed


def test_a_control_plane_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    data = {"credentials_dir": str(tmp_path)}
    silent = {"hosts.Reachable": {"192.0.2.1": False}}
    with pytest.raises(PyinfraError, match="No host is left"):
        prepared(prepare_host, TWO_NODES, data, DEBIAN, more=silent, left_out=["m"])


def test_a_run_of_nobody_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    data = {"credentials_dir": str(tmp_path)}
    with pytest.raises(PyinfraError, match="No host is left"):
        prepared(prepare_host, TWO_NODES, data, DEBIAN, more=SILENT)


@pytest.mark.parametrize("out", ["dead", "left_out"])
def test_a_node_that_cannot_be_stopped_is_named(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    said: list[str] = []
    monkeypatch.setattr("pyinfra.logger.warning", said.append)
    data = {"credentials_dir": str(tmp_path), "remove_nodes": ["n", "o"]}
    away: dict[str, Any] = {out: ["o"]}
    prepared(remove_nodes, TWO_NODES, data, DEBIAN, **away)
    assert [line.partition(":")[0] for line in said] == ["o takes no part in this run"]


def test_packages_that_scratch_does_not_install_are_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    for name in PROGRAMS:
        (tmp_path / name).write_text("")
    folders = {"kubernetes_source": str(tmp_path), "credentials_dir": str(tmp_path / "none")}
    files = ["https://rpms.example.com/etcd-3.5.1-1.fc33.x86_64.rpm"]
    data = {**TODAY, **folders, "rpm_files": files}
    more = {"packages.Locks": LockStates("apt")}
    _, shown = prepared(scratch, ONE_NODE, data, DEBIAN, more=more)
    assert "package containerd: not locked → locked" in shown["n"]
    assert "package etcd:" not in shown["n"]


def _order(state: State) -> list[str]:
    return [
        f"{next(iter(state.op_meta[key].names)).rpartition(' | ')[2]}: "
        + " ".join(host.name for host in state.inventory if key in state.ops[host])
        for key in state.get_op_order()
    ]


OURS = FileState("file", "644", "root", "root", 1, 1.0, points_at="file", sha256="0" * 64)


@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        # What kubelet asks for in vain it asks for again only after seconds.
        (
            {},
            [
                "Run the control plane as static pods: m",
                "Run kubelet: m",
                "Wait for the apiserver to be ready: m",
                "Run kubelet: n",
                "Wait for nodes to register: m",
            ],
        ),
        # It is what starts the pods again that change.
        (
            {"files.Files": {"/srv/kubernetes/kubelet-client.crt": OURS}},
            [
                "Run kubelet: m n",
                "Run the control plane as static pods: m",
                "Wait for the apiserver to be ready: m",
                "Wait for nodes to register: m",
            ],
        ),
    ],
    ids=["new hosts", "hosts of the cluster"],
)
def test_kubelet_starts_when_it_finds_what_it_asks_for(
    has: dict[str, Any], wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    for name in PROGRAMS:
        (tmp_path / name).write_text("")
    folders = {"kubernetes_source": str(tmp_path), "credentials_dir": str(tmp_path / "none")}
    state, _ = prepared(scratch, ONE_NODE, {**TODAY, **folders}, DEBIAN, more=has)
    found = _order(state)
    assert [one for one in found if one in wanted or one.startswith("Run kubelet")] == wanted
