"""
The cluster that a run is about: read from the inventory once, planned once, shared by all hosts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

from pyinfra import logger
from pyinfra.api import FactBase, State
from pyinfra.api.exceptions import FactError
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.cluster.allocation import (
    AddressPlan,
    NodeAddresses,
    SeenAddresses,
    choose_addresses,
    make_plan,
)
from pyinfra_kube.cluster.components import COMPONENTS, components_on
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.etcd import FLANNEL, has_roles
from pyinfra_kube.cluster.components.flanneld import etcd_api
from pyinfra_kube.cluster.components.kube_apiserver import ENCRYPTION_FILE
from pyinfra_kube.cluster.components.own_ports import shared_ports
from pyinfra_kube.cluster.components.rendering import command_line, configuration_text
from pyinfra_kube.cluster.components.row_settings import etcd_client_urls, settings
from pyinfra_kube.cluster.containerd_versions import of_distribution
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.credential_store import CredentialStore, compare_with_hosts
from pyinfra_kube.cluster.encryption import IDENTITY, EncryptionPlan
from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.etcd_move import EtcdMove, EtcdState, Scheme
from pyinfra_kube.cluster.fields import has_file
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.notices import Used, notices
from pyinfra_kube.cluster.releases import (
    Release,
    configuration_setting,
    flags_setting,
    minor_of,
)
from pyinfra_kube.cluster.runtimes import CONTAINERD, DOCKER, RUNTIMES, Runtime, runtime_named
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec
from pyinfra_kube.cluster.spec.base import unknown_endpoint
from pyinfra_kube.cluster.spec.checks import check_endpoint
from pyinfra_kube.cluster.spec.inventory import says_address
from pyinfra_kube.cluster.upgrade import (
    Upgrade,
    Versions,
    Wanted,
    upgrade_of,
    upgrade_problems,
)
from pyinfra_kube.deploys.run.addresses_file import Allocations
from pyinfra_kube.deploys.run.artifacts import Artifacts, unknown_images
from pyinfra_kube.deploys.run.encryption import etcd_access, plan_of_run
from pyinfra_kube.deploys.run.etcd import client_files, etcd_facts, move_of_run
from pyinfra_kube.deploys.run.host_facts import DAMAGED, HostFacts, gather
from pyinfra_kube.deploys.run.manifests import read_manifests
from pyinfra_kube.deploys.run.rotation import problems_of_run
from pyinfra_kube.deploys.run.runtimes import with_runtime
from pyinfra_kube.engine import internals
from pyinfra_kube.engine.profile import profile_run
from pyinfra_kube.engine.snapshot import expect, read
from pyinfra_kube.engine.subject import Subject
from pyinfra_kube.facts.encryption import StoredSecrets, StoredStates
from pyinfra_kube.facts.etcd import Api, EtcdMembers, Members
from pyinfra_kube.facts.nodes import Node
from pyinfra_kube.operations.files import File
from pyinfra_kube.operations.flannel_agreement import check_iface
from pyinfra_kube.operations.manifests import Manifest
from pyinfra_kube.operations.services import Unit

CA_CERTIFICATE = f"{CONFIG_DIR}/ca.crt"

Answer = TypeVar("Answer", StoredStates, Members)


@dataclass
class Cluster:
    """
    What a run knows: the spec, the release, the plan, the credentials and gathered host facts.

    + spec: the inventory, read
    + release: of Kubernetes
    + plan: who has which address
    + store, book: what is kept in a folder of the control machine
    + credentials: keys, certificates, tokens and kubeconfigs
    + artifacts: where binaries and images come from
    + host_facts: gathered facts of each connected host
    + encryption: with which keys the apiservers encrypt Secrets
    + etcd: how etcd comes from HTTP to TLS
    + unanswered: why a connected host has none
    + manifests: the user's own
    """

    spec: ClusterSpec
    release: Release
    plan: AddressPlan
    store: CredentialStore
    book: Allocations
    credentials: Credentials
    artifacts: Artifacts
    host_facts: dict[str, HostFacts]
    encryption: EncryptionPlan
    etcd: EtcdMove
    unanswered: dict[str, FactError] = field(default_factory=dict)
    manifests: Sequence[Manifest] = ()
    _notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def notes(self, about: str) -> dict[str, Any]:
        """
        Notes of this run's hosts for each other, by host.

        + about: what the notes are about
        """
        return self._notes.setdefault(about, {})

    @property
    def host_spec(self) -> HostSpec:
        """The current host."""
        return self.spec.host(ctx_host.get().name)

    @property
    def runtime(self) -> Runtime:
        """The cluster's container runtime."""
        return runtime_named(self.spec.container_runtime or self.release.container_runtime)

    @property
    def own_facts(self) -> HostFacts:
        """What the current host told."""
        return self.host_facts[self.host_spec.name]

    @property
    def own_address(self) -> str:
        """The address of the current host; empty where it is not known."""
        return self.plan.addresses[self.host_spec.name] or ""

    @property
    def node(self) -> NodeAddresses:
        """The addresses of the current host's pods."""
        return self.plan.nodes[self.host_spec.name]

    @property
    def on_flannel(self) -> bool:
        """Whether flannel carries the packets of pods."""
        return self.spec.network == "flannel"

    @property
    def etcd_as_member(self) -> dict[str, Any]:
        """How a member's host asks its own etcd on Fedora, once it is as wanted."""
        scheme = "https" if self.spec.etcd_tls else "http"
        files = client_files("etcd-server") if self.spec.etcd_tls else {}
        return {"endpoints": [f"{scheme}://127.0.0.1:{self.spec.etcd_client_port}"], **files}

    @property
    def etcd_as_flannel(self) -> dict[str, Any]:
        """How flanneld on a node asks etcd."""
        scheme, port = "https" if self.spec.etcd_tls else "http", self.spec.etcd_client_port
        members = [self.plan.addresses[member.name] for member in self.spec.etcd_members]
        files = client_files(FLANNEL.name) if self.spec.etcd_tls else {}
        return {"endpoints": [f"{scheme}://{address}:{port}" for address in members], **files}

    @property
    def flannel_api(self) -> Api:
        """How flannel's keys in etcd are asked for."""
        if self.flannel_has_role:
            return "grpc"
        return etcd_api(self.spec.flannel_version or "")

    @property
    def flannel_has_role(self) -> bool:
        """Whether etcd's roles limit flannel, by its certificate, to its own keys of v3."""
        version = self.spec.etcd_version or self.release.etcd_version
        v3 = etcd_api(self.spec.flannel_version or "") == "v3"
        return self.spec.flannel_in_etcd and self.spec.etcd_tls and v3 and has_roles(version)

    def is_a(self, role: str) -> bool:
        """Whether the current host has a role: ``control_plane``, ``node`` or ``etcd``."""
        return role in self.host_spec.roles

    @property
    def units(self) -> list[str]:
        """The components that run as units on the current host of the scratch path."""
        return self.units_of(self.host_spec)

    def units_of(self, host: HostSpec) -> list[str]:
        """
        The components that run as units on a host of the scratch path.

        + host: it
        """
        proxied = "kube-proxy" in self.components_of(host)
        return ["kubelet", *(["kube-proxy"] if proxied else [])]

    def components_of(self, host: HostSpec) -> list[str]:
        """
        The components of a host, in the order in which they start.

        + host: it
        """
        without = "kube-proxy" if self.spec.proxy_mode == "none" else ""
        return [one for one in components_on(host.roles) if one != without]

    @property
    def active(self) -> set[str]:
        """The hosts that still take part in the run."""
        return {host.name for host in ctx_state.get().active_hosts}

    @cached_property
    def upgrade(self) -> Upgrade:
        """What hosts do in turn to come to the wanted release; nothing where they have it."""
        drained = {name for name, one in self._nodes.items() if one.drained_for}
        return upgrade_of(
            self._versions,
            self._wanted,
            control_plane=[host.name for host in self.spec.control_plane],
            etcd=[host.name for host in self.spec.etcd_members],
            drained=[h.name for h in self.spec.hosts if h.hostname_override in drained],
        )

    @property
    def upgrade_problems(self) -> list[Problem]:
        """What forbids to come to the wanted release."""
        names = {host.hostname_override: host.name for host in self.spec.hosts}
        absent = [host.name for host in self.spec.hosts if host.name not in self.host_facts]
        others = {
            names.get(node, node): {"kubelet": version}
            for node, one in self._nodes.items()
            if names.get(node, node) not in self.host_facts and (version := _kubelet_of(one))
        }
        begun = self._versions or not self.credentials.new
        found = upgrade_problems(
            {**self._versions, **others},
            self._wanted,
            control_plane=[host.name for host in self.spec.control_plane],
            # Of a cluster that is not there yet no apiserver runs anywhere.
            absent=absent if begun else [],
            foreign=[node for node in others if node not in names.values()],
        )
        asked = self.spec.control_plane[0].name
        if self.upgrade.nodes and asked in absent and asked not in {one.host for one in found}:
            allowed = f"that of the running cluster, for {asked}, which drains nodes, is not there"
            fix = f"let {asked} take part in the run, too"
            found.append(Problem("kubernetes_version", self.release.version, None, allowed, fix))
        return found

    @property
    def unseen_nodes(self) -> str:
        """Why the API does not tell a running cluster's nodes; empty where it does."""
        asked = self.host_facts.get(self.spec.control_plane[0].name)
        if not (asked and self._versions) or asked.nodes.status == "ok":
            return ""
        return asked.nodes.reason or "kubectl is not there"

    @property
    def _wanted(self) -> Wanted:
        etcd = self.spec.etcd_version or self.release.etcd_version
        brought = self.spec.containerd_version if self.spec.runtime_source else ""
        return Wanted(self.release, etcd, brought or "")

    @property
    def _versions(self) -> Versions:
        """
        What hosts have. A kubelet that is the very one to install is as wanted, and any patch of
        the wanted release where packages bring it. Of a kubelet that does not tell, its node does.
        """
        found: dict[str, dict[str, str]] = {}
        for host, seen in told(self.spec.hosts, self.host_facts):
            has = dict(seen.versions)
            node = self._nodes.get(host.hostname_override)
            # A blank host may have had a node, which comes back as a new one.
            if "kubelet" not in has and seen.fit.ours and node and _kubelet_of(node):
                has["kubelet"] = _kubelet_of(node)
            if not has:
                continue
            found[host.name] = has
            if seen.packaged:
                minor, wanted = self.release.minor, self.release.version
                found[host.name] = {
                    name: wanted if minor_of(version) == minor else version
                    for name, version in has.items()
                }
                continue
            differs = seen.versions.get("kubelet", self.release.version) != self.release.version
            if differs and seen.kubelet_sha256 == self.artifacts.binary("kubelet")[1]:
                found[host.name]["kubelet"] = self.release.version
        return found

    @property
    def _nodes(self) -> Mapping[str, Node]:
        """The nodes of the cluster, as far as its API tells them."""
        asked = self.host_facts.get(self.spec.control_plane[0].name)
        return asked.nodes.nodes if asked else {}

    def in_turn(self, part: Literal["control plane", "node"]) -> bool:
        """
        Whether the current host gets a part in its turn of an upgrade.

        + part: its static pods, or its container runtime, kubelet and kube-proxy; where packages
          bring all of them, a node has them in one turn

        Raises ``InputError`` in a deploy that has no upgrades.
        """
        upgrade = self.upgrade
        hosts = {*upgrade.nodes}
        if part == "control plane":
            hosts = {*upgrade.etcd, *upgrade.control_plane}
        if self.host_spec.name not in hosts:
            return False
        if not self.notes("upgrade"):
            allowed = f"what the hosts have, for this deploy upgrades no cluster ({upgrade})"
            fix = "use deploys/scratch.py, or the path of Fedora's that built it"
            problem = Problem("kubernetes_version", self.release.version, None, allowed, fix)
            raise InputError([problem])
        return True

    def unit(self, component: str, config: Sequence[str]) -> Unit:
        """The running unit of a component, with the files that it reads when it starts."""
        take_over = self.spec.take_over_units
        return Unit(f"{component}.service", config=config, own=True, take_over=take_over)

    def settings(self, host: str = "", /, **facts: object) -> dict[str, object]:
        """The settings of a host's command lines; by default the current host's."""
        name = host or self.host_spec.name
        host_facts = self.host_facts[name].settings if name in self.host_facts else {}
        runtime = {
            "cgroup_driver": self.runtime.cgroup_driver,
            "container_runtime_endpoint": self.runtime.endpoint,
        }
        encrypts = self.encryption.first.get(name, (IDENTITY,)) != (IDENTITY,)
        encrypted = {"encryption_file": ENCRYPTION_FILE} if encrypts else {}
        given = {**runtime, **encrypted, **etcd_facts(self.etcd, name), **host_facts, **facts}
        return settings(self.spec, self.plan, name, given)

    @property
    def etcd_access(self) -> dict[str, Any]:
        """How the current control-plane host asks etcd."""
        return etcd_access(self.spec, self.settings())

    def command_line(self, component: str, host: str = "", /, **facts: object) -> list[str]:
        """The flags of a component on a host; by default the current host."""
        extra = getattr(self.spec, flags_setting(component))
        return command_line(component, self.release, self.settings(host, **facts), extra)

    def configuration(self, component: str) -> list[File]:
        """The configuration file of a component on the current host, in releases that have one."""
        if not has_file(component, self.release):
            return []
        extra = getattr(self.spec, configuration_setting(component))
        text = configuration_text(component, self.release, self.settings(), extra)
        return [File(COMPONENTS[component].configuration, text, "600")]

    def image(self, part: str) -> dict[str, str | None]:
        """The image of a part, and its archive if there is one."""
        image = image_of(part, self.spec)
        return {image.name: self.artifacts.image(image.archive) or None}

    @property
    def is_first_control_plane(self) -> bool:
        """Whether the current host is the one that is asked for the cluster's objects."""
        return self.host_spec.name == self.spec.control_plane[0].name

    @property
    def new_addresses(self) -> list[str]:
        """One line for each node whose pod CIDR is not recorded yet; leases have flannel's."""
        if self.spec.flannel_leases:
            return []
        known = self.book.read()
        return [
            f"addresses.yaml: {node.name} has {node.pod_cidr}"
            for node in self.plan.nodes.values()
            if known.get(node.name) != node.pod_cidr
        ]

    def record(self) -> None:
        """Record the nodes' pod CIDRs on the control machine."""
        # Nodes that are no longer in the inventory may still run with theirs.
        now = {node.name: node.pod_cidr for node in self.plan.nodes.values()}
        self.book.write({**self.book.read(), **now})

    def forget(self) -> None:
        """Release the pod CIDRs of removed nodes."""
        gone = self.spec.remove_nodes
        self.book.write({n: cidr for n, cidr in self.book.read().items() if n not in gone})

    @property
    def runs_once(self) -> bool:
        """
        Whether a step that runs once runs on the current host. When that host fails, another takes
        its place, so ask just before the step.
        """
        active = self.active
        return next(h.name for h in self.spec.hosts if h.name in active) == self.host_spec.name


