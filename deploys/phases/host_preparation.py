"""
Prepare hosts: packages, kernel settings, names, the apiserver's port.
"""

from __future__ import annotations

import re

from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components.own_ports import kubelet_port
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.packages import NETWORK_TOOLS, packages_for
from pyinfra_kube.deploys.phases.firewalls import open_firewalld, open_ports
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.fitness import check_hosts
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.hosts import SSH
from pyinfra_kube.facts.services import Units, UnitState
from pyinfra_kube.facts.swap import SWAP_SERVICES, Swaps
from pyinfra_kube.operations import files, hosts, packages, services, sysctl

NETWORKD = "systemd-networkd.service"
NETWORK_MANAGER = "NetworkManager.service"
DISPATCHER = "/etc/NetworkManager/dispatcher.d/50-pyinfra-kube"
NETWORKD_CONFIG = "/etc/systemd/networkd.conf.d/50-pyinfra-kube.conf"
FSTAB = "/etc/fstab"
MODULES = ["br_netfilter"]
# What a kubelet that sets up cbr0 itself calls.
KUBELET_BRIDGE = {"configure-cbr0": ["bridge-tools"], "kubenet": ["cni"], "": []}
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    # kube-proxy's rules must see packets between pods of one bridge too.
    "net.bridge.bridge-nf-call-iptables": 1,
}


@phase("Host preparation")
def prepare_host() -> None:
    """
    Refuse hosts that cannot carry the cluster; install the tools that the components call; set
    kernel settings, names and ports.
    """

    cluster = current_cluster()
    check_hosts(cluster)
    if cluster.spec.install_packages:
        packages.packages(
            name="Install the tools of a node",
            packages=tools(),
            removable=cluster.spec.removable_packages,
        )
    set_swap(cluster)
    open_firewalld(cluster)
    connect_host()
    open_ports(cluster)


def set_swap(cluster: Cluster) -> None:
    """
    Turn the current host's swap off, also at boot, where the inventory asks for it; say that it
    stays where that is asked for.

    + cluster: the cluster
    """

    if not cluster.spec.node_swap:
        return
    state = read(Swaps)
    if cluster.spec.node_swap is True:
        if state.devices:
            changes.say(f"swap stays, kubelet runs beside it: {', '.join(state.devices)}")
        return
    if state.devices and not state.units:
        host = cluster.host_spec.name
        allowed = "True: the host is a container, and its machine's swap is not its own"
        raise InputError([Problem("node_swap", "remove", host, allowed)])
    found = [fstab(without_swap(state.fstab))] if state.fstab else []
    # What is of the same name in /etc counts.
    found += [
        files.File(f"/etc/systemd/{name}", kind="link", target="/dev/null") for name in state.zram
    ]
    if found:
        files.files(name="Turn swap off at boot", files=found)
    units = read(Units, units=[*SWAP_SERVICES, *(name for name, _ in state.units)]).units
    makers = [name for name in SWAP_SERVICES if units.get(name, UnitState()).enabled in _AT_BOOT]
    stopped = [services.Unit(name, running=False, enabled=False) for name in makers]
    # What a service has turned on goes as that stops; two who turn it off at once may both fail.
    made = any(units[name].active == "active" for name in makers)
    found_on = [(name, at, units.get(name, UnitState())) for name, at in state.units]
    stopped += [_off(*one) for one in found_on if one[2].enabled or not made]
    if stopped:
        services.services(name="Turn swap off", units=stopped)


_AT_BOOT = ("enabled", "enabled-runtime")


def _off(name: str, source: str, state: UnitState) -> services.Unit:
    if not state.enabled:
        changes.say(f"{name}: no unit turns it on; see to what does so at boot")
    # systemctl masks no unit whose file is there.
    own = f"/etc/systemd/system/{name}" in state.files
    # A unit of neither would come again.
    elsewhere = source != FSTAB and not _ZRAM.match(name)
    masked = elsewhere and bool(state.enabled) and not own
    return services.Unit(name, running=False, enabled=False if own else None, masked=masked)


_ZRAM = re.compile(r"dev-zram\d+\.swap")
_SWAP_LINE = re.compile(r"^(?![ \t]*#)(?=[ \t]*\S+[ \t]+\S+[ \t]+swap(?:[ \t]|$))", re.M)


def fstab(text: str) -> files.File:
    """
    Return /etc/fstab with a text.

    + text: as of ``SwapStates``
    """

    return files.File(FSTAB, text.encode(errors="surrogateescape"), keep=True)


def without_swap(fstab: str) -> str:
    """
    Return the text of /etc/fstab with its lines of swap made comments.

    + fstab: as it stands

    ```
    >>> without_swap("/dev/sda2 none swap sw 0 0")
    '# /dev/sda2 none swap sw 0 0'
    ```
    """

    return _SWAP_LINE.sub("# ", fstab)


