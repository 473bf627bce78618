"""
Hosts get ready: packages, kernel settings, names, the apiserver's port (H1–H3, S4).
"""

from __future__ import annotations

from pyinfra.context import ctx_state

from pyinfra_kube.cluster.packages import packages_for
from pyinfra_kube.deploys.phases.firewalls import api_rule, kubelet_port
from pyinfra_kube.deploys.run.context import Cluster, cluster
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.facts.hosts import SSH
from pyinfra_kube.operations import hosts, iptables, packages, sysctl

MODULES = ["br_netfilter"]
# What a kubelet that sets up cbr0 by itself calls.
KUBELET_BRIDGE = {"configure-cbr0": ["bridge-tools"], "kubenet": ["cni"], "": []}
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    # Traffic between pods of one bridge must meet kube-proxy's rules too.
    "net.bridge.bridge-nf-call-iptables": 1,
}


@phase("Host preparation")
def prepare_host() -> None:
    """Install the tools that the node's parts call, and set the kernel, names and ports."""

    it = cluster()
    if it.spec.install_packages:
        packages.packages(
            name="Install the tools of a node",
            packages=tools(),
            removable=it.spec.removable_packages,
        )
    connect_host()
    if it.spec.open_ports and it.is_a("master"):
        iptables.rules(
            name="Open the apiserver's port",
            rules=[api_rule(it)],
            owner="kube-apiserver-ports",
        )


def connect_host() -> None:
    """Let the current host forward packets, and know and reach the others (H1, H3)."""

    it = cluster()
    sysctl.sysctls(
        name="Forward packets, and show those of bridges to iptables",
        settings=SYSCTLS,
        modules=MODULES,
    )
    if it.spec.manage_hosts:
        addresses = {name: address for name, address in it.plan.addresses.items() if address}
        names = {host.known_as: addresses.get(host.name) for host in it.spec.hosts}
        entries = {name: address for name, address in names.items() if name and address}
        hosts.hosts(name="Let the hosts know each other", entries=entries, unless_resolved=True)
        reached = {name: address for name, address in addresses.items() if _must_answer(it, name)}
        hosts.reachable(
            name="See that the hosts reach each other",
            addresses=reached,
            ports={name: [*_needed(it, name), _ssh_port(name)] for name in reached},
        )


def _must_answer(it: Cluster, name: str) -> bool:
    """
    Whether the current host cannot do without another: not one that has failed, which stops nobody
    else, nor a node that takes no part in the run.
    """

    state = ctx_state.get()
    if name in {host.name for host in state.failed_hosts}:
        return False
    return "master" in it.spec.host(name).roles or name in {h.name for h in state.active_hosts}


def _needed(it: Cluster, name: str) -> list[int]:
    """The ports of a host that the current one needs, none where it only carries pods' packets."""

    spec, roles = it.spec, it.spec.host(name).roles
    needed = {
        spec.apiserver_port: "master" in roles,
        kubelet_port(it): "node" in roles and it.is_a("master"),
        spec.etcd_client_port: "etcd" in roles and (it.is_a("master") or spec.network == "flannel"),
        spec.etcd_peer_port: "etcd" in roles and it.is_a("etcd"),
    }
    return [port for port, is_needed in needed.items() if is_needed]


def _ssh_port(name: str) -> int:
    """The port that the control machine has reached a host at."""

    host = ctx_state.get().inventory.get_host(name)
    return int(host.data.get("ssh_port") or SSH)


def tools() -> list[str]:
    """The packages that kubelet, kube-proxy and the network of pods need here."""

    it = cluster()
    parts = ["network-tools"]
    if it.is_a("node") and it.spec.bridge_approach == "kubelet":
        parts += KUBELET_BRIDGE[it.release.kubelet_bridge or ""]
    return distribution_packages(parts)


def distribution_packages(parts: list[str]) -> list[str]:
    """The names of the packages that bring parts, in the current host's distribution."""

    it = cluster()
    here, spec = it.observed[it.me.name], it.spec
    return packages_for(parts, here.system, here.release, spec.kubernetes_version, spec.rpm_files)


if "__name__" not in globals():
    prepare_host()