T = TypeVar("T")

_specs: WeakKeyDictionary[State, ClusterSpec | InputError] = WeakKeyDictionary()
_clusters: WeakKeyDictionary[State, Cluster | InputError] = WeakKeyDictionary()
_lock = internals.Lock()


def _of_run(known: MutableMapping[State, T | InputError], make: Callable[[State], T]) -> T:
    """What all hosts of a run share, made when the first one asks."""

    state: State = ctx_state.get()
    with _lock:
        if state not in known:
            try:
                known[state] = make(state)
            except InputError as error:
                known[state] = error
        found = known[state]
    if isinstance(found, InputError):
        raise found
    return found


def current_spec() -> ClusterSpec:
    """
    Return the spec of this run, for a path that refuses what it does not build before a host is
    asked.

    Raises ``InputError``.
    """

    return _of_run(_specs, read_spec)


def current_cluster(leaving: bool = False) -> Cluster:
    """
    Return the cluster of this run, made when the first host asks.

    + leaving: whether it is only taken away, which needs no programs and no running etcd

    Raises ``InputError`` with every problem of the inventory, before any host has run a command,
    and ``FactError`` for a host that cannot be asked.
    """

    cluster = _of_run(_clusters, lambda state: _make(state, leaving))
    if silent := cluster.unanswered.get(ctx_host.get().name):
        raise silent
    return cluster


