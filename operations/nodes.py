"""
Manage the cluster's node objects, through kubectl on a host that may.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.nodes import (
    DRAINED_FOR,
    Evictable,
    EvictablePods,
    Node,
    Nodes,
    NodeStates,
    kubectl_words,
)

__all__ = ["NodeObject", "drained", "node_objects", "uncordoned"]

_FUNCTIONS = """\
registered() {
  waited=0
  until kubectl_ get node "$1" >/dev/null 2>&1; do
    if [ "$waited" -ge "$2" ]; then
      echo "node $1 did not register within $2 s:" >&2
      kubectl_ get node "$1" >&2
    fi
    sleep 1
    waited=$((waited + 1))
  done
}
"""


@dataclass(frozen=True)
class NodeObject:
    """
    One wanted node.

    + name: the one that the node registers with
    + pod_cidr: set when it has none; empty leaves it
    + labels: labels to set; the value ``None`` removes one; others stay
    + registered_with: labels that its kubelet registers it with; set only on a node that exists
    + create: make a missing object, for nodes that do not register themselves
    + uncordon: let it have pods again if ``drained`` cordoned it
    + host: the host whose kubelet registers it, by its name in the inventory; if that host has
      failed in this run, nothing waits for it
    """

    name: str
    pod_cidr: str = ""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    registered_with: Mapping[str, str] = field(default_factory=dict)
    create: bool = False
    uncordon: bool = False
    host: str = ""


@operation()
def node_objects(
    nodes: Sequence[NodeObject] = (),
    absent: Sequence[str] = (),
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
    wait: int = 60,
) -> Generator[StringCommand, None, None]:
    """
    Set pod CIDRs and labels of nodes; make or delete their objects.

    The API server never changes a node's pod CIDR, so another one is refused.

    + nodes: list of ``NodeObject``
    + absent: names of nodes whose objects must not exist
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    + wait: seconds to wait for a node that has not registered yet

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import nodes

        nodes.node_objects(
            name="Label the nodes",
            nodes=[
                nodes.NodeObject("node1", pod_cidr="10.10.1.0/24", labels={"disk": "ssd"}),
            ],
            absent=["node9"],
            server="http://127.0.0.1:8080",
        )
    """

    states = read(Nodes, kubectl=kubectl, kubeconfig=kubeconfig, server=server)
    _require(states, absent)
    failed = {host.name for host in ctx_state.get().failed_hosts}
    nodes = [node for node in nodes if node.name in states.nodes or node.host not in failed]
    for node in nodes:
        found = states.nodes.get(node.name)
        if found and found.pod_cidr and node.pod_cidr not in ("", found.pod_cidr):
            raise OperationError(
                f"pod_cidr of node {node.name}: it has {found.pod_cidr}, which cannot become "
                f"{node.pod_cidr}; delete the node's object, and its kubelet registers it again"
            )
    lines: list[str] = []
    for node in nodes:
        lines += _set(node, states.nodes.get(node.name), wait)
    for name in absent:
        if name in states.nodes:
            changes.show(f"node {name}: present → absent")
            lines.append(shlex.join(["kubectl_", "delete", "node", name]))
    if not lines:
        ctx_host.get().noop(f"{len(nodes)} nodes are as wanted")
        return
    words = kubectl_words(kubectl, kubeconfig, server)
    head = f"{_head(words)}\n{_FUNCTIONS}"
    changed = dict.fromkeys([node.name for node in nodes] + list(absent))
    yield Script(head + "\n".join(lines), f"set nodes {', '.join(changed)}")


@operation()
def drained(
    node: str,
    release: str,
    flags: Sequence[str] = (),
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
    timeout: int = 300,
) -> Generator[StringCommand, None, None]:
    """
    Keep new pods away from a node, and evict those that it has. Pod disruption budgets are
    honoured; static pods and those of DaemonSets stay.

    A node that this cordons is marked by an annotation, by which ``uncordoned`` knows it. One that
    has not registered is left alone.

    + node: its name
    + release: for whose sake
    + flags: more of ``kubectl drain``
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    + timeout: seconds that pods may take to leave

    Fails where a pod does not leave in time, and then leaves the node cordoned.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import nodes

        nodes.drained(
            name="Drain node1",
            node="node1",
            release="1.37.2",
            flags=["--ignore-daemonsets", "--delete-emptydir-data"],
        )
    """

    states = read(Nodes, kubectl=kubectl, kubeconfig=kubeconfig, server=server)
    there = read(Evictable, node=node, kubectl=kubectl, kubeconfig=kubeconfig, server=server)
    _require(states, ())
    _require(there, ())
    found = states.nodes.get(node)
    if states.status == "ok" and not found:
        ctx_host.get().noop(f"node {node} has not registered")
        return
    if found and found.cordoned and there.status == "ok" and not there.pods:
        ctx_host.get().noop(f"node {node} is drained")
        return
    lines = []
    if not (found and found.cordoned):
        changes.show(f"node {node}: cordoned")
        lines.append(_patch(node, {DRAINED_FOR: release}, cordoned=True))
    changes.show(f"node {node}: evicted: {', '.join(there.pods) or 'what comes until then'}")
    drain = ["kubectl_", "drain", node, *flags, f"--timeout={timeout}s"]
    head = _head(kubectl_words(kubectl, kubeconfig, server))
    yield Script("\n".join([head, *lines, shlex.join(drain)]), f"drain {node}")


@operation()
def uncordoned(
    node: str,
    drained: bool = False,
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Let a node have pods again that ``drained`` cordoned. One that somebody else cordoned stays so.

    + node: its name
    + drained: whether an earlier operation of this run drains it
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import nodes

        nodes.uncordoned(name="Let node1 have pods again", node="node1")
    """

    states = read(Nodes, kubectl=kubectl, kubeconfig=kubeconfig, server=server)
    _require(states, ())
    found = states.nodes.get(node) or Node(node)
    comes = drained and not ctx_state.get().is_executing and not found.cordoned
    if not (found.drained_for or comes):
        if found.cordoned:
            changes.say(f"node {node} was cordoned by somebody else and stays so")
        ctx_host.get().noop(f"node {node} is not cordoned by an upgrade")
        return
    head = _head(kubectl_words(kubectl, kubeconfig, server))
    yield Script(f"{head}\n{_uncordon(node)}", f"uncordon {node}")


