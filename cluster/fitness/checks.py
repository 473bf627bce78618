"""
The checks that findings stand on: each gives what is wrong on a host. What a host did not tell is
nothing wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pyinfra_kube.cluster.fitness import ufw as ufw_rules
from pyinfra_kube.cluster.fitness.fixes import removal, swap_stays_off
from pyinfra_kube.cluster.fitness.holders import freeing
from pyinfra_kube.cluster.fitness.states import Case
from pyinfra_kube.cluster.releases import covers

MODULES: dict[str, tuple[str, ...]] = {
    "bridged packets": ("br_netfilter",),
    "connection tracking": ("nf_conntrack",),
    "containers": ("overlay",),
    "vxlan": ("vxlan",),
    "nftables": (
        *("nf_tables", "nft_chain_nat", "nft_ct", "nft_fib", "nft_fib_ipv4", "nft_masq"),
        *("nft_nat", "nft_numgen", "nft_reject", "nft_reject_ipv4"),
    ),
    # What iptables speaks by itself, such as marks, depends on its version and kind.
    "iptables": ("xt_addrtype", "xt_conntrack", "xt_statistic"),
    "ipvs": (
        *("ip_vs", "ip_vs_rr", "ip_vs_sh", "ip_vs_wrr", "dummy", "ip_set", "ip_set_bitmap_port"),
        *("ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "xt_set"),
    ),
    "network policies": ("ip_set", "ip_set_hash_ip", "xt_set"),
}
"""The kernel modules that each use of a host needs."""

OTHER_INSTALLERS: dict[str, tuple[tuple[str, ...], str]] = {
    "kubeadm": (
        (
            "/etc/kubernetes/admin.conf",
            "/etc/kubernetes/kubelet.conf",
            "/var/lib/kubelet/kubeadm-flags.env",
        ),
        "kubeadm reset --force; where kubeadm is gone, rm -rf /etc/kubernetes/*.conf "
        "/etc/kubernetes/pki /etc/kubernetes/manifests/* /var/lib/kubelet/kubeadm-flags.env",
    ),
    "k3s": (
        ("/var/lib/rancher/k3s", "/etc/rancher/k3s"),
        "k3s-uninstall.sh, or k3s-agent-uninstall.sh; where they are gone, "
        + removal("/var/lib/rancher/k3s", "/etc/rancher/k3s"),
    ),
    "RKE2": (
        ("/var/lib/rancher/rke2", "/etc/rancher/rke2"),
        "rke2-uninstall.sh; where it is gone, "
        + removal("/var/lib/rancher/rke2", "/etc/rancher/rke2"),
    ),
    "MicroK8s": (
        ("/var/snap/microk8s", "/var/lib/snapd/snaps/microk8s"),
        f"snap remove --purge microk8s; where snap is gone, {removal('/var/snap/microk8s')}",
    ),
    "Canonical Kubernetes": (
        ("/var/snap/k8s", "/var/lib/snapd/snaps/k8s"),
        f"snap remove --purge k8s; where snap is gone, {removal('/var/snap/k8s')}",
    ),
    "k0s": (
        ("/var/lib/k0s", "/etc/k0s"),
        "k0s stop; k0s reset; where k0s is gone, " + removal("/var/lib/k0s", "/etc/k0s"),
    ),
}
"""Other installers: the paths by which their clusters are known, and how each is removed."""

SNAP_DOCKER = "/var/snap/docker"
CRIO = "/run/crio/crio.sock"
SELINUX_POLICY = "/usr/share/selinux/packages/container.pp.bz2"
SEMANAGE = "semanage"
APPARMOR_PARSER = "apparmor_parser"
KUBELET_STATE = ("pods", "cpu_manager_state", "memory_manager_state")
"""What a kubelet keeps in its folder, and another one would take up."""
PROGRAMS = {"conntrack": "1.2-1.31", "losetup": "1.9-", "mount": "1.2-"}
"""Programs that components call, by kubeadm's list, and in which releases."""
PROXY_PROGRAMS = {
    **dict.fromkeys(["iptables", "ipvs", "userspace"], "iptables"),
    "nftables": "nft",
}
"""The program that kube-proxy calls in each of its modes."""
FILTER_PROGRAMS = {"iptables": "iptables", "nftables": "nft"}
"""The program that a run calls for pods' packets, by ``packet_filter``."""