def seen_cluster(state: State) -> Cluster:
    """
    Return the cluster as far as the inventory and its hosts tell, for what only looks at it:
    nothing is refused for what hosts have, and the folder of its credentials need not be there.

    + state: of the run

    Raises ``InputError`` for a wrong inventory.
    """

    spec = read_spec(state)
    release = Release.of(spec.kubernetes_version)
    store, book = CredentialStore(folder_of(spec)), Allocations(folder_of(spec))
    host_facts, unanswered = _gather(state, spec)
    spec = _with_addresses(state, with_runtime(spec, host_facts), host_facts)
    recorded = book.read()
    nodes = [one for seen in host_facts.values() for one in seen.nodes.nodes.values()]
    by_node = {one.name: one.pod_cidr for one in nodes if one.pod_cidr}
    has = {
        host.name: by_node.get(host.hostname_override) or seen.pod_cidr
        for host, seen in told(spec.hosts, host_facts)
    }
    if spec.flannel_leases:
        has, recorded = {name: seen.pod_cidr for name, seen in host_facts.items()}, {}
    current = {name: recorded.get(name, cidr) for name, cidr in has.items() if cidr}
    plan = make_plan(spec, current=current, recorded=recorded)
    scheme: Scheme = "https" if spec.etcd_tls else "http"
    etcd = EtcdState(
        dict.fromkeys((one.name for one in spec.etcd_members), "tls" if spec.etcd_tls else "http"),
        {},
        dict.fromkeys((one.name for one in spec.control_plane), scheme),
    )
    encrypted = {
        name: ("a key",) if seen.encryption_sha256 else (IDENTITY,)
        for name, seen in host_facts.items()
    }
    return Cluster(
        *(spec, release, plan, store, book, Credentials.none(spec)),
        *(Artifacts.of(spec, release), host_facts, EncryptionPlan(IDENTITY, encrypted)),
        *(EtcdMove(etcd), unanswered),
    )


