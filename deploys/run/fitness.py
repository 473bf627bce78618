"""
Whether the hosts can carry the cluster: all that is wrong with any of them, said before the first
change.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyinfra import logger

from pyinfra_kube.cluster.components import PODS
from pyinfra_kube.cluster.components.own_ports import own_ports
from pyinfra_kube.cluster.errors import UnfitHosts, refuse
from pyinfra_kube.cluster.fitness import Verdict, judge
from pyinfra_kube.cluster.fitness.holders import PODS_GROUPS
from pyinfra_kube.cluster.fitness.states import Case, Stranger
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.deploys.run.context import Cluster, told
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.engine.snapshot import discovering
from pyinfra_kube.facts.processes import Listener
from pyinfra_kube.operations.cni import CONF_DIR, CONFLIST


def check_hosts(cluster: Cluster, as_units: bool = False) -> None:
    """
    Refuse the cluster where a host cannot carry its part of it; say once what else is wrong.

    + cluster: the cluster
    + as_units: whether the control plane runs as units, and not as static pods

    Raises ``UnfitHosts`` with every finding of every host.
    """

    notes = cluster.notes("fitness")
    if "found" not in notes:
        notes["found"] = judge(cases(cluster, as_units))
    found: list[Verdict] = notes["found"]
    if not (discovering() or notes.get("said")):
        notes["said"] = True
        for one in found:
            if not one.refused:
                logger.warning(f"notice: {one.problem}")
    refuse((one.problem for one in found if one.refused), UnfitHosts)


def cases(cluster: Cluster, as_units: bool = False) -> list[Case]:
    """
    Return each host that told something, with what it is to be.

    + cluster: the cluster
    + as_units: whether the control plane runs as units
    """

    found: list[Case] = []
    for host, seen in told(cluster.spec.hosts, cluster.host_facts):
        settings = cluster.settings(host.name)
        found.append(
            Case(
                host,
                cluster.spec,
                cluster.release,
                seen.fit.state,
                others={one.host.name: one.state for one in found},
                ours=seen.fit.ours,
                runtime=cluster.runtime.name,
                proxy_mode=str(settings["proxy_mode"]),
                image_root=cluster.runtime.image_root or seen.fit.image_root,
                cni_bin_dir=_plugins(cluster, seen),
                resolv_conf=str(settings["resolv_conf"] or "/etc/resolv.conf"),
                modules=seen.fit.modules,
                strangers=list(strangers(cluster, host, seen, as_units)),
                networks=_before_ours(seen.fit.networks),
                chains=seen.fit.chains,
                peers=_peers(cluster, host),
                ports=[
                    port
                    for component in cluster.components_of(host)
                    for port in own_ports(cluster.spec, component)
                ],
                as_units=as_units,
            )
        )
    return found


def _peers(cluster: Cluster, host: HostSpec) -> list[str]:
    """The other hosts, and pods."""
    own = cluster.plan.addresses[host.name]
    others = {cluster.plan.addresses[one.name] for one in cluster.spec.hosts} - {own, None, ""}
    return [*sorted(one for one in others if one), cluster.spec.cluster_cidr]


def _plugins(cluster: Cluster, seen: HostFacts) -> str:
    return "/opt/cni/bin" if cluster.artifacts.runtime else str(seen.settings["cni_bin_dir"])


def _before_ours(networks: tuple[str, ...]) -> list[str]:
    """The networks that a runtime would take in place of ours: their names come first."""

    own = CONFLIST.rpartition("/")[2]
    return [f"{CONF_DIR}/{name}" for name in networks if name < own]


def strangers(
    cluster: Cluster, host: HostSpec, seen: HostFacts, as_units: bool
) -> Iterator[Stranger]:
    """
    Give the programs that use ports of a host's components, and would be mistaken for them.

    + cluster: the cluster
    + host: which
    + seen: what it told
    + as_units: whether the control plane runs as units
    """

    components = cluster.components_of(host)
    units = components if as_units else cluster.units_of(host)
    for component in dict.fromkeys([*units, *components]):
        if component in units:
            signs = [f"/{component}.service"]
        elif component in PODS:
            ours = [container.id for container in seen.fit.pods.containers]
            # A runtime that is down, or whose client is missing, tells of no container, and may
            # run ours all the same.
            silent = PODS_GROUPS if seen.fit.pods.runtime == "down" else ["kubepods"]
            signs = ours if seen.fit.pods.runtime == cluster.runtime.name else silent
        else:
            continue
        for port in sorted(own_ports(cluster.spec, component)):
            for one in seen.fit.listeners.get(f"tcp {port}", ()):
                if not any(sign in one.groups for sign in signs):
                    yield _stranger(f"tcp {port}", component, one)
    if "node" in host.roles and cluster.on_flannel and cluster.spec.flannel_port:
        packets = f"udp {cluster.spec.flannel_port}"
        # The kernel holds that of VXLAN itself.
        for one in seen.fit.listeners.get(packets, ()):
            if one.pid and "/flanneld.service" not in one.groups:
                yield _stranger(packets, "flannel", one)


def _stranger(port: str, component: str, one: Listener) -> Stranger:
    return Stranger(port, component, one.program, one.pid, one.groups)