_CHAINS = ("KUBE-", "cali-", "CILIUM_", "WEAVE", "FLANNEL-")
"""How the chains of Kubernetes and of its networks begin."""

MEGABYTES, PROCESSORS = 1700, 2
NODE_MEGABYTES = 500
"""What kubelet, a runtime, kube-proxy and the system take before the first pod."""


class Room(NamedTuple):
    """
    What must be free of a file system.

    + percent: where kubelet evicts pods below that
    + megabytes: what a run or the first minutes write
    """

    percent: int
    megabytes: int


ROOM = {
    "kubelet": Room(10, 100),
    "images": Room(15, 1000),
    # Two segments of its log, and its database.
    "etcd": Room(0, 200),
    "programs": Room(0, 200),
}
INODES = 5
LEAST_INODES = 50
_SECONDS = 60
# Certificates are made an hour in the past.
_BACKDATED = 3600
# Certificates end a day too early there.
_AHEAD = 86400
EVICTION = "for kubelet evicts pods below that"


class Wrong(NamedTuple):
    """
    What is wrong, for the words in braces of a finding.

    + value: what the host has
    + of: what it is about, such as a module or a folder
    + fix: of this one, where each has its own
    """

    value: str
    of: str = ""
    fix: str = ""


def needed_modules(case: Case) -> list[str]:
    """
    Return the kernel modules that a host needs.

    + case: the host
    """

    uses = {
        "bridged packets": True,
        "connection tracking": case.is_node and case.proxy_mode != "none",
        "containers": case.runtime in ("containerd", "cri-o"),
        "vxlan": case.is_node and (case.spec.network, case.spec.flannel_backend) == _VXLAN,
        "nftables": case.is_node and case.proxy_mode == "nftables",
        "iptables": case.is_node and case.proxy_mode == "iptables",
        "ipvs": case.is_node and case.proxy_mode == "ipvs",
        "network policies": case.is_node and case.spec.network_policies,
    }
    needed = (module for use, used in uses.items() if used for module in MODULES[use])
    return list(dict.fromkeys(needed))


_VXLAN = ("flannel", "vxlan")


# What is wrong


def _beside_swap(case: Case) -> bool:
    """Whether kubelet will run beside swap, or swap will be gone."""

    asked = case.setting("fail-swap-on", "failSwapOn")
    if asked is not None and case.spec.node_swap != "remove":
        return asked in _OFF
    return bool(case.spec.node_swap) or (case.ours and case.state.swap_accepted)


# As Go reads a flag, and a field that is not set.
_OFF = (None, False, "false", "False", "FALSE", "f", "F", "0")


def swap(case: Case) -> Iterator[Wrong]:
    if case.state.swaps and not _beside_swap(case):
        yield Wrong(", ".join(case.state.swaps))


def swap_at_boot(case: Case) -> Iterator[Wrong]:
    makers = [*case.state.swaps_at_boot, *case.state.swap_makers]
    if makers and not case.state.swaps and not _beside_swap(case):
        yield Wrong(", ".join(makers), "", swap_stays_off(makers))


def cgroup_v2(case: Case) -> Iterator[Wrong]:
    if case.state.cgroups == "v2":
        yield Wrong("v2")


def no_cgroups(case: Case) -> Iterator[Wrong]:
    if case.state.cgroups == "none":
        yield Wrong("none")