_SCRATCH = "nothing: only deploys/scratch.py sets it up"
_OF_SCRATCH = ("node_local_dns", "metrics_server", "network_policies", "log_receiver", "manifests")


def cluster_on(network: str, instead: str) -> Cluster:
    """
    Return the cluster of this run, for a path of Fedora's that builds one kind of network.

    + network: that kind
    + instead: the path that builds the other

    Raises ``InputError``.
    """

    spec = current_spec()
    today = Release.of(spec.kubernetes_version).container_runtime != DOCKER.name
    if (given := spec.network) != network:
        path = "deploys/scratch.py" if given == "none" else instead
        fix = f'set it to "{network}", or use {path}'
        raise InputError([Problem("network", given, None, network, fix)])
    if spec.flannel_on_api:
        store, fix = spec.flannel_store, 'set it to "etcd", or use deploys/scratch.py'
        raise InputError([Problem("flannel_store", store, None, "etcd, on this path", fix)])
    if not today and spec.proxy_mode == "none":
        allowed, fix = "a mode of kube-proxy: only deploys/scratch.py does without", "leave it out"
        raise InputError([Problem("proxy_mode", "none", None, allowed, fix)])
    if spec.dns and not today:
        allowed, fix = "False: only deploys/scratch.py sets up a DNS", "leave it out"
        raise InputError([Problem("dns", True, None, allowed, fix)])
    if spec.encryption and not today:
        allowed, fix = "False: only deploys/scratch.py encrypts Secrets", "leave it out"
        raise InputError([Problem("encryption", True, None, allowed, fix)])
    refuse(
        # The URL of a manifest may hold a password.
        Problem(key, value if value is True else None, None, _SCRATCH, "leave it out")
        for key in _OF_SCRATCH
        if (value := getattr(spec, key))
    )
    cluster = current_cluster()
    if cluster.encryption.turned or cluster.encryption.last:
        allowed = "the key that Secrets have: only deploys/scratch.py goes from one to another"
        raise InputError([Problem("encryption_key", spec.encryption_key, None, allowed)])
    return cluster


