"""
Hosts that cannot carry a cluster: each fault is made on a real host, the plan names it before any
change, and once the fix is typed as it is printed the plan names it no more.

What belongs to the whole machine, such as its memory, swap and clock, is one that a host only seems
to have: a file of its own lies over the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.paths import Run, Site, each, execute, state, succeeded
from tests.lab import Lab, go_build
from tests.lab.lab import HOSTS

pytestmark = pytest.mark.lab

CONTROL_PLANE, FIRST, SECOND = HOSTS
RELEASE = "1.37"


@dataclass(frozen=True)
class Unfit:
    """
    One host with one fault.

    + host: which one
    + fault: shell that makes it
    + said: what the plan says of it, key and value
    + fix: what is typed of the fix that the plan prints; empty for a setting
    + setting: the one that the fix names
    + typed: what a person puts in place of words in capitals, and what a fix by hand means here
    + undo: shell that ends a fault which a setting only accepts
    + refused: whether it ends the run; else the plan has a notice
    """

    host: str
    fault: str
    said: str
    fix: str = ""
    setting: Mapping[str, Any] = field(default_factory=dict)
    typed: str = ""
    undo: str = ""
    refused: bool = True


def _unit(name: str, command: str, more: str = "") -> str:
    """Shell that runs a program as a unit of somebody else."""

    unit = f"/etc/systemd/system/{name}.service"
    text = f"[Service]\\nExecStart={command}\\n{more}\\n[Install]\\nWantedBy=multi-user.target\\n"
    return f"printf '{text}' > {unit} && systemctl enable --now {name} 2>/dev/null && sleep 0.3"


def _listens(name: str, where: str) -> str:
    return _unit(name, f"/usr/bin/socat {where} EXEC:/bin/cat")


def _seems(path: str, text: str) -> str:
    """Shell that puts a file over one of the kernel's; ``text`` prints its content."""

    copy = f"/run/seems-{path.rpartition('/')[2]}"
    return f"{text} > {copy} && mount --bind {copy} {path}"


_INDEX = "/lib/modules/$(uname -r)/modules.builtin"


def _module(host: str, name: str, folder: str, **more: Any) -> Unfit:
    """A kernel without a module: modprobe finds it no more."""

    return Unfit(
        host,
        f"sed -i '/\\/{name}\\.ko/d' {_INDEX} && depmod",
        f"kernel module {name} = 'missing'",
        f"modprobe {name}",
        typed=f"echo kernel/{folder}/{name}.ko >> {_INDEX} && depmod && modprobe {name}",
        **more,
    )


def _removed(*folders: str) -> str:
    """What the fix for folders of somebody else is to be."""

    below = f"({'|'.join(folders)})/"
    return (
        f"findmnt -nlo TARGET | grep -E '^{below}' | sort -r | xargs -rd '\\n' umount; "
        f"grep -Eq ' {below}' /proc/self/mounts || rm -rf --one-file-system {' '.join(folders)}"
    )


_LEFT = "mkdir -p {0} && echo left > {0}/file"

