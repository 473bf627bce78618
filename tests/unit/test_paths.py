"""What each path plans on blank hosts, and what it cannot build, without any host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import DeployError
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.runtimes import CONTAINERD
from pyinfra_kube.deploys import phases
from pyinfra_kube.deploys.access import manage_access
from pyinfra_kube.deploys.fedora_single_node import fedora_single_node
from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.remove_node import remove_nodes
from pyinfra_kube.deploys.reset import reset
from pyinfra_kube.deploys.run.artifacts import CNI_PLUGINS
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import HOSTS, ONE_NODE, TWO_NODES, Groups, Path_, cluster_of, prepared

FLANNEL = {"network": "flannel"}
TODAY = {"kubernetes_version": "1.37"}
EVE = {"access_user": "eve", "access_group": "viewers"}
RPM = "https://rpms.example.com/flannel-0.9.0-8.fc33.x86_64.rpm"

Plan = Callable[..., dict[str, str]]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Prepare a path on blank hosts of a Fedora; what ``--diff`` shows, by host."""

    def plan(path: Path_, release: str, groups: Groups, **data: Any) -> dict[str, str]:
        common = {"credentials_dir": str(tmp_path / "none"), **data}
        return prepared(path, groups, common, PackageStates("dnf", "fedora", release))[1]

    return plan


# Plans


def test_the_multi_node_path(plan: Plan) -> None:
    shown = plan(multinode, "34", TWO_NODES, **FLANNEL, node_registration="manual")
    for host in HOSTS:
        assert 'KUBE_LOG_LEVEL="--v=2"' in shown[host]
    for text in (
        "package kubernetes-master: absent → installed",
        'ETCD_LISTEN_CLIENT_URLS="https://0.0.0.0:2379"',
        "/etc/tmpfiles.d/kubernetes.conf: absent → file",
        "kube-apiserver.service: not installed → enabled",
        '"Network": "10.10.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan", "VNI": 1}',
        "node o: absent → present",
    ):
        assert text in shown["m"]
    for text in (
        "package flannel: absent → installed",
        'FLANNEL_ETCD="https://192.0.2.1:2379"',
        "-etcd-certfile=/srv/kubernetes/etcd-flannel.crt",
        'KUBELET_HOSTNAME="--hostname-override=o"',
        "--register-node=false",
        "docker.service: not installed → enabled",
    ):
        assert text in shown["o"]


def test_a_flannel_that_no_repository_has(plan: Plan) -> None:
    with pytest.raises(DeployError, match=r"flannel_source .* the last that did is 34"):
        plan(multinode, "35", ONE_NODE, **FLANNEL)
    shown = plan(multinode, "35", ONE_NODE, **FLANNEL, rpm_files=[RPM])["n"]
    assert "package flannel: absent → 0.9.0-8.fc33" in shown
    assert "package kubernetes-node: absent → installed" in shown
    shown = plan(multinode, "42", ONE_NODE, **FLANNEL, package_source="rpm", rpm_files=[RPM])["n"]
    assert "package flannel: absent → 0.9.0-8.fc33" in shown
    assert "package kubernetes" not in shown


