"""What verification expects of the hosts of a cluster, as the plan says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from netaddr import IPNetwork

from pyinfra_kube.checks.readings import Wanted
from pyinfra_kube.cluster.certificates import certificates
from pyinfra_kube.cluster.components import COMPONENTS, flanneld
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.rendering import reread_files
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.fedora_variables import CONFIG, own_file
from pyinfra_kube.cluster.identities import user_of
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.kubeconfigs import server_of
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.cluster.spec.settings import OVERHEAD
from pyinfra_kube.deploys.phases.addons import access_manifests, dns_manifest
from pyinfra_kube.deploys.phases.control_plane import manifest, pods_of
from pyinfra_kube.deploys.phases.firewalls import packets
from pyinfra_kube.deploys.phases.manifests import addons
from pyinfra_kube.deploys.phases.pod_network import bridge_of_pods
from pyinfra_kube.deploys.run import questions
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE, ETCD_CONF
from pyinfra_kube.facts.firewall import Packet
from pyinfra_kube.facts.flannel import SubnetEnv
from pyinfra_kube.facts.processes import parse_flags
from pyinfra_kube.operations.cni import CONFLIST, PLUGINS
from pyinfra_kube.operations.images import archive
from pyinfra_kube.operations.manifests import Manifest, documents

# The setting that asks for an add-on → the part whose image it is.
_ADDONS = {
    "metrics_server": "metrics-server",
    "network_policies": "kube-router",
    "log_receiver": "otelcol",
}


def runs_dns(cluster: Cluster) -> bool:
    """
    Give whether CoreDNS runs, which needs that pods have a network and reach services.

    + cluster: the cluster
    """

    spec = cluster.spec
    wanted = spec.dns and cluster.release.fact("coredns")
    return bool(wanted) and "none" not in (spec.network, spec.proxy_mode)


def own_objects(cluster: Cluster) -> list[dict[str, Any]]:
    """
    Give the objects of CoreDNS, as they are to be.

    + cluster: the cluster
    """

    return documents(Manifest("coredns", dns_manifest(cluster))) if runs_dns(cluster) else []


def access_objects(cluster: Cluster) -> list[dict[str, Any]]:
    """
    Give the objects that let components use the API, as they are to be.

    + cluster: the cluster
    """

    return _objects(access_manifests(cluster))


def addon_objects(cluster: Cluster) -> list[dict[str, Any]]:
    """
    Give the objects of the other add-ons, as they are to be.

    + cluster: the cluster
    """

    return _objects(addons(cluster))


def _objects(manifests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [one for name, text in manifests.items() for one in documents(Manifest(name, text))]


def user_objects(cluster: Cluster) -> list[dict[str, Any]]:
    """
    Give the objects of the user's manifests whose paths are known, as they are to be.

    + cluster: the cluster
    """

    found = [one for manifest in cluster.manifests for one in documents(manifest)]
    return [one for one in found if questions.path_of_object(one)]


# What the API server gives to the users of components, by its own bindings.
_BINDINGS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kube-proxy": "system:node-proxier",
}


def bound(cluster: Cluster) -> dict[str, str]:
    """
    Give the bindings of the API server that the cluster's components need, and the user of each.

    + cluster: the cluster
    """

    spec = cluster.spec
    modes = (spec.authorization_mode or cluster.release.authorization_mode).split(",")
    users = {name: user_of(spec, name).user for name in _BINDINGS if "RBAC" in modes}
    # Others are administrators, or have bindings of somebody's own.
    return {_BINDINGS[name]: user for name, user in users.items() if user == f"system:{name}"}


def names(cluster: Cluster, host: HostSpec) -> dict[str, str]:
    """
    Give the address of each other host by its name, as a run writes them to /etc/hosts.

    + cluster: the cluster
    + host: whose file
    """

    others = [one for one in cluster.spec.hosts if one.name != host.name]
    if not cluster.spec.manage_hosts:
        return {}
    found = {one.known_as: cluster.plan.addresses[one.name] for one in others}
    return {name: address for name, address in found.items() if name and address}


def blank(cluster: Cluster, host: HostSpec) -> Wanted:
    """
    Give what a host is to be that told nothing.

    + cluster: the cluster
    + host: it
    """

    node = cluster.plan.nodes.get(host.name)
    return Wanted(
        host.name,
        host.hostname_override,
        cluster.plan.addresses[host.name] or "",
        host.roles,
        pod_cidr=node.pod_cidr if node and not cluster.spec.flannel_leases else "",
    )


def read_by_unit(component: str) -> list[str]:
    """
    Give what a component's unit reads when it starts, of both ways to run it.

    + component: its name
    """

    one = COMPONENTS[component]
    # etcd reads none of Kubernetes' own.
    of_fedora = [CONFIG, own_file(component)] if one.shared_variables else [ETCD_CONF]
    found = [f"/usr/local/bin/{component}", one.kubeconfig, one.configuration, *of_fedora]
    return [path for path in found if path]


def read_by_pod(cluster: Cluster, component: str) -> list[str]:
    """
    Give what a component's static pod reads when it starts, and not again.

    + cluster: the cluster
    + component: its name
    """

    again = reread_files(component, cluster.release, cluster.settings())
    named = parse_flags(cluster.command_line(component)).values()
    return [one for one in named if one.startswith(f"{CONFIG_DIR}/") and one not in again]


def wanted_of_host(cluster: Cluster, on_fedora: bool, subnet: SubnetEnv | None = None) -> Wanted:
    """
    Give what the current host is to be.

    + cluster: the cluster
    + on_fedora: whether the control plane runs as units
    + subnet: what flanneld wrote on it
    """

    spec, host = cluster.spec, cluster.host_spec
    parts, node = cluster.components_of(host), cluster.plan.nodes.get(host.name)
    on_flannel = cluster.on_flannel and cluster.is_a("node")
    units = parts if on_fedora else cluster.units_of(host)
    pods = [] if on_fedora else pods_of(host)
    has_network = cluster.is_a("node") and spec.network != "none"
    kubenet = (spec.bridge_approach, cluster.release.kubelet_bridge) == ("kubelet", "kubenet")
    bridge = bridge_of_pods(cluster) if on_fedora else "" if kubenet else BRIDGE
    by_cni = has_network and cluster.runtime is not DOCKER
    backend = spec.flannel_backend if on_flannel else ""
    dockers = on_fedora and cluster.runtime is DOCKER
    masquerades = spec.bridge_approach == "manual"
    if dockers:
        # On a network of flannel's choice; elsewhere docker may have one of its own.
        asked = (spec.docker_options.get(word) for word in ("iptables", "ip-masq"))
        masquerades = spec.flannel_leases and False not in asked
    bridge_address = node.bridge_address if node and has_network else ""
    if spec.flannel_leases:
        bridge_address = subnet.subnet if subnet else ""
    # On Fedora the control plane has no containers.
    runs_containers = cluster.is_a("node") or not on_fedora
    others = [*pods, "pause"] if runs_containers else []
    if runs_dns(cluster) and (cluster.is_a("node") or cluster.is_a("control_plane")):
        others.append("coredns")
    if runs_containers:
        others += [part for setting, part in _ADDONS.items() if getattr(spec, setting)]
    images = {part: image_of(part, spec).name for part in others}
    return Wanted(
        name=host.name,
        node=host.hostname_override,
        address=cluster.own_address,
        roles=host.roles,
        runtime=cluster.runtime.name if runs_containers else "",
        runtime_unit=cluster.runtime.unit if runs_containers else "",
        units=(*units, *(["flanneld"] if on_flannel else [])),
        pods=tuple(pods),
        manifests={
            f"{spec.manifest_dir}/{pod}.yaml": _digest(manifest(cluster, pod)) for pod in pods
        },
        reads={
            **{unit: read_by_unit(unit) for unit in units},
            **{pod: read_by_pod(cluster, pod) for pod in pods},
        },
        flags={
            p: parse_flags(cluster.command_line(p)) for p in (*units, *pods) if p != "etcd" or pods
        },
        configurations={
            one.path: _digest(str(one.content))
            for p in (*units, *pods)
            for one in cluster.configuration(p)
        },
        servers={
            COMPONENTS[p].kubeconfig: server_of(spec, p) for p in parts if COMPONENTS[p].kubeconfig
        },
        issued={
            f"{one.path}.crt"
            for one in certificates(spec, cluster.plan)
            if one.host in ("", host.name) and one.role in host.roles
        },
        images=tuple(map(cluster.runtime.full_name, images.values())),
        image_ids=_image_ids(cluster, images),
        image_digests={name: {digest} for name, digest in spec.image_sha256.items()},
        pod_cidr=str(IPNetwork(bridge_address).cidr) if bridge_address else "",
        bridge=bridge if has_network else "",
        bridge_address=bridge_address,
        bridge_mtu=0 if dockers else spec.bridge_mtu,
        routes=tuple(planned_routes(cluster, dockers)),
        device=flanneld.device_of(backend, spec.flannel_vni) or "" if backend else "",
        overhead=OVERHEAD.get(backend, 0),
        packets=tuple(_packets(cluster, bridge) if has_network or not cluster.is_a("node") else ()),
        leased=spec.flannel_leases,
        by_docker=dockers,
        masquerades=has_network and masquerades,
        systemd_groups=bool(runs_containers and cluster.runtime.uses_systemd),
        plugins=tuple(PLUGINS) if by_cni else (),
        network_file=CONFLIST.rpartition("/")[2] if by_cni else "",
        names=names(cluster, host),
    )


def _packets(cluster: Cluster, bridge: str) -> Iterator[Packet]:
    """Those of a run; a pod's query too, and from a host where it may be any one's."""

    own, addresses = cluster.own_address, cluster.plan.addresses.values()
    other = next((one for one in addresses if one and one != own), "")
    for one in packets(cluster, bridge):
        yield replace(one, source=one.source or other)
        if one.way == "forward":
            yield replace(one, protocol="udp", port=53)


def planned_routes(cluster: Cluster, dockers: bool) -> list[tuple[str, str]]:
    """
    Give the pod CIDRs of other nodes, and the address that leads there.

    + cluster: the cluster
    + dockers: whether docker makes the bridge of its pods, which flannel leads to
    """

    try:
        return [] if dockers else cluster.plan.routes(cluster.host_spec.name)
    except InputError:
        # The address of a host that did not answer is not known.
        return []


def _image_ids(cluster: Cluster, images: Mapping[str, str]) -> dict[str, set[str]]:
    """The ids that images of archives may have, by each name that they are called."""

    found: dict[str, set[str]] = {}
    for part, name in images.items():
        path = cluster.image(part)[name]
        if path and (ids := archive(path).ids):
            found |= {name: ids, cluster.runtime.full_name(name): ids}
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
