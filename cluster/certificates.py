"""
Which certificates a cluster has: who signs each, whom it names, and where it is on its host.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pyinfra_kube.cluster.allocation import AddressPlan
from pyinfra_kube.cluster.components import etcd, kube_apiserver, kubelet
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.rows import Role, User
from pyinfra_kube.cluster.releases import Release, value_at
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec
from pyinfra_kube.cluster.spec.checks import FIRST_CA

CA, FRONT_PROXY_CA, ETCD_CA = "ca", "front-proxy-ca", "etcd-ca"
"""The store's names of the authorities, without their endings."""
AUTHORITIES = "authorities"
"""The store's folder of those that follow the first ones."""


@dataclass(frozen=True)
class Certificate:
    """
    One certificate with its key.

    + file: its name in the store, without an ending
    + path: its path on its host, without an ending
    + authority: who signs it
    + kind: what it is good for: ``server``, ``client``, or both for a ``peer``
    + user: whom it names
    + role: of the hosts that hold it
    + host: the only host that holds it; empty for every one of that role
    + names: DNS names and addresses that it is good for; ``None`` while they are not known
    """

    file: str
    path: str
    authority: str
    kind: Literal["server", "client", "peer"]
    user: User
    role: Role
    host: str = ""
    names: tuple[str, ...] | None = ()


def trusted(spec: ClusterSpec) -> tuple[str, ...]:
    """
    Give the names of the CAs that a cluster trusts; those that sign come first.

    + spec: the cluster
    """
    return (spec.ca, *([spec.ca_rotation] if spec.ca_rotation else []))


def stored_as(what: str, name: str) -> str:
    """
    Give the store's name, without an ending, of what each set of CAs has.

    + what: an authority, or the key of tokens
    + name: of the set

    ```
    >>> stored_as("ca", "1"), stored_as("ca", "2026-11-26")
    ('ca', 'authorities/ca-2026-11-26')
    ```
    """
    return what if name == FIRST_CA else f"{AUTHORITIES}/{what}-{name}"


def authorities(spec: ClusterSpec) -> dict[str, tuple[Role, ...]]:
    """
    Give the certificate authorities of a cluster, with the roles of the hosts that know each. The
    cluster's own, which every host knows, comes first.

    + spec: the cluster
    """
    found: dict[str, tuple[Role, ...]] = {CA: ("control_plane", "etcd", "node")}
    if _front_proxy(spec):
        found[FRONT_PROXY_CA] = ("control_plane",)
    if spec.etcd_tls:
        asking: tuple[Role, ...] = ("node",) if spec.flannel_in_etcd else ()
        found[ETCD_CA] = ("control_plane", "etcd", *asking)
    return found


def certificates(spec: ClusterSpec, plan: AddressPlan) -> Iterator[Certificate]:
    """
    Give every certificate of a cluster that a file of a host holds, in the order of issue.

    + spec: the cluster
    + plan: its addresses
    """
    minor = Release.of(spec.kubernetes_version).minor
    yield _of_apiserver("server", "server", kube_apiserver.SERVER, CA, server_names(spec, plan))
    if kubelet_client := value_at(kube_apiserver.KUBELET_CLIENTS, minor):
        yield _of_apiserver(kubelet_client.name, "client", kubelet_client, CA)
    if front_proxy := _front_proxy(spec):
        yield _of_apiserver(front_proxy.name, "client", front_proxy, FRONT_PROXY_CA)
    if spec.etcd_tls:
        yield _of_apiserver(etcd.CLIENT.name, "client", etcd.CLIENT, ETCD_CA)
        for member in spec.etcd_members:
            path, names = f"{CONFIG_DIR}/etcd-server", _names(member, plan, "localhost")
            user = etcd_user(member)
            yield _of_host("etcd", path, ETCD_CA, "peer", user, "etcd", member, names)
        if spec.flannel_in_etcd:
            name = etcd.FLANNEL.name
            path = f"{CONFIG_DIR}/{name}"
            yield Certificate(name, path, ETCD_CA, "client", etcd.FLANNEL, "node")
    for node in spec.nodes:
        path, names = kubelet.SERVING_CERT.removesuffix(".crt"), _names(node, plan)
        user = User(node.name, node.hostname_override[:_LONGEST])
        yield _of_host("kubelets", path, CA, "server", user, "node", node, names)


# The longest common name that X.509 allows. Servers are known by their other names.
_LONGEST = 64


def etcd_user(member: HostSpec) -> User:
    """
    Give who a member of etcd is to the others.

    + member: its host
    """
    return User(member.name, member.hostname_override[:_LONGEST])


def _front_proxy(spec: ClusterSpec) -> User | None:
    return value_at(kube_apiserver.FRONT_PROXIES, Release.of(spec.kubernetes_version).minor)


def _of_apiserver(
    file: str,
    kind: Literal["server", "client"],
    user: User,
    authority: str,
    names: tuple[str, ...] = (),
) -> Certificate:
    path = f"{CONFIG_DIR}/{file}"
    return Certificate(file, path, authority, kind, user, "control_plane", names=names)


def _of_host(
    folder: str,
    path: str,
    authority: str,
    kind: Literal["server", "peer"],
    user: User,
    role: Role,
    host: HostSpec,
    names: tuple[str, ...] | None,
) -> Certificate:
    file = f"{folder}/{host.hostname_override}"
    return Certificate(file, path, authority, kind, user, role, host.name, names)


def _names(host: HostSpec, plan: AddressPlan, *more: str) -> tuple[str, ...] | None:
    """What a server on a host is called; not known as long as its address is not."""
    address = plan.addresses.get(host.name)
    if not address:
        return None
    local = ("127.0.0.1", *more) if more else ()
    return tuple(dict.fromkeys([host.name, host.hostname_override, address, *local]))


def server_names(spec: ClusterSpec, plan: AddressPlan) -> tuple[str, ...]:
    """
    Give everything that a client may call the apiserver.

    + spec: the cluster
    + plan: its addresses
    """
    hosts = [name for host in spec.control_plane for name in (host.name, host.hostname_override)]
    addresses = [plan.addresses.get(host.name) for host in spec.control_plane]
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names = [
        *filter(None, [spec.endpoint_host, *addresses]),
        plan.service_ip,
        "127.0.0.1",
        *service,
        f"{service[-1]}.{spec.cluster_domain}",
        *hosts,
    ]
    return tuple(dict.fromkeys(names))
