"""
What a host must have to carry its part of a cluster: a table of findings, each with its fix.

Thresholds and reasons are Kubernetes' own: kubeadm's preflight checks
(``cmd/kubeadm/app/preflight``), what kubelet checks when it starts (``pkg/kubelet/cm``), and the
defaults of its eviction (``pkg/kubelet/eviction``). What a host did not tell is no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.releases import Release, covers
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec

Refused = Literal["always", "new", "never"]

MODULES: dict[str, tuple[str, ...]] = {
    "bridged packets": ("br_netfilter",),
    "connection tracking": ("nf_conntrack",),
    "containerd": ("overlay",),
    "vxlan": ("vxlan",),
    "nftables": ("nf_tables", "nft_ct", "nft_fib", "nft_masq", "nft_nat", "nft_numgen"),
    "ipvs": ("ip_vs", "ip_vs_rr", "ip_vs_sh", "ip_vs_wrr"),
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
        "rm -rf /var/lib/rancher/k3s /etc/rancher/k3s",
    ),
    "RKE2": (
        ("/var/lib/rancher/rke2", "/etc/rancher/rke2"),
        "rke2-uninstall.sh; where it is gone, rm -rf /var/lib/rancher/rke2 /etc/rancher/rke2",
    ),
    "MicroK8s": (
        ("/var/snap/microk8s", "/var/lib/snapd/snaps/microk8s"),
        "snap remove --purge microk8s; where snap is gone, rm -rf /var/snap/microk8s",
    ),
    "k0s": (
        ("/var/lib/k0s", "/etc/k0s"),
        "k0s stop; k0s reset; where k0s is gone, rm -rf /var/lib/k0s /etc/k0s",
    ),
}
"""Other installers: the paths by which their clusters are known, and how each is removed."""

CRIO = "/run/crio/crio.sock"
SELINUX_POLICY = "/usr/share/selinux/packages/container.pp.bz2"
APPARMOR_PARSER = "apparmor_parser"
KUBELET_STATE = ("pods", "cpu_manager_state", "memory_manager_state")
"""What a kubelet keeps in its folder, and another one would take up."""
PROGRAMS = {"conntrack": "1.2-1.31", "losetup": "1.9-", "mount": "1.2-"}
"""Programs that components call, by kubeadm's list, and in which releases."""

_CHAINS = ("KUBE-", "cali-", "CILIUM_", "WEAVE", "FLANNEL-")
"""How the chains of Kubernetes and of its networks begin."""

_MEGABYTES, _PROCESSORS = 1700, 2
_FREE = {"kubelet": 10, "images": 15}
_INODES = 5
_SECONDS = 60
# Certificates are made an hour in the past.
_BACKDATED = 3600
_EVICTION = "for kubelet evicts pods below that"


@dataclass(frozen=True)
class Disk:
    """
    The file system of a folder.

    + mount: where it is mounted
    + size, free: in kilobytes; 0 and 0 where unknown
    + inodes, inodes_free: 0 and 0 for one that has no table of them
    + options: that it is mounted with
    """

    mount: str
    size: int = 0
    free: int = 0
    inodes: int = 0
    inodes_free: int = 0
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostState:
    """
    What a host has of what a cluster needs. Empty, 0 and ``None`` are what it did not tell.

    + swaps: devices and files that it swaps to
    + swaps_at_boot: those of /etc/fstab
    + cgroups: ``v1`` or ``v2``
    + controllers: of its control groups, mounted or in the one hierarchy
    + kernel: its release, such as ``6.1.0-9-amd64``
    + memory: in megabytes
    + processors: how many
    + kmsg: whether /dev/kmsg is there
    + disks: by folder
    + nameservers: by the file that names them
    + machine_id, product_uuid: of the installation and of the machine
    + container: whether the host is a container, which has its machine's product_uuid
    + behind: how many seconds its clock is behind the control machine's, at least and at most
    + apparmor: whether the kernel enforces AppArmor's profiles
    + selinux: ``enforcing`` or ``permissive``
    + swap_accepted: whether its kubelet is configured to run beside swap
    + there: which of the paths that were asked for exist
    + programs: which of the programs that were asked for are installed
    """

    swaps: tuple[str, ...] = ()
    swaps_at_boot: tuple[str, ...] = ()
    cgroups: str = ""
    controllers: tuple[str, ...] = ()
    kernel: str = ""
    memory: int = 0
    processors: int = 0
    kmsg: bool = True
    disks: dict[str, Disk] = field(default_factory=dict)
    nameservers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    machine_id: str = ""
    product_uuid: str = ""
    container: bool = False
    behind: tuple[float, float] | None = None
    apparmor: bool = False
    selinux: str = ""
    swap_accepted: bool = False
    there: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stranger:
    """
    A program that uses a port of the cluster.

    + port: such as ``tcp 6443``
    + component: that needs it
    + program, pid: which one; pid 0 for the kernel
    + unit: of systemd that runs it; empty for none
    + container: of docker that it is in; empty for none
    """

    port: str
    component: str
    program: str
    pid: int
    unit: str = ""
    container: str = ""


