"""Which CAs the hosts of a run have, and whether those that are wanted may follow them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pyinfra_kube.cluster.certificates import authorities
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.rotation import Held, rotation_problems
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.host_facts import HostFacts


def problems_of_run(
    spec: ClusterSpec, credentials: Credentials, host_facts: Mapping[str, HostFacts]
) -> list[Problem]:
    """
    Return why the CAs that the settings name may not follow those of the hosts.

    + spec: the cluster
    + credentials: with all CAs that are known
    + host_facts: of the hosts that told something
    """

    now = time.time()
    found = {
        host.name: _held(credentials, host_facts[host.name], now)
        for host in spec.hosts
        if host.name in host_facts and host_facts[host.name].certificates
    }
    silent = [
        host.name
        for host in spec.hosts
        if host.name not in host_facts and host.roles.intersection(("control_plane", "etcd"))
    ]
    return rotation_problems(spec.ca, spec.ca_rotation, found, silent)


def _held(credentials: Credentials, facts: HostFacts, now: float) -> Held:
    """What a host has, by the names of the CAs that the store has."""

    trusted, signed = {*credentials.known_cas}, set()
    for name in credentials.known_cas:
        for authority in authorities(credentials.spec):
            own = credentials.authority(authority, name)
            if not own:
                continue
            bundle = facts.certificates.get(f"{CONFIG_DIR}/{authority}.crt", ())
            if bundle and own.fingerprint not in {one.sha256 for one in bundle}:
                trusted.discard(name)
            issuer = f"CN={own.common_name}"
            if any(one.issuer == issuer != one.subject for one in facts.signed):
                signed.add(name)
        if facts.token_keys and credentials.public_key(name) not in facts.token_keys:
            trusted.discard(name)
    since = facts.signing_since
    return Held(
        frozenset(trusted), frozenset(signed), None if since is None else max(0.0, now - since)
    )