FAULTS: dict[str, Unfit] = {
    "swap": Unfit(
        FIRST,
        _seems("/proc/swaps", "printf 'Filename Type\\n/dev/sda2 partition 9 0 -2\\n'"),
        "swap = '/dev/sda2'",
        setting={"node_swap": True},
        undo="umount /proc/swaps",
    ),
    "swap at boot": Unfit(
        SECOND,
        "echo '/swapfile none swap sw 0 0' >> /etc/fstab",
        "swap at boot = '/swapfile'",
        r"sed -Ei '/^\s*[^#[:space:]]\S*\s+\S+\s+swap(\s|$)/s/^/# /' /etc/fstab",
        refused=False,
    ),
    "a unit of swap": Unfit(
        CONTROL_PLANE,
        "printf '[Swap]\\nWhat=/swapfile\\n[Install]\\nWantedBy=swap.target\\n' > "
        "/etc/systemd/system/swapfile.swap && systemctl enable swapfile.swap 2>/dev/null",
        "swap at boot = 'swapfile.swap'",
        "systemctl disable swapfile.swap",
        refused=False,
    ),
    "no cpuset": Unfit(
        SECOND,
        "umount /sys/fs/cgroup/cpuset",
        "cgroup controller cpuset = 'missing'",
        "mkdir -p /sys/fs/cgroup/cpuset && mount -t cgroup -o cpuset cgroup /sys/fs/cgroup/cpuset",
    ),
    "no kmsg": Unfit(
        FIRST,
        "umount --lazy /dev/kmsg 2>/dev/null; rm -f /dev/kmsg",
        "/dev/kmsg = 'missing'",
        "mknod /dev/kmsg c 1 11",
    ),
    "no br_netfilter": _module(FIRST, "br_netfilter", "net/bridge"),
    "no nf_conntrack": _module(SECOND, "nf_conntrack", "net/netfilter"),
    "no overlay": _module(CONTROL_PLANE, "overlay", "fs/overlayfs"),
    "no vxlan": _module(FIRST, "vxlan", "drivers/net/vxlan"),
    "no nft_numgen": _module(SECOND, "nft_numgen", "net/netfilter"),
    "apiserver's port": Unfit(
        CONTROL_PLANE,
        _listens("web", "TCP-LISTEN:6443,fork,reuseaddr"),
        "port tcp 6443 of kube-apiserver = 'socat (pid",
        "systemctl disable --now web.service",
    ),
    "etcd's port": Unfit(
        CONTROL_PLANE,
        _listens("etcd", "TCP-LISTEN:2379,fork,reuseaddr"),
        "port tcp 2379 of etcd = 'socat (pid",
        "systemctl disable --now etcd.service",
    ),
    "scheduler's port": Unfit(
        CONTROL_PLANE,
        "setsid socat TCP-LISTEN:10259,fork,reuseaddr EXEC:/bin/cat >/dev/null 2>&1 & "
        "echo $! > /run/web.pid; sleep 0.3",
        "port tcp 10259 of kube-scheduler = 'socat (pid",
        "kill PID",
        typed="kill $(cat /run/web.pid)",
    ),
    "kubelet's port": Unfit(
        FIRST,
        _listens("web", "TCP4-LISTEN:10250,bind=127.0.0.1,fork"),
        "port tcp 10250 of kubelet = 'socat (pid",
        "systemctl disable --now web.service",
    ),
    "kube-proxy's port": Unfit(
        SECOND,
        _listens("web", "TCP6-LISTEN:10256,fork,reuseaddr"),
        "port tcp 10256 of kube-proxy = 'socat (pid",
        "systemctl disable --now web.service",
    ),
    "flannel's port": Unfit(
        SECOND,
        _listens("game", "UDP-RECVFROM:8472,fork"),
        "port udp 8472 of flannel = 'socat (pid",
        "systemctl disable --now game.service",
    ),
    "a program": Unfit(
        SECOND,
        "mv /usr/sbin/losetup /root/",
        "program losetup = 'missing'",
        setting={"install_packages": True},
        undo="mv /root/losetup /usr/sbin/",
    ),
    "a program of kube-proxy": Unfit(
        FIRST,
        "mv /usr/sbin/nft /root/",
        "program nft = 'missing'",
        setting={"install_packages": True},
        undo="mv /root/nft /usr/sbin/",
    ),
    "a nameserver of its own": Unfit(
        FIRST,
        "echo nameserver 127.0.0.1 > /etc/resolv.conf",
        "nameserver = '127.0.0.1'",
        "echo nameserver ADDRESS > /etc/resolv.conf",
        typed="echo nameserver 192.0.2.53 > /etc/resolv.conf",
    ),
    "a resolv.conf that leads nowhere": Unfit(
        SECOND,
        "ln -sf /run/gone/resolv.conf /etc/resolv.conf",
        "resolv.conf = 'missing'",
        "rm -f /etc/resolv.conf; echo nameserver ADDRESS > /etc/resolv.conf",
        typed="rm -f /etc/resolv.conf; echo nameserver 192.0.2.53 > /etc/resolv.conf",
    ),
    "machine-id": Unfit(
        SECOND,
        "echo MACHINE-ID > /etc/machine-id",
        "machine-id = '",
        "rm -f /var/lib/dbus/machine-id; tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id",
    ),
    "clock": Unfit(
        FIRST,
        'printf \'#!/bin/sh\\nexec /usr/bin/date -d "300 seconds ago" "$@"\\n\' > '
        "/usr/local/sbin/date && chmod +x /usr/local/sbin/date",
        "clock = '",
        "timedatectl set-ntp true",
        typed="rm /usr/local/sbin/date",
    ),
    "little memory": Unfit(
        CONTROL_PLANE,
        _seems("/proc/meminfo", "sed 's/^MemTotal:.*/MemTotal: 921600 kB/' /proc/meminfo"),
        "memory = '900 MB'",
        "give it 2 GB",
        typed="umount /proc/meminfo",
        refused=False,
    ),
    "one processor": Unfit(
        CONTROL_PLANE,
        _seems("/proc/cpuinfo", "grep -m 1 ^processor /proc/cpuinfo"),
        "processors = '1'",
        "give it 2",
        typed="umount /proc/cpuinfo",
        refused=False,
    ),
    "no room for images": Unfit(
        FIRST,
        "mkdir -p /var/lib/containerd && mount -t tmpfs -o size=10m none /var/lib/containerd && "
        "head -c 9m /dev/zero > /var/lib/containerd/large",
        "space of /var/lib/containerd = '10 % free'",
        "remove files on /var/lib/containerd: du -xh --max-depth=3 /var/lib/containerd | sort -h",
        # It is too small for images when it is empty, too.
        typed="umount /var/lib/containerd",
    ),
    "no room for programs": Unfit(
        FIRST,
        "mount -t tmpfs -o size=1m none /usr/local/bin",
        "space of /usr/local/bin = '1 MB free'",
        "or mount a larger file system",
        typed="mount -o remount,size=1g /usr/local/bin",
    ),
    "no inodes": Unfit(
        SECOND,
        "mkdir -p /var/lib/kubelet && mount -t tmpfs -o nr_inodes=100 none /var/lib/kubelet && "
        "cd /var/lib/kubelet && touch $(seq 97)",
        "inodes of /var/lib/kubelet = '",
        "remove files on /var/lib/kubelet: du -x --inodes --max-depth=3 /var/lib/kubelet | sort -n",
        typed="rm /var/lib/kubelet/*",
    ),
    "a read-only folder": Unfit(
        CONTROL_PLANE,
        "mkdir -p /var/lib/etcd && mount -t tmpfs -o ro none /var/lib/etcd",
        "folder /var/lib/etcd = 'read-only'",
        "mount -o remount,rw /var/lib/etcd",
    ),
    "programs that cannot be run": Unfit(
        CONTROL_PLANE,
        "mount -t tmpfs -o noexec none /usr/local/bin",
        "programs in /usr/local/bin = 'noexec'",
        "mount -o remount,exec /usr/local/bin",
    ),
    "kubeadm": Unfit(
        FIRST,
        "mkdir -p /etc/kubernetes/pki && touch /etc/kubernetes/admin.conf",
        "cluster of kubeadm = '/etc/kubernetes/admin.conf'",
        "rm -rf /etc/kubernetes/*.conf /etc/kubernetes/pki /etc/kubernetes/manifests/* "
        "/var/lib/kubelet/kubeadm-flags.env",
    ),
    "k3s": Unfit(
        FIRST,
        _LEFT.format("/var/lib/rancher/k3s"),
        "cluster of k3s = '/var/lib/rancher/k3s'",
        _removed("/var/lib/rancher/k3s", "/etc/rancher/k3s"),
    ),
    "RKE2": Unfit(
        SECOND,
        _LEFT.format("/etc/rancher/rke2"),
        "cluster of RKE2 = '/etc/rancher/rke2'",
        _removed("/var/lib/rancher/rke2", "/etc/rancher/rke2"),
    ),
    "MicroK8s": Unfit(
        SECOND,
        _LEFT.format("/var/snap/microk8s"),
        "cluster of MicroK8s = '/var/snap/microk8s'",
        _removed("/var/snap/microk8s"),
    ),
    "Canonical Kubernetes": Unfit(
        SECOND,
        _LEFT.format("/var/snap/k8s"),
        "cluster of Canonical Kubernetes = '/var/snap/k8s'",
        _removed("/var/snap/k8s"),
    ),
    "ufw": Unfit(
        SECOND,
        "mkdir -p /etc/ufw && rm -f /etc/ufw/user.rules && echo ENABLED=yes > /etc/ufw/ufw.conf && "
        "echo 'DEFAULT_INPUT_POLICY=\"DROP\"' > /etc/default/ufw",
        "ufw = 'on'",
        "ufw allow from 10.10.0.0/16",
        # What those commands leave, without the rules that they load.
        typed="for from in THE-HOSTS 10.10.0.0/16; do "
        'echo "### tuple ### allow any any 0.0.0.0/0 any $from in"; done > /etc/ufw/user.rules',
    ),
    "k0s": Unfit(
        CONTROL_PLANE,
        _LEFT.format("/var/lib/k0s"),
        "cluster of k0s = '/var/lib/k0s'",
        _removed("/var/lib/k0s", "/etc/k0s"),
    ),
    "CRI-O": Unfit(
        FIRST,
        _unit(
            "crio",
            "/usr/bin/socat UNIX-LISTEN:/run/crio/crio.sock,fork EXEC:/bin/cat",
            "RuntimeDirectory=crio",
        ),
        "container runtime CRI-O = '/run/crio/crio.sock'",
        "systemctl disable --now crio",
        refused=False,
    ),
    "a CNI network": Unfit(
        SECOND,
        "mkdir -p /etc/cni/net.d && echo '{}' > /etc/cni/net.d/05-cilium.conflist",
        "CNI network = '/etc/cni/net.d/05-cilium.conflist'",
        "mv /etc/cni/net.d/05-cilium.conflist /root/",
    ),
    "chains": Unfit(
        SECOND,
        "iptables -N cali-FORWARD && iptables -I FORWARD -j cali-FORWARD && "
        "iptables -t nat -N KUBE-SERVICES",
        "chains of iptables = 'KUBE-…, cali-…'",
        "iptables-save | grep -v -e KUBE- -e cali- | iptables-restore",
        refused=False,
    ),
    "what a kubelet left": Unfit(
        FIRST,
        "mkdir -p /var/lib/kubelet/pods/1/volumes && "
        "mount -t tmpfs none /var/lib/kubelet/pods/1/volumes",
        "kubelet's folder = '/var/lib/kubelet/pods'",
        f"systemctl stop kubelet; {_removed('/var/lib/kubelet')}",
        refused=False,
    ),
}