@dataclass(frozen=True)
class Case:
    """
    One host and what it is to be.

    + host, spec, release: as the inventory has it
    + state: what the host has
    + others: what the hosts before it in the inventory have, by name
    + ours: whether it carries a part of this cluster already
    + runtime: name of the container runtime
    + proxy_mode: of kube-proxy
    + image_root: the folder of the runtime's images
    + cni_bin_dir: the folder of CNI's plugins
    + resolv_conf: the file that kubelet gives to pods
    + modules: state of each kernel module
    + strangers: programs that use the cluster's ports
    + networks: files of CNI networks that come before ours
    + chains: of iptables
    """

    host: HostSpec
    spec: ClusterSpec
    release: Release
    state: HostState
    others: Mapping[str, HostState] = field(default_factory=dict)
    ours: bool = False
    runtime: str = "containerd"
    proxy_mode: str = "iptables"
    image_root: str = "/var/lib/containerd"
    cni_bin_dir: str = "/opt/cni/bin"
    resolv_conf: str = "/etc/resolv.conf"
    modules: Mapping[str, str] = field(default_factory=dict)
    strangers: Sequence[Stranger] = ()
    networks: Sequence[str] = ()
    chains: Sequence[str] = ()

    @property
    def is_node(self) -> bool:
        return "node" in self.host.roles

    @property
    def is_control_plane(self) -> bool:
        return "control_plane" in self.host.roles

    def configured(self, flag: str, field_name: str) -> bool:
        """Whether the inventory sets something of kubelet's itself."""

        return flag in self.spec.kubelet_flags or field_name in self.spec.kubelet_configuration


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


class Finding(NamedTuple):
    """
    One thing that may be wrong with a host. ``{of}``, ``{value}`` and ``{fix}`` in its texts are
    those of each ``Wrong``.

    + key: what is read
    + reads: where it is read
    + matters: on which hosts, for people; empty for all
    + wrong: gives what is wrong on a host
    + allowed: what it must be
    + fix: what a person types
    + refused: ``always``, on a ``new`` host (one that carries a part of the cluster already is only
      told), or ``never``
    + releases: where it matters
    """

    key: str
    reads: str
    matters: str
    wrong: Callable[[Case], Iterable[Wrong]]
    allowed: str
    fix: str
    refused: Refused = "new"
    releases: str = "1.2-"


class Verdict(NamedTuple):
    """
    A finding on a host.

    + problem: which one, with its fix
    + refused: whether the host cannot carry the cluster with it
    """

    problem: Problem
    refused: bool


def judge(cases: Iterable[Case]) -> list[Verdict]:
    """
    Return every finding of every host.

    + cases: the hosts

    ```
    >>> state = HostState(memory=900)
    >>> [str(verdict.problem) for verdict in judge([Case(host, spec, release, state)])]
    ["m1: memory = '900 MB'; allowed: at least 1700 MB on a host of the control plane, …"]
    ```
    """

    return [
        Verdict(
            Problem(
                finding.key.format(**wrong._asdict()),
                wrong.value,
                case.host.name,
                finding.allowed.format(**wrong._asdict()),
                finding.fix.format(**wrong._asdict()),
            ),
            finding.refused == "always" or (finding.refused == "new" and not case.ours),
        )
        for case in cases
        for finding in FINDINGS
        if covers(finding.releases, case.release.minor)
        for wrong in finding.wrong(case)
    ]