def read_spec(state: State) -> ClusterSpec:
    """
    Read the spec from an inventory; no host is asked. Raises ``InputError``.

    + state: pyinfra's, with the inventory
    """

    inventory = state.inventory
    # pyinfra leaves out names that are no hosts, and groups of nothing else.
    groups: dict[str, list[str]] = {name: [] for name in inventory.group_data}
    groups |= {name: [host.name for host in hosts] for name, hosts in inventory.groups.items()}
    data: dict[str, dict[str, Any]] = {host.name: host.data.dict() for host in inventory}
    spec = ClusterSpec.from_inventory(groups, data)
    if Release.of(spec.kubernetes_version).container_runtime not in RUNTIMES:
        allowed = "a release whose kubelet runs containers with docker: up to 1.23"
        raise InputError([Problem("kubernetes_version", spec.kubernetes_version, None, allowed)])
    refuse([*shared_ports(spec), *unknown_images(spec)])
    return spec


def folder_of(spec: ClusterSpec) -> Path:
    """
    The folder on the control machine that keeps a cluster's credentials and addresses.

    + spec: the cluster
    """

    folder = spec.credentials_dir or f"{spec.cluster_name}-credentials"
    return _inventory_folder() / Path(folder).expanduser()


def _make(state: State, leaving: bool) -> Cluster:
    spec = current_spec()
    if spec.profile:
        picture = Path(spec.profile).expanduser()
        if picture.is_dir() or not picture.parent.is_dir():
            raise InputError(
                [Problem("profile", spec.profile, None, "a file in a folder that is there")]
            )
        profile_run(state, picture)
    release = Release.of(spec.kubernetes_version)
    if spec.cloud_config and not Path(spec.cloud_config).expanduser().is_file():
        allowed = "a file on this machine"
        raise InputError([Problem("cloud_config", spec.cloud_config, None, allowed)])
    artifacts = Artifacts("", "", {}) if leaving else Artifacts.of(spec, release)
    manifests = () if leaving else read_manifests(spec)
    store, book = CredentialStore(folder_of(spec)), Allocations(folder_of(spec))
    host_facts, unanswered = _gather(state, spec)
    spec = _with_addresses(state, with_runtime(spec, host_facts), host_facts)
    if not leaving:
        _check_runtime(spec, release, host_facts)
        _check_endpoint(spec, host_facts)
        _check_ifaces(spec, host_facts)
    plan = make_plan(
        spec,
        current=_current(spec, host_facts, book.read()),
        recorded=book.read(),
        networks={name: seen.networks for name, seen in host_facts.items()},
        services=_service_ranges(spec, host_facts),
        held={name: seen.addresses for name, seen in host_facts.items()},
    )
    _say(plan.table())
    running = any(seen.service_range for seen in host_facts.values())
    for line in notices(release, *_used(spec, release, host_facts), running=running):
        logger.warning(f"notice: {line}")
    credentials = store.plan(spec, plan)
    _say(credentials.days_left)
    _check_store(spec, credentials, host_facts)
    known = spec, release, plan, store, book, credentials, artifacts, host_facts
    if leaving:
        none = EncryptionPlan(IDENTITY, {one.name: (IDENTITY,) for one in spec.control_plane})
        return Cluster(*known, none, EtcdMove(), unanswered)
    if not spec.replace_credentials:
        refuse(problems_of_run(spec, credentials, host_facts))
    _check_etcd(spec, host_facts)
    etcd = _etcd(state, spec, plan, host_facts)
    encryption = _encryption(state, spec, plan, credentials, host_facts, etcd)
    for line in credentials.warnings:
        logger.warning(line)
    known = spec, release, plan, store, book, credentials, artifacts, host_facts
    return Cluster(*known, encryption, etcd, unanswered, manifests)


