"""What each path plans on blank hosts, and what it cannot build, without any host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import Config, Host, Inventory, State
from pyinfra.api.exceptions import DeployError
from pyinfra.context import ctx_config, ctx_host, ctx_state

from pyinfra_kube.deploys import context
from pyinfra_kube.deploys.context import Observation
from pyinfra_kube.deploys.fedora_single_node import fedora_single_node
from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.remove_node import remove_nodes
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.packages import Packages, PackageStates
from pyinfra_kube.facts.services import Units, UnitStates

HOSTS = {"m": "192.0.2.1", "n1": "192.0.2.11", "n2": "192.0.2.12"}
FLANNEL = {"network": "flannel"}
RPM = "https://rpms.example.com/flannel-0.9.0-8.fc33.x86_64.rpm"


@contextmanager
def cluster_of(nodes: list[str], **data: Any) -> Iterator[State]:
    """A master and nodes that nobody connects to."""

    hosts = [(name, {"ssh_hostname": HOSTS[name]}) for name in ["m", *nodes]]
    common = {"kubernetes_version": "1.20.2", "master_ip": HOSTS["m"], **data}
    inventory = Inventory((hosts, common), masters=(["m"], {}), nodes=(nodes, {}))
    state = State(inventory, Config(DIFF=True))
    with ctx_state.use(state), ctx_config.use(state.config):
        yield state


# Plans


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """Prepare a path on blank hosts of a Fedora; what ``--diff`` shows, by host."""

    def plan(
        path: Callable[[], object], release: str, nodes: list[str], **data: Any
    ) -> dict[str, str]:
        blank: Mapping[type, object] = {
            Packages: PackageStates("dnf", "fedora", release),
            Units: UnitStates("systemd", now=1e9),
        }

        def get_fact(host: Host, fact: Any, **_: Any) -> object:
            return blank[fact] if fact in blank else fact().default()

        def observe(*_: object) -> Observation:
            address = HOSTS[ctx_host.get().name]
            return Observation([address], address, ["192.0.2.0/24"], "", "", "fedora", release)

        shown: dict[str, list[str]] = {}
        monkeypatch.setattr(Host, "get_fact", get_fact)
        monkeypatch.setattr(
            Host, "log", lambda host, text, *_: shown.setdefault(host.name, []).append(text)
        )
        monkeypatch.setattr(context, "observe", observe)
        with cluster_of(nodes, credentials_dir=str(tmp_path / "none"), **data) as state:
            for host in state.inventory:
                state.activated_hosts.add(host)
                state.active_hosts.add(host)
            for host in state.inventory:
                with ctx_host.use(host):
                    path()
        assert not list(tmp_path.iterdir())
        return {name: "\n".join(lines) for name, lines in shown.items()}

    return plan


def test_the_multi_node_path(plan: Callable[..., dict[str, str]]) -> None:
    shown = plan(multinode, "34", ["n1", "n2"], **FLANNEL, node_registration="manual")
    for host in HOSTS:
        assert 'KUBE_LOG_LEVEL="--v=2"' in shown[host]
    for text in (
        "package kubernetes-master: absent → installed",
        'ETCD_LISTEN_CLIENT_URLS="http://0.0.0.0:2379"',
        "/etc/tmpfiles.d/kubernetes.conf: absent → file",
        "kube-apiserver.service: not installed → enabled",
        '"Network": "10.10.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan", "VNI": 1}',
        "node n2: absent → present",
    ):
        assert text in shown["m"]
    for text in (
        "package flannel: absent → installed",
        'FLANNEL_ETCD="http://192.0.2.1:2379"',
        'KUBELET_HOSTNAME="--hostname-override=n2"',
        "--register-node=false",
        "docker.service: not installed → enabled",
    ):
        assert text in shown["n2"]


def test_a_flannel_that_no_repository_has(plan: Callable[..., dict[str, str]]) -> None:
    with pytest.raises(DeployError, match=r"flannel_source .* the last that did is 34"):
        plan(multinode, "35", ["n1"], **FLANNEL)
    shown = plan(multinode, "35", ["n1"], **FLANNEL, rpm_files=[RPM])["n1"]
    assert "package flannel: absent → 0.9.0-8.fc33" in shown
    assert "package kubernetes-node: absent → installed" in shown
    shown = plan(multinode, "42", ["n1"], **FLANNEL, package_source="rpm", rpm_files=[RPM])["n1"]
    assert "package flannel: absent → 0.9.0-8.fc33" in shown
    assert "package kubernetes" not in shown


def test_a_flanneld_in_a_folder(
    plan: Callable[..., dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("release")
    (folder / "flanneld").write_text("a program")
    source = {"flannel_source": str(folder), "flannel_version": "0.17.0"}
    shown = plan(multinode, "35", ["n1"], **FLANNEL, **source)["n1"]
    assert "/usr/local/bin/flanneld: absent → " in shown
    assert "/etc/systemd/system/flanneld.service: absent → file" in shown
    assert "package flannel" not in shown


def test_the_single_node_path(plan: Callable[..., dict[str, str]]) -> None:
    shown = plan(fedora_single_node, "24", ["n1"], docker_root="/srv/docker", docker_mtu=1400)
    assert "package etcd: absent → installed" in shown["m"]
    for text in ('"bip": "10.10.0.1/24"', '"data-root": "/srv/docker"', '"mtu": 1400'):
        assert text in shown["n1"]
    assert "flannel" not in shown["n1"]


# Refusals

REFUSED: list[tuple[Callable[[], object], dict[str, Any], str]] = [
    (scratch, FLANNEL, "network = 'flannel'; allowed: routes; fix: use deploys/multinode.py"),
    (fedora_single_node, FLANNEL, "fix: use deploys/multinode.py"),
    (multinode, {}, "network = 'routes'; allowed: flannel; fix: use deploys/fedora_single_node.py"),
    (fedora_single_node, {}, "nodes = ['n1', 'n2']; allowed: one node"),
    (multinode, FLANNEL | {"kubernetes_version": "1.24.0"}, "kubernetes_version = '1.24.0'; all"),
    (multinode, FLANNEL | {"flannel_backend": "gre"}, "flannel_backend = 'gre'; allowed: 'vxlan'"),
    (remove_nodes, {}, "remove_nodes is not set; allowed: a list of nodes that are no masters: n1"),
    (remove_nodes, {"remove_nodes": ["m"]}, "remove_nodes = ['m']; allowed: a list of nodes"),
]


@pytest.mark.parametrize(("path", "data", "said"), REFUSED)
def test_what_a_path_cannot_build(
    path: Callable[[], object], data: dict[str, Any], said: str
) -> None:
    with (
        cluster_of(["n1", "n2"], **data) as state,
        ctx_host.use(state.inventory.get_host("m")),
        pytest.raises(DeployError) as error,
    ):
        path()
    assert said in str(error.value)
    assert "no host was touched" in str(error.value)


def test_flags_that_no_environment_file_can_hold(plan: Callable[..., dict[str, str]]) -> None:
    with pytest.raises(DeployError, match=r"kubelet_flags = '--node-ip=a b'; allowed: a flag with"):
        plan(multinode, "34", ["n1"], **FLANNEL, kubelet_flags={"node-ip": "a b"})