def needed_modules(case: Case) -> list[str]:
    """
    Return the kernel modules that a host needs.

    + case: the host
    """

    uses = {
        "bridged packets": True,
        "connection tracking": case.is_node and case.proxy_mode != "none",
        "containerd": case.runtime == "containerd",
        "vxlan": case.is_node and (case.spec.network, case.spec.flannel_backend) == _VXLAN,
        "nftables": case.is_node and case.proxy_mode == "nftables",
        "ipvs": case.is_node and case.proxy_mode == "ipvs",
    }
    return [module for use, used in uses.items() if used for module in MODULES[use]]


_VXLAN = ("flannel", "vxlan")


# What is wrong


def _swap(case: Case) -> Iterator[Wrong]:
    accepted = case.spec.node_swap or case.state.swap_accepted
    if case.state.swaps and not accepted and not case.configured("fail-swap-on", "failSwapOn"):
        yield Wrong(", ".join(case.state.swaps))


def _swap_at_boot(case: Case) -> Iterator[Wrong]:
    accepted = case.spec.node_swap or case.configured("fail-swap-on", "failSwapOn")
    if case.state.swaps_at_boot and not case.state.swaps and not accepted:
        yield Wrong(", ".join(case.state.swaps_at_boot))


def _cgroup_v2(case: Case) -> Iterator[Wrong]:
    if case.state.cgroups == "v2":
        yield Wrong("v2")


def _controllers(case: Case) -> Iterator[Wrong]:
    needed = {"v1": ("cpu", "cpuacct", "cpuset", "memory"), "v2": ("cpu", "cpuset", "memory")}
    for name in needed.get(case.state.cgroups, ()):
        if name not in case.state.controllers:
            place = f"/sys/fs/cgroup/{name}"
            mount = f"mkdir -p {place} && mount -t cgroup -o {name} cgroup {place}; or "
            yield Wrong("missing", name, mount if case.state.cgroups == "v1" else "")


_INSTEAD = {
    **dict.fromkeys(MODULES["vxlan"], ', or set flannel_backend = "host-gw"'),
    **dict.fromkeys([*MODULES["nftables"], *MODULES["ipvs"]], ', or set proxy_mode = "iptables"'),
}


def _modules(case: Case) -> Iterator[Wrong]:
    for name in needed_modules(case):
        if case.modules.get(name) == "missing":
            yield Wrong("missing", name, _INSTEAD.get(name, ""))


def _ports(case: Case) -> Iterator[Wrong]:
    for one in case.strangers:
        who = f"{one.program} (pid {one.pid})" if one.pid else "the kernel"
        fix = f"kill {one.pid}, and keep it from starting at boot"
        if one.container:
            fix = f"docker rm --force {one.container}"
        elif one.unit:
            fix = f"systemctl disable --now {one.unit}"
        elif one.pid <= 1:
            fix = "systemctl disable --now the socket that systemctl list-sockets shows for it"
        yield Wrong(who, f"{one.port} of {one.component}", fix)


def _nameservers(case: Case) -> Iterator[Wrong]:
    known = case.state.nameservers.get(case.resolv_conf, ())
    if (
        case.spec.dns
        and known
        and all(one.startswith("127.") or one == "::1" for one in known)
        and not case.configured("resolv-conf", "resolvConf")
    ):
        yield Wrong(", ".join(known), case.resolv_conf)


def _machine_id(case: Case) -> Iterator[Wrong]:
    own = case.state.machine_id
    if twins := [n for n, one in case.others.items() if own and one.machine_id == own]:
        yield Wrong(own, twins[0])


def _product_uuid(case: Case) -> Iterator[Wrong]:
    own = case.state.product_uuid
    machines = {name: one for name, one in case.others.items() if not one.container}
    if case.state.container or not own:
        return
    if twins := [n for n, one in machines.items() if one.product_uuid == own]:
        yield Wrong(own, twins[0])