def with_swap(fstab: str, before: str) -> str:
    """
    Return the text of /etc/fstab with the lines of swap that ``without_swap`` made comments.

    + fstab: as it stands
    + before: as it was before that

    ```
    >>> with_swap("# /dev/sda2 none swap sw 0 0", "/dev/sda2 none swap sw 0 0")
    '/dev/sda2 none swap sw 0 0'
    ```
    """

    lines = {f"# {line}": line for line in before.split("\n") if _SWAP_LINE.match(line)}
    return "\n".join(lines.get(line, line) for line in fstab.split("\n"))


def connect_host() -> None:
    """Have the current host forward packets, know the other hosts' names, and reach them."""

    cluster = current_cluster()
    _keep_routes(cluster)
    sysctl.sysctls(
        name="Forward packets, and pass bridged ones to iptables", settings=SYSCTLS, modules=MODULES
    )
    if cluster.spec.manage_hosts:
        addresses = {name: address for name, address in cluster.plan.addresses.items() if address}
        names = {host.known_as: addresses.get(host.name) for host in cluster.spec.hosts}
        entries = {name: address for name, address in names.items() if name and address}
        hosts.hosts(
            name="Set the hosts' names in /etc/hosts", entries=entries, unless_resolved=True
        )
        reached = {name: addresses[name] for name in addresses if _must_answer(cluster, name)}
        hosts.reachable(
            name="Check that the hosts reach each other",
            addresses=reached,
            ports={name: [*_needed(cluster, name), _ssh_port(name)] for name in reached},
        )


def _keep_routes(cluster: Cluster) -> None:
    """
    Have systemd-networkd, also netplan's, leave routes alone that it did not set, and have those
    set again that NetworkManager takes away.
    """

    if not cluster.is_a("node"):
        return
    units = read(Units, units=[NETWORKD, NETWORK_MANAGER], config=[NETWORKD_CONFIG]).units
    running = {name for name, unit in units.items() if unit.active == "active"}
    modes = {NETWORKD_CONFIG: "644"} if NETWORKD in running else {}
    if NETWORK_MANAGER in running and cluster.spec.network == "routes":
        modes[DISPATCHER] = "755"
    kept = [files.File(path, render(f"{path[1:]}.j2"), mode=mode) for path, mode in modes.items()]
    if kept:
        files.files(name="Keep routes of pods", files=kept)
    if NETWORKD in running:
        unit = services.Unit(NETWORKD, enabled=None, config=[NETWORKD_CONFIG])
        services.services(name="Have systemd-networkd keep them", units=[unit])


def _must_answer(cluster: Cluster, name: str) -> bool:
    """
    Whether the current host must reach another one. A host that failed is not needed, nor is a
    node outside of this run.
    """

    failed = {host.name for host in ctx_state.get().failed_hosts}
    control_plane = "control_plane" in cluster.spec.host(name).roles
    return name not in failed and (control_plane or name in cluster.active)


def _needed(cluster: Cluster, name: str) -> list[int]:
    """The ports of a host that the current one needs; none where only pods talk."""

    spec, roles = cluster.spec, cluster.spec.host(name).roles
    needed = {
        spec.apiserver_port: "control_plane" in roles,
        kubelet_port(cluster.spec): "node" in roles and cluster.is_a("control_plane"),
        spec.etcd_client_port: "etcd" in roles
        and (cluster.is_a("control_plane") or cluster.spec.flannel_in_etcd),
        spec.etcd_peer_port: "etcd" in roles and cluster.is_a("etcd"),
    }
    return [port for port, is_needed in needed.items() if is_needed]


def _ssh_port(name: str) -> int:
    """The port by which the control machine reached a host."""

    host = ctx_state.get().inventory.get_host(name)
    return int(host.data.get("ssh_port") or SSH)


def tools() -> list[str]:
    """The packages that kubelet, kube-proxy, the pod network and the runtime need here."""

    cluster = current_cluster()
    parts = [NETWORK_TOOLS[cluster.spec.packet_filter]]
    if cluster.is_a("node") and cluster.spec.bridge_approach == "kubelet":
        parts += KUBELET_BRIDGE[cluster.release.kubelet_bridge or ""]
    # To look at what kube-router sets, and to remove it.
    parts += ["ipset"] if cluster.is_a("node") and cluster.spec.network_policies else []
    return distribution_packages([*parts, *runtime_helpers(cluster)])


def runtime_helpers(cluster: Cluster) -> list[str]:
    """
    Return what a container runtime from a source calls on the current host and does not bring. It
    comes with the tools, in one transaction.

    + cluster: the cluster
    """

    source = cluster.artifacts.runtime
    if not source:
        return []
    return [name for name in cluster.runtime.helpers if name not in source.helpers]


def distribution_packages(parts: list[str]) -> list[str]:
    """The names of the packages of parts, in the current host's distribution."""

    cluster = current_cluster()
    here, spec = cluster.own_facts, cluster.spec
    return packages_for(parts, here.system, here.release, spec.kubernetes_version, spec.rpm_files)


if "__name__" not in globals():
    run_phases([prepare_host])
