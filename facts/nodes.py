"""
The cluster's nodes as its API server knows them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pyinfra.api import FactBase
from typing_extensions import override


@dataclass(frozen=True)
class Node:
    """
    One node.

    + ready: whether its kubelet reports that it can run pods
    + pod_cidr: empty until it has one
    + addresses: by kind, as ``{"InternalIP": "192.0.2.12"}``
    + kubelet: its kubelet's version
    """

    name: str
    ready: bool = False
    pod_cidr: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    kubelet: str = ""


@dataclass(frozen=True)
class NodeStates:
    """
    What :class:`Nodes` returns.

    + status: ``ok``, ``missing`` where kubectl is not installed, ``down`` where the API server
      does not answer
    + reason: what kubectl said
    + nodes: by name
    """

    status: Literal["ok", "missing", "down"] = "missing"
    reason: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)


def kubectl_words(kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
    """
    Return the words of kubectl that reach a cluster.

    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    """

    words = [kubectl]
    words += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    words += [f"--server={server}"] if server else []
    return shlex.join(words)


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
                    name="node1", ready=True, pod_cidr="10.10.1.0/24",
                    labels={"kubernetes.io/hostname": "node1"},
                    addresses={"InternalIP": "192.0.2.12"}, kubelet="v1.20.2",
                ),
            },
        )
    """

    shared = True

    @staticmethod
    @override
    def default() -> NodeStates:
        return NodeStates()

    @override
    def command(self, kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
        words = kubectl_words(kubectl, kubeconfig, server)
        return (
            f"if ! command -v {shlex.quote(kubectl)} >/dev/null 2>&1; then echo 'status missing'\n"
            # In /proc it cannot keep what it learns: who only looks leaves nothing behind.
            f"elif shown=$(HOME=/proc timeout 20 {words} get nodes --output=json 2>&1); "
            "then echo 'status ok'; printf '%s\\n' \"$shown\"\n"
            "else echo 'status down'; printf '%s\\n' \"$shown\" | tail -n 1\nfi"
        )

    @override
    def process(self, output: Iterable[str]) -> NodeStates:
        lines = list(output)
        text = "\n".join(lines[1:]).strip()
        if lines[0] == "status missing":
            return NodeStates("missing")
        if lines[0] != "status ok":
            return NodeStates("down", text)
        # Warnings of kubectl may come before the answer.
        shown: dict[str, Any] = json.JSONDecoder().raw_decode(text, text.find("{"))[0]
        nodes = [_node(item) for item in shown.get("items") or []]
        return NodeStates("ok", "", {node.name: node for node in nodes})


def _node(item: dict[str, Any]) -> Node:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    return Node(
        name=metadata["name"],
        ready=conditions.get("Ready") == "True",
        pod_cidr=spec.get("podCIDR", ""),
        labels=metadata.get("labels") or {},
        addresses={a["type"]: a["address"] for a in status.get("addresses") or []},
        kubelet=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
    )