def _clock(case: Case) -> Iterator[Wrong]:
    told = {name: one.behind for name, one in case.others.items() if one.behind}
    own = case.state.behind
    if not own:
        return
    if own[0] > _BACKDATED:
        yield Wrong(f"{own[0]:.0f} s behind", "the control machine", "an hour")
    for name, (least, most) in list(told.items())[:1]:
        apart = max(own[0] - most, least - own[1])
        if apart > _SECONDS:
            way = "behind" if own[0] > most else "ahead"
            yield Wrong(f"{apart:.0f} s {way}", name, f"{_SECONDS} s")


def _memory(case: Case) -> Iterator[Wrong]:
    if case.is_control_plane and 0 < case.state.memory < _MEGABYTES:
        yield Wrong(f"{case.state.memory} MB")


def _processors(case: Case) -> Iterator[Wrong]:
    if case.is_control_plane and 0 < case.state.processors < _PROCESSORS:
        yield Wrong(str(case.state.processors))


def _space(case: Case) -> Iterator[Wrong]:
    if case.configured("eviction-hard", "evictionHard"):
        return
    limits = {case.spec.kubelet_root: _FREE["kubelet"], case.image_root: _FREE["images"]}
    for folder, percent in limits.items():
        disk = case.state.disks.get(folder)
        if disk and disk.size and disk.free * 100 < disk.size * percent:
            value = f"{disk.free * 100 // disk.size} % free"
            yield Wrong(value, folder, disk.mount)


def _inodes(case: Case) -> Iterator[Wrong]:
    if case.configured("eviction-hard", "evictionHard"):
        return
    for folder in dict.fromkeys([case.spec.kubelet_root, case.image_root]):
        disk = case.state.disks.get(folder)
        if disk and disk.inodes and disk.inodes_free * 100 < disk.inodes * _INODES:
            yield Wrong(f"{disk.inodes_free * 100 // disk.inodes} % free", folder, disk.mount)


PROGRAM_DIR = "/usr/local/bin"
WRITTEN = ("/etc", PROGRAM_DIR)
"""Folders that every run writes into, beside those that the inventory names."""


def _read_only(case: Case) -> Iterator[Wrong]:
    data = [case.spec.etcd_data_dir] if "etcd" in case.host.roles else []
    for folder in dict.fromkeys([*WRITTEN, case.spec.kubelet_root, case.image_root, *data]):
        disk = case.state.disks.get(folder)
        if disk and "ro" in disk.options:
            yield Wrong("read-only", folder, disk.mount)


def _no_exec(case: Case) -> Iterator[Wrong]:
    for folder in dict.fromkeys([PROGRAM_DIR, case.cni_bin_dir]):
        disk = case.state.disks.get(folder)
        if disk and "noexec" in disk.options:
            yield Wrong("noexec", folder, disk.mount)


def _installers(case: Case) -> Iterator[Wrong]:
    for name, (signs, fix) in OTHER_INSTALLERS.items():
        if found := [path for path in signs if path in case.state.there]:
            yield Wrong(", ".join(found), name, fix)


def _crio(case: Case) -> Iterator[Wrong]:
    if CRIO in case.state.there:
        yield Wrong(CRIO)


def _networks(case: Case) -> Iterator[Wrong]:
    if case.runtime == "containerd" and case.is_node and case.spec.network != "none":
        for path in case.networks:
            yield Wrong(path)


def _chains(case: Case) -> Iterator[Wrong]:
    found = sorted({p for p in _CHAINS for chain in case.chains if chain.startswith(p)})
    if found and not case.ours and case.spec.network != "none":
        options = " ".join(f"-e {prefix}" for prefix in found)
        yield Wrong(", ".join(f"{prefix}…" for prefix in found), "", options)


def _kubelet_state(case: Case) -> Iterator[Wrong]:
    root = case.spec.kubelet_root
    found = [f"{root}/{name}" for name in KUBELET_STATE if f"{root}/{name}" in case.state.there]
    if found and not case.ours:
        yield Wrong(", ".join(found), root)


def _kmsg(case: Case) -> Iterator[Wrong]:
    if not case.state.kmsg:
        yield Wrong("missing")


def _programs(case: Case) -> Iterator[Wrong]:
    if case.spec.install_packages or not case.is_node:
        return
    for name, releases in PROGRAMS.items():
        if name not in case.state.programs and covers(releases, case.release.minor):
            yield Wrong("missing", name)


