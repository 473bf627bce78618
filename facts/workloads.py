"""
The pods and services that the API server knows, and which pods are ready to answer for a service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.kubectl import Status, answer, asking, failed, kubectl_words


@dataclass(frozen=True)
class Pod:
    """
    One pod that has not ended.

    + node: empty until it has one
    + address: empty until it has one
    + on_host: whether it uses its host's own network
    """

    node: str = ""
    address: str = ""
    on_host: bool = False


@dataclass(frozen=True)
class ServicePort:
    """
    One port of a service.

    + port: of the service's address
    + node_port: of every node's address; 0 for none
    + endpoints: those that are ready, each as ``10.10.1.2:8080``
    """

    name: str
    protocol: str
    port: int
    node_port: int = 0
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """
    One service.

    + address: empty where it has none
    + ports: of its address
    """

    address: str = ""
    ports: tuple[ServicePort, ...] = ()


@dataclass(frozen=True)
class WorkloadStates(Printable):
    """
    What :class:`Workloads` returns.

    + status, reason: as of ``NodeStates``
    + pods: by NAMESPACE/NAME
    + services: by NAMESPACE/NAME
    """

    status: Status = "missing"
    reason: str = ""
    pods: dict[str, Pod] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)


class Workloads(FactBase[WorkloadStates]):
    """
    Returns the pods and services of all namespaces, through kubectl on this host.

    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    .. code:: python

        WorkloadStates(
            status="ok",
            pods={"default/web": Pod(node="node1", address="10.10.1.2")},
            services={
                "default/web": Service(
                    "10.254.0.7", (ServicePort("", "tcp", 80, endpoints=("10.10.1.2:8080",)),)
                ),
            },
        )
    """

    shared = True
    # Values in the environment of a pod may be secrets; nothing is kept of them.
    secret = True
    default = WorkloadStates

    @override
    def command(self, kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
        get = f"{kubectl_words(kubectl, kubeconfig, server)} get --all-namespaces --output=json"
        # Endpoint slices are known from 1.17 on.
        return asking(
            kubectl,
            f"{get} pods,services,endpointslices",
            older=f"{get} pods,services,endpoints",
        )

    @override
    def process(self, output: Iterable[str]) -> WorkloadStates:
        heard = answer(output)
        if heard.code is None:
            return WorkloadStates("missing")
        if heard.code:
            return WorkloadStates(*failed(heard))
        with understanding("kubectl"):
            items = json.loads(heard.text)["items"]
            ready: dict[tuple[str, str], set[str]] = {}
            for key, address in (pair for item in items for pair in _ready(item)):
                ready.setdefault(key, set()).add(address)
            pods = {_name(item): _pod(item) for item in items if _lives(item)}
            services = {_name(i): _service(i, ready) for i in items if i["kind"] == "Service"}
        return WorkloadStates("ok", "", pods, services)


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _lives(item: Mapping[str, Any]) -> bool:
    ended = (item.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return item["kind"] == "Pod" and not ended


def _pod(item: Mapping[str, Any]) -> Pod:
    spec, address = item["spec"], (item.get("status") or {}).get("podIP", "")
    return sound(Pod(spec.get("nodeName", ""), address, bool(spec.get("hostNetwork"))))


def _service(item: Mapping[str, Any], ready: Mapping[tuple[str, str], Iterable[str]]) -> Service:
    spec, address = item["spec"], item["spec"].get("clusterIP", "")
    ports = [
        ServicePort(
            name=port.get("name", ""),
            protocol=port.get("protocol", "TCP").lower(),
            port=port["port"],
            node_port=port.get("nodePort", 0),
            endpoints=tuple(sorted(ready.get((_name(item), port.get("name", "")), ()))),
        )
        for port in spec.get("ports") or []
    ]
    return sound(Service("" if address == "None" else address, tuple(map(sound, ports))))


def _ready(item: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Of a slice, or of endpoints: service and name of a port, and an address that is ready."""

    if item["kind"] == "Endpoints":
        parts = item.get("subsets") or []
        found = [(p, [a["ip"] for a in p.get("addresses") or []]) for p in parts]
        service = _name(item)
    elif item["kind"] == "EndpointSlice" and item["addressType"] == "IPv4":
        ends = [e for e in item.get("endpoints") or [] if _is_ready(e)]
        found = [(item, [address for end in ends for address in end["addresses"]])]
        labels = item["metadata"].get("labels") or {}
        namespace = item["metadata"]["namespace"]
        service = f"{namespace}/{labels.get('kubernetes.io/service-name', '')}"
    else:
        return
    for part, addresses in found:
        for port in filter(_is_one, part.get("ports") or []):
            for address in addresses:
                yield (service, port.get("name") or ""), f"{address}:{port['port']}"


def _is_one(port: Mapping[str, Any]) -> bool:
    return bool(port.get("port"))


def _is_ready(end: Mapping[str, Any]) -> bool:
    return (end.get("conditions") or {}).get("ready") is not False
