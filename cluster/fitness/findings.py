"""
The table of findings: what may be wrong with a host, and the fix that a person types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from pyinfra_kube.cluster.fitness import checks
from pyinfra_kube.cluster.fitness.checks import Wrong
from pyinfra_kube.cluster.fitness.fixes import FSTAB
from pyinfra_kube.cluster.fitness.states import Case

Refused = Literal["always", "new", "never"]


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


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "swap",
        "/proc/swaps",
        "unless `node_swap` is set, or kubelet is configured to run beside it",
        checks.swap,
        "none: kubelet does not start beside swap",
        f"swapoff -a; {FSTAB}; where it is zram, dnf remove zram-generator-defaults; or set "
        'node_swap = "remove", which does so, or node_swap = True',
        "always",
        "1.8-",
    ),
    Finding(
        "swap at boot",
        "/etc/fstab, enabled units, zram-generator's configuration",
        "unless `node_swap` is set, or kubelet is configured to run beside it",
        checks.swap_at_boot,
        "none: kubelet does not start beside swap after a reboot",
        "{fix}",
        "never",
        "1.8-",
    ),
    Finding(
        "cgroups",
        "/sys/fs/cgroup",
        "",
        checks.cgroup_v2,
        "v1: kubelet knows v2 from 1.19 on",
        "add systemd.unified_cgroup_hierarchy=0 to the kernel's command line and reboot, or set "
        "kubernetes_version to 1.19 or newer",
        releases="1.2-1.18",
    ),
    Finding(
        "cgroups",
        "/proc/self/mounts",
        "",
        checks.no_cgroups,
        "mounted: neither kubelet nor a runtime starts without them",
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup; with v1, mount each controller below "
        "/sys/fs/cgroup",
    ),
    Finding(
        "cgroups",
        "/proc/self/mounts",
        "where `kubelet_configuration` sets `failCgroupV1`",
        checks.cgroup_v1,
        "v2: kubelet is configured to refuse v1",
        "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot, or leave "
        "failCgroupV1 out of kubelet_configuration",
        releases="1.31-",
    ),
    Finding(
        "cgroup controller {of}",
        "/proc/self/mounts, /sys/fs/cgroup",
        "",
        checks.controllers,
        "there: without it kubelet does not start, or runc starts no container",
        "{fix}add cgroup_enable={of} to the kernel's command line and reboot",
    ),
    Finding(
        "/dev/kmsg",
        "/dev",
        "",
        checks.kmsg,
        "there: kubelet does not start without it",
        "mknod /dev/kmsg c 1 11; in a container that may not, ln -s /dev/console /dev/kmsg",
        releases="1.16-",
    ),
    Finding(
        "kernel module {of}",
        "/proc/modules, /lib/modules",
        "those that the runtime, the network and kube-proxy's mode need; a container's are unknown",
        checks.modules,
        "loaded, built in, or there to be loaded",
        "install the modules of the running kernel (linux-modules-extra-$(uname -r) or "
        "kernel-modules-extra), and modprobe {of}{fix}",
    ),
    Finding(
        "modules of the kernel",
        "/lib/modules",
        "not in containers",
        checks.modules_gone,
        "in /lib/modules: none can be loaded into {value}, which was updated or removed since the "
        "host started",
        "reboot",
    ),
    Finding(
        "kernel",
        "/proc/sys/kernel/osrelease",
        'nodes, with `proxy_mode = "nftables"`',
        checks.kernel,
        "5.13 or newer for kube-proxy's nftables mode",
        'boot a newer kernel, or set proxy_mode = "iptables"',
    ),
    Finding(
        "port {of}",
        "/proc/net, /proc/*/fd",
        "the ports of the host's components, and of flannel's packets",
        checks.ports,
        "free, or used by the component itself",
        "{fix}",
        "always",
    ),
    Finding(
        "program {of}",
        "the shell's path",
        "with `install_packages = False`: nodes; `iptables` or `nft` by kube-proxy's mode and "
        "`packet_filter`; `semanage` with containers' policy",
        checks.programs,
        "installed: a component, or a run, calls it",
        "install the package that brings {of}, or set install_packages = True",
    ),
    Finding(
        "resolv.conf",
        "/etc/resolv.conf, or the file of systemd-resolved",
        "hosts with a kubelet, unless it is configured with another file",
        checks.resolv_conf,
        "{of}, a file: kubelet starts no pod without it",
        "rm -f {of}; echo nameserver ADDRESS > {of}",
    ),
    Finding(
        "nameserver",
        "/etc/resolv.conf, or the file of systemd-resolved, which kubelet gets in place of "
        "127.0.0.53",
        "with `dns`, unless kubelet is configured with another file",
        checks.nameservers,
        "in {of} one that a pod reaches, and none that in the pod of CoreDNS is CoreDNS itself, "
        "such as 127.0.0.1: it asks any of them",
        "{fix}; or write that to another file, and set "
        'kubelet_configuration = {{"resolvConf": "/THE/FILE"}}, or up to 1.23 kubelet_flags = '
        '{{"resolv-conf": "/THE/FILE"}}',
        releases="1.19-",
    ),
    Finding(
        "machine-id",
        "/etc/machine-id",
        "",
        checks.machine_id,
        "another one than that of {of}: links of both would get the same hardware addresses",
        # systemd-machine-id-setup would take the UUID of a virtual machine, which clones share.
        "rm -f /var/lib/dbus/machine-id; tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id, "
        "and reboot",
    ),
    Finding(
        "product_uuid",
        "/sys/class/dmi/id/product_uuid",
        "not in containers",
        checks.product_uuid,
        "another one than that of {of}, as Kubernetes asks for",
        "give the virtual machine another UUID, where it is one",
        "never",
    ),
    Finding(
        "clock",
        "date",
        "",
        checks.clock,
        "at most {fix} from {of}: tokens and certificates made there are not valid here, or the "
        "other way round",
        "timedatectl set-ntp true, with systemd-timesyncd or chrony installed, on both",
    ),
    Finding(
        "memory",
        "/proc/meminfo",
        "hosts of the control plane",
        checks.memory,
        f"at least {checks.MEGABYTES} MB on a host of the control plane, by kubeadm's measure",
        "give it 2 GB",
        "never",
    ),
    Finding(
        "memory",
        "/proc/meminfo",
        "nodes",
        checks.node_memory,
        f"at least {checks.NODE_MEGABYTES} MB on a node: kubelet, the runtime and the system take "
        "that before the first pod",
        "give it 1 GB",
        "never",
    ),
    Finding(
        "processors",
        "/proc/cpuinfo",
        "hosts of the control plane",
        checks.processors,
        f"at least {checks.PROCESSORS} on a host of the control plane, by kubeadm's measure",
        f"give it {checks.PROCESSORS}",
        "never",
    ),
    Finding(
        "space of {of}",
        "df",
        "kubelet's folder, that of images, of etcd's data and of programs; percentages from 1.8 "
        "on, unless `evictionHard` is set",
        checks.space,
        "at least {kubelet.percent} % and {kubelet.megabytes} MB free for kubelet, "
        "{images.percent} % and {images.megabytes} MB for images, {evicts}; "
        "{etcd.megabytes} MB for etcd, {programs.megabytes} MB for programs".format(
            evicts=checks.EVICTION, **checks.ROOM
        ),
        "remove files on {fix}: du -xh --max-depth=3 {fix} | sort -h | tail; or mount a larger "
        "file system",
    ),
    Finding(
        "inodes of {of}",
        "df",
        "the same folders",
        checks.inodes,
        f"at least {checks.INODES} % free for kubelet and for images, {checks.EVICTION}; "
        f"{checks.LEAST_INODES} anywhere",
        "remove files on {fix}: du -x --inodes --max-depth=3 {fix} | sort -n | tail",
    ),
    Finding(
        "folder {of}",
        "/proc/self/mounts",
        "folders that a run writes into",
        checks.read_only,
        "one that can be written",
        "mount -o remount,rw {fix}",
    ),
    Finding(
        "programs in {of}",
        "/proc/self/mounts",
        "folders that programs are run from",
        checks.no_exec,
        "programs can be run from there",
        "mount -o remount,exec {fix}, and in /etc/fstab too",
    ),
    Finding(
        "cluster of {of}",
        "the installer's folders",
        "",
        checks.installers,
        "no cluster of another installer: two kubelets fight for ports, pods and rules",
        "{fix}",
    ),
    Finding(
        "container runtime CRI-O",
        checks.CRIO,
        "",
        checks.crio,
        "none that a kubelet of somebody else may use beside ours",
        "systemctl disable --now crio",
        "never",
    ),
    Finding(
        "docker of snap",
        checks.SNAP_DOCKER,
        "nodes on docker",
        checks.snap_docker,
        "none: a snap is confined, and kubelet's docker is that of a package",
        "snap remove --purge docker",
        releases="1.2-1.23",
    ),
    Finding(
        "ufw",
        "/etc/ufw, /etc/default/ufw",
        "where ufw is on and drops packets that no rule names",
        checks.ufw,
        "off, or open to the other hosts and to pods: {of}",
        "{fix}",
    ),
    Finding(
        "ufw",
        "/etc/ufw, /etc/default/ufw",
        "where its rules let in some packets of the other hosts or of pods",
        checks.ufw_in_part,
        "off, or open to all packets of the other hosts and of pods: {of}",
        "{fix}; where its rules name every port that the cluster uses, nothing",
        "never",
    ),
    Finding(
        "CNI network",
        "/etc/cni/net.d",
        'nodes on containerd, unless `network = "none"`',
        checks.networks,
        "none whose name comes before 10-pods.conflist: containerd would take that one",
        "mv {value} /root/",
    ),
    Finding(
        "chains of iptables",
        "iptables-save",
        'new hosts, unless `network = "none"`',
        checks.chains,
        "none that another cluster left: its rules may drop packets of pods",
        "iptables-save | grep -v {fix} | iptables-restore",
        "never",
    ),
    Finding(
        "kubelet's folder",
        "`kubelet_root`",
        "new hosts",
        checks.kubelet_state,
        "nothing that another kubelet left: ours would take it up",
        "systemctl stop kubelet; {fix}",
        "never",
    ),
    Finding(
        "AppArmor",
        "/sys/module/apparmor",
        "",
        checks.apparmor,
        "off, or on with apparmor_parser: a runtime cannot load its profile for containers",
        "apt-get install apparmor",
        "never",
    ),
    Finding(
        "SELinux",
        "/sys/fs/selinux",
        "",
        checks.selinux,
        "permissive, or enforcing with the policy of containers",
        "dnf install container-selinux; or setenforce 0, and SELINUX=permissive in "
        "/etc/selinux/config",
        "never",
    ),
)
"""Everything that is looked at, in the order of the document."""
