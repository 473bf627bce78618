"""What is known of a cluster when it is judged: what each host is to be, and what it told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pyinfra_kube.cluster.fitness.states import HostState, Stranger
from pyinfra_kube.facts.answers import Answer
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.cni import CniState
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.firewall import Firewall, Packet
from pyinfra_kube.facts.images import ImageStates
from pyinfra_kube.facts.iptables import Ruleset
from pyinfra_kube.facts.processes import ProcessState
from pyinfra_kube.facts.routes import Route
from pyinfra_kube.facts.services import UnitStates
from pyinfra_kube.facts.static_pods import StaticPodStates

T = TypeVar("T")

Pairs = Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]

CLUSTER = "the cluster"
"""What stands in place of a host for what is asked of the API."""


class Untold(Exception):
    """What a check reads is not known, so it has no verdict."""


@dataclass(frozen=True)
class Wanted:
    """
    What a host is to be.

    + name: in the inventory
    + node: its name as a node
    + address: of the host; empty where it is not known
    + roles: ``control_plane``, ``node``, ``etcd``
    + runtime: name of the container runtime; empty where there is to be none
    + runtime_unit: its unit
    + units: the components that run as units
    + pods: the components that run as static pods
    + manifests: path → SHA-256 of each static pod's manifest
    + reads: component → files that it reads when it starts
    + flags: component → flag → value
    + configurations: path → SHA-256 of what its components are configured by
    + servers: path of a kubeconfig → URL of the API server in it
    + issued: paths of the certificates that a CA of the cluster signs
    + images: that the host needs
    + image_ids: image → those that it may have, where its archive tells
    + image_digests: image → those by which its registry may know it, where one is given
    + pod_cidr: of its pods; empty where nobody planned one
    + bridge: the name of the pod bridge; empty where there is to be none
    + bridge_address, bridge_mtu: of that; empty and 0 where nobody planned one
    + routes: pod CIDRs of other nodes, and the address that leads there
    + device: of the overlay; empty for none
    + overhead: bytes that the overlay adds to a packet
    + packets: that must pass the host
    + leased: whether flannel chose the CIDR of its pods
    + by_docker: whether docker makes the bridge, and masquerades
    + masquerades: whether packets of pods that leave the cluster get the host's address here
    + systemd_groups: whether the runtime leaves control groups to systemd
    + plugins: of CNI, that must be there
    + network_file: of CNI, which must come first
    + names: host → address, as the host must find them
    """

    name: str
    node: str = ""
    address: str = ""
    roles: frozenset[str] = frozenset()
    runtime: str = "containerd"
    runtime_unit: str = "containerd.service"
    units: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    manifests: Mapping[str, str] = field(default_factory=dict)
    reads: Mapping[str, Sequence[str]] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    configurations: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    issued: Collection[str] = ()
    images: tuple[str, ...] = ()
    image_ids: Mapping[str, Collection[str]] = field(default_factory=dict)
    image_digests: Mapping[str, Collection[str]] = field(default_factory=dict)
    pod_cidr: str = ""
    bridge: str = ""
    bridge_address: str = ""
    bridge_mtu: int = 0
    routes: tuple[tuple[str, str], ...] = ()
    device: str = ""
    overhead: int = 0
    packets: tuple[Packet, ...] = ()
    leased: bool = False
    by_docker: bool = False
    masquerades: bool = False
    systemd_groups: bool = False
    plugins: tuple[str, ...] = ()
    network_file: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """
    What a host told. ``None`` is what it did not tell.

    + wanted: what it is to be
    + takes_part: whether it is in this run
    + silent: why it does not answer; empty if it does
    + state: disks, swap, its clock
    + links, routes, rules, firewall, units, pods, images, cni, flags, files: as their facts tell
    + versions: of its components that run
    + strangers: programs of others on ports of its components
    + disagreements: what of flannel's differs from what else of it, and how
    + answers: to the questions of ``deploys.run.questions``, by name
    """

    wanted: Wanted
    takes_part: bool = True
    silent: str = ""
    state: HostState | None = None
    links: Mapping[str, Link] | None = None
    routes: Sequence[Route] | None = None
    rules: Ruleset | None = None
    firewall: Firewall | None = None
    units: UnitStates | None = None
    pods: StaticPodStates | None = None
    images: ImageStates | None = None
    cni: CniState | None = None
    flags: Mapping[str, ProcessState] | None = None
    files: Mapping[str, FileState] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    strangers: Sequence[Stranger] = ()
    disagreements: Sequence[tuple[str, str]] | None = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def uplink(self) -> Link | None:
        """The link that has the host's address."""
        start = f"{self.wanted.address}/"
        links = (self.links or {}).values()
        return next((x for x in links if any(a.startswith(start) for a in x.addresses)), None)

    def is_a(self, role: str) -> bool:
        """Whether it has a role."""
        return role in self.wanted.roles

    def answer(self, name: str) -> Answer:
        """
        Give the answer to a question.

        + name: of the question

        Raises ``Untold``.
        """
        found = self.answers.get(name)
        # 127: the host lacks the program that is asked.
        if found is None or found.code == 127:
            raise Untold(f"{name} was not asked" if found is None else f"{name}: {found.text}")
        return found


