"""
What the hosts of a cluster tell of it when it is verified, in three round trips: what a plan must
know, what verification asks, and connections to what was found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pyinfra.api import FactBase, State
from pyinfra.api.exceptions import FactError
from pyinfra.context import ctx_host

from pyinfra_kube.checks.judge import Verdict, judge
from pyinfra_kube.checks.on_cluster import leases_of, objects_of
from pyinfra_kube.checks.readings import Host, Objects, Readings
from pyinfra_kube.cluster.components import COMPONENTS, PODS, flanneld
from pyinfra_kube.cluster.fedora_variables import own_file
from pyinfra_kube.cluster.runtimes import RUNTIMES
from pyinfra_kube.deploys.phases import verification
from pyinfra_kube.deploys.phases.container_runtime import cni_bin_dir
from pyinfra_kube.deploys.phases.control_plane import pods_of
from pyinfra_kube.deploys.run import questions
from pyinfra_kube.deploys.run.context import Cluster, seen_cluster
from pyinfra_kube.deploys.run.fitness import strangers
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.deploys.run.wanted import (
    access_objects,
    addon_objects,
    blank,
    bound,
    names,
    own_objects,
    planned_routes,
    read_by_pod,
    read_by_unit,
    runs_dns,
    user_objects,
    wanted_of_host,
)
from pyinfra_kube.deploys.run.ways import ways
from pyinfra_kube.engine import internals
from pyinfra_kube.engine.snapshot import ask_now, expect, read
from pyinfra_kube.engine.subject import Subject
from pyinfra_kube.facts.answers import Answers
from pyinfra_kube.facts.binaries import RunningVersions
from pyinfra_kube.facts.cni import Cni
from pyinfra_kube.facts.etcd import EtcdKeys
from pyinfra_kube.facts.files import Files
from pyinfra_kube.facts.firewall import OtherFirewalls
from pyinfra_kube.facts.flannel import Flannel, lease_states
from pyinfra_kube.facts.images import Images
from pyinfra_kube.facts.iptables import Rules
from pyinfra_kube.facts.nftables import MASQUERADE, NftTable, with_masquerade
from pyinfra_kube.facts.processes import Flags
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.facts.services import Units
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.operations.component_unit import SYSTEM, UNITS
from pyinfra_kube.operations.flannel_agreement import HostNetwork, compare

T = TypeVar("T")


_known: WeakKeyDictionary[State, tuple[Cluster, Verdict]] = WeakKeyDictionary()
_lock = internals.Lock()


def judge_cluster(state: State) -> tuple[Cluster, Verdict, bool]:
    """
    Ask all hosts of a run at once, and judge what they tell; once for all of them. The last value
    is whether this was the time.

    + state: of the run

    Raises ``InputError`` for a wrong inventory.
    """

    # pyinfra executes a deploy file anew for each host.
    with _lock:
        new = state not in _known
        if new:
            cluster, readings = _read_cluster(state)
            _known[state] = cluster, judge(readings)
        return (*_known[state], new)


def _read_cluster(state: State) -> tuple[Cluster, Readings]:
    cluster = seen_cluster(state)
    told = on_each_host(state, cluster, lambda: _ask_host(cluster))
    objects = _objects(cluster, told)
    pods = questions.pods_by_node(objects.pods or (), objects.policies or ())
    answered = on_each_host(state, cluster, lambda: _ask_ways(cluster, pods))
    differences = _differences(cluster, told, objects)
    hosts = {}
    for spec in cluster.spec.hosts:
        known = told.get(spec.name)
        if known:
            known["answers"] |= answered.get(spec.name, {})
            known["disagreements"] = None if differences is None else differences.get(spec.name, ())
            hosts[spec.name] = Host(**known)
        else:
            wanted = blank(cluster, spec)
            reason = cluster.unanswered.get(spec.name)
            off = state.inventory.get_host(spec.name) in state.failed_hosts
            silent = str(reason or "it cannot be connected to") if reason or off else ""
            hosts[spec.name] = Host(wanted, bool(silent), silent)
    spec_ = cluster.spec
    return cluster, Readings(
        hosts,
        objects,
        spec_.cluster_cidr,
        spec_.service_cidr,
        cluster.release.version,
        int(cluster.release.fact("kubelet_skew")),
        spec_.network,
        str(spec_.cluster_dns) if runs_dns(cluster) else "",
        tuple(host.hostname_override for host in spec_.nodes),
        datetime.now(timezone.utc),
        spec_.proxy_mode or "",
        bound(cluster),
    )


def on_each_host(state: State, cluster: Cluster, ask: Callable[[], T]) -> dict[str, T]:
    """
    Give what each host that told something before answers now, by its name.

    + state: of the run
    + cluster: the cluster
    + ask: asks the current host
    """

    arguments = internals.deploy_arguments()
    hosts = [one for one in state.inventory.get_active_hosts() if one.name in cluster.host_facts]

    def call() -> T | None:
        with internals.called_with(arguments):
            try:
                return ask()
            except FactError as error:
                cluster.unanswered[ctx_host.get().name] = error
                return None

    return {name: one for name, one in internals.on_each(hosts, call).items() if one is not None}


def _tell(fact: type[FactBase[T]], /, **arguments: Any) -> T | None:
    """A fact; ``None`` where it cannot be read."""

    try:
        return read(fact, **arguments)
    except FactError:
        return None


# -- The second trip -----------------------------------------------------------------------------

# Of the control plane, where it runs as units of ours.
_OWN_UNITS = [f"{SYSTEM}/{name}.service" for name in ("etcd", "kube-apiserver")]
_MARKS = [
    *(UNITS["kubelet"], *_OWN_UNITS),
    *(own_file(name) for name in ("kubelet", "kube-apiserver")),
]
_PROGRAMS = [*COMPONENTS]
# Ours, and that of a package.
_PROXIES = ("/usr/local/bin/kube-proxy", "/usr/bin/kube-proxy")
_VERSION = re.compile(r"\bv([1-9]\d*\.\d+\.\d+[-0-9A-Za-z.]*)")
_CONFIGURATIONS = [one.configuration for one in COMPONENTS.values() if one.configuration]


def _ask_host(cluster: Cluster) -> dict[str, Any]:
    """What the current host tells, by the names of the fields of ``Host``."""

    names = [*(one.unit for one in RUNTIMES.values()), "flanneld.service"]
    names += [f"{name}.service" for name in COMPONENTS]
    directory = cluster.spec.manifest_dir
    read_files = {path for name in COMPONENTS for path in read_by_unit(name)}
    for name in pods_of(cluster.host_spec):
        read_files.update(read_by_pod(cluster, name))
    subjects = {
        "units": Subject(Units, {"units": names, "config": sorted(read_files)}),
        "flags": Subject(Flags, {"names": _PROGRAMS}),
        "images": Subject(Images, {"runtime": cluster.runtime.name}),
        "cni": Subject(Cni, {"bin_dir": cni_bin_dir(cluster)}),
        "firewall": Subject(OtherFirewalls),
        "rules": Subject(Rules),
        "nft": Subject(NftTable, {"table": MASQUERADE}),
        "routes": Subject(Routes),
        "files": Subject(Files, {"paths": _CONFIGURATIONS}),
        "pods": Subject(StaticPods, {"directory": directory, "runtime": cluster.runtime.name}),
        "marks": Subject(Files, {"paths": _MARKS, "digest": False}),
        "answers": Subject(Answers, {"commands": _questions(cluster)}),
    }
    for path in _PROXIES:
        subjects[path] = Subject(RunningVersions, {"programs": {"kube-proxy.service": path}})
    if cluster.on_flannel and cluster.is_a("node"):
        subjects["flannel"] = Subject(Flannel)
    if cluster.spec.flannel_in_etcd and cluster.is_a("etcd"):
        where = {"prefix": f"{cluster.spec.flannel_etcd_prefix}/", "api": cluster.flannel_api}
        subjects["leases"] = Subject(EtcdKeys, {**where, **cluster.etcd_as_member})
    expect(subjects.values())
    told = {name: _tell(one.fact, **one.arguments) for name, one in subjects.items()}
    marks = told.pop("marks") or {}
    told["rules"] = with_masquerade(told["rules"], told.pop("nft"))
    packaged = UNITS["kubelet"] not in marks and bool(marks)
    on_fedora = packaged or any(unit in marks for unit in _OWN_UNITS)
    seen = cluster.own_facts
    answers = dict(told["answers"] or {})
    ran = [one for path in _PROXIES for one in (told.pop(path) or {}).values()]
    proxy = [found[1] for one in ran if (found := _VERSION.search(one.said))]
    versions = {p: v for p, v in seen.versions.items() if p in COMPONENTS and p in PODS}
    versions = {**versions, **({"kube-proxy": proxy[0]} if proxy else {})}
    versions.pop("etcd", None)
    from_trip = {"links": seen.links, "state": seen.fit.state, "versions": versions}
    from_trip["strangers"] = [*strangers(cluster, cluster.host_spec, seen, on_fedora)]
    flannel, keys = told.pop("flannel", None), told.pop("leases", None)
    subnet = flannel.subnet if flannel else None
    wanted = wanted_of_host(cluster, on_fedora, subnet)
    network = HostNetwork(cluster.host_spec.name, seen.links, subnet)
    cluster.notes("flannel")[network.host] = network, keys
    return {**told, **from_trip, "answers": answers, "wanted": wanted}


def _differences(
    cluster: Cluster, told: Mapping[str, Mapping[str, Any]], objects: Objects
) -> dict[str, list[tuple[str, str]]] | None:
    """What of flannel's does not agree on each host; ``None`` where no lease is known."""

    spec, seen = cluster.spec, cluster.notes("flannel")
    if not cluster.on_flannel:
        return {}
    leases = leases_of(objects.nodes) if objects.nodes else []
    if spec.flannel_in_etcd:
        keys = [one for _, one in seen.values() if one and one.status == "ok"]
        leases = [*lease_states(keys[0], spec.flannel_etcd_prefix).leases] if keys else []
    if not leases:
        return None
    nodes = [seen[one.name][0] for one in spec.nodes if one.name in told]
    bridge = told[nodes[0].host]["wanted"].bridge if nodes else BRIDGE
    network = spec.flannel_network if spec.flannel_leases else spec.cluster_cidr
    options = (network, spec.flannel_backend, spec.flannel_vni, bridge)
    found: dict[str, list[tuple[str, str]]] = {one.host: [] for one in nodes}
    for one in compare(leases, nodes, *options, lasting=not spec.flannel_leases):
        # The MTU of our own bridge is planned.
        ours = one.what == f"MTU of {bridge}" and not spec.flannel_leases
        if one.agrees is False and not ours:
            found[one.host].append((one.what, one.detail))
    return found