def _etcd(
    state: State, spec: ClusterSpec, plan: AddressPlan, host_facts: Mapping[str, HostFacts]
) -> EtcdMove:
    """The steps by which etcd comes to TLS."""

    def ask(host: str, scheme: Scheme) -> Members:
        access: dict[str, Any] = {"endpoints": [etcd_client_urls(spec, plan, scheme)[host]]}
        access |= client_files("etcd-server") if scheme == "https" else {}
        return _ask(state, host, EtcdMembers, access, Members())

    found = move_of_run(spec, host_facts, ask)
    if found.waits_for:
        waits = ", ".join(found.waits_for)
        logger.warning(f"notice: etcd does not come to TLS until {waits} is in a run again")
    return found


def _ask(
    state: State, host: str, fact: type[FactBase[Answer]], arguments: dict[str, Any], none: Answer
) -> Answer:
    """What one host tells before anything is planned; ``none`` where it cannot be asked."""

    deploy_arguments = internals.deploy_arguments()

    def read_there() -> Answer:
        with internals.called_with(deploy_arguments):
            try:
                # In a discovery pass, too.
                expect([Subject(fact, arguments)])
                return read(fact, **arguments)
            except FactError as error:
                return replace(none, said=str(error))

    return internals.on_each([state.inventory.get_host(host)], read_there)[host]