def cgroup_v1(case: Case) -> Iterator[Wrong]:
    # A run has kubelet accept it, unless the inventory says otherwise.
    if case.state.cgroups == "v1" and case.setting("fail-cgroupv1", "failCgroupV1") not in _OFF:
        yield Wrong("v1")


CONTROLLERS = {
    # runc starts no container without devices.
    "v1": ("cpu", "cpuacct", "cpuset", "memory", "devices"),
    "v2": ("cpu", "cpuset", "memory"),
}
"""The controllers that each hierarchy of control groups must have."""


def controllers(case: Case) -> Iterator[Wrong]:
    for name in CONTROLLERS.get(case.state.cgroups, ()):
        if name not in case.state.controllers:
            place = f"/sys/fs/cgroup/{name}"
            mount = f"mkdir -p {place} && mount -t cgroup -o {name} cgroup {place}; or "
            yield Wrong("missing", name, mount if case.state.cgroups == "v1" else "")


_INSTEAD = {
    **dict.fromkeys(MODULES["vxlan"], ', or set flannel_backend = "host-gw"'),
    **dict.fromkeys([*MODULES["nftables"], *MODULES["ipvs"]], ', or set proxy_mode = "iptables"'),
    **dict.fromkeys(MODULES["iptables"], ', or set proxy_mode = "nftables"'),
    **dict.fromkeys(MODULES["network policies"], ", or set network_policies = False"),
}


def modules(case: Case) -> Iterator[Wrong]:
    for name in needed_modules(case):
        if case.modules.get(name) == "missing":
            yield Wrong("missing", name, _INSTEAD.get(name, ""))


def modules_gone(case: Case) -> Iterator[Wrong]:
    if case.state.modules_gone and not case.state.container:
        yield Wrong(case.state.kernel)


def ports(case: Case) -> Iterator[Wrong]:
    for one in case.strangers:
        who = f"{one.program} (pid {one.pid})" if one.pid else "the kernel"
        yield Wrong(who, f"{one.port} of {one.component}", freeing(one))


RESOLVED = "/run/systemd/resolve/resolv.conf"
"""The nameservers behind systemd-resolved, whose own address no pod reaches."""


def resolv_conf(case: Case) -> Iterator[Wrong]:
    known = case.state.nameservers.get(case.resolv_conf, ())
    runs_kubelet = case.is_node or not case.as_units
    if known is None and runs_kubelet and not case.configured("resolv-conf", "resolvConf"):
        yield Wrong("missing", case.resolv_conf)


# What kubelet hands on.
_NAMESERVERS = 3
# The host itself, which in a pod is the pod.
_ITSELF = re.compile(r"127\..*|::1|0\.0\.0\.0|::")


def nameservers(case: Case) -> Iterator[Wrong]:
    known = case.state.nameservers.get(case.resolv_conf)
    if not case.spec.dns or known is None or case.configured("resolv-conf", "resolvConf"):
        return
    itself = [one for one in known[:_NAMESERVERS] if _ITSELF.fullmatch(one)]
    if itself or not known:
        fix = f"rm -f {case.resolv_conf}; echo nameserver ADDRESS > {case.resolv_conf}"
        if case.resolv_conf == RESOLVED:
            fix = (
                "DNS=ADDRESS in /etc/systemd/resolved.conf, and systemctl restart systemd-resolved"
            )
        yield Wrong(", ".join(itself) or "none", case.resolv_conf, fix)


def machine_id(case: Case) -> Iterator[Wrong]:
    own = case.state.machine_id
    if twins := [n for n, one in case.others.items() if own and one.machine_id == own]:
        yield Wrong(own, twins[0])


def product_uuid(case: Case) -> Iterator[Wrong]:
    own = case.state.product_uuid
    machines = {name: one for name, one in case.others.items() if not one.container}
    if case.state.container or not own:
        return
    if twins := [n for n, one in machines.items() if one.product_uuid == own]:
        yield Wrong(own, twins[0])


