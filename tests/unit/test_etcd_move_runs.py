"""Which operations a run plans that brings etcd to TLS, on which host in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import State
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.binaries import Running
from pyinfra_kube.facts.etcd import Member, Members
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import HOSTS, TWO_NODES, prepared

DEBIAN = PackageStates("apt", "debian", "12")
FEDORA = PackageStates("dnf", "fedora", "34", versions={"docker": "20.10", "etcd": "3.4"})
THREE = {"control_plane": ["m", "n", "o"], "nodes": ["m", "n", "o"]}
VERSION = "1.37.2"
TODAY = {
    "kubernetes_version": VERSION,
    "etcd_version": "3.6.4",
    "containerd_version": "2.4.2",
    "runtime_sha256": {"crictl-v1.37.0-linux-amd64.tar.gz": "0" * 64},
}
KUBELET = {"binaries.RunningVersions": {"kubelet.service": Running(f"Kubernetes v{VERSION}")}}


def manifests(clients: str, peers: str, asked: str) -> dict[str, bytes]:
    """What tells how a host serves and asks etcd, with the image of each part."""
    flags = {
        "etcd": [f"listen-client-urls={clients}", f"listen-peer-urls={peers}"],
        "kube-apiserver": [f"etcd-servers={asked}"],
        "kube-controller-manager": [],
        "kube-scheduler": [],
    }
    return {
        f"/etc/kubernetes/manifests/{name}.yaml": "\n".join(
            [
                f"  - image: lab/{name}:{'3.6.4' if name == 'etcd' else f'v{VERSION}'}",
                *(f"    - --{flag}" for flag in given),
            ]
        ).encode()
        for name, given in flags.items()
    }


HTTP = manifests("http://192.0.2.1:2379", "http://192.0.2.1:2380", "http://192.0.2.1:2379")
BOTH = manifests(
    "http://192.0.2.1:2379,https://192.0.2.1:2379",
    "http://192.0.2.1:2380",
    "https://192.0.2.1:2379",
)
TLS = manifests("https://192.0.2.1:2379", "https://192.0.2.1:2380", "https://192.0.2.1:2379")


def registered(**schemes: str) -> Members:
    found = {
        name: Member("1", name, tuple(f"{one}://{HOSTS[name]}:2380" for one in text.split()), ())
        for name, text in schemes.items()
    }
    return Members("ok", found)


def plan(folder: Path, each: dict[str, dict[str, Any]], **more: Any) -> State:
    source = folder / "release"
    source.mkdir()
    for name in ("kubelet", "kube-proxy", "kubectl"):
        (source / name).write_text(name)
    folders = {"kubernetes_source": str(source), "credentials_dir": str(folder / "none")}
    left_out = more.pop("left_out", ())
    data = {**TODAY, **folders, **more}
    return prepared(scratch, THREE, data, DEBIAN, each=each, left_out=left_out)[0]


def changes(state: State) -> list[tuple[str, str]]:
    """The changes of etcd's way, as the run makes them: what and where."""
    found = [
        (next(iter(state.op_meta[key].names)), host.name)
        for key in state.get_op_order()
        for host in state.inventory
        if key in state.ops[host] and state.ops[host][key].operation_meta.will_change
    ]
    return [(name.rpartition(" | ")[2], host) for name, host in found if " etcd | " in f" {name}"]


@pytest.fixture(autouse=True)
def cli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)


def _facts(contents: dict[str, bytes], members: Members) -> dict[str, Any]:
    return {**KUBELET, "files.FileContents": contents, "etcd.EtcdMembers": members}


def test_member_after_member_apiserver_after_apiserver(tmp_path: Path) -> None:
    members = registered(m="http", n="http", o="http")
    state = plan(tmp_path, dict.fromkeys("mno", _facts(HTTP, members)))
    assert changes(state) == [
        (name.format(host=host), host)
        for name in (
            "Have etcd on {host} serve TLS too",
            "Have the apiserver on {host} ask etcd with TLS",
            "Register etcd on {host} with TLS too",
            "Have etcd on {host} serve TLS only",
            "Register etcd on {host} with TLS only",
        )
        for host in "mno"
    ]


def test_a_run_goes_on_where_the_last_one_was_killed(tmp_path: Path) -> None:
    members = registered(m="http https", n="http https", o="http https")
    each = {
        "m": _facts(TLS, members),
        "n": _facts(BOTH, members),
        "o": _facts(BOTH, members),
    }
    assert changes(plan(tmp_path, each)) == [
        ("Have etcd on n serve TLS only", "n"),
        ("Have etcd on o serve TLS only", "o"),
        ("Register etcd on m with TLS only", "m"),
        ("Register etcd on n with TLS only", "n"),
        ("Register etcd on o with TLS only", "o"),
    ]


def test_a_run_was_killed_before_its_last_step(tmp_path: Path) -> None:
    members = registered(m="https", n="http https", o="https")
    state = plan(tmp_path, dict.fromkeys("mno", _facts(TLS, members)))
    assert changes(state) == [("Register etcd with TLS only", "n")]


@pytest.mark.parametrize("contents", [HTTP, BOTH])
def test_nothing_moves_without_all_hosts(tmp_path: Path, contents: dict[str, bytes]) -> None:
    members = registered(m="http", n="http", o="http")
    state = plan(tmp_path, dict.fromkeys("mn", _facts(contents, members)), left_out=["o"])
    assert changes(state) == []


def test_it_does_not_go_back(tmp_path: Path) -> None:
    members = registered(m="https", n="https", o="https")
    each = dict.fromkeys("mno", _facts(TLS, members))
    with pytest.raises(DeployError, match="etcd_tls = False; allowed: True, for etcd has TLS"):
        plan(tmp_path, each, etcd_tls=False)


@pytest.mark.parametrize("etcd", [["m"], ["m", "n", "o"]])
def test_fedora_registers_several_members_before_any_restarts(etcd: list[str]) -> None:
    conf = b'ETCD_LISTEN_CLIENT_URLS="http://0.0.0.0:2379"\nETCD_LISTEN_PEER_URLS=http://x:2380\n'
    data = {"/var/lib/etcd/member": FileState("directory", "700", "etcd", "etcd", 0, 0.0)}
    ours = {"/srv/kubernetes/ca.crt": FileState("file", "644", "root", "root", 0, 0.0)}
    facts = {"files.FileContents": {"/etc/etcd/etcd.conf": conf}, "files.Files": {**data, **ours}}
    groups = {**TWO_NODES, "etcd": etcd}
    settings = {"network": "flannel", "cluster_cidr": "18.16.0.0/16"}
    state, _ = prepared(multinode, groups, settings, FEDORA, each=dict.fromkeys(etcd, facts))
    found = changes(state)
    too = [("Register etcd with TLS too", host) for host in etcd] if len(etcd) > 1 else []
    assert found[: len(too)] == too
    assert found[-len(etcd) :] == [("Register etcd with TLS only", host) for host in etcd]
    middle = found[len(too) : -len(etcd)]
    assert {name for name, _ in middle} == {"Configure etcd", "Run etcd"}
    assert {host for _, host in middle} == {*etcd}
