"""
With which keys the apiservers of a run encrypt Secrets: what the hosts and etcd tell, and the steps
from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyinfra_kube.cluster.components.kube_apiserver import ENCRYPTION_FILE
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.encryption import (
    IDENTITY,
    EncryptionPlan,
    Providers,
    plan_encryption,
)
from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.etcd import client_files
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.encryption import StoredStates


def encryption_text(providers: Iterable[str], keys: Mapping[str, str]) -> str:
    """
    Return an apiserver's EncryptionConfiguration.

    + providers: names of keys, and ``IDENTITY``
    + keys: every key by its name, in base64
    """

    names = tuple(providers)
    place = ("first" if names[0] == IDENTITY else "last") if IDENTITY in names else ""
    own = {name: keys[name] for name in names if name != IDENTITY}
    return render("srv/kubernetes/encryption.yaml.j2", identity=place, keys=own)


def etcd_access(spec: ClusterSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return how a control-plane host asks etcd for what the apiserver has there.

    + spec: the cluster
    + settings: of the host's command lines
    """

    found: dict[str, Any] = {"endpoints": settings["etcd_servers"]}
    if prefix := spec.apiserver_flags.get("etcd-prefix"):
        found["prefix"] = str(prefix).rstrip("/")
    return found | (client_files("etcd-client") if settings["etcd_tls"] else {})


def plan_of_run(
    spec: ClusterSpec,
    credentials: Credentials,
    host_facts: Mapping[str, HostFacts],
    ask: Callable[[str], StoredStates],
) -> EncryptionPlan:
    """
    Return the steps of a run from the keys that there are to the one that is wanted.

    + spec: the cluster
    + credentials: with every key that is known
    + host_facts: of the hosts that told something
    + ask: asks etcd from a control-plane host which keys Secrets need

    Raises ``InputError`` where Secrets need a key that is not known.
    """

    wanted, keys = credentials.encryption_provider, credentials.encryption_keys
    told = [host.name for host in spec.control_plane if host.name in host_facts]
    silent = [host.name for host in spec.control_plane if host.name not in host_facts]
    data = any(one.etcd_data for one in host_facts.values())
    found = {name: _providers(host_facts[name], keys) for name in told}
    if all(names in ((), (IDENTITY,)) for names in found.values()) and wanted == IDENTITY:
        return plan_encryption(wanted, found, (), silent)
    if not told or all(names == (wanted,) for names in found.values()):
        return plan_encryption(wanted, found, (), silent)
    stored = ask(told[0]) if data else StoredStates("ok")
    refuse(_lost(spec, credentials, stored, told[0]))
    if stored.status == "ok":
        return plan_encryption(wanted, found, stored.secrets, silent)
    unclear = [n for n in told if found[n] is None and host_facts[n].encryption_sha256]
    if unclear:
        raise InputError([_unclear(unclear, stored)])
    # Where no file tells, or one is gone, Secrets may need any key that is known, or none. Where
    # packages bring the apiserver they have one key for good.
    packaged = any(one.packaged for one in host_facts.values())
    untold = not packaged and (None in found.values() or not any(found.values()))
    return plan_encryption(wanted, found, [*keys, IDENTITY] if untold else None, silent)


def _providers(one: HostFacts, keys: Mapping[str, str]) -> Providers | None:
    """What a host's apiserver encrypts with; ``None`` where its file is not ours."""

    if not one.encryption_sha256:
        if one.encrypts == ENCRYPTION_FILE:
            return None
        # One that does not run may have written Secrets as they are.
        return (IDENTITY,) if one.encrypts is not None or one.apiserver else ()
    names = one.encryption
    if not names or not {*names} <= {*keys, IDENTITY}:
        return None
    text = encryption_text(names, keys)
    ours = hashlib.sha256(text.encode()).hexdigest() == one.encryption_sha256
    return names if ours else None


def _lost(
    spec: ClusterSpec, credentials: Credentials, stored: StoredStates, host: str
) -> list[Problem]:
    """Keys that Secrets need and nobody knows."""

    known = {*credentials.encryption_keys, IDENTITY}
    allowed = "encryption.json with every key of the Secrets in etcd"
    fix = (
        f"restore that file from a copy, or its keys from {ENCRYPTION_FILE} of a control-plane "
        "host: Secrets cannot be read without them"
    )
    return [
        Problem("credentials_dir", f"no key {name}", host, f"{allowed}; {number} need it", fix)
        for name, number in stored.secrets.items()
        if name not in known
    ]


def _unclear(hosts: list[str], stored: StoredStates) -> Problem:
    why = f"etcd does not tell which keys Secrets need ({stored.said or stored.status})"
    allowed = f"the file as a run left it, for {why}"
    return Problem("encryption", ENCRYPTION_FILE, ", ".join(hosts), allowed, "start etcd")