def clock(case: Case) -> Iterator[Wrong]:
    told = {name: one.behind for name, one in case.others.items() if one.behind}
    own = case.state.behind
    if not own:
        return
    if own[0] > _BACKDATED:
        yield Wrong(f"{own[0]:.0f} s behind", "the control machine", "an hour")
    if own[1] < -_AHEAD:
        yield Wrong(f"{-own[1]:.0f} s ahead", "the control machine", "a day")
    for name, (least, most) in list(told.items())[:1]:
        apart = max(own[0] - most, least - own[1])
        if apart > _SECONDS:
            way = "behind" if own[0] > most else "ahead"
            yield Wrong(f"{apart:.0f} s {way}", name, f"{_SECONDS} s")


def memory(case: Case) -> Iterator[Wrong]:
    if case.is_control_plane and 0 < case.state.memory < MEGABYTES:
        yield Wrong(f"{case.state.memory} MB")


def node_memory(case: Case) -> Iterator[Wrong]:
    if not case.is_control_plane and 0 < case.state.memory < NODE_MEGABYTES:
        yield Wrong(f"{case.state.memory} MB")


def processors(case: Case) -> Iterator[Wrong]:
    if case.is_control_plane and 0 < case.state.processors < PROCESSORS:
        yield Wrong(str(case.state.processors))


def _rooms(case: Case) -> dict[str, Room]:
    """What each folder must have free."""

    rooms = {} if case.as_units else {PROGRAM_DIR: ROOM["programs"]}
    if "etcd" in case.host.roles:
        rooms[case.spec.etcd_data_dir] = ROOM["etcd"]
    rooms |= {case.spec.kubelet_root: ROOM["kubelet"], case.image_root: ROOM["images"]}
    if case.configured("eviction-hard", "evictionHard") or not covers("1.8-", case.release.minor):
        return {folder: Room(0, room.megabytes) for folder, room in rooms.items()}
    return rooms


def space(case: Case) -> Iterator[Wrong]:
    for folder, room in _rooms(case).items():
        disk = case.state.disks.get(folder)
        if not disk or not disk.size:
            continue
        # Where only what is kept for root is left, df tells less than nothing.
        free = max(disk.free, 0)
        if free * 100 < disk.size * room.percent:
            yield Wrong(f"{free * 100 // disk.size} % free", folder, disk.mount)
        elif free < room.megabytes * 1024:
            yield Wrong(f"{free // 1024} MB free", folder, disk.mount)


def inodes(case: Case) -> Iterator[Wrong]:
    for folder, room in _rooms(case).items():
        disk = case.state.disks.get(folder)
        if not disk or not disk.inodes:
            continue
        if room.percent and disk.inodes_free * 100 < disk.inodes * INODES:
            yield Wrong(f"{disk.inodes_free * 100 // disk.inodes} % free", folder, disk.mount)
        elif disk.inodes_free < LEAST_INODES:
            yield Wrong(f"{disk.inodes_free} free", folder, disk.mount)


PROGRAM_DIR = "/usr/local/bin"
WRITTEN = ("/etc", PROGRAM_DIR)
"""Folders that every run writes into, beside those that the inventory names."""


def read_only(case: Case) -> Iterator[Wrong]:
    data = [case.spec.etcd_data_dir] if "etcd" in case.host.roles else []
    for folder in dict.fromkeys([*WRITTEN, case.spec.kubelet_root, case.image_root, *data]):
        disk = case.state.disks.get(folder)
        if disk and "ro" in disk.options:
            yield Wrong("read-only", folder, disk.mount)


def no_exec(case: Case) -> Iterator[Wrong]:
    for folder in dict.fromkeys([PROGRAM_DIR, case.cni_bin_dir]):
        disk = case.state.disks.get(folder)
        if disk and "noexec" in disk.options:
            yield Wrong("noexec", folder, disk.mount)


