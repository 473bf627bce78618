"""
What is known of a host when its fitness is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec


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
    + swap_makers: what else turns swap on at boot: enabled units, and configurations of
      zram-generator
    + cgroups: ``v1``, ``v2``, or ``none`` where none are mounted
    + controllers: of its control groups, mounted or in the one hierarchy
    + kernel: its release, such as ``6.1.0-9-amd64``
    + modules_gone: whether it has modules of other kernels only
    + memory: in megabytes
    + processors: how many
    + kmsg: whether /dev/kmsg is there
    + disks: by folder
    + nameservers: by the file that names them; ``None`` where that is missing, or leads nowhere
    + machine_id, product_uuid: of the installation and of the machine
    + container: whether the host is a container, which has its machine's product_uuid
    + behind: how many seconds its clock is behind the control machine's, at least and at most
    + apparmor: whether the kernel enforces AppArmor's profiles
    + selinux: ``enforcing`` or ``permissive``
    + ufw: what ufw does with packets that no rule names, such as ``drop``; empty where it is off
    + ufw_rules: its rules, as it writes them: ``allow any any 0.0.0.0/0 any 192.0.2.11 in``
    + conntrack_fixed: whether it cannot set how many connections its kernel tracks
    + swap_accepted: whether the kubelet that it has is configured to run beside swap
    + there: which of the paths that were asked for exist
    + programs: which of the programs that were asked for are installed
    """

    swaps: tuple[str, ...] = ()
    swaps_at_boot: tuple[str, ...] = ()
    swap_makers: tuple[str, ...] = ()
    cgroups: str = ""
    controllers: tuple[str, ...] = ()
    kernel: str = ""
    modules_gone: bool = False
    memory: int = 0
    processors: int = 0
    kmsg: bool = True
    disks: dict[str, Disk] = field(default_factory=dict)
    nameservers: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    machine_id: str = ""
    product_uuid: str = ""
    container: bool = False
    behind: tuple[float, float] | None = None
    apparmor: bool = False
    selinux: str = ""
    ufw: str = ""
    ufw_rules: tuple[str, ...] = ()
    conntrack_fixed: bool = False
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
    + groups: the control groups of all who hold it
    """

    port: str
    component: str
    program: str
    pid: int
    groups: str = ""


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
    + peers: networks and addresses whose packets must come in
    + ports: that its components listen on
    + as_units: whether the control plane runs as units, and not as static pods
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
    peers: Sequence[str] = ()
    ports: Sequence[int] = ()
    as_units: bool = False

    @property
    def is_node(self) -> bool:
        return "node" in self.host.roles

    @property
    def is_control_plane(self) -> bool:
        return "control_plane" in self.host.roles

    def configured(self, flag: str, field_name: str) -> bool:
        """Whether the inventory sets something of kubelet's itself."""

        return self.setting(flag, field_name) is not None

    def setting(self, flag: str, field_name: str) -> object:
        """What the inventory sets of kubelet's itself; a flag counts more than a field."""

        return self.spec.kubelet_flags.get(flag, self.spec.kubelet_configuration.get(field_name))
