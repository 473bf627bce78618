"""The Fedora path from 1.24 on: programs of packages, and units and files of our own."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import DeployError, OperationValueError

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.fedora_single_node import fedora_single_node
from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.phases import fedora_verification
from pyinfra_kube.deploys.run import context
from pyinfra_kube.deploys.run.runtimes import with_runtime
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.fitness import FitnessState
from pyinfra_kube.facts.iptables import Rule, Ruleset
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.facts.selinux import Label, LabelStates
from pyinfra_kube.facts.services import UnitState, UnitStates
from pyinfra_kube.facts.swap import SwapStates
from tests.unit.blank import ONE_NODE, TWO_NODES, Path_, prepared

FEDORA = PackageStates("dnf", "fedora", "44")
DATA = {
    "kubernetes_version": "1.37.2",
    "runtime_sha256": {"crictl-v1.37.0-linux-amd64.tar.gz": "0" * 64},
}

ON_CONTROL_PLANE = (
    "package kubernetes1.37-systemd: absent → installed",
    "package kubernetes1.37-client: absent → installed",
    "package etcd: absent → installed",
    "/etc/systemd/system/etcd.service: absent → file",
    "+ ExecStart=/usr/bin/etcd",
    "+ ExecStart=/usr/bin/kube-apiserver",
    "--encryption-provider-config=/srv/kubernetes/encryption.yaml",
    "/srv/kubernetes/kube-scheduler.yaml: absent → file",
    "/usr/local/bin/kubectl: absent → /usr/bin/kubectl",
    "kube-controller-manager.service: inactive → running",
)
ON_NODES = (
    "package kubernetes1.37: absent → installed",
    "+ ExecStart=/usr/bin/kubelet",
    "+ ExecStart=/usr/bin/kube-proxy",
    "/var/lib/kubelet/config.yaml: absent → file",
    "/var/lib/kube-proxy/config.yaml: absent → file",
    "package containernetworking-plugins: absent → installed",
    "kubelet.service: inactive → running",
)
OF_RUNTIMES = {
    "cri-o": ("package cri-o1.37: absent → installed", 'plugin_dirs = ["/usr/libexec/cni"]'),
    "containerd": ("package containerd: absent → installed", "/usr/libexec/cni"),
}


@pytest.mark.parametrize("runtime", OF_RUNTIMES)
def test_a_plan(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    # CRI-O is the default of this system.
    asked = {} if runtime == "cri-o" else {"container_runtime": runtime}
    data = {**DATA, **asked, "credentials_dir": str(tmp_path)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    for line in (*ON_CONTROL_PLANE, *ON_NODES, *OF_RUNTIMES[runtime]):
        assert line in shown["m"]
    for line in (*ON_NODES, *OF_RUNTIMES[runtime]):
        assert line in shown["n"]
    for host in "mn":
        # The packages' own.
        assert "/etc/kubernetes/apiserver" not in shown[host]
        assert "/etc/kubernetes/kubelet" not in shown[host]
        assert "docker.service" not in shown[host]


def test_a_minor_release_is_whatever_patch_its_packages_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    data = {**DATA, "kubernetes_version": "1.37"}
    data |= {"credentials_dir": str(tmp_path), "kubernetes_source": str(tmp_path)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    for line in (*ON_CONTROL_PLANE, *ON_NODES):
        assert line in shown["m"]
    with pytest.raises(
        DeployError, match=r"kubernetes_version = '1.37'; .*; fix: write \"1.37.2\""
    ):
        prepared(scratch, ONE_NODE, data, FEDORA)


def test_an_etcd_in_place_of_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    (tmp_path / "etcd").write_text("a program")
    data = {**DATA, "credentials_dir": str(tmp_path / "kept"), "etcd_source": str(tmp_path)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    # It brings the user.
    assert "package etcd: absent → installed" in shown["m"]
    assert "/usr/local/bin/etcd: absent → " in shown["m"]
    assert "+ ExecStart=/usr/local/bin/etcd" in shown["m"]
    assert "/usr/local/bin/etcd" not in shown["n"]
    with pytest.raises(DeployError, match=r"etcd_source.*a static pod"):
        prepared(scratch, ONE_NODE, data, FEDORA)
    with pytest.raises(DeployError, match=r"etcd_source.*up to 1.23"):
        prepared(fedora_single_node, ONE_NODE, data | {"kubernetes_version": "1.20.2"}, FEDORA)


WRONG_PROGRAMS = {
    "none": ({"etcd_source": "/nowhere"}, "etcd_source = '/nowhere'; allowed: a URL, a file of t"),
    "another": (
        {"etcd_source": __file__, "etcd_sha256": "0" * 64},
        f"etcd_sha256 = '{'0' * 64}'; allowed: the digest of {__file__}",
    ),
    "nothing is published": (
        {"etcd_source": "http://me:pw@127.0.0.1:9/etcd"},
        "etcd_sha256 is not set; allowed: a SHA-256 digest; http://(not shown)@127.0.0.1:9/etcd.s",
    ),
    "no URL": (
        {"etcd_source": "http://127.0.0.1:9/a b"},
        "etcd_sha256 is not set; allowed: a SHA-256 digest; http://127.0.0.1:9/a b.sha256 does not",
    ),
    "a digest of nothing": (
        {"etcd_sha256": "0" * 64},
        f"etcd_sha256 = '{'0' * 64}'; allowed: nothing without etcd_source",
    ),
}


@pytest.mark.parametrize("case", WRONG_PROGRAMS)
def test_a_wrong_program_is_said_with_its_setting(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    given, said = WRONG_PROGRAMS[case]
    data = {**DATA, **given, "credentials_dir": str(tmp_path)}
    with pytest.raises(DeployError, match=re.escape(said)):
        prepared(fedora_single_node, ONE_NODE, data, FEDORA)


def test_files_of_a_home_and_urls_with_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    source = {"etcd_source": "https://me:pw@example.com/etcd", "etcd_sha256": "0" * 64}
    data = {**DATA, **source, "credentials_dir": str(tmp_path)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    assert "from https://(not shown)@example.com/etcd" in shown["m"]
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "etcd-3.7.0-1.fc44.x86_64.rpm").write_text("")
    data |= {"rpm_files": ["~/etcd-3.7.0-1.fc44.x86_64.rpm"]}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    assert "package etcd: absent → 3.7.0-1.fc44" in shown["m"]
    data |= {"rpm_files": ["https://me:pw@example.com/etcd.rpm"]}
    with pytest.raises(OperationValueError, match=r"https://\(not shown\)@example.com/etcd.rpm"):
        prepared(fedora_single_node, ONE_NODE, data, FEDORA)


@pytest.mark.parametrize("mode", ["none", "iptables"])
def test_nobody_waits_for_a_kube_proxy_that_is_not_to_be(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    waits: list[str] = []
    monkeypatch.setattr(
        fedora_verification,
        "wait_until",
        lambda _, __, checks, **___: waits.extend(one.name for one in checks),
    )
    data = {**DATA, "credentials_dir": str(tmp_path), "proxy_mode": mode}
    prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    assert any("kubelet" in check for check in waits)
    assert any("kube-proxy" in check for check in waits) == (mode != "none")
    with pytest.raises(DeployError, match=r"proxy_mode = 'none'; allowed: a mode of kube-proxy"):
        prepared(
            fedora_single_node,
            ONE_NODE,
            {"credentials_dir": str(tmp_path), "proxy_mode": "none"},
            PackageStates("dnf", "fedora", "33"),
        )


def test_a_plan_with_flannel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    program = tmp_path / "flanneld"
    program.write_bytes(b"")
    data = {
        **DATA,
        **{"network": "flannel", "flannel_store": "etcd", "flannel_version": "0.28.10"},
        **{"flannel_source": str(program), "flannel_sha256": sha256(b"").hexdigest()},
        "credentials_dir": str(tmp_path / "credentials"),
    }
    _, shown = prepared(multinode, TWO_NODES, data, FEDORA)
    assert '"SubnetMin": "10.10.0.0"' in shown["m"]
    assert "--listen-client-urls=https://127.0.0.1:2379,https://192.0.2.1:2379" in shown["m"]
    for host, number in (("n", 1), ("o", 2)):
        assert f"FLANNEL_SUBNET=10.10.{number}.1/24" in shown[host]
        assert f'"subnet": "10.10.{number}.0/24"' in shown[host]
        assert "-iptables-forward-rules=false" in shown[host]
        assert "/srv/kubernetes/etcd-flannel.key: absent → file" in shown[host]
        assert "docker.service" not in shown[host]


@pytest.mark.parametrize("state", ["turned", "last"])
def test_another_key_is_refused(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {"turned": (), "last": (), state: ("2",)}
    spec = SimpleNamespace(
        kubernetes_version="1.37",
        network="routes",
        flannel_on_api=False,
        encryption=True,
        encryption_key="2",
        dns=None,
        **dict.fromkeys(context._OF_SCRATCH),
    )
    cluster: Any = SimpleNamespace(encryption=SimpleNamespace(**plan))
    monkeypatch.setattr(context, "current_spec", lambda: spec)
    monkeypatch.setattr(context, "current_cluster", lambda: cluster)
    with pytest.raises(InputError, match="encryption_key = '2'; allowed: the key that"):
        context.cluster_on("routes", instead="another")


TODAY = {"kubernetes_version": "1.37.2", "control_plane_endpoint": "192.0.2.1"}
NOBODY: dict[str, str] = {}
# What the inventory says, what hosts run pods with, their system → the runtime.
RUNTIMES_OF_HOSTS: dict[str, tuple[dict[str, object], dict[str, str], str, str | None]] = {
    "Fedora": (TODAY, {"m": "", "n": ""}, "44", "cri-o"),
    "Fedora before CRI-O was named by minor release": (TODAY, {"m": ""}, "40", "containerd"),
    "pods on containerd": (TODAY, {"m": "", "n": "containerd"}, "44", "containerd"),
    "pods on CRI-O, elsewhere": (TODAY, {"m": "cri-o"}, "12", "cri-o"),
    "docker, which is refused later": (TODAY, {"m": "docker"}, "40", "containerd"),
    "asked for": (TODAY | {"container_runtime": "containerd"}, {"m": ""}, "44", "containerd"),
    "programs of one": (
        TODAY | {"runtime_source": "/programs", "containerd_version": "2.4.2"},
        *({"m": ""}, "44", None),
    ),
    "docker's time": (TODAY | {"kubernetes_version": "1.20.2"}, {"m": ""}, "44", None),
    "nobody answers": (TODAY, NOBODY, "44", None),
}


@pytest.mark.parametrize("case", RUNTIMES_OF_HOSTS)
def test_the_runtime_of_hosts(case: str) -> None:
    data, running, number, expected = RUNTIMES_OF_HOSTS[case]
    spec = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n"]}, {"m": data})
    facts: Any = {
        name: SimpleNamespace(kubelet_runtime=one, system="fedora", release=number)
        for name, one in running.items()
    }
    assert with_runtime(spec, facts).container_runtime == expected


SWAPS = SwapStates(
    devices=("/dev/zram0", "/dev/sda2", "/dev/sdb1"),
    units=(("dev-zram0.swap", ""), ("dev-sda2.swap", "/etc/fstab"), ("dev-sdb1.swap", "")),
    fstab="UUID=1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n",
    zram=("zram-generator.conf",),
)
ACTIVE = UnitState(load="loaded", active="active", sub="active", enabled="generated")


def with_swap(folder: Path, asked: bool | str) -> str:
    """What is shown of a host that swaps."""
    more = {
        "swap.Swaps": SWAPS,
        "fitness.Fitness": FitnessState(swaps=SWAPS.devices),
        "services.Units": UnitStates(
            manager="systemd", units=dict.fromkeys((n for n, _ in SWAPS.units), ACTIVE)
        ),
        "files.FileContents": {
            "/proc/swaps": b"Filename Type\n/dev/zram0 partition\n",
            "/etc/fstab": SWAPS.fstab.encode(),
        },
        "files.Files": {
            "/etc/fstab": FileState("file", "640", "root", "root", 9, 1.0, points_at="file")
        },
    }
    data = {**DATA, "credentials_dir": str(folder), "node_swap": asked}
    return prepared(fedora_single_node, ONE_NODE, data, FEDORA, more=more)[1]["n"]


def test_swap_is_removed_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    shown = with_swap(tmp_path, "remove")
    for line in (
        "  - /dev/sda2 none swap sw 0 0",
        "  + # /dev/sda2 none swap sw 0 0",
        "/etc/systemd/zram-generator.conf: absent → /dev/null",
        "dev-zram0.swap: active → stopped",
        "dev-sda2.swap: active → stopped",
        "dev-sdb1.swap: active → stopped",
        "dev-sdb1.swap: unmasked → masked",
    ):
        assert line in shown
    assert "dev-zram0.swap: unmasked" not in shown
    assert "failSwapOn: false" not in shown


def test_swap_of_other_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    own, none = "data-swap.swap", "dev-zram0.swap"
    swaps = SwapStates(
        devices=("/data/swap", "/dev/zram0"),
        units=((own, ""), (none, "")),
        fstab="# caf\udce9\nLABEL=swap none swap\n",
    )
    file = f"/etc/systemd/system/{own}"
    units = {
        own: UnitState("loaded", "active", "active", "enabled", files=(file,)),
        none: UnitState("not-found", "active", "active"),
    }
    more = {
        "swap.Swaps": swaps,
        "services.Units": UnitStates(manager="systemd", units=units),
        "files.FileContents": {"/etc/fstab": b"# caf\xe9\nLABEL=swap none swap\n"},
    }
    data = {**DATA, "credentials_dir": str(tmp_path), "node_swap": "remove"}
    shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA, more=more)[1]["n"]
    for line in (
        f"{own}: active → stopped",
        f"{own}: enabled → disabled",
        f"{none}: active → stopped",
        f"{none}: no unit turns it on; see to what does so at boot",
    ):
        assert line in shown
    assert "→ masked" not in shown


@pytest.mark.parametrize("state", ["active", "inactive"])
def test_swap_of_a_service_is_off_at_boot_too(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    swap, maker = "dev-zram0.swap", "zramswap.service"
    units = {
        swap: UnitState("not-found", "active", "active"),
        maker: UnitState("loaded", state, "exited", "enabled"),
    }
    more = {
        "swap.Swaps": SwapStates(("/dev/zram0",), ((swap, ""),)) if state == "active" else None,
        "services.Units": UnitStates(manager="systemd", units=units),
    }
    data = {**DATA, "credentials_dir": str(tmp_path), "node_swap": "remove"}
    more = {key: one for key, one in more.items() if one}
    shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA, more=more)[1]["n"]
    assert f"{maker}: enabled → disabled" in shown
    assert (f"{maker}: active → stopped" in shown) == (state == "active")
    assert f"{swap}: active → stopped" not in shown
    assert "no unit turns it on" not in shown


@pytest.mark.parametrize("state", ["disabled", "generated", "masked"])
def test_swap_that_a_service_does_not_turn_on_at_boot(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    swap, maker = "dev-zram0.swap", "zramswap.service"
    units = {
        swap: UnitState("not-found", "active", "active"),
        maker: UnitState("loaded", "inactive", "dead", state),
    }
    more = {
        "swap.Swaps": SwapStates(("/dev/zram0",), ((swap, ""),)),
        "services.Units": UnitStates(manager="systemd", units=units),
    }
    data = {**DATA, "credentials_dir": str(tmp_path), "node_swap": "remove"}
    shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA, more=more)[1]["n"]
    assert f"{swap}: no unit turns it on; see to what does so at boot" in shown
    assert f"{maker}: " not in shown


def test_swap_stays_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    shown = with_swap(tmp_path, True)
    assert "swap stays, kubelet runs beside it: /dev/zram0, /dev/sda2, /dev/sdb1" in shown
    assert "failSwapOn: false" in shown
    assert "stopped" not in shown


def test_swap_is_refused_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    with pytest.raises(DeployError, match='node_swap = "remove"'):
        with_swap(tmp_path, False)


LABELS = LabelStates(
    mode="enforcing",
    wrong={"/etc/kubernetes/manifests": Label("u:r:tmp_t:s0", "u:r:kubernetes_file_t:s0")},
)


@pytest.mark.parametrize("path", [fedora_single_node, scratch])
def test_selinux_has_its_rules_and_labels(
    path: Path_, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    (tmp_path / "kubelet").write_text("")
    more = {"fitness.Fitness": FitnessState(selinux="enforcing"), "selinux.Labels": LABELS}
    data = {**DATA, "credentials_dir": str(tmp_path), "kubernetes_source": str(tmp_path)}
    for name in ("kube-proxy", "kubectl"):
        (tmp_path / name).write_text("")
    _, shown = prepared(path, ONE_NODE, data, FEDORA, more=more)
    for host in "mn":
        assert "/etc/kubernetes/manifests: SELinux's label u:r:tmp_t:s0 → " in shown[host]
    # Where static pods mount them.
    rules = "SELinux's rule for /srv/kubernetes(/.*)?: absent → container_share_t"
    assert (rules in shown["m"]) == (path is scratch)
    assert rules not in shown["n"]


@pytest.mark.parametrize(("etcd", "old"), [("3.5.13", True), ("3.5.24", False)])
def test_an_etcd_that_is_older_than_kubeadm_takes(
    etcd: str,
    old: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    data = {**DATA, "credentials_dir": str(tmp_path), "etcd_version": etcd}
    prepared(fedora_single_node, ONE_NODE, data, FEDORA)
    assert ("notice: etcd is older than 3.5.24" in caplog.text) == old


_OF_IPTABLES = {
    "filter": [
        "-I INPUT -p tcp --dport 6443 -m comment --comment kube-apiserver-ports -j ACCEPT",
        "-A FORWARD -s 10.10.0.0/16 -m comment --comment kube-forward -j ACCEPT",
        "-A FORWARD -s 192.0.2.0/24 -j ACCEPT",
    ],
    "nat": ["-A POSTROUTING ! -d 10.10.0.0/16 -m comment --comment kube-masquerade -j MASQUERADE"],
}


def test_with_another_packet_filter_the_rules_of_the_former_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    rules = [Rule.parse(text, table) for table, texts in _OF_IPTABLES.items() for text in texts]
    more = {"iptables.Rules": Ruleset({"filter": {}, "nat": {}}, tuple(rules))}
    data = {**DATA, "credentials_dir": str(tmp_path), "kubernetes_source": str(tmp_path)}
    for name in ("kubelet", "kube-proxy", "kubectl"):
        (tmp_path / name).write_text("")
    data |= {"packet_filter": "nftables"}
    _, shown = prepared(scratch, ONE_NODE, data, FEDORA, more=more)
    for host, owners in {
        "m": {"kube-apiserver-ports", "kube-forward", "kube-masquerade"},
        "n": {"kube-forward", "kube-masquerade"},
    }.items():
        gone = [line for line in shown[host].splitlines() if line.endswith("→ absent")]
        assert owners <= {line.partition("--comment ")[2].split(" ")[0] for line in gone}
        assert "192.0.2.0/24" not in "".join(gone)


@pytest.mark.parametrize("mode", ["enforcing", ""])
def test_selinux_confines_containers_where_it_is_on(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    data = {**DATA, "credentials_dir": str(tmp_path), "container_runtime": "containerd"}
    more = {"fitness.Fitness": FitnessState(selinux=mode)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA, more=more)
    assert ("enable_selinux = true" in shown["n"]) == bool(mode)


@pytest.mark.parametrize("active", ["active", "inactive"])
def test_routes_stay_where_networkd_runs(
    active: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    unit = UnitState(load="loaded", active=active, sub="running", enabled="enabled")
    units = UnitStates(manager="systemd", units={"systemd-networkd.service": unit})
    data = {**DATA, "credentials_dir": str(tmp_path)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA, more={"services.Units": units})
    kept = "/etc/systemd/networkd.conf.d/50-pyinfra-kube.conf: absent → file" in shown["n"]
    assert kept == (active == "active")
    restarted = "systemd-networkd.service: restarted: its configuration changes" in shown["n"]
    assert restarted == (active == "active")


@pytest.mark.parametrize(("active", "network"), [("active", True), ("inactive", False)])
def test_routes_come_back_where_network_manager_runs(
    active: str, network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    unit = UnitState(load="loaded", active=active, sub="running", enabled="enabled")
    units = UnitStates(manager="systemd", units={"NetworkManager.service": unit})
    data = {**DATA, "credentials_dir": str(tmp_path)}
    _, shown = prepared(fedora_single_node, ONE_NODE, data, FEDORA, more={"services.Units": units})
    script = "/etc/NetworkManager/dispatcher.d/50-pyinfra-kube: absent → file"
    assert (script in shown["n"]) == network
    assert "systemd-networkd" not in shown["n"]


def test_a_container_does_not_turn_its_machines_swap_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyinfra.is_cli", True)
    more = {"swap.Swaps": SwapStates(devices=("/dev/sda2",))}
    data = {**DATA, "credentials_dir": str(tmp_path), "node_swap": "remove"}
    with pytest.raises(DeployError, match="m: node_swap = 'remove'; allowed: True"):
        prepared(fedora_single_node, ONE_NODE, data, FEDORA, more=more)