def installers(case: Case) -> Iterator[Wrong]:
    for name, (signs, fix) in OTHER_INSTALLERS.items():
        if found := [path for path in signs if path in case.state.there]:
            yield Wrong(", ".join(found), name, fix)


def crio(case: Case) -> Iterator[Wrong]:
    if CRIO in case.state.there and case.runtime != "cri-o":
        yield Wrong(CRIO)


def networks(case: Case) -> Iterator[Wrong]:
    if case.runtime == "containerd" and case.is_node and case.spec.network != "none":
        for path in case.networks:
            yield Wrong(path)


def chains(case: Case) -> Iterator[Wrong]:
    found = sorted({p for p in _CHAINS for chain in case.chains if chain.startswith(p)})
    if found and not case.ours and case.spec.network != "none":
        options = " ".join(f"-e {prefix}" for prefix in found)
        yield Wrong(", ".join(f"{prefix}…" for prefix in found), "", options)


def kubelet_state(case: Case) -> Iterator[Wrong]:
    root = case.spec.kubelet_root
    found = [f"{root}/{name}" for name in KUBELET_STATE if f"{root}/{name}" in case.state.there]
    if found and not case.ours:
        yield Wrong(", ".join(found), root, removal(root))


def kmsg(case: Case) -> Iterator[Wrong]:
    if not case.state.kmsg:
        yield Wrong("missing")


def programs(case: Case) -> Iterator[Wrong]:
    if case.spec.install_packages:
        return
    called = [name for name, since in PROGRAMS.items() if covers(since, case.release.minor)]
    proxy = PROXY_PROGRAMS.get(case.proxy_mode)
    called += [proxy] if proxy else []
    if case.spec.network == "routes":
        called.append(FILTER_PROGRAMS[case.spec.packet_filter])
    needed = list(dict.fromkeys(called)) if case.is_node else []
    has_policy = case.state.selinux and SELINUX_POLICY in case.state.there
    # For the files that static pods mount.
    if has_policy and not case.as_units and set(case.host.roles) & {"control_plane", "etcd"}:
        needed = [*needed, SEMANAGE]
    yield from (Wrong("missing", name) for name in needed if name not in case.state.programs)


def apparmor(case: Case) -> Iterator[Wrong]:
    if case.state.apparmor and APPARMOR_PARSER not in case.state.programs:
        yield Wrong("enabled without its parser")


def selinux(case: Case) -> Iterator[Wrong]:
    if case.state.selinux == "enforcing" and SELINUX_POLICY not in case.state.there:
        yield Wrong("enforcing")


def snap_docker(case: Case) -> Iterator[Wrong]:
    if SNAP_DOCKER in case.state.there and case.runtime == "docker":
        yield Wrong(SNAP_DOCKER)


def ufw(case: Case) -> Iterator[Wrong]:
    yield from _ufw(case, "closed")


def ufw_in_part(case: Case) -> Iterator[Wrong]:
    yield from _ufw(case, "open in part")


def _ufw(case: Case, way: ufw_rules.Way) -> Iterator[Wrong]:
    if case.state.ufw not in ("drop", "reject"):
        return
    rules = ufw_rules.parse(case.state.ufw_rules)
    if shut := [one for one in case.peers if ufw_rules.lets_in(rules, one, case.ports) == way]:
        # The first rule that fits decides.
        first = "prepend " if any(rule["does"] in ufw_rules.DENIES for rule in rules) else ""
        fix = "; ".join(f"ufw {first}allow from {one}" for one in shut)
        yield Wrong("on", ", ".join(shut), fix)


def kernel(case: Case) -> Iterator[Wrong]:
    numbers = [
        int(part) for part in case.state.kernel.split("-")[0].split(".")[:2] if part.isdecimal()
    ]
    if case.is_node and case.proxy_mode == "nftables" and len(numbers) == 2 and numbers < [5, 13]:
        yield Wrong(case.state.kernel)
