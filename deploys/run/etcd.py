"""
How a run brings a running etcd from HTTP to TLS, from what the hosts and etcd tell; and with what
etcd is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.etcd_move import EtcdMove, EtcdState, Scheme, plan_move
from pyinfra_kube.cluster.releases import Release, minor_of
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.facts.etcd import Members

# From here on a member serves HTTP and TLS to clients on one port.
_SERVES_BOTH = (3, 0)


def client_files(certificate: str) -> dict[str, str]:
    """
    Return the files on a host with which etcd is asked, as facts and operations take them.

    + certificate: the name of the certificate, such as ``etcd-client``
    """

    names = {"ca": "etcd-ca.crt", "cert": f"{certificate}.crt", "key": f"{certificate}.key"}
    return {word: f"{CONFIG_DIR}/{name}" for word, name in names.items()}


def etcd_facts(move: EtcdMove, host: str, state: EtcdState | None = None) -> dict[str, object]:
    """
    Return what command lines of a host must know of etcd's way to TLS.

    + move: the way
    + host: the host
    + state: where on the way; by default at its beginning
    """

    now = state or move.first
    return {"etcd_serves": now.members.get(host), "etcd_asked": now.clients.get(host)}


def move_of_run(
    spec: ClusterSpec,
    host_facts: Mapping[str, HostFacts],
    ask: Callable[[str, Scheme], Members],
) -> EtcdMove:
    """
    Return the steps of a run from what etcd serves to what it is to serve.

    + spec: the cluster
    + host_facts: of the hosts that told something
    + ask: asks etcd for its members from a member's host, with HTTP or TLS

    Raises ``InputError`` where etcd serves TLS and is to serve HTTP, and where a release cannot do
    the steps.
    """

    members = {one.name: _serves(host_facts, one.name) for one in spec.etcd_members}
    clients = {one.name: _asked(host_facts, one.name) for one in spec.control_plane}
    if not spec.etcd_tls:
        units = {n: host_facts[n].etcd_unit_serves for n in members if n in host_facts}
        refuse(
            Problem("etcd_tls", False, host, "True, for etcd has TLS there", "leave it out")
            for host in members
            if {members[host], units.get(host)} - {None, "http"}
        )
        return EtcdMove(
            EtcdState(dict.fromkeys(members, "http"), {}, dict.fromkeys(clients, "http"))
        )
    found = plan_move(members, {}, clients)
    if not found.steps:
        return found
    version = spec.etcd_version or Release.of(spec.kubernetes_version).etcd_version
    if minor_of(version) < _SERVES_BOTH:
        allowed = f"False, for etcd {version} cannot serve HTTP and TLS at once"
        fix = "set it, or upgrade the cluster to 1.6 or newer first"
        refuse([Problem("etcd_tls", True, None, allowed, fix)])
    registered: Mapping[str, frozenset[Scheme]] = {}
    for host, serves in members.items():
        if serves and not registered:
            told = ask(host, "http" if serves == "http" else "https")
            registered = _registered(told, members)
    silent = tuple(sorted({*members, *clients} - host_facts.keys()))
    return plan_move(members, registered, clients, silent)


def _serves(host_facts: Mapping[str, HostFacts], host: str) -> Any:
    return host_facts[host].etcd_serves if host in host_facts else None


def _asked(host_facts: Mapping[str, HostFacts], host: str) -> Any:
    return host_facts[host].etcd_asked if host in host_facts else None


def _registered(told: Members, hosts: Mapping[str, object]) -> dict[str, frozenset[Scheme]]:
    """The schemes of each member's URLs; nothing where etcd does not tell those of all."""

    if not hosts.keys() <= told.members.keys():
        return {}
    schemes: dict[str, frozenset[Scheme]] = {}
    for host in hosts:
        urls = told.members[host].peer_urls
        schemes[host] = frozenset("https" if url.startswith("https:") else "http" for url in urls)
    return schemes
