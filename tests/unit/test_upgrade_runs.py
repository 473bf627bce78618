"""Which operations an upgrade plans on which host in which order, without any host."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import State
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.runtimes import CONTAINERD
from pyinfra_kube.deploys.fedora_single_node import fedora_single_node
from pyinfra_kube.deploys.phases.fedora_hosts import prepare_fedora_host
from pyinfra_kube.deploys.phases.kubelet import run_kubelet
from pyinfra_kube.deploys.remove_node import remove_nodes
from pyinfra_kube.deploys.run.artifacts import CNI_PLUGINS
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.binaries import Running
from pyinfra_kube.facts.containerd import LOCAL, ContainerdState
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.nodes import EvictablePods, Node, NodeStates
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import TWO_NODES, Groups, Path_, prepared

DEBIAN = PackageStates("apt", "debian", "12")
MANIFESTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
TODAY = {
    "kubernetes_version": "1.37.2",
    "etcd_version": "3.6.4",
    "containerd_version": "2.4.2",
    "runtime_sha256": {"crictl-v1.37.0-linux-amd64.tar.gz": "0" * 64},
}

Plan = Callable[..., State]


def manifests(version: str, etcd: str = "3.6.4") -> dict[str, bytes]:
    tags = dict.fromkeys(MANIFESTS, f"v{version}") | {"etcd": etcd}
    return {
        f"/etc/kubernetes/manifests/{name}.yaml": f"  - image: lab/{name}:{tag}\n".encode()
        for name, tag in tags.items()
    }


def has(version: str) -> dict[str, Any]:
    """What a host of a cluster of this version has."""
    return {"binaries.RunningVersions": {"kubelet.service": Running(f"Kubernetes v{version}")}}


def running(version: str, **nodes: Node) -> dict[str, dict[str, Any]]:
    """The facts of a cluster's three hosts."""
    known = {name: nodes.get(name) or Node(name, kubelet=f"v{version}") for name in "mno"}
    plane = {
        "files.FileContents": manifests(version),
        "nodes.Nodes": NodeStates("ok", "", known),
        "nodes.Evictable": EvictablePods("ok", "", ["default/web"]),
    }
    return {"m": {**has(version), **plane}, "n": has(version), "o": has(version)}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Prepare a path on hosts that have a cluster already."""
    monkeypatch.setattr("pyinfra.is_cli", True)
    source = tmp_path / "release"
    source.mkdir()
    for name in ("kubelet", "kube-proxy", "kubectl"):
        (source / name).write_text(name)

    def plan(
        each: dict[str, dict[str, Any]],
        path: Path_ = scratch,
        groups: Groups = TWO_NODES,
        packages: PackageStates = DEBIAN,
        /,
        **data: Any,
    ) -> State:
        away = {key: data.pop(key, ()) for key in ("left_out", "dead")}
        folders = {"kubernetes_source": str(source), "credentials_dir": str(tmp_path / "none")}
        state, _ = prepared(path, groups, {**TODAY, **folders, **data}, packages, each=each, **away)
        return state

    return plan


def order(state: State) -> list[tuple[str, str]]:
    """Each change of the plan, as the run makes them: operation and host."""
    return [
        (next(iter(state.op_meta[key].names)).rpartition(" | ")[2], host.name)
        for key in state.get_op_order()
        for host in state.inventory
        if key in state.ops[host] and state.ops[host][key].operation_meta.will_change
    ]


def _at(found: list[tuple[str, str]], name: str, host: str) -> int:
    (at,) = [i for i, one in enumerate(found) if one == (name, host)]
    return at


def test_the_control_plane_comes_first_then_node_after_node(plan: Plan) -> None:
    found = order(plan(running("1.36.3")))
    stations = [
        ("Run kube-apiserver as static pods", "m"),
        ("Run the rest of the control plane as static pods", "m"),
        *(
            station
            for node in "mno"
            for station in (
                (f"Drain {node}", "m"),
                ("Install kubelet", node),
                ("Run kubelet", node),
                ("Install kube-proxy", node),
                ("Run kube-proxy", node),
                (f"Let {node} have pods again", "m"),
            )
        ),
        ("Set CoreDNS and its service", "m"),
    ]
    places = [_at(found, *station) for station in stations]
    assert places == sorted(places)
    # Nothing that pods notice changes out of turn.
    for node in "no":
        begins, ends = (
            _at(found, f"Drain {node}", "m"),
            _at(found, f"Let {node} have pods again", "m"),
        )
        for name in ("Configure containerd", "Run containerd", "Set kubelet's unit"):
            assert begins < _at(found, name, node) < ends


def test_control_planes_take_turns_component_by_component(plan: Plan) -> None:
    each = running("1.36.3")
    older = {"files.FileContents": manifests("1.36.3", etcd="3.5.24")}
    each = {name: facts | older for name, facts in each.items()}
    found = order(plan(each, scratch, {"control_plane": ["m", "n", "o"], "nodes": ["o"]}))
    parts = ("etcd", "kube-apiserver", "the rest of the control plane")
    stations = [(f"Run {part} as static pods", host) for part in parts for host in "mno"]
    places = [_at(found, *station) for station in [*stations, ("Drain m", "m"), ("Drain o", "m")]]
    assert places == sorted(places)


def test_a_blank_host_waits(plan: Plan) -> None:
    each = {name: facts for name, facts in running("1.36.3").items() if name != "o"}
    found = order(plan(each))
    assert ("Drain o", "m") not in found
    assert _at(found, "Install kubelet", "o") > _at(found, "Let n have pods again", "m")


def test_a_cluster_as_wanted_has_no_turns(plan: Plan) -> None:
    names = {name for name, _ in order(plan(running("1.37.2")))}
    assert not {name for name in names if re.match(r"Drain|Let . have|Run kube-apiserver", name)}


def test_a_node_that_somebody_cordoned_stays_so(plan: Plan) -> None:
    found = order(plan(running("1.36.3", n=Node("n", cordoned=True))))
    assert ("Drain n", "m") in found
    assert ("Let n have pods again", "m") not in found


def test_what_an_interrupted_run_left_is_made_good(plan: Plan) -> None:
    left = Node("n", kubelet="v1.37.2", cordoned=True, drained_for="1.37.2")
    found = order(plan(running("1.37.2", n=left)))
    assert ("Let n have pods again", "m") in found
    assert ("Let o have pods again", "m") not in found


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("1.35.4", {}, "m: kubernetes_version = '1.37.2'; allowed: 1.35 or 1.36"),
    ("1.37.2", {"kubernetes_version": "1.36.3"}, "a control plane never goes back"),
]


@pytest.mark.parametrize(("now", "data", "said"), REFUSED)
def test_a_forbidden_upgrade_is_refused(
    now: str, data: dict[str, Any], said: str, plan: Plan
) -> None:
    with pytest.raises(DeployError) as error:
        plan(running(now), **data)
    assert said in str(error.value)
    assert "no host was touched" in str(error.value)


def test_pods_that_would_be_lost_are_refused(plan: Plan) -> None:
    each = running("1.36.3")
    each["m"]["nodes.Evictable"] = EvictablePods("ok", "", ["default/a"], ["default/a"])
    with pytest.raises(DeployError, match=r"n: drain_force = False; allowed: pods .* default/a"):
        plan(each)


def test_an_old_node_outside_of_the_run_counts(plan: Plan) -> None:
    each = running("1.36.3")
    each["m"]["nodes.Nodes"].nodes["elsewhere"] = Node("elsewhere", kubelet="v1.33.13")
    with pytest.raises(
        DeployError, match=r"elsewhere: kubernetes_version = .*; allowed: up to 1.36"
    ):
        plan(each)


@pytest.mark.parametrize("how", ["left_out", "dead"])
def test_a_control_plane_outside_of_the_run_is_not_left_behind(plan: Plan, how: str) -> None:
    each = running("1.36.3", o=Node("o", kubelet="v1.35.4"))
    each["n"] |= {"files.FileContents": manifests("1.36.3")}
    groups = {"control_plane": ["m", "n", "o"], "nodes": ["m", "n", "o"]}
    with pytest.raises(DeployError, match=r"o: kubernetes_version .* let it take part in the run"):
        plan(each, scratch, groups, **{how: ["o"]})


@pytest.mark.parametrize("how", ["left_out", "dead"])
def test_a_new_node_alone_is_no_newer_than_the_control_plane(
    plan: Plan, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is there yet, and a node waits for what comes.
    assert ("Install kubelet", "o") in order(plan({}, **{how: ["m", "n"]}))
    planned = CredentialStore.plan
    kept = lambda *given, **more: replace(planned(*given, **more), new=False)  # noqa: E731
    monkeypatch.setattr(CredentialStore, "plan", kept)
    with pytest.raises(DeployError, match=r"m: kubernetes_version .* let it take part in the run"):
        plan({}, **{how: ["m", "n"]})
    assert ("Install kubelet", "o") in order(plan({"n": has("1.37.2")}, **{how: ["m"]}))


def test_who_drains_nodes_is_needed(plan: Plan) -> None:
    each = {"n": has("1.37.2"), "o": has("1.36.3")}
    with pytest.raises(DeployError, match=r"m, which drains nodes, .* let m take part in the run"):
        plan(each, left_out=["m"])


def test_a_kubelet_that_does_not_tell_has_its_turn(plan: Plan) -> None:
    each = running("1.36.3")
    each["n"] = {"files.Files": {"/srv/kubernetes/ca.crt": OURS}}
    found = order(plan(each))
    assert _at(found, "Drain n", "m") < _at(found, "Install kubelet", "n")
    for kubelet, said in {"v1.38.0": "no kubelet goes back", "v1.32.1": "up to 1.35"}.items():
        each["m"]["nodes.Nodes"].nodes["n"] = Node("n", kubelet=kubelet)
        with pytest.raises(DeployError, match=f"n: kubernetes_version .*{said}"):
            plan(each)


def test_an_api_that_does_not_answer_is_said(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("pyinfra.logger.warning", said.append)
    each = running("1.36.3")
    each["m"] |= {"nodes.Nodes": NodeStates("down", "no route to host")}
    each["m"] |= {"nodes.Evictable": EvictablePods("down", "no route to host")}
    plan(each)
    notice = r"notice: the API does not answer on m \(no route to host\): nodes .* not checked"
    assert [line for line in said if re.match(notice, line)]


def test_a_phase_alone_upgrades_nothing(plan: Plan) -> None:
    with pytest.raises(DeployError, match=r"this deploy upgrades no cluster .* deploys/scratch.py"):
        plan(running("1.36.3"), run_kubelet)


def test_a_node_can_be_removed_in_any_case(plan: Plan) -> None:
    plan(running("1.33.13"), remove_nodes, remove_nodes=["o"])


def test_a_build_that_calls_itself_otherwise_is_as_wanted(plan: Plan) -> None:
    """What runs is the very program that is to run, whatever it says of itself."""
    each, digest = running("1.37.2"), sha256(b"kubelet").hexdigest()
    file = FileState("file", "755", "root", "root", 7, 1.0, points_at="file", sha256=digest)
    each["n"] = has("1.36.9-own") | {"files.Files": {"/usr/local/bin/kubelet": file}}
    each["o"] = has("1.36.9-own")
    found = order(plan(each))
    assert ("Drain n", "m") not in found
    assert ("Drain o", "m") in found


# Of packages

CNI = {"containernetworking-plugins": "1.6.2-1.fc44"}
FEDORA = PackageStates("dnf", "fedora", "44", {"etcd": "3.7.3-1.fc44", **CNI})
UNITS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
OURS = FileState("file", "644", "root", "root", 7, 1.0)


def packaged(version: str, hosts: str = "mno", **nodes: Node) -> dict[str, dict[str, Any]]:
    """The facts of a cluster's hosts on Fedora."""
    known = {name: nodes.get(name) or Node(name, kubelet=f"v{version}") for name in "mno"}
    here = {"files.Files": {"/srv/kubernetes/ca.crt": OURS}}
    said = {f"{name}.service": Running(f"Kubernetes v{version}") for name in UNITS}
    own = {"kubelet.service": said["kubelet.service"]}
    plane = {
        "binaries.RunningVersions": said,
        "nodes.Nodes": NodeStates("ok", "", known),
        "nodes.Evictable": EvictablePods("ok", "", ["default/web"]),
    }
    node = {**here, "binaries.RunningVersions": own}
    return {name: {**here, **plane} if name == "m" else node for name in hosts}


