"""Each fault of a host is found, said with its fix, and not found on its healthy neighbour."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.cluster.fitness import judge
from pyinfra_kube.cluster.fitness.checks import (
    MODULES,
    PROGRAMS,
    RESOLVED,
    SELINUX_POLICY,
    needed_modules,
)
from pyinfra_kube.cluster.fitness.findings import FINDINGS
from pyinfra_kube.cluster.fitness.holders import freeing
from pyinfra_kube.cluster.fitness.states import Case, Disk, HostState, Stranger
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases.fedora_hosts import prepare_fedora_host
from pyinfra_kube.deploys.phases.host_preparation import prepare_host
from pyinfra_kube.engine.record import MARK
from pyinfra_kube.facts.cni import CniState
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.fitness import FitnessState
from pyinfra_kube.facts.iptables import Ruleset
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.facts.processes import Listener, ProcessState
from pyinfra_kube.facts.static_pods import PodContainer, StaticPodStates
from tests.unit.blank import ONE_NODE, TWO_NODES, Path_, prepared

IMAGES, KUBELET = "/var/lib/containerd", "/var/lib/kubelet"
# Of the kilobytes that disks are told in.
MB, GB = 1000, 1000_000
STUB = ("127.0.0.53",)
REAL = ("192.0.2.1",)
TODAY = "1.37.2"


def spec_of(release: str = TODAY, **settings: Any) -> ClusterSpec:
    data = {"kubernetes_version": release, "control_plane_endpoint": "192.0.2.10", **settings}
    return ClusterSpec.from_inventory(
        {"control_plane": ["m"], "nodes": ["n"]}, {"m": data, "n": data}
    )


class Fault(NamedTuple):
    """
    + case: what the host is, beside what any is
    + key: of the finding
    + value: that it has
    + refused: on a new host, and on one that carries a part of the cluster
    + well: what makes its neighbour healthy
    + settings: of the cluster
    + host: which one it is
    + release: of Kubernetes
    """

    case: Mapping[str, Any]
    key: str
    value: str
    refused: tuple[bool, bool]
    well: Mapping[str, Any]
    settings: Mapping[str, Any] = {}
    host: str = "n"
    release: str = TODAY


def state(**fields: Any) -> dict[str, HostState]:
    return {"state": HostState(**fields)}


def disk(folder: str, **fields: Any) -> dict[str, HostState]:
    whole = {"size": 8 * GB, "free": 4 * GB, "inodes": 1000, "inodes_free": 500, "options": ("rw",)}
    return state(disks={folder: Disk("/mnt", **{**whole, **fields})})


def twin(**fields: Any) -> dict[str, Any]:
    return {"others": {"m": HostState(**fields)}, **state(**fields)}


def modules(**states: str) -> dict[str, Any]:
    every = {name: "loaded" for names in MODULES.values() for name in names}
    return {"modules": every | states}


ALWAYS, NEW, NEVER = (True, True), (True, False), (False, False)
NGINX = "0::/system.slice/nginx.service"
PORT = Stranger("tcp 6443", "kube-apiserver", "nginx", 71, NGINX)

PROGRAMS_OF_ALL = frozenset({*PROGRAMS, "iptables", "nft"})
V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices")
PEER = {"peers": ["192.0.2.11"], "ports": [10250]}
_FROM = "any any 0.0.0.0/0 any"
UFW_RULE = "allow any any 0.0.0.0/0 any"
SSH_RULE = "allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in"
FAULTS = {
    "swap": Fault(state(swaps=("/dev/sda2",)), "swap", "/dev/sda2", ALWAYS, state()),
    "swap of the guide's time": Fault(
        state(swaps=("/dev/sda2",)),
        "swap",
        "/dev/sda2",
        ALWAYS,
        state(swaps=("/dev/sda2",), swap_accepted=True) | {"ours": True},
        release="1.8.0",
    ),
    "swap that somebody else's kubelet accepts": Fault(
        state(swaps=("/dev/sda2",), swap_accepted=True),
        "swap",
        "/dev/sda2",
        (True, False),
        state(swap_accepted=True),
    ),
    **{
        f"swap with {settings}": Fault(
            state(swaps=("/dev/sda2",), swap_accepted=True),
            "swap",
            "/dev/sda2",
            ALWAYS,
            state(),
            settings,
        )
        for settings in (
            {"kubelet_configuration": {"failSwapOn": True}},
            {"kubelet_flags": {"fail-swap-on": "true"}},
            {"kubelet_flags": {"fail-swap-on": "true"}, "node_swap": True},
        )
    },
    "a service that makes swap at boot": Fault(
        state(swap_makers=("zramswap.service", "zram-generator.conf")),
        "swap at boot",
        "zramswap.service, zram-generator.conf",
        NEVER,
        state(),
    ),
    "swap at boot": Fault(
        state(swaps_at_boot=("UUID=1",)), "swap at boot", "UUID=1", NEVER, state()
    ),
    "cgroup v2 before 1.19": Fault(
        state(cgroups="v2", controllers=("cpu", "cpuset", "memory")),
        "cgroups",
        "v2",
        NEW,
        state(cgroups="v1", controllers=V1),
        release="1.18.20",
    ),
    "no memory controller": Fault(
        state(cgroups="v2", controllers=("cpu", "cpuset")),
        "cgroup controller memory",
        "missing",
        NEW,
        state(cgroups="v2", controllers=("cpu", "cpuset", "memory")),
    ),
    "no cpuacct": Fault(
        state(cgroups="v1", controllers=("cpu", "cpuset", "memory", "devices")),
        "cgroup controller cpuacct",
        "missing",
        NEW,
        state(cgroups="v1", controllers=V1),
    ),
    "no devices": Fault(
        state(cgroups="v1", controllers=("cpu", "cpuacct", "cpuset", "memory")),
        "cgroup controller devices",
        "missing",
        NEW,
        state(cgroups="v2", controllers=("cpu", "cpuset", "memory")),
    ),
    "no control groups": Fault(
        state(cgroups="none"), "cgroups", "none", NEW, state(cgroups="v1", controllers=V1)
    ),
    "cgroup v1 that kubelet is to refuse": Fault(
        state(cgroups="v1", controllers=V1),
        "cgroups",
        "v1",
        NEW,
        state(cgroups="v2", controllers=("cpu", "cpuset", "memory")),
        {"kubelet_configuration": {"failCgroupV1": True}},
    ),
    "no kmsg": Fault(state(kmsg=False), "/dev/kmsg", "missing", NEW, state()),
    **{
        f"no {name}": Fault(
            modules(**{name: "missing"}),
            f"kernel module {name}",
            "missing",
            NEW,
            modules(**{name: "unknown"}),
            settings,
        )
        for name, settings in {
            "br_netfilter": {},
            "nf_conntrack": {},
            "overlay": {},
            "vxlan": {"network": "flannel", "flannel_source": "https://example.com/flanneld"},
            "nft_numgen": {"proxy_mode": "nftables"},
            "nft_reject_ipv4": {"proxy_mode": "nftables"},
            "ip_vs_rr": {"proxy_mode": "ipvs"},
            "ip_set_hash_ipport": {"proxy_mode": "ipvs"},
            "xt_set": {"network_policies": True},
            "xt_statistic": {"proxy_mode": "iptables"},
        }.items()
    },
    "a kernel that was updated": Fault(
        state(kernel="6.1.0-9-amd64", modules_gone=True),
        "modules of the kernel",
        "6.1.0-9-amd64",
        NEW,
        state(kernel="6.1.0-9-amd64", modules_gone=True, container=True),
    ),
    "an old kernel for nftables": Fault(
        state(kernel="5.10.0-28-amd64"),
        "kernel",
        "5.10.0-28-amd64",
        NEW,
        state(kernel="6.1.0"),
        {"proxy_mode": "nftables"},
    ),
    "a port": Fault(
        {"strangers": [PORT]},
        "port tcp 6443 of kube-apiserver",
        "nginx (pid 71)",
        ALWAYS,
        {},
        host="m",
    ),
    "a port of the kernel": Fault(
        {"strangers": [replace(PORT, program="", pid=0, groups="")]},
        "port tcp 6443 of kube-apiserver",
        "the kernel",
        ALWAYS,
        {},
        host="m",
    ),
    "a program": Fault(
        state(programs=("losetup", "iptables")),
        "program mount",
        "missing",
        NEW,
        state(programs=("losetup", "mount", "iptables")),
        {"install_packages": False},
    ),
    **{
        f"no {program} with {settings}": Fault(
            state(programs=(*PROGRAMS_OF_ALL - {program},)),
            f"program {program}",
            "missing",
            NEW,
            state(programs=(*PROGRAMS_OF_ALL - {other},)),
            {"install_packages": False, **settings},
        )
        for program, other, settings in (
            ("iptables", "nft", {}),
            ("iptables", "nft", {"proxy_mode": "ipvs"}),
            ("nft", "iptables", {"proxy_mode": "nftables", "network": "none"}),
            ("nft", "iptables", {"proxy_mode": "nftables", "packet_filter": "nftables"}),
            ("iptables", "nft", {"proxy_mode": "none"}),
        )
    },
    "the program of SELinux's rules": Fault(
        state(selinux="enforcing", there=(SELINUX_POLICY,), programs=(*PROGRAMS_OF_ALL,)),
        "program semanage",
        "missing",
        NEW,
        state(
            selinux="enforcing", there=(SELINUX_POLICY,), programs=(*PROGRAMS_OF_ALL, "semanage")
        ),
        {"install_packages": False},
        host="m",
    ),
    "a nameserver of its own": Fault(
        state(nameservers={"/etc/resolv.conf": STUB}),
        "nameserver",
        "127.0.0.53",
        NEW,
        {
            "resolv_conf": "/run/systemd/resolve/resolv.conf",
            **state(
                nameservers={
                    "/etc/resolv.conf": STUB,
                    "/run/systemd/resolve/resolv.conf": ("192.0.2.1",),
                }
            ),
        },
    ),
    **{
        f"nameservers {', '.join(known) or 'of nobody'}": Fault(
            state(nameservers={"/etc/resolv.conf": known}),
            "nameserver",
            value,
            NEW,
            state(nameservers={"/etc/resolv.conf": (*REAL, "192.0.2.2", "192.0.2.3", "127.0.0.1")}),
        )
        for known, value in {
            (): "none",
            ("127.0.0.1", *REAL): "127.0.0.1",
            (*REAL, "::1"): "::1",
            ("0.0.0.0",): "0.0.0.0",
        }.items()
    },
    "nameservers of systemd-resolved": Fault(
        state(nameservers={RESOLVED: ("127.0.0.1",)}) | {"resolv_conf": RESOLVED},
        "nameserver",
        "127.0.0.1",
        NEW,
        state(nameservers={RESOLVED: REAL, "/etc/resolv.conf": STUB}) | {"resolv_conf": RESOLVED},
    ),
    "no resolv.conf": Fault(
        state(nameservers={"/etc/resolv.conf": None}),
        "resolv.conf",
        "missing",
        NEW,
        state(nameservers={"/etc/resolv.conf": None, RESOLVED: REAL}) | {"resolv_conf": RESOLVED},
        {"dns": False},
        host="m",
        release="1.8.0",
    ),
    "machine-id": Fault(
        twin(machine_id="ab"),
        "machine-id",
        "ab",
        NEW,
        {"others": {"m": HostState(machine_id="cd")}, **state(machine_id="ab")},
    ),
    "product_uuid": Fault(
        twin(product_uuid="ab"),
        "product_uuid",
        "ab",
        NEVER,
        twin(product_uuid="ab", container=True),
    ),
    "a clock behind": Fault(
        {"others": {"m": HostState(behind=(-1.0, 1.0))}, **state(behind=(300.0, 302.0))},
        "clock",
        "299 s behind",
        NEW,
        # So long a trip tells nothing.
        {"others": {"m": HostState(behind=(-1.0, 1.0))}, **state(behind=(50.0, 302.0))},
    ),
    "a clock ahead": Fault(
        {"others": {"m": HostState(behind=(-1.0, 1.0))}, **state(behind=(-302.0, -300.0))},
        "clock",
        "299 s ahead",
        NEW,
        {"others": {}, **state(behind=(-302.0, -300.0))},
    ),
    "a clock before the certificates": Fault(
        state(behind=(7200.0, 7201.0)), "clock", "7200 s behind", NEW, state(behind=(1800.0, 1801))
    ),
    "a clock after the certificates": Fault(
        state(behind=(-90001.0, -90000.0)),
        "clock",
        "90000 s ahead",
        NEW,
        state(behind=(-80001.0, -80000.0)),
    ),
    "little memory of a node": Fault(
        state(memory=200), "memory", "200 MB", NEVER, state(memory=500)
    ),
    "little memory": Fault(
        state(memory=900), "memory", "900 MB", NEVER, state(memory=1700), host="m"
    ),
    "one processor": Fault(
        state(processors=1), "processors", "1", NEVER, state(processors=2), host="m"
    ),
    "no room for images": Fault(
        disk(IMAGES, free=1190 * MB),
        f"space of {IMAGES}",
        "14 % free",
        NEW,
        disk(IMAGES, free=1200 * MB),
    ),
    "a small disk for images": Fault(
        disk(IMAGES, size=GB, free=500 * MB),
        f"space of {IMAGES}",
        "488 MB free",
        NEW,
        disk(IMAGES, size=2 * GB, free=1100 * MB),
    ),
    "no room for images in 1.7": Fault(
        disk(IMAGES, free=100 * MB),
        f"space of {IMAGES}",
        "97 MB free",
        NEW,
        disk(IMAGES, free=1100 * MB),
        release="1.7.16",
    ),
    "no room for etcd": Fault(
        disk("/var/lib/etcd", free=0),
        "space of /var/lib/etcd",
        "0 MB free",
        NEW,
        disk("/var/lib/etcd", free=300 * MB),
        host="m",
    ),
    "no room for programs": Fault(
        disk("/usr/local/bin", free=-5),
        "space of /usr/local/bin",
        "0 MB free",
        NEW,
        disk("/usr/local/bin", free=0) | {"as_units": True},
    ),
    "no inodes for etcd": Fault(
        disk("/var/lib/etcd", inodes_free=0),
        "inodes of /var/lib/etcd",
        "0 free",
        NEW,
        disk("/var/lib/etcd", inodes_free=50),
        host="m",
    ),
    "no room for pods": Fault(
        disk(KUBELET, free=790 * MB),
        f"space of {KUBELET}",
        "9 % free",
        NEW,
        disk(KUBELET, free=800 * MB),
    ),
    "no inodes": Fault(
        disk(KUBELET, inodes_free=49),
        f"inodes of {KUBELET}",
        "4 % free",
        NEW,
        # As of a btrfs.
        disk(KUBELET, inodes=0, inodes_free=0),
    ),
    "a read-only folder": Fault(
        disk("/etc", options=("ro", "relatime")), "folder /etc", "read-only", NEW, disk("/etc")
    ),
    "programs that cannot be run": Fault(
        disk("/usr/local/bin", options=("rw", "noexec")),
        "programs in /usr/local/bin",
        "noexec",
        NEW,
        disk("/usr/local/bin", options=("rw", "nosuid")),
    ),
    **{
        name: Fault(state(there=(path,)), f"cluster of {name}", path, NEW, state())
        for name, path in {
            "kubeadm": "/etc/kubernetes/admin.conf",
            "k3s": "/var/lib/rancher/k3s",
            "RKE2": "/var/lib/rancher/rke2",
            "MicroK8s": "/var/snap/microk8s",
            "k0s": "/var/lib/k0s",
            "Canonical Kubernetes": "/var/snap/k8s",
        }.items()
    },
    "CRI-O": Fault(
        state(there=("/run/crio/crio.sock",)),
        "container runtime CRI-O",
        "/run/crio/crio.sock",
        NEVER,
        state(),
    ),
    "a CNI network": Fault(
        {"networks": ["/etc/cni/net.d/05-cilium.conflist"]},
        "CNI network",
        "/etc/cni/net.d/05-cilium.conflist",
        NEW,
        {},
    ),
    "chains": Fault(
        {"chains": ["INPUT", "KUBE-SERVICES", "cali-FORWARD", "KUBE-SEP-1"]},
        "chains of iptables",
        "KUBE-…, cali-…",
        NEVER,
        {"chains": ["INPUT", "DOCKER"]},
    ),
    "what a kubelet left": Fault(
        state(there=(f"{KUBELET}/cpu_manager_state",)),
        "kubelet's folder",
        f"{KUBELET}/cpu_manager_state",
        NEVER,
        state(),
    ),
    "AppArmor": Fault(
        state(apparmor=True),
        "AppArmor",
        "enabled without its parser",
        NEVER,
        state(apparmor=True, programs=("apparmor_parser",)),
    ),
    "docker of snap": Fault(
        state(there=("/var/snap/docker",)) | {"runtime": "docker"},
        "docker of snap",
        "/var/snap/docker",
        NEW,
        state(there=("/var/snap/docker",)),
        release="1.20.2",
    ),
    "ufw": Fault(
        state(ufw="drop", ufw_rules=(SSH_RULE, f"{UFW_RULE} 192.0.2.12 in"))
        | {"peers": ["192.0.2.11", "192.0.2.12", "10.10.0.0/16"]},
        "ufw",
        "on",
        NEW,
        state(
            ufw="drop",
            ufw_rules=(f"{UFW_RULE} 192.0.2.0/24 in", f"{UFW_RULE} 10.0.0.0/8 in comment=61"),
        )
        | {"peers": ["192.0.2.11", "192.0.2.12", "10.10.0.0/16"]},
    ),
    **{
        f"ufw with {', '.join(rules)}": Fault(
            state(ufw="drop", ufw_rules=rules) | PEER,
            "ufw",
            "on",
            refused,
            state(ufw="drop", ufw_rules=well) | PEER,
        )
        for rules, refused, well in (
            (
                (f"deny {_FROM} 192.0.2.11 in", f"allow {_FROM} 192.0.2.0/24 in"),
                NEW,
                (f"allow {_FROM} 192.0.2.0/24 in", f"deny {_FROM} 192.0.2.11 in"),
            ),
            (
                (f"allow {_FROM} 0.0.0.0/0 in_eth1",),
                NEVER,
                (f"allow {_FROM} 0.0.0.0/0 in_eth1", f"allow_log {_FROM} 192.0.2.11 in"),
            ),
            (
                ("allow tcp 10250 0.0.0.0/0 any 0.0.0.0/0 in",),
                NEVER,
                (f"allow_log-all {_FROM} 0.0.0.0/0 in",),
            ),
            (
                ("allow tcp 80,10000:11000 0.0.0.0/0 any 0.0.0.0/0 Web - in",),
                NEVER,
                (f"allow {_FROM} 192.0.2.11 in comment=61",),
            ),
            (
                (f"route:allow {_FROM} 192.0.2.11 in_eth0 out_eth1",),
                NEW,
                (
                    "deny tcp 22 0.0.0.0/0 any 192.0.2.11 in",
                    f"deny {_FROM} 192.0.2.12 in",
                    f"allow {_FROM} 192.0.2.11 in",
                ),
            ),
            (
                ("allow tcp 22,http,80:443 0.0.0.0/0 any 0.0.0.0/0 in",),
                NEW,
                (SSH_RULE, f"allow {_FROM} 0.0.0.0/0 in"),
            ),
            ((f"allow {_FROM} 192.0.2.11 out",), NEW, (f"allow {_FROM} 192.0.2.11/32 in",)),
        )
    },
    "SELinux": Fault(
        state(selinux="enforcing"), "SELinux", "enforcing", NEVER, state(selinux="permissive")
    ),
}


def case_of(fault: Fault, fields: Mapping[str, Any]) -> Case:
    spec = spec_of(fault.release, **fault.settings)
    mode = {"proxy_mode": fault.settings.get("proxy_mode", "iptables")}
    host = spec.host(fault.host)
    return Case(host, spec, Release.of(fault.release), **{**state(), **mode, **fields})


@given(st.text("anylowdeirjctm 0123456789./:,_-", max_size=60))
def test_any_line_of_ufw_is_read(line: str) -> None:
    fault = FAULTS["ufw"]
    for rule in (line, f"allow {line} in", f"allow any {line} 0.0.0.0/0 any 192.0.2.0/24 in"):
        case = case_of(fault, state(ufw="drop", ufw_rules=(rule,)) | PEER)
        assert len(judge([case])) <= 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(name: str) -> None:
    fault = FAULTS[name]
    case = case_of(fault, fault.case)
    (verdict,) = judge([case])
    problem = verdict.problem
    assert (problem.host, problem.key, problem.value) == (fault.host, fault.key, fault.value)
    assert problem.allowed
    assert problem.fix
    words = problem.fix + problem.allowed
    assert not any(word in words for word in ("{of}", "{value}", "{fix}"))
    assert verdict.refused is fault.refused[0]
    # What only a new host is told may be the cluster's own on another.
    assert all(one.refused is fault.refused[1] for one in judge([replace(case, ours=True)]))
    assert judge([case_of(fault, fault.well)]) == []


def test_every_finding_has_a_fault() -> None:
    keys = {fault.key for fault in FAULTS.values()}
    heads = [finding.key.partition("{")[0] for finding in FINDINGS]
    assert [head for head in heads if not any(key.startswith(head) for key in keys)] == []


def test_a_host_that_tells_nothing_is_fit() -> None:
    for release in ("1.2.7", "1.20.2", TODAY):
        spec = spec_of(release)
        cases = [Case(host, spec, Release.of(release), HostState()) for host in spec.hosts]
        assert judge(cases) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"node_swap": True},
        {"kubelet_configuration": {"failSwapOn": False}},
        {"kubelet_flags": {"fail-swap-on": "false"}},
        {"node_swap": "remove", "kubelet_configuration": {"failSwapOn": True}},
    ],
)
def test_swap_that_is_wanted(settings: dict[str, Any]) -> None:
    swapping = HostState(swaps=("/dev/sda2",), swaps_at_boot=("/dev/sda2",))
    spec = spec_of(**settings)
    assert judge([Case(spec.host("n"), spec, Release.of(TODAY), swapping)]) == []


def test_what_a_user_configured_is_not_measured() -> None:
    full = HostState(
        disks={KUBELET: Disk("/", 8 * GB, 200 * MB, 10000, 60)},
        nameservers={"/etc/resolv.conf": STUB},
    )
    own = {"evictionHard": {"nodefs.available": "1Mi"}, "resolvConf": "/etc/real.conf"}
    spec = spec_of(kubelet_configuration=own)
    assert judge([Case(spec.host("n"), spec, Release.of(TODAY), full)]) == []


def test_modules_are_those_of_the_host_s_use() -> None:
    spec = spec_of("1.20.2")
    case = Case(spec.host("m"), spec, Release.of("1.20.2"), HostState(), runtime="docker")
    assert needed_modules(case) == ["br_netfilter"]
    node = replace(case, host=spec.host("n"), runtime="containerd", proxy_mode="nftables")
    assert {"nf_conntrack", "overlay", "nft_fib"} <= set(needed_modules(node))


# Whole phases

DEBIAN = PackageStates("apt", "debian", "12")
FEDORA = PackageStates("dnf", "fedora", "34")


@pytest.fixture
def refused(tmp_path: Any) -> Callable[..., str]:
    """Prepare hosts that have these facts; what it refuses, or an empty text."""

    def refused(path: Path_, more: Mapping[str, Any], **data: Any) -> str:
        packages = FEDORA if path is prepare_fedora_host else DEBIAN
        common = {"credentials_dir": str(tmp_path / "none"), **data}
        groups = TWO_NODES if "kubernetes_version" in data else ONE_NODE
        try:
            prepared(path, groups, common, packages, more=more)
        except DeployError as error:
            return str(error)
        return ""

    return refused


def test_all_findings_of_all_hosts_are_said_at_once(refused: Callable[..., str]) -> None:
    unfit = FitnessState(swaps=("/dev/sda2",), cgroups="v1", controllers=("cpu",))
    said = refused(prepare_host, {"fitness.Fitness": unfit}, kubernetes_version=TODAY)
    # A swap and four controllers on each of three hosts.
    assert said.startswith("15 things are wrong with the hosts; no host was touched:")
    for host in ("m", "n", "o"):
        assert f"{host}: swap = '/dev/sda2'; allowed: none" in said
        assert f"{host}: cgroup controller memory = 'missing'" in said


def test_fit_hosts_are_built(refused: Callable[..., str]) -> None:
    fit = FitnessState(cgroups="v2", controllers=("cpu", "cpuset", "memory"), memory=4000)
    for release in ("1.20.2", TODAY):
        assert refused(prepare_host, {"fitness.Fitness": fit}, kubernetes_version=release) == ""


ETCD = PodContainer("3e8a", "etcd-m1", "kube-system", "etcd", "etcd:3", True, 1.0, 0)
HELD = "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-3e8a.scope"


@pytest.mark.parametrize(
    ("path", "groups", "runtime", "is_refused"),
    [
        (prepare_host, "0::/system.slice/etcd.service", "docker", True),
        (prepare_host, "1:name=systemd:/kubepods/burstable/pod1/3e8a", "docker", False),
        (prepare_host, "1:name=systemd:/docker/3e8a", "docker", False),
        (prepare_host, "0::/system.slice/docker-9999.scope", "docker", True),
        (prepare_host, "0::/system.slice/docker-3e8a.scope", "down", False),
        (prepare_host, HELD, "down", False),
        (prepare_host, NGINX, "down", True),
        (prepare_host, HELD, "missing", False),
        (prepare_host, "0::/system.slice/etcd.service", "missing", True),
        (prepare_fedora_host, "0::/system.slice/etcd.service", "docker", False),
        (prepare_fedora_host, "0::/system.slice/other.service", "docker", True),
    ],
)
def test_who_listens_in_place_of_etcd(
    refused: Callable[..., str], path: Path_, groups: str, runtime: Any, is_refused: bool
) -> None:
    containers = [ETCD] if runtime == "docker" else []
    said = refused(
        path,
        {
            "processes.Listeners": {"tcp 2379": [Listener("etcd", 7, groups)]},
            "static_pods.StaticPods": StaticPodStates(runtime, containers=containers),
        },
    )
    if not is_refused:
        assert "port" not in said
        return
    assert "m: port tcp 2379 of etcd = 'etcd (pid 7)'; allowed: free" in said
    # The nodes have no etcd.
    assert said.count("port tcp") == 1


ID = "3e8a" * 16
USER = "0::/user.slice/user-1000.slice/user@1000.service"
AS_USER = 'runuser -u "$(id -nu 1000)" -- env XDG_RUNTIME_DIR=/run/user/1000'
HOLDERS = {
    "a service": ("web", NGINX, "systemctl disable --now nginx.service"),
    "a service of cgroup v1": (
        "web",
        "3:pids:/system.slice/nginx.service 1:name=systemd:/system.slice/nginx.service",
        "systemctl disable --now nginx.service",
    ),
    "a service with an escaped name": (
        "web",
        r"0::/system.slice/a\x2db.service",
        r"systemctl disable --now 'a\x2db.service'",
    ),
    "a session": ("web", "0::/user.slice/user-0.slice/session-1.scope", "kill 7, and keep it"),
    "a container of docker": (
        "web",
        f"0::/system.slice/docker-{ID}.scope",
        "docker rm --force 3e8a3e8a3e8a",
    ),
    "a published port of docker": (
        "docker-proxy",
        "0::/system.slice/docker.service",
        "docker rm --force $(docker ps --quiet --filter publish=10250/tcp)",
    ),
    "a container of podman": (
        "web",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        "podman rm --force 3e8a3e8a3e8a",
    ),
    "a published port of podman": (
        "conmon",
        f"0::/machine.slice/libpod-conmon-{ID}.scope",
        "podman rm --force 3e8a3e8a3e8a",
    ),
    "a container of a user's podman": (
        "rootlessport",
        f"{USER}/user.slice/libpod-conmon-{ID}.scope",
        f"{AS_USER} podman rm --force 3e8a3e8a3e8a",
    ),
    "a pod": (
        "web",
        f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        "delete the pod whose container is 3e8a3e8a3e8a",
    ),
    "a socket": (
        "systemd",
        "0::/init.scope",
        "systemctl disable --now the socket that systemctl list-sockets shows for it",
    ),
    "a socket whose service runs": (
        "systemd",
        "0::/init.scope 0::/system.slice/cockpit.service",
        "systemctl disable --now $(systemctl show --property=TriggeredBy --value cockpit.service) "
        "cockpit.service",
    ),
    "a user's service": (
        "web",
        f"{USER}/app.slice/app-web.slice/web.service",
        f"{AS_USER} systemctl --user disable --now web.service",
    ),
    "a user's socket": (
        "systemd",
        f"{USER}/init.scope",
        f"{AS_USER} systemctl --user disable --now the socket",
    ),
    "a user's program": ("web", f"{USER}/app.slice/run-1.scope", "kill 7, and keep it"),
    "the kernel": ("", "", "stop what the kernel serves there"),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_how_a_port_is_freed(refused: Callable[..., str], name: str) -> None:
    program, groups, fix = HOLDERS[name]
    pid = 7 if program else 0
    facts = {"processes.Listeners": {"tcp 10250": [Listener(program, pid, groups)]}}
    assert f"; fix: {fix}" in refused(prepare_host, facts, kubernetes_version=TODAY)


@given(st.text("/:0abc@.-dev ", max_size=40), st.sampled_from([*HOLDERS.values()]))
def test_no_manager_of_services_is_turned_off(text: str, holder: tuple[str, str, str]) -> None:
    program, groups, _ = holder
    for said in (groups, f"{groups} {text}", f"{text} {groups}"):
        fix = freeing(Stranger("tcp 10250", "kubelet", program, 7, said))
        assert fix
        assert not re.search(r"disable --now [^$]*(user@|docker\.service)", fix)


@pytest.mark.parametrize(
    ("port", "groups", "is_refused"),
    [
        ("tcp 10250", "0::/system.slice/kubelet.service", False),
        ("tcp 10250", NGINX, True),
        ("tcp 10256", NGINX, True),
        ("udp 8472", NGINX, True),
    ],
)
def test_the_ports_of_units(
    refused: Callable[..., str], port: str, groups: str, is_refused: bool
) -> None:
    flannel = {"network": "flannel", "flannel_source": "https://example.com/flanneld"}
    facts = {"processes.Listeners": {port: [Listener("web", 7, groups)]}}
    found = refused(prepare_host, facts, kubernetes_version=TODAY, **flannel)
    assert (f"port {port} of" in found) is is_refused


OURS = {"files.Files": {MARK: FileState("file", "644", "root", "root", 9, 1.0)}}


def test_a_cluster_that_runs_is_told_and_goes_on(refused: Callable[..., str]) -> None:
    left = {"fitness.Fitness": FitnessState(there=("/var/lib/rancher/rke2",))}
    assert "cluster of RKE2" in refused(prepare_host, left)
    full = {"fitness.Fitness": FitnessState(disks={KUBELET: Disk("/", 1000, 1)})}
    assert f"space of {KUBELET}" in refused(prepare_host, full)
    running = {"processes.Flags": {"kubelet": ProcessState(7, {"v": "2"}, {"v": "2"})}}
    assert f"space of {KUBELET}" in refused(prepare_host, full | running)
    assert refused(prepare_host, full | OURS) == ""


def test_swap_that_a_running_kubelet_accepts(refused: Callable[..., str]) -> None:
    swap = {"fitness.Fitness": FitnessState(swaps=("/dev/sda2",))}
    flags = {"fail-swap-on": "false"}
    running = {"processes.Flags": {"kubelet": ProcessState(7, flags, flags)}}
    assert "swap" in refused(prepare_host, swap | OURS)
    assert "swap" in refused(prepare_host, swap | running)
    assert refused(prepare_host, swap | running | OURS) == ""


def test_networks_and_chains_of_others(refused: Callable[..., str]) -> None:
    facts = {
        "cni.Cni": CniState(configurations=("05-cilium.conflist", "10-pods.conflist")),
        "iptables.Rules": Ruleset({"nat": {"POSTROUTING": "ACCEPT", "KUBE-SERVICES": None}}, ()),
    }
    said = refused(prepare_host, facts, kubernetes_version=TODAY)
    assert "n: CNI network = '/etc/cni/net.d/05-cilium.conflist'" in said
    assert "10-pods.conflist = " not in said
    assert refused(prepare_host, facts, kubernetes_version="1.20.2") == ""