def _encryption(
    state: State,
    spec: ClusterSpec,
    plan: AddressPlan,
    credentials: Credentials,
    host_facts: Mapping[str, HostFacts],
    etcd: EtcdMove,
) -> EncryptionPlan:
    """The steps to the key that Secrets are to be encrypted with."""

    def ask(name: str) -> StoredStates:
        access = etcd_access(spec, settings(spec, plan, name, etcd_facts(etcd, name)))
        return _ask(state, name, StoredSecrets, access, StoredStates())

    found = plan_of_run(spec, credentials, host_facts, ask)
    if found.waits_for and any(one != (found.wanted,) for one in found.first.values()):
        waits = ", ".join(found.waits_for)
        logger.warning(f"notice: Secrets keep their old keys until {waits} is in a run again")
    return found


# From 1.34 on.
_ETCD_OF_KUBEADM = (3, 5, 24)


def _used(
    spec: ClusterSpec, release: Release, host_facts: Mapping[str, HostFacts]
) -> Iterable[Used]:
    """What the cluster uses that a release may have something to say of."""

    told = [one.settings for one in host_facts.values()]
    if any(one["fail_cgroup_v1"] is not None for one in told):
        yield "cgroup v1"
    if any(one["proxy_mode"] == "ipvs" for one in told):
        yield "ipvs"
    if not spec.etcd_tls:
        yield "etcd without TLS"
    numbers = re.findall(r"\d+", spec.etcd_version or release.etcd_version)
    if tuple(map(int, numbers[:3])) < _ETCD_OF_KUBEADM:
        yield "old etcd"
    runtime = spec.container_runtime or release.container_runtime
    versions = [
        spec.containerd_version or one.containerd or of_distribution(one.system, one.release)
        for one in host_facts.values()
    ]
    if runtime == CONTAINERD.name and any(one.startswith("1.") for one in versions):
        yield "containerd 1"


def _check_runtime(
    spec: ClusterSpec, release: Release, host_facts: Mapping[str, HostFacts]
) -> None:
    """Refuse a host whose kubelet runs another runtime's containers, which would live on."""

    runtime = spec.container_runtime or release.container_runtime
    allowed = "a release up to 1.23, for kubelet runs docker's containers there"
    fix = "take the host out of its cluster first; a running cluster is not taken past 1.23"
    refuse(
        Problem("kubernetes_version", release.version, name, allowed, fix)
        for name, seen in host_facts.items()
        if seen.kubelet_runtime == DOCKER.name != runtime
    )
    fix = "leave it; a node that was removed may come back with another runtime"
    refuse(
        Problem("container_runtime", runtime, name, f"{seen.kubelet_runtime}: it runs pods", fix)
        for name, seen in host_facts.items()
        if seen.kubelet_runtime in RUNTIMES and seen.kubelet_runtime not in (runtime, DOCKER.name)
    )


def _current(
    spec: ClusterSpec, host_facts: Mapping[str, HostFacts], recorded: Mapping[str, str]
) -> dict[str, str]:
    """
    The pod CIDR that each host has. A bridge with another address than the recorded one has
    drifted; only flannel gives other ones later.
    """

    current = {name: seen.pod_cidr for name, seen in host_facts.items() if seen.pod_cidr}
    if spec.flannel_leases:
        return current
    return {name: recorded.get(name, cidr) for name, cidr in current.items()}