def _apparmor(case: Case) -> Iterator[Wrong]:
    if case.state.apparmor and APPARMOR_PARSER not in case.state.programs:
        yield Wrong("enabled without its parser")


def _selinux(case: Case) -> Iterator[Wrong]:
    if case.state.selinux == "enforcing" and SELINUX_POLICY not in case.state.there:
        yield Wrong("enforcing")


def _kernel(case: Case) -> Iterator[Wrong]:
    numbers = [
        int(part) for part in case.state.kernel.split("-")[0].split(".")[:2] if part.isdecimal()
    ]
    if case.is_node and case.proxy_mode == "nftables" and len(numbers) == 2 and numbers < [5, 13]:
        yield Wrong(case.state.kernel)


_FSTAB = "sed -i '/[[:space:]]swap[[:space:]]/s/^[^#]/#&/' /etc/fstab"

FINDINGS: tuple[Finding, ...] = (
    Finding(
        "swap",
        "/proc/swaps",
        "unless `node_swap` is set, or kubelet is configured to run beside it",
        _swap,
        "none: kubelet does not start beside swap",
        f"swapoff -a; {_FSTAB}; where it is zram, dnf remove zram-generator-defaults; or set "
        "node_swap = True",
        "always",
        "1.8-",
    ),
    Finding(
        "swap at boot",
        "/etc/fstab",
        "unless `node_swap` is set",
        _swap_at_boot,
        "none: kubelet does not start beside swap after a reboot",
        _FSTAB,
        "never",
        "1.8-",
    ),
    Finding(
        "cgroups",
        "/sys/fs/cgroup",
        "",
        _cgroup_v2,
        "v1: kubelet knows v2 from 1.19 on",
        "add systemd.unified_cgroup_hierarchy=0 to the kernel's command line and reboot, or set "
        "kubernetes_version to 1.19 or newer",
        releases="1.2-1.18",
    ),
    Finding(
        "cgroup controller {of}",
        "/proc/self/mounts, /sys/fs/cgroup",
        "",
        _controllers,
        "there: kubelet does not start without it",
        "{fix}add cgroup_enable={of} to the kernel's command line and reboot",
    ),
    Finding(
        "/dev/kmsg",
        "/dev",
        "",
        _kmsg,
        "there: kubelet does not start without it",
        "mknod /dev/kmsg c 1 11; in a container that may not, ln -s /dev/console /dev/kmsg",
        releases="1.16-",
    ),
    Finding(
        "kernel module {of}",
        "/proc/modules, /lib/modules",
        "those that the runtime, the network and kube-proxy's mode need; a container's are unknown",
        _modules,
        "loaded, built in, or there to be loaded",
        "install the modules of the running kernel (linux-modules-extra-$(uname -r) or "
        "kernel-modules-extra), and modprobe {of}{fix}",
    ),
    Finding(
        "kernel",
        "/proc/sys/kernel/osrelease",
        'nodes, with `proxy_mode = "nftables"`',
        _kernel,
        "5.13 or newer for kube-proxy's nftables mode",
        'boot a newer kernel, or set proxy_mode = "iptables"',
    ),
    Finding(
        "port {of}",
        "/proc/net, /proc/*/fd",
        "the ports of the host's components, and of flannel's packets",
        _ports,
        "free, or used by the component itself",
        "{fix}",
        "always",
    ),
    Finding(
        "program {of}",
        "the shell's path",
        "nodes, with `install_packages = False`",
        _programs,
        "installed: a component calls it",
        "install the package that brings {of}, or set install_packages = True",
    ),
    Finding(
        "nameserver",
        "/etc/resolv.conf, or the file of systemd-resolved, which kubelet gets in place of "
        "127.0.0.53",
        "with `dns`, unless kubelet is configured with another file",
        _nameservers,
        "one that a pod reaches: in the pod of CoreDNS, {value} in {of} is CoreDNS itself",
        "echo nameserver ADDRESS > {of}; or write that to another file, and set "
        'kubelet_configuration = {{"resolvConf": "/THE/FILE"}}',
        releases="1.24-",
    ),
    Finding(
        "machine-id",
        "/etc/machine-id",
        "",
        _machine_id,
        "another one than that of {of}: links of both would get the same hardware addresses",
        "rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup, and reboot",
    ),
    Finding(
        "product_uuid",
        "/sys/class/dmi/id/product_uuid",
        "not in containers",
        _product_uuid,
        "another one than that of {of}, as Kubernetes asks for",
        "give the virtual machine another UUID, where it is one",
        "never",
    ),
    Finding(
        "clock",
        "date",
        "",
        _clock,
        "at most {fix} from {of}: tokens and certificates made there are not valid here, or the "
        "other way round",
        "timedatectl set-ntp true, with systemd-timesyncd or chrony installed, on both",
    ),
    Finding(
        "memory",
        "/proc/meminfo",
        "hosts of the control plane",
        _memory,
        f"at least {_MEGABYTES} MB on a host of the control plane, by kubeadm's measure",
        "give it 2 GB",
        "never",
    ),
    Finding(
        "processors",
        "/proc/cpuinfo",
        "hosts of the control plane",
        _processors,
        f"at least {_PROCESSORS} on a host of the control plane, by kubeadm's measure",
        f"give it {_PROCESSORS}",
        "never",
    ),
    Finding(
        "space of {of}",
        "df",
        "kubelet's folder and that of images, unless `evictionHard` is set",
        _space,
        f"at least {_FREE['kubelet']} % free for kubelet and {_FREE['images']} % for images, "
        f"{_EVICTION}",
        "remove files on {fix}: du -xh --max-depth=3 {fix} | sort -h | tail; or mount a larger "
        "file system",
        releases="1.8-",
    ),
    Finding(
        "inodes of {of}",
        "df",
        "kubelet's folder and that of images, unless `evictionHard` is set",
        _inodes,
        f"at least {_INODES} % free, {_EVICTION}",
        "remove files on {fix}: du -x --inodes --max-depth=3 {fix} | sort -n | tail",
        releases="1.8-",
    ),
    Finding(
        "folder {of}",
        "/proc/self/mounts",
        "folders that a run writes into",
        _read_only,
        "one that can be written",
        "mount -o remount,rw {fix}",
    ),
    Finding(
        "programs in {of}",
        "/proc/self/mounts",
        "folders that programs are run from",
        _no_exec,
        "programs can be run from there",
        "mount -o remount,exec {fix}, and in /etc/fstab too",
    ),
    Finding(
        "cluster of {of}",
        "the installer's folders",
        "",
        _installers,
        "no cluster of another installer: two kubelets fight for ports, pods and rules",
        "{fix}",
    ),
    Finding(
        "container runtime CRI-O",
        CRIO,
        "",
        _crio,
        "none that a kubelet of somebody else may use beside ours",
        "systemctl disable --now crio",
        "never",
    ),
    Finding(
        "CNI network",
        "/etc/cni/net.d",
        'nodes on containerd, unless `network = "none"`',
        _networks,
        "none whose name comes before 10-pods.conflist: containerd would take that one",
        "mv {value} /root/",
    ),
    Finding(
        "chains of iptables",
        "iptables-save",
        'new hosts, unless `network = "none"`',
        _chains,
        "none that another cluster left: its rules may drop packets of pods",
        "iptables-save | grep -v {fix} | iptables-restore",
        "never",
    ),
    Finding(
        "kubelet's folder",
        "`kubelet_root`",
        "new hosts",
        _kubelet_state,
        "nothing that another kubelet left: ours would take it up",
        "awk '$2 ~ \"^{of}/\" {{ print $2 }}' /proc/mounts | xargs -r umount; rm -rf {of}",
        "never",
    ),
    Finding(
        "AppArmor",
        "/sys/module/apparmor",
        "",
        _apparmor,
        "off, or on with apparmor_parser: a runtime cannot load its profile for containers",
        "apt-get install apparmor",
        "never",
    ),
    Finding(
        "SELinux",
        "/sys/fs/selinux",
        "",
        _selinux,
        "permissive, or enforcing with the policy of containers",
        "dnf install container-selinux; or setenforce 0, and SELINUX=permissive in "
        "/etc/selinux/config",
        "never",
    ),
)
"""Everything that is looked at, in the order of the document."""
