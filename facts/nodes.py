"""
The cluster's nodes as its API server knows them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding


@dataclass(frozen=True)
class Node:
    """
    One node.

    + ready: whether its kubelet reports that it can run pods
    + pod_cidr: empty until it has one
    + addresses: by kind, for example ``{"InternalIP": "192.0.2.12"}``
    + kubelet: its kubelet's version
    """

    name: str
    ready: bool = False
    pod_cidr: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    kubelet: str = ""


Status = Literal["ok", "missing", "down", "refused"]


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


# What kubectl says for 401, 403 and certificates that do not match.
_REFUSALS = re.compile(
    r"unauthorized|forbidden|must be logged in|x509:|tls: |credentials|certificate", re.I
)


def kubectl_words(kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
    """
    Return the command line of kubectl for a cluster, without the proxy that the host may have.

    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    """

    words = ["env", "NO_PROXY=*", "no_proxy=*", kubectl]
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

    default = NodeStates

    @override
    def command(self, kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
        words = kubectl_words(kubectl, kubeconfig, server)
        # kubectl cannot write its cache below /proc: reading a fact leaves nothing behind.
        asking = f"HOME=/proc timeout {_PATIENCE} {words} get nodes --output=json"
        return f"""\
if ! command -v {shlex.quote(kubectl)} >/dev/null 2>&1; then echo missing
else
echo answer
exec 5>&1
said=$({asking} 2>&1 >&5 5>&-)
printf '\\nstatus %s\\n%s\\n' $? "$said"
fi"""

    @override
    def process(self, output: Iterable[str]) -> NodeStates:
        first, *lines = output
        if first == "missing":
            return NodeStates("missing")
        ends = [number for number, line in enumerate(lines) if re.fullmatch(r"status \d+", line)]
        if first != "answer" or not ends:
            raise FactProcessError("kubectl does not work: its answer was cut off")
        text, said = "\n".join(lines[: ends[-1]]), "\n".join(lines[ends[-1] + 1 :]).strip()
        code = int(lines[ends[-1]].split()[1])
        if code:
            return _no_answer(code, said or text.strip())
        with understanding("kubectl"):
            shown = json.loads(text)
            nodes = [_node(item) for item in shown["items"]]
        return NodeStates("ok", "", {node.name: node for node in nodes})


# Seconds that kubectl may take.
_PATIENCE = 20


def _no_answer(code: int, said: str) -> NodeStates:
    """What kubectl's failure means. One without a message is kubectl's own, not its server's."""

    if code in (124, 137):
        return NodeStates("down", f"kubectl got no answer in {_PATIENCE} s")
    last = said.rpartition("\n")[2].strip()
    if (
        not last
        or code in (126, 127)
        or re.search(r"(unknown|unrecognized) (flag|option|command|shorthand)", said)
    ):
        raise FactProcessError(f"kubectl does not work: {last or f'exit status {code}'}")
    return NodeStates("refused" if _REFUSALS.search(last) else "down", last)


def _node(item: dict[str, Any]) -> Node:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    node = Node(
        name=metadata["name"],
        ready=conditions.get("Ready") == "True",
        pod_cidr=spec.get("podCIDR", ""),
        labels=metadata.get("labels") or {},
        addresses={a["type"]: a["address"] for a in status.get("addresses") or []},
        kubelet=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
    )
    return sound(node)