CRIO = {"container_runtime": "cri-o", "containerd_version": None}
MOVE = "Move to the packages of 1.37"


def test_packages_move_on_drained_hosts_one_by_one(plan: Plan) -> None:
    found = order(plan(packaged("1.36.3"), fedora_single_node, TWO_NODES, FEDORA, **CRIO))
    stations = [
        ("Drain m", "m"),
        (MOVE, "m"),
        ("Run the apiserver", "m"),
        ("Run the controller manager and the scheduler", "m"),
        *(
            station
            for node in "mno"
            for station in (
                *([] if node == "m" else [(f"Drain {node}", "m"), (MOVE, node)]),
                ("Configure CRI-O", node),
                ("Run CRI-O", node),
                ("Run kubelet", node),
                ("Run kube-proxy", node),
                (f"Let {node} have pods again", "m"),
            )
        ),
    ]
    places = [_at(found, *station) for station in stations]
    assert places == sorted(places)
    # Its packages have moved by then.
    assert not {(name, host) for name, host in found if name == "Install CRI-O"}


def test_control_planes_of_packages_have_new_apiservers_first(plan: Plan) -> None:
    each = packaged("1.36.3")
    each["n"] = {**each["m"]}
    groups = {"control_plane": ["m", "n"], "nodes": ["o"], "etcd": ["m"]}
    found = order(plan(each, fedora_single_node, groups, FEDORA, **CRIO))
    stations = [
        *(one for host in "mn" for one in ((f"Drain {host}", "m"), ("Run the apiserver", host))),
        *(
            one
            for host in "mn"
            for one in (
                ("Run the controller manager and the scheduler", host),
                ("Run kubelet", host),
                (f"Let {host} have pods again", "m"),
            )
        ),
        ("Drain o", "m"),
    ]
    places = [_at(found, *station) for station in stations]
    assert places == sorted(places)