@dataclass(frozen=True)
class Objects:
    """
    What the API told, as it tells it.

    + nodes, leases, pods, policies, deployments, services: objects; services are those of the API
    + namespaces, bindings: objects; bindings are those of roles that the API server makes itself
    + webhooks: objects that name some; of both kinds
    + slices: of the endpoints of all services; ``None``, too, where there are too many
    + access: the objects that let components use the API, each as it is to be and as it is
    + own, addons, users: likewise those of CoreDNS, of other add-ons, and of the user's manifests
    + now: the time of the host that asked
    + deprecated: groups, versions and kinds in use that a later release has no more
    """

    nodes: Sequence[Mapping[str, Any]] | None = None
    leases: Sequence[Mapping[str, Any]] | None = None
    pods: Sequence[Mapping[str, Any]] | None = None
    policies: Sequence[Mapping[str, Any]] | None = None
    deployments: Sequence[Mapping[str, Any]] | None = None
    services: Sequence[Mapping[str, Any]] | None = None
    namespaces: Sequence[Mapping[str, Any]] | None = None
    bindings: Sequence[Mapping[str, Any]] | None = None
    webhooks: Sequence[Mapping[str, Any]] | None = None
    slices: Sequence[Mapping[str, Any]] | None = None
    access: Pairs = ()
    own: Pairs = ()
    addons: Pairs = ()
    users: Pairs = ()
    now: float = 0.0
    deprecated: Sequence[str] | None = None


@dataclass(frozen=True)
class Readings:
    """
    + hosts: every host of the inventory, by name
    + objects: of the API
    + cluster_cidr, service_cidr: of all pods, and of services
    + version: of Kubernetes, that is planned
    + skew: how many minor releases a kubelet may be older than an apiserver
    + network: what carries packets of pods
    + dns: the address of the cluster's DNS; empty where this package runs none
    + node_names: of all nodes of the inventory
    + now: the time on the control machine
    + proxy_mode: of kube-proxy
    + bound: a binding that the API server makes itself → the user that needs it
    """

    hosts: Mapping[str, Host]
    objects: Objects = field(default_factory=Objects)
    cluster_cidr: str = ""
    service_cidr: str = ""
    version: str = ""
    skew: int = 3
    network: str = "routes"
    dns: str = ""
    node_names: tuple[str, ...] = ()
    now: datetime = field(default_factory=lambda: datetime.now().astimezone())
    proxy_mode: str = ""
    bound: Mapping[str, str] = field(default_factory=dict)

    @property
    def control_plane(self) -> tuple[str, ...]:
        """The hosts of the control plane."""
        return tuple(name for name, host in self.hosts.items() if host.is_a("control_plane"))

    def host_of(self, node: str) -> str:
        """The host of a node, by the node's name."""
        found = (host.name for host in self.hosts.values() if host.wanted.node == node)
        return next(found, node)


def told(value: T | None, what: str) -> T:
    """
    Give what was told.

    + value: it
    + what: for people

    Raises ``Untold``.
    """
    if value is None:
        raise Untold(f"{what} could not be read")
    return value
