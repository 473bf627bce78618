"""
The cluster's nodes as its API server knows them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.kubectl import Status, answer, asking, failed, kubectl_words

__all__ = [
    "DRAINED_FOR",
    "Evictable",
    "EvictablePods",
    "Node",
    "NodeStates",
    "Nodes",
    "kubectl_words",
]

DRAINED_FOR = "pyinfra-kube/drained-for"
"""The annotation of a node that is cordoned for the time of an upgrade."""


@dataclass(frozen=True)
class Node:
    """
    One node.

    + ready: whether its kubelet reported that it can run pods
    + seen: when its kubelet last reported, by its own clock, such as
      ``2024-01-02T03:04:05.678901Z``; empty if it never did. ``ready`` outlives a kubelet by 40
      seconds and more
    + pod_cidr: empty until it has one
    + addresses: by kind, for example ``{"InternalIP": "192.0.2.12"}``
    + kubelet: its kubelet's version
    + cordoned: whether new pods are kept away
    + drained_for: the release for whose sake ``operations.nodes.drained`` cordoned it; empty for
      none
    """

    name: str
    ready: bool = False
    seen: str = ""
    pod_cidr: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    kubelet: str = ""
    cordoned: bool = False
    drained_for: str = ""


@dataclass(frozen=True)
class NodeStates(Printable):
    """
    What :class:`Nodes` returns.

    + status: ``ok``, ``missing`` where kubectl is not installed, ``down`` where the API server
      does not answer, ``refused`` where one side does not accept the other's credentials
    + reason: what kubectl said
    + nodes: by name
    """

    status: Status = "missing"
    reason: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)


class Nodes(FactBase[NodeStates]):
    """
    Returns the cluster's nodes, through kubectl on this host.

    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    .. code:: python

        NodeStates(
            status="ok",
            nodes={
                "node1": Node(
                    name="node1", ready=True, seen="2024-01-02T03:04:05.678901Z",
                    pod_cidr="10.10.1.0/24",
                    labels={"kubernetes.io/hostname": "node1"},
                    addresses={"InternalIP": "192.0.2.12"}, kubelet="v1.20.2",
                ),
            },
        )
    """

    shared = True

    default = NodeStates

    @override
    def command(self, kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
        words = kubectl_words(kubectl, kubeconfig, server)
        nodes = f"{words} get nodes --output=json"
        return asking(kubectl, f"{words} get {_REPORTS} --output=json", older=nodes)

    @override
    def process(self, output: Iterable[str]) -> NodeStates:
        heard = answer(output)
        if heard.code is None:
            return NodeStates("missing")
        if heard.code:
            return NodeStates(*failed(heard))
        with understanding("kubectl"):
            shown = json.loads(heard.text)
            leases = {item["metadata"]["name"]: item for item in shown["items"] if _is_lease(item)}
            nodes = [_node(item, leases) for item in shown["items"] if not _is_lease(item)]
        return NodeStates("ok", "", {node.name: node for node in nodes})


# Kubelets report in leases from 1.14 on, and in their nodes ever more rarely. A namespace that is
# not there has none.
_REPORTS = "nodes,leases.coordination.k8s.io --namespace=kube-node-lease"


def _is_lease(item: Mapping[str, Any]) -> bool:
    return bool(item.get("kind") == "Lease")


def _node(item: dict[str, Any], leases: Mapping[str, Mapping[str, Any]]) -> Node:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    ready = conditions.get("Ready", {})
    lease = leases.get(metadata["name"], {}).get("spec") or {}
    node = Node(
        name=metadata["name"],
        ready=ready.get("status") == "True",
        seen=lease.get("renewTime") or ready.get("lastHeartbeatTime") or "",
        pod_cidr=spec.get("podCIDR", ""),
        labels=metadata.get("labels") or {},
        addresses={a["type"]: a["address"] for a in status.get("addresses") or []},
        kubelet=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
        cordoned=bool(spec.get("unschedulable")),
        drained_for=(metadata.get("annotations") or {}).get(DRAINED_FOR, ""),
    )
    return sound(node)


@dataclass(frozen=True)
class EvictablePods(Printable):
    """
    What :class:`Evictable` returns.

    + status, reason: as of ``NodeStates``
    + pods: each as NAMESPACE/NAME
    + alone: those of them that no controller makes anew
    """

    status: Status = "missing"
    reason: str = ""
    pods: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)


class Evictable(FactBase[EvictablePods]):
    """
    Returns the pods that a drain takes from a node: all but static ones, those of DaemonSets and
    those that have ended.

    + node: its name
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    .. code:: python

        EvictablePods(status="ok", pods=["default/web-7d4b9"])
    """

    shared = True

    default = EvictablePods

    @override
    def command(
        self, node: str, kubectl: str = "kubectl", kubeconfig: str = "", server: str = ""
    ) -> str:
        words = kubectl_words(kubectl, kubeconfig, server)
        chosen = shlex.quote(f"--field-selector=spec.nodeName={node}")
        return asking(kubectl, f"{words} get pods --all-namespaces {chosen} --output=json")

    @override
    def process(self, output: Iterable[str]) -> EvictablePods:
        heard = answer(output)
        if heard.code is None:
            return EvictablePods("missing")
        if heard.code:
            return EvictablePods(*failed(heard))
        with understanding("kubectl"):
            items = [item for item in json.loads(heard.text)["items"] if _leaves(item)]
            pods = [_name(item) for item in items]
            alone = [_name(item) for item in items if not _has_controller(item)]
        return EvictablePods("ok", "", pods, alone)


# Of the objects of the API that show static pods.
_MIRROR = "kubernetes.io/config.mirror"
# Of pods that a controller made before there were references to owners.
_CREATED = "kubernetes.io/created-by"


def _name(pod: Mapping[str, Any]) -> str:
    return sound(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}")


def _has_controller(pod: Mapping[str, Any]) -> bool:
    metadata = pod["metadata"]
    owned = any(owner.get("controller") for owner in metadata.get("ownerReferences") or [])
    return owned or _CREATED in (metadata.get("annotations") or {})


def _leaves(pod: Mapping[str, Any]) -> bool:
    metadata = pod["metadata"]
    owners = {owner["kind"] for owner in metadata.get("ownerReferences") or []}
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    stays = "DaemonSet" in owners or _MIRROR in (metadata.get("annotations") or {})
    return not (ended or stays)
