"""
What a run does to the API of a cluster whose control plane takes no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pyinfra import logger
from pyinfra.api.exceptions import ConnectError, FactError
from pyinfra.context import ctx_state

from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.deploys.run.host_facts import ADMIN, KUBECTL
from pyinfra_kube.engine import internals
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.nodes import Nodes
from pyinfra_kube.operations import nodes


def left_objects(cluster: Cluster) -> list[str]:
    """
    Return the node objects of this run's hosts, if the API goes on without them and tells of them.

    + cluster: the cluster
    """

    others = [host.name for host in cluster.spec.control_plane if host.name not in cluster.active]
    failed = {host.name for host in ctx_state.get().failed_hosts}
    others = [name for name in others if name not in failed]
    if not others or not cluster.runs_once:
        return []
    known = cluster.notes("nodes")
    if "there" not in known:
        known["there"] = _nodes_at(others[0])
        known["asked"] = others[0]
    names = {cluster.spec.host(name).hostname_override for name in cluster.active}
    return sorted(names & {*known["there"]})


def _nodes_at(name: str) -> list[str]:
    """The nodes that the API tells of, asked on a host of the control plane."""

    host = ctx_state.get().inventory.get_host(name)
    try:
        host.connect(reason="to ask its API", raise_exceptions=True)
        read_there = partial(read, Nodes, kubectl=KUBECTL, kubeconfig=ADMIN, server="")
        return list(internals.on_each([host], read_there)[name].nodes)
    except (ConnectError, FactError) as error:
        logger.warning(f"{name} cannot be asked: the nodes' objects stay: {error}")
        return []


def delete(cluster: Cluster, names: Sequence[str]) -> None:
    """
    Delete node objects.

    + cluster: the cluster
    + names: by ``left_objects``
    """

    host = ctx_state.get().inventory.get_host(cluster.notes("nodes")["asked"])
    absent = partial(nodes.node_objects._inner, absent=names, kubectl=KUBECTL, kubeconfig=ADMIN)
    if internals.run_elsewhere(host, absent):
        cluster.notes("nodes")["there"] = []
    else:
        logger.warning(f"{host.name}: the objects of {', '.join(names)} stay")