_NFT = "apt-get update -q && apt-get install -q -y --no-install-recommends nftables"


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """Of a cluster on which each of them matters."""

    return {
        "network": "flannel",
        "flannel_source": str(go_build.built("flannel")),
        "proxy_mode": "nftables",
        "install_packages": False,
    }


@pytest.fixture(scope="module")
def broken(lab: Lab, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What a run says to all of them at once. It changes nothing."""

    # Without install_packages somebody else installs it.
    each(lambda host: execute(lab, host, _NFT), lab.hosts)
    _each_on_its_host(lab, FAULTS, "fault")
    site = Site(tmp_path_factory.mktemp("unfit") / "cluster", settings)
    before = state(lab), site.contents()
    run = site.run("-y")
    assert (state(lab), site.contents()) == before
    return run


@pytest.fixture(scope="module")
def mended(
    broken: Run, lab: Lab, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """What a plan says after every fix."""

    _each_on_its_host(lab, FAULTS, "fix")
    chosen = {k: v for one in FAULTS.values() for k, v in one.setting.items()}
    site = Site(tmp_path_factory.mktemp("fit") / "cluster", settings | chosen)
    run = succeeded(site.run("--dry"))
    _each_on_its_host(lab, FAULTS, "undo")
    return run


def _each_on_its_host(lab: Lab, faults: Mapping[str, Unfit], what: str) -> None:
    def do(host: str) -> None:
        for one in (one for one in faults.values() if one.host == host):
            command = {"fault": one.fault, "fix": one.typed or one.fix, "undo": one.undo}[what]
            if command:
                words = {"MACHINE-ID": _machine_id(lab), "THE-HOSTS": str(lab.network.hosts)}
                for word, meant in words.items():
                    command = command.replace(word, meant)
                execute(lab, host, command)

    each(do, HOSTS)


def _machine_id(lab: Lab) -> str:
    return execute(lab, CONTROL_PLANE, "cat /etc/machine-id")[0]


def _lines(run: Run, one: Unfit) -> list[str]:
    """What is said of a fault: its line, with the fix."""

    return [line for line in run.said.splitlines() if f"{one.host}: {one.said}" in line]


def _is_named(run: Run, one: Unfit) -> None:
    (line,) = _lines(run, one)
    assert ("notice: " in line) is not one.refused
    fix = line.partition("; fix: ")[2]
    if one.setting:
        ((key, value),) = one.setting.items()
        assert f"{key} = {value!r}" in fix
    else:
        assert one.fix in re.sub(r"kill \d+", "kill PID", fix), fix


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_named_with_its_fix(name: str, broken: Run) -> None:
    assert broken.code != 0
    _is_named(broken, FAULTS[name])


def test_all_are_said_at_once_and_nothing_else(broken: Run) -> None:
    refused = [one for one in FAULTS.values() if one.refused]
    title = f"{len(refused)} things are wrong with the hosts; no host was touched:"
    assert title in broken.said, broken.said[-6000:]
    assert "Traceback" not in broken.said


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_named_no_more(name: str, mended: Run) -> None:
    assert _lines(mended, FAULTS[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_it_alone(
    name: str, mended: Run, lab: Lab, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The same one by one: no fault hides another, or stands for it."""

    one = FAULTS[name]
    _each_on_its_host(lab, {name: one}, "fault")
    run = Site(tmp_path / "unfit", settings).run("--dry")
    assert (run.code != 0) is one.refused, run.said[-3000:]
    _is_named(run, one)
    if one.refused:
        assert "One thing is wrong with the hosts; no host was touched:" in run.said
    _each_on_its_host(lab, {name: one}, "fix")
    again = Site(tmp_path / "fit", settings | dict(one.setting)).run("--dry")
    assert _lines(succeeded(again), one) == []
    _each_on_its_host(lab, {name: one}, "undo")


@pytest.mark.slow
def test_a_mode_that_the_kernel_lacks(lab: Lab, mended: Run, tmp_path: Path) -> None:
    """This kernel has no IPVS."""

    settings = {"proxy_mode": "ipvs", "node_swap": True}
    run = Site(tmp_path / "unfit", settings).run("--dry")
    for host in (FIRST, SECOND):
        assert f"{host}: kernel module ip_vs = 'missing'" in run.said
    assert 'or set proxy_mode = "iptables"' in run.said
    succeeded(Site(tmp_path / "fit", settings | {"proxy_mode": "iptables"}).run("--dry"))