def _questions(cluster: Cluster) -> dict[str, str]:
    spec, host = cluster.spec, cluster.host_spec
    settings = cluster.settings()
    found = questions.of_host(
        names(cluster, host), str(settings["resolv_conf"] or "/etc/resolv.conf")
    )
    parts = cluster.components_of(host)
    for component in parts:
        kind = "unit" if component not in PODS else "pod"
        check = verification.answers(cluster, component, kind)
        found[f"health of {component}"] = f"{check.command} --show-error"
        if check.command.startswith("timeout"):
            found[f"health of {component}"] = check.command
    if asked := cluster.runtime.uses_systemd:
        found["control groups"] = f"if {asked}; then echo systemd; else echo cgroupfs; fi"
    if spec.flannel_on_api and cluster.is_a("node"):
        url = f"http://127.0.0.1:{flanneld.HEALTH_PORT}/healthz"
        found["health of flanneld"] = f"curl --silent --show-error --fail --max-time 5 {url}"
    if cluster.is_a("node"):
        for network, _ in planned_routes(cluster, dockers=False):
            way = questions.route_way(network, cluster.node.pod_cidr, BRIDGE)
            found[f"way to {network}"] = way
    if cluster.is_a("control_plane"):
        found |= questions.of_control_plane(spec.secure_port)
        for name, wanted in _sets(cluster).items():
            found[f"{name} objects"] = questions.of_objects(wanted)
    if cluster.is_a("etcd"):
        version = spec.etcd_version or cluster.release.etcd_version
        both = cluster.is_a("control_plane")
        found |= questions.of_etcd(spec.etcd_client_port, spec.etcd_tls, version, both)
    return found


def _objects(cluster: Cluster, told: Mapping[str, Mapping[str, Any]]) -> Objects:
    """What the first host of the control plane whose API answers told."""

    asked = [told[one.name]["answers"] for one in cluster.spec.control_plane if one.name in told]
    good = [one for one in asked if "nodes" in one and one["nodes"].good]
    return objects_of(good[0], _sets(cluster)) if good else Objects()


def _sets(cluster: Cluster) -> dict[str, list[dict[str, Any]]]:
    """The objects that must be there, by whose they are."""

    known = {
        "access": access_objects(cluster),
        "own": own_objects(cluster),
        "addons": addon_objects(cluster),
        "users": user_objects(cluster),
    }
    return {name: wanted for name, wanted in known.items() if wanted}


# -- The third trip ------------------------------------------------------------------------------


def _ask_ways(cluster: Cluster, pods: Mapping[str, Mapping[str, bool]]) -> Mapping[str, Any]:
    """Which connections of the current host get an answer."""

    return ask_now(Answers, commands=ways(cluster, pods), patience=12)
