"""How long the certificates of a cluster last, for people: the soonest end of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.certificates import Certificate, authorities, stored_as, trusted
from pyinfra_kube.cluster.components.common import EMERGENCY
from pyinfra_kube.cluster.credential_set import client_files
from pyinfra_kube.cluster.identities import admins_bound, users
from pyinfra_kube.cluster.spec import ClusterSpec

_DAY = 86400


def days_left(
    spec: ClusterSpec, certificates: Iterable[Certificate], files: Mapping[str, str], now: datetime
) -> str:
    """
    Give one line with the days that are left of each kind of certificate. A certificate that ends
    before others of its kind is named; empty where none is in the store.

    + spec: the cluster
    + certificates: those that files of hosts hold
    + files: what the store holds, by name
    + now: the time

    ```
    >>> days_left(spec, certificates, files, now)
    'days left of certificates: CAs 3650, control plane 365, etcd 365, kubelets 90 (node-2)'
    ```
    """
    own = [stored_as(one, name) for name in trusted(spec) for one in authorities(spec)]
    kinds: dict[str, list[str]] = {"CAs": own}
    for one in certificates:
        folder, slash, _ = one.file.rpartition("/")
        kinds.setdefault(folder if slash else "control plane", []).append(one.file)
    clients = users(spec) if spec.credential_kind == "certificate" else []
    clients += [EMERGENCY] if admins_bound(spec) else []
    kinds["clients"] = [client_files(who)[0].removesuffix(".crt") for who in clients]
    said = (_said(kind, names, files, now) for kind, names in kinds.items())
    found = ", ".join(filter(None, said))
    return f"days left of certificates: {found}" if found else ""


def _said(kind: str, names: Iterable[str], files: Mapping[str, str], now: datetime) -> str:
    texts = {name: files[f"{name}.crt"] for name in names if f"{name}.crt" in files}
    left = {
        name: int((pki.read(text).not_after - now).total_seconds() // _DAY)
        for name, text in texts.items()
        if pki.readable(text)
    }
    if not left:
        return ""
    first = min(left, key=lambda name: left[name])
    alone = f" ({first.rpartition('/')[2]})" if len({*left.values()}) > 1 else ""
    return f"{kind} {left[first]}{alone}"