def _service_ranges(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> dict[str, str]:
    """The service CIDR of each apiserver."""

    apiservers = told(spec.control_plane, host_facts)
    return {host.name: seen.service_range for host, seen in apiservers if seen.service_range}


def _check_store(
    spec: ClusterSpec, credentials: Credentials, host_facts: Mapping[str, HostFacts]
) -> None:
    """Refuse to overwrite the hosts' credentials when the folder is lost."""

    nothing = {"", *(() if credentials.new else (DAMAGED,))}
    held = {
        n: one.ca_fingerprint for n, one in host_facts.items() if one.ca_fingerprint not in nothing
    }
    # Where other hosts hold our CA, a host with another one has drifted and is mended.
    lost = credentials.ca_fingerprints.isdisjoint(held.values())
    if lost and not spec.replace_credentials:
        refuse(compare_with_hosts(credentials, folder_of(spec), held))


def _check_etcd(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> None:
    """Refuse the data that another cluster's etcd left."""

    data = str(spec.etcd_data_dir)
    allowed = "a folder without data of another cluster's etcd, which ours would go on with"
    fix = f"move that away, or, where it is this cluster's, put its ca.crt to {CA_CERTIFICATE}"
    refuse(
        Problem("etcd_data_dir", data, host.name, f"{allowed}; {seen.other_etcd} is there", fix)
        for host, seen in told(spec.etcd_members, host_facts)
        if seen.other_etcd
    )


def _gather(state: State, spec: ClusterSpec) -> tuple[dict[str, HostFacts], dict[str, FactError]]:
    """The facts of every connected host, gathered at once, and why some have none."""

    names = {host.name for host in spec.hosts}
    hosts = [host for host in state.inventory.get_active_hosts() if host.name in names]
    arguments = internals.deploy_arguments()

    def ask() -> HostFacts | FactError:
        with internals.called_with(arguments):
            try:
                return gather(spec, CA_CERTIFICATE)
            except FactError as error:
                return error

    answers = internals.on_each(hosts, ask)
    host_facts = {name: one for name, one in answers.items() if isinstance(one, HostFacts)}
    return host_facts, {name: one for name, one in answers.items() if isinstance(one, FactError)}


def _kubelet_of(node: Node) -> str:
    """The version of a node's kubelet; empty where it has told none."""

    version = node.kubelet.removeprefix("v")
    return version if version[:1].isdigit() else ""


def told(
    hosts: Iterable[HostSpec], host_facts: Mapping[str, HostFacts]
) -> list[tuple[HostSpec, HostFacts]]:
    """Return those of some hosts that told something, with what they told."""

    return [(host, host_facts[host.name]) for host in hosts if host.name in host_facts]


def _with_addresses(
    state: State, spec: ClusterSpec, host_facts: Mapping[str, HostFacts]
) -> ClusterSpec:
    """The spec with addresses that only the hosts themselves know."""

    hosts = {host.name: host for host in state.inventory}
    seen = {
        name: SeenAddresses(one.own, internals.connected_address(hosts[name]), one.address)
        for name, one in host_facts.items()
    }
    written = [name for name, host in hosts.items() if says_address(host.data.dict())]
    # flanneld takes the address of the default route, which several hosts may share.
    defaults = [one.default for one in seen.values() if one.default]
    shared = {name for name, one in seen.items() if defaults.count(one.default) > 1}
    return spec.with_addresses(choose_addresses(spec, seen, written), through=shared)


def _check_endpoint(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> None:
    """Refuse an endpoint that is unknown, or on a host outside the control plane."""

    if not spec.endpoint:
        raise InputError([unknown_endpoint(spec)])
    if all(host.name in host_facts for host in spec.control_plane):
        held = {host.name: [host.address] if host.address else [] for host in spec.hosts}
        for name, seen in host_facts.items():
            held[name] = list(dict.fromkeys([*seen.addresses, *held[name]]))
        refuse(check_endpoint(spec, held))


def _check_ifaces(spec: ClusterSpec, host_facts: Mapping[str, HostFacts]) -> None:
    if spec.network == "flannel":
        refuse(
            problem
            for host, seen in told(spec.nodes, host_facts)
            for problem in check_iface(host.name, host.flannel_iface, seen.links)
        )


def _inventory_folder() -> Path:
    """The folder of the inventory file on the command line, or else the working directory."""

    named = next((arg for arg in sys.argv[1:] if arg.endswith(".py") and Path(arg).is_file()), "")
    return Path(named).resolve().parent if named else Path.cwd()


def _say(text: str) -> None:
    for line in ["", *text.splitlines(), ""]:
        logger.info(f"    {line}".rstrip())