def _head(words: str) -> str:
    return f'kubectl_() {{ {words} "$@"; }}'


def _uncordon(node: str) -> str:
    changes.show(f"node {node}: uncordoned")
    return _patch(node, {DRAINED_FOR: None}, cordoned=False)


def _patch(node: str, annotations: Mapping[str, str | None], cordoned: bool) -> str:
    """Both at once, so that no cordoned node lacks its mark. ``None`` removes a key."""

    metadata = {"annotations": dict(annotations)}
    patch = json.dumps({"metadata": metadata, "spec": {"unschedulable": cordoned or None}})
    return shlex.join(["kubectl_", "patch", "node", node, "--patch", patch])


def _require(states: NodeStates | EvictablePods, absent: Sequence[str]) -> None:
    """
    Fail if the plan needs an answer that is missing. kubectl and the API server may only work later
    in this run. But if there is a kubectl, the nodes to delete must be known now.
    """

    early = not ctx_state.get().is_executing
    if states.status == "ok" or (early and (not absent or states.status == "missing")):
        return
    if states.status == "refused":
        fix = "see that its kubeconfig is of this cluster, and that its user may read nodes"
        raise OperationError(f"the API server refuses kubectl: {states.reason}; {fix}")
    if absent:
        why = states.reason or "kubectl is not installed"
        raise OperationError(f"it cannot be read which nodes there are: {why}")


def _set(wanted: NodeObject, found: Node | None, wait: int) -> list[str]:
    lines = []
    wanted_labels = {**wanted.labels, **(wanted.registered_with if found else {})}
    if found is None:
        if not (wanted.create or wanted.pod_cidr or wanted_labels):
            return []
        if wanted.create:
            lines.append(_create(wanted))
        else:
            changes.show(f"node {wanted.name}: set as soon as it has registered")
            lines.append(shlex.join(["registered", wanted.name, str(wait)]))
        found = Node(wanted.name)
    if wanted.pod_cidr and found.pod_cidr != wanted.pod_cidr:
        changes.show(f"node {wanted.name}: pod CIDR absent → {wanted.pod_cidr}")
        patch = json.dumps({"spec": {"podCIDR": wanted.pod_cidr}})
        lines.append(shlex.join(["kubectl_", "patch", "node", wanted.name, "--patch", patch]))
    labels = []
    for key, value in wanted_labels.items():
        has = found.labels.get(key)
        if has == value:
            continue
        changes.show(f"node {wanted.name}: label {key}: {_or_absent(has)} → {_or_absent(value)}")
        labels.append(f"{key}-" if value is None else f"{key}={value}")
    if labels:
        lines.append(shlex.join(["kubectl_", "label", "--overwrite", "node", wanted.name, *labels]))
    if wanted.uncordon and found.drained_for:
        lines.append(_uncordon(wanted.name))
    return lines


def _create(wanted: NodeObject) -> str:
    changes.show(f"node {wanted.name}: absent → present")
    # Releases before 1.3 require externalID; later ones ignore it.
    manifest = {
        "apiVersion": "v1",
        "kind": "Node",
        # kubelet gives a node that it registers the same label.
        "metadata": {"name": wanted.name, "labels": {"kubernetes.io/hostname": wanted.name}},
        "spec": {"externalID": wanted.name},
    }
    text, name = shlex.quote(json.dumps(manifest)), shlex.quote(wanted.name)
    return f"kubectl_ get node {name} >/dev/null 2>&1 || printf %s {text} | kubectl_ create -f -"


def _or_absent(label: str | None) -> str:
    return "absent" if label is None else repr(label)