def test_a_flanneld_in_a_folder(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("release")
    (folder / "flanneld").write_text("a program")
    source = {"flannel_source": str(folder), "flannel_version": "0.17.0"}
    shown = plan(multinode, "35", ONE_NODE, **FLANNEL, **source)["n"]
    assert "/usr/local/bin/flanneld: absent → " in shown
    assert "/etc/systemd/system/flanneld.service: absent → file" in shown
    assert "package flannel" not in shown


def test_etcd_limits_a_flannel_of_its_v3_interface(plan: Plan) -> None:
    source = {"flannel_source": __file__, "flannel_version": "0.28.9", **FLANNEL}
    plain = {**source, "etcd_tls": False}
    shown = plan(multinode, "35", TWO_NODES, **source)
    for text in (
        "etcd user kube-apiserver-etcd-client: absent → root",
        "etcd user m: absent → root",
        "etcd user flannel: absent → flannel",
        "etcd role flannel: absent → readwrite /coreos.com/network/ to /coreos.com/network0",
        "etcd authentication: off → on",
    ):
        assert text in shown["m"]
    # For etcdctl.
    assert "package etcd: absent → installed" in shown["o"]
    assert "etcd authentication" not in shown["o"]
    for other in (
        plain,
        {**source, "flannel_version": "0.17.0"},
        {**source, "etcd_version": "3.3.15"},
    ):
        shown = plan(multinode, "35", TWO_NODES, **other)
        assert "etcd authentication" not in shown["m"]
        assert "package etcd: " not in shown["o"]


def test_the_single_node_path(plan: Plan) -> None:
    shown = plan(fedora_single_node, "24", ONE_NODE, docker_root="/srv/docker", docker_mtu=1400)
    assert "package etcd: absent → installed" in shown["m"]
    for text in ('"bip": "10.10.0.1/24"', '"data-root": "/srv/docker"', '"mtu": 1400'):
        assert text in shown["n"]
    assert "flannel" not in shown["n"]


# Refusals

REFUSED: list[tuple[Path_, dict[str, Any], str]] = [
    (
        scratch,
        {"kubernetes_version": "1.37.2", "docker_mtu": 1400},
        "docker_mtu = 1400; allowed: nothing: Kubernetes 1.37.2 runs containers with containerd",
    ),
    (
        scratch,
        {"containerd_version": "2.4.2"},
        "containerd_version = '2.4.2'; allowed: nothing: Kubernetes",
    ),
    (
        scratch,
        {"kubernetes_version": "1.12.10", "encryption": True},
        "encryption = True; allowed: False (Kubernetes 1.12); fix: leave it unset",
    ),
    (scratch, {"audit": True}, "audit = True; allowed: False (Kubernetes 1.20)"),
    (multinode, FLANNEL | {"encryption": True}, "only deploys/scratch.py encrypts Secrets"),
    (
        fedora_single_node,
        {"kubernetes_version": "1.37.2", "metrics_server": True},
        "metrics_server = True; allowed: nothing: only deploys/scratch.py sets it up",
    ),
    (scratch, {"encryption_key": "Key_1"}, "encryption_key = 'Key_1'; allowed: at most 16"),
    (scratch, FLANNEL, "fix: use deploys/multinode.py"),
    (fedora_single_node, FLANNEL, 'fix: set it to "routes", or use deploys/multinode.py'),
    (multinode, {}, "network = 'routes'; allowed: flannel; fix: set it to \"flannel\", or use dep"),
    (multinode, TODAY | {"network": "none"}, 'set it to "flannel", or use deploys/scratch.py'),
    (fedora_single_node, TODAY | {"network": "none"}, '"routes", or use deploys/scratch.py'),
    (
        fedora_single_node,
        TODAY | {"docker_mtu": 1400},
        "docker_mtu = 1400; allowed: nothing: Kubernetes 1.37 runs containers with containerd or c",
    ),
    (fedora_single_node, {}, "nodes = ['n', 'o']; allowed: one node"),
    (
        multinode,
        FLANNEL | {"kubernetes_version": "1.24.0", "flannel_source": "https://example.com/f"},
        'flannel_store is not set; allowed: etcd, on this path; fix: set it to "etcd"',
    ),
    (
        scratch,
        {"container_runtime": "containerd"},
        "container_runtime = 'containerd'; allowed: dock",
    ),
    (multinode, FLANNEL | {"flannel_backend": "gre"}, "flannel_backend = 'gre'; allowed: 'vxlan'"),
    (
        remove_nodes,
        {},
        "remove_nodes is not set; allowed: a list of nodes outside of the control plane: n",
    ),
    (remove_nodes, {"remove_nodes": ["m"]}, "remove_nodes = ['m']; allowed: a list of nodes"),
    (reset, {"reset": "other"}, "reset = 'other'; allowed: yes, or the name of the cluster: kube"),
    (reset, {"reset_data": ["etc"]}, "reset_data"),
    (manage_access, {"access_user": "system:node:n"}, "access_user = 'system:node:n'; allowed: a"),
    (manage_access, {"access_user": "Eve"}, 'fix: write "eve"'),
    (manage_access, {"access_user": "e" * 41}, "at most 40 lower-case letters"),
    (manage_access, {"access_user": "eve"}, "access_group is not set; allowed: one of viewers, ed"),
    (manage_access, EVE | {"access_group": "viewer"}, "fix: did you mean viewers?"),
    (manage_access, EVE | {"access_days": 0}, "access_days = 0; allowed: at least 1"),
    (manage_access, EVE | {"access_days": 3650}, "access_days = 3650; allowed: at most 3649: no"),
    (manage_access, EVE | {"access_revoke": "eve"}, "access_revoke = 'eve'; allowed: another than"),
    (manage_access, {"access_group": "viewers"}, "access_group = 'viewers'; allowed: nothing, for"),
    (manage_access, EVE, "allowed: the folder of a cluster that is built; fix: build it first"),
    (
        manage_access,
        EVE | {"kubernetes_version": "1.7.16"},
        "kubernetes_version = '1.7.16'; allowed: 1.8 or newer",
    ),
    (
        manage_access,
        EVE | {"kubernetes_version": "1.19.16", "apiserver_approach": "http"},
        "apiserver_approach = 'http'; allowed: https",
    ),
    (
        manage_access,
        EVE | {"authorization_mode": "RBAC,AlwaysAllow"},
        "authorization_mode = 'RBAC,AlwaysAllow'; allowed: with RBAC and without AlwaysAllow",
    ),
    (
        manage_access,
        {"access_revoke": "eve", "authorization_mode": "ABAC"},
        "authorization_mode = 'ABAC'; allowed: with RBAC",
    ),
]


@pytest.mark.parametrize(("path", "data", "said"), REFUSED)
def test_what_a_path_cannot_build(path: Path_, data: dict[str, Any], said: str) -> None:
    with (
        cluster_of(TWO_NODES, data) as state,
        ctx_host.use(state.inventory.get_host("m")),
        pytest.raises(DeployError) as error,
    ):
        path()
    assert said in str(error.value)
    assert "no host was touched" in str(error.value)


def test_flags_that_no_environment_file_can_hold(plan: Plan) -> None:
    with pytest.raises(DeployError, match=r"kubelet_flags = '--node-ip=a b'; allowed: a flag with"):
        plan(multinode, "34", ONE_NODE, **FLANNEL, kubelet_flags={"node-ip": "a b"})


# Phases alone

FOLDER = Path(phases.__path__[0])
ALONE = {
    # Only from 1.24 on.
    "addon_removal": [],
    "addons": [],
    "allocations": ["addresses.yaml: n has 10.10.0.0/24"],
    "container_runtime": ["bridge cbr0: absent → present", "package docker.io: absent → installed"],
    "control_plane": [
        "/srv/kubernetes/server.key: absent → file",
        "kubelet.service: disabled → enabled",
    ],
    "credentials": ["/srv/kubernetes/ca.crt: absent → file"],
    "encryption": [],
    "fedora_control_plane": ["package kubernetes-master: absent", "etcd.service: not installed"],
    "fedora_hosts": ["package kubernetes-node: absent → installed"],
    "fedora_node": ["package kubernetes-node: absent", '"bip": "10.10.0.1/24"'],
    "fedora_flannel": [
        "package flannel: absent → installed",
        "etcd /coreos.com/network/config: absent",
    ],
    "flannel": [
        "bridge cbr0: absent → present",
        "/usr/local/bin/flanneld: absent",
        "/etc/systemd/system/flanneld.service: absent → file",
        "node n: set as soon as it has registered",
    ],
    "host_preparation": ["package conntrack: absent → installed"],
    "liveness": [],
    "manifests": [],
    "metrics_server": [],
    "network_policies": [],
    "node_local_dns": [],
    "node_logs": [],
    "kube_proxy": [
        "package conntrack: absent → installed",
        "/srv/kubernetes/ca.crt: absent → file",
    ],
    "kubelet": ["bridge cbr0: absent → present", "/usr/local/bin/kubelet: absent"],
    "pod_network": ["package conntrack: absent → installed", "bridge cbr0: absent → present"],
    "verification": [],
}


def test_every_phase_is_tried_alone() -> None:
    executed = {
        p.stem for p in FOLDER.glob("*.py") if '"__name__" not in globals()' in p.read_text()
    }
    assert executed == ALONE.keys()


@pytest.mark.parametrize("name", ALONE)
def test_a_phase_alone_brings_what_it_needs(name: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.py"
    fedora = name.startswith("fedora")
    data = FLANNEL if name in ("flannel", "fedora_flannel") else {}
    source = tmp_path / "release"
    source.mkdir()
    for program in ("kubelet", "kube-proxy", "kubectl", "flanneld", "runc"):
        (source / program).write_text(program)
    for program in (*CONTAINERD.programs, "crictl", *CNI_PLUGINS):
        (source / program).write_text(program)
    if name == "flannel":
        data = {**data, "kubernetes_version": "1.37.2", "flannel_source": str(source)}
        data |= {"runtime_source": str(source), "containerd_version": "2.4.2"}
    common = {
        "credentials_dir": str(tmp_path / "none"),
        "kubernetes_source": str(source),
        **data,
    }
    packages = (
        PackageStates("dnf", "fedora", "34") if fedora else PackageStates("apt", "debian", "12")
    )
    code = compile(file.read_text(), str(file), "exec")
    _, shown = prepared(lambda: exec(code, {}), ONE_NODE, common, packages)
    text = "\n".join(shown.values())
    assert [line for line in ALONE[name] if line not in text] == []
