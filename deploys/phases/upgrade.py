"""
A running cluster comes from one release to another, host by host.

The hosts' versions are read from the hosts, so an upgrade that was interrupted goes on where it
was. It stops where a host fails: no further one is touched then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pyinfra import logger
from pyinfra.api import OperationError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.releases import value_at
from pyinfra_kube.deploys.phases import fedora_hosts, fedora_units, verification
from pyinfra_kube.deploys.phases.container_runtime import set_container_runtime
from pyinfra_kube.deploys.phases.control_plane import KUBECTL, set_pods
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.phases.kube_proxy import set_kube_proxy
from pyinfra_kube.deploys.phases.kubelet import set_kubelet
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.phase import in_lines, phase
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.nodes import Evictable
from pyinfra_kube.operations import nodes, verify

# kubectl's word for the data of emptyDir volumes, which leaves with any pod.
_EMPTY_DIR = {"1.2-1.19": "--delete-local-data", "1.20-": "--delete-emptydir-data"}


def check_upgrade(cluster: Cluster) -> None:
    """
    Refuse an upgrade that Kubernetes forbids, and say what one does.

    + cluster: the cluster

    Raises ``InputError``.
    """

    cluster.notes("upgrade")["checked"] = True
    refuse(cluster.upgrade_problems)
    packaged = any(one.packaged for one in cluster.host_facts.values())
    if cluster.upgrade and packaged and not cluster.spec.install_packages:
        allowed = f"True, for packages bring the release ({cluster.upgrade})"
        raise InputError([Problem("install_packages", False, None, allowed)])
    if cluster.upgrade and cluster.is_first_control_plane:
        changes.say(str(cluster.upgrade))
        if cluster.unseen_nodes:
            logger.warning(
                f"notice: the API does not answer on {cluster.host_spec.name} "
                f"({cluster.unseen_nodes}): nodes that are not in the run and pods without a "
                "controller are not checked; the upgrade may stop at a drain"
            )
        _refuse_stuck_pods(cluster)


@phase("Upgrade")
def upgrade_cluster() -> None:
    """
    Upgrade the control plane, host by host, then nodes one by one, each drained and back.

    Blank hosts wait until that is done.
    """

    cluster = current_cluster()
    upgrade = cluster.upgrade
    if not upgrade:
        return
    if cluster.host_spec.name in {*upgrade.etcd, *upgrade.control_plane}:
        _upgrade_control_plane(cluster)
    in_lines(partial(_upgrade_node, cluster, name) for name in upgrade.nodes)
    # An operation of all hosts.
    _go_on(cluster, "Wait until the cluster is upgraded")


@phase("Upgrade")
def upgrade_fedora_cluster() -> None:
    """
    Upgrade a cluster of packages, from 1.24 on. A host's packages move at once, and their scripts
    stop its components. So each host is drained before, and a controller manager, a scheduler and a
    kubelet of the control plane come back when every apiserver is new.
    """

    cluster = current_cluster()
    upgrade = cluster.upgrade
    if not upgrade:
        return
    first = [name for name in upgrade.nodes if name in upgrade.control_plane]
    in_lines(partial(_move, cluster, name) for name in first)
    # Operations of all hosts.
    _go_on(cluster, "Wait until the apiservers are upgraded")
    in_lines(partial(_bring_back, cluster, name) for name in first)
    others = [name for name in upgrade.nodes if name not in first]
    in_lines(partial(_move_node, cluster, name) for name in others)
    _go_on(cluster, "Wait until the cluster is upgraded")


def _move_node(cluster: Cluster, name: str) -> None:
    in_lines([partial(_move, cluster, name), partial(_bring_back, cluster, name)])


def _move(cluster: Cluster, name: str) -> None:
    """Drain a host and move its packages; of its components only the apiserver runs then."""

    if not _takes_part(cluster, name):
        return
    _go_on(cluster, f"Wait for the turn of {name}")
    _drain(cluster, name)
    if cluster.host_spec.name == name:
        fedora_hosts.move_packages(cluster)
        if cluster.is_a("control_plane"):
            fedora_units.set_control_plane(cluster, CONTROL_PLANE_COMPONENTS[:1])


def _bring_back(cluster: Cluster, name: str) -> None:
    """Run the other components of a host, wait until it is Ready, and let pods come back."""

    if not _takes_part(cluster, name):
        return
    _go_on(cluster, f"Wait until {name} may come back")
    if cluster.host_spec.name == name:
        if cluster.is_a("control_plane"):
            fedora_units.set_control_plane(cluster, CONTROL_PLANE_COMPONENTS[1:])
        set_container_runtime(cluster)
        fedora_units.set_node(cluster)
        parts = [one for one in cluster.components_of(cluster.host_spec) if one != "etcd"]
        checks = [verification.answers(cluster, one, "unit") for one in parts]
        verification.wait_for(cluster, checks)
    _uncordon(cluster, name)


def _upgrade_control_plane(cluster: Cluster) -> None:
    """
    Set etcd on one host after another, then the apiserver, then what asks it: no component may be
    newer than an apiserver, nor an apiserver be older than another by two minor releases.
    """

    upgrade = cluster.upgrade
    apiserver, *others = CONTROL_PLANE_COMPONENTS
    turns = [
        *((host, "etcd", ["etcd"]) for host in upgrade.etcd),
        *((host, apiserver, [apiserver]) for host in upgrade.control_plane),
        *((host, "the rest of the control plane", others) for host in upgrade.control_plane),
    ]
    in_lines(partial(_set_in_turn, cluster, *turn) for turn in turns)
    _go_on(cluster, "Wait until the control plane is upgraded")


def _set_in_turn(cluster: Cluster, host: str, whose: str, components: list[str]) -> None:
    _go_on(cluster, f"Wait for the turn of {whose} on {host}")
    if cluster.host_spec.name == host:
        set_pods(cluster, components, whose)
        checks = [verification.answers(cluster, one, "pod") for one in components]
        verification.wait_until(cluster, f"Wait for answers of {whose}", checks)


def _upgrade_node(cluster: Cluster, name: str) -> None:
    """Drain a node, replace what runs its pods, wait until it is Ready, and let pods come back."""

    if not _takes_part(cluster, name):
        return
    _go_on(cluster, f"Wait for the turn of {name}")
    _drain(cluster, name)
    if cluster.host_spec.name == name:
        set_container_runtime(cluster)
        set_kubelet(cluster)
        set_kube_proxy(cluster)
        verification.wait_for_components(cluster)
    _uncordon(cluster, name)


def _takes_part(cluster: Cluster, name: str) -> bool:
    """Whether the current host does anything in the turn of a host."""

    return cluster.is_first_control_plane or cluster.host_spec.name == name


def _drain(cluster: Cluster, name: str) -> None:
    """Drain a node, from the first host of the control plane; the others wait for it."""

    host = cluster.spec.host(name)
    if cluster.is_first_control_plane and "node" in host.roles:
        nodes.drained(
            name=f"Drain {name}",
            node=host.hostname_override,
            release=cluster.release.version,
            flags=_drain_flags(cluster),
            kubectl=KUBECTL,
            kubeconfig=ADMIN,
            timeout=cluster.spec.verify_timeout,
        )
    _go_on(cluster, f"Wait until {name} is drained")


def _uncordon(cluster: Cluster, name: str) -> None:
    """Wait until a node is Ready, and let pods come back."""

    host = cluster.spec.host(name)
    _go_on(cluster, f"Wait until {name} has what is new")
    if cluster.is_first_control_plane and "node" in host.roles:
        verification.wait_for_node(cluster, host)
        nodes.uncordoned(
            name=f"Let {name} have pods again",
            node=host.hostname_override,
            drained=True,
            kubectl=KUBECTL,
            kubeconfig=ADMIN,
        )


def _drain_flags(cluster: Cluster) -> list[str]:
    words = ["--ignore-daemonsets", str(value_at(_EMPTY_DIR, cluster.release.minor))]
    return [*words, *(["--force"] if cluster.spec.drain_force else [])]


def _refuse_stuck_pods(cluster: Cluster) -> None:
    """Refuse pods that a drain would lose, before anything is changed."""

    hosts = [cluster.spec.host(name) for name in cluster.upgrade.nodes]
    fix = "delete them, or set drain_force = True: then they are evicted, and lost"
    problems = []
    for node in (host.hostname_override for host in hosts if "node" in host.roles):
        found = read(Evictable, node=node, kubectl=KUBECTL, kubeconfig=ADMIN, server="")
        if found.alone and not cluster.spec.drain_force:
            allowed = f"pods that a controller makes anew, which {', '.join(found.alone)} has not"
            problems.append(Problem("drain_force", False, node, allowed, fix))
    refuse(problems)


def _go_on(cluster: Cluster, name: str) -> None:
    """Wait for the hosts that do this at the same time; stop where one that has a turn failed."""

    verify.barrier(name=name, at=_stop(cluster))


def _stop(cluster: Cluster) -> Callable[[], None]:
    upgrade = cluster.upgrade
    taking_part = {*upgrade.etcd, *upgrade.control_plane, *upgrade.nodes}
    taking_part.add(cluster.spec.control_plane[0].name)

    def look() -> None:
        failed = {host.name for host in ctx_state.get().failed_hosts} & taking_part
        if failed:
            raise OperationError(
                f"the upgrade stops here, for {', '.join(sorted(failed))} failed, see above; mend "
                "that and run this again: it goes on where it was"
            )

    return look