def test_another_patch_of_a_package_is_as_wanted(plan: Plan) -> None:
    found = order(plan(packaged("1.37.9"), fedora_single_node, TWO_NODES, FEDORA, **CRIO))
    assert MOVE not in {name for name, _ in found}
    assert ("Install the host's packages", "m") in found


def test_a_blank_host_gets_the_packages_of_the_release(plan: Plan) -> None:
    found = order(plan(packaged("1.36.3", "mn"), fedora_single_node, TWO_NODES, FEDORA, **CRIO))
    assert ("Install the host's packages", "o") in found
    assert (MOVE, "o") not in found
    assert _at(found, "Run kubelet", "o") > _at(found, "Let n have pods again", "m")


def test_a_runtime_of_another_source_moves_with_packages(plan: Plan, tmp_path: Path) -> None:
    source = tmp_path / "runtime"
    source.mkdir()
    for name in (*CONTAINERD.programs, "crictl", *CONTAINERD.helpers, *CNI_PLUGINS):
        (source / name).write_text(name)
    each = packaged("1.36.3")
    local = ContainerdState(versions={LOCAL: "1.7.29"})
    each = {name: {**facts, "containerd.Containerd": local} for name, facts in each.items()}
    data = {"container_runtime": "containerd", "runtime_source": str(source)}
    found = order(plan(each, fedora_single_node, TWO_NODES, FEDORA, **data))
    assert _at(found, MOVE, "n") < _at(found, "Run containerd", "n")


PACKAGES_REFUSED: list[tuple[str, Path_, dict[str, Any], str]] = [
    ("1.35.9", fedora_single_node, {}, "one minor release at a time"),
    ("1.38.0", fedora_single_node, {}, "a control plane never goes back"),
    ("1.36.3", fedora_single_node, {"install_packages": False}, "install_packages = False"),
    ("1.36.3", prepare_fedora_host, {}, "this deploy upgrades no cluster"),
]


@pytest.mark.parametrize(("now", "path", "data", "said"), PACKAGES_REFUSED)
def test_a_forbidden_move_is_refused(
    now: str, path: Path_, data: dict[str, Any], said: str, plan: Plan
) -> None:
    with pytest.raises(DeployError) as error:
        plan(packaged(now), path, TWO_NODES, FEDORA, **{**CRIO, **data})
    assert said in str(error.value)
    assert "no host was touched" in str(error.value)
