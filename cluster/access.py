"""
Which people have access to a cluster, and what granting or revoking changes of that.

Kubernetes revokes no certificate, and a group that stands in one lasts as long as it does. So the
certificate of a person names a user who is bound to a role, and who is nobody once that
ClusterRoleBinding is gone. Each grant has a user of its own: an old certificate stays without
rights when the same person is let in again. The bindings are the only record of who has access.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from types import MappingProxyType

import yaml

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.releases import Release, covers
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.tables import lines_of

ROLES: Mapping[str, str] = MappingProxyType(
    {
        "viewers": "view",
        "editors": "edit",
        "admins": "admin",
        "cluster-admins": "cluster-admin",
    }
)
"""Group → the ClusterRole that it stands for. Every release with RBAC on has these roles."""

RELEASES = "1.8-"
"""Where RBAC is out of its beta, and decides by default."""

LABEL = "pyinfra-kube/user"
"""Marks our bindings, and names the person."""
ENDS, DAYS = "pyinfra-kube/ends", "pyinfra-kube/days"
"""Annotations: when the certificate ends, and how many days it was made for."""

PREFIX = "pyinfra-kube:"
_IDENTITY = re.compile(rf"{PREFIX}(?P<person>[a-z0-9][-a-z0-9.]*):(?P<serial>[0-9a-f]{{8}})")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Grant:
    """
    What a person may do, until when.

    + person: the name
    + serial: tells this grant from all others of that person
    + group: a key of ``ROLES``
    + days: how long it was made for
    + ends: when its certificate ends, UTC
    """

    person: str
    serial: str
    group: str
    days: int
    ends: datetime

    @property
    def identity(self) -> str:
        """The user that the certificate names, and the name of the binding."""
        return f"{PREFIX}{self.person}:{self.serial}"

    @property
    def role(self) -> str:
        """The ClusterRole of its group."""
        return ROLES[self.group]

    @property
    def annotations(self) -> dict[str, str]:
        """What its binding notes of it."""
        return {DAYS: str(self.days), ENDS: self.ends.strftime(_TIME)}


def person_of(identity: str) -> str:
    """
    Give the person whose grant has an identity; empty for another user or binding.

    + identity: the name of a user or a binding

    ```
    >>> person_of("pyinfra-kube:alice:4f9c21ab")
    'alice'
    ```
    """
    found = _IDENTITY.fullmatch(identity)
    return found["person"] if found else ""


def grant_of(identity: str, role: str, annotations: Mapping[str, str]) -> Grant | None:
    """
    Read a grant from its binding; ``None`` where that is not as this package makes them.

    + identity: the binding's name
    + role: its ClusterRole
    + annotations: its own
    """
    found = _IDENTITY.fullmatch(identity)
    groups = [group for group, one in ROLES.items() if one == role]
    if not (found and groups):
        return None
    try:
        ends = datetime.strptime(annotations[ENDS], _TIME).replace(tzinfo=timezone.utc)
        days = int(annotations[DAYS])
    except (KeyError, ValueError):
        return None
    return Grant(found["person"], found["serial"], groups[0], days, ends)


@dataclass(frozen=True)
class Access:
    """
    What a run makes of who has access.

    + kept: grants that stay
    + made: the one that is made
    + ended: identities that lose their binding → why
    """

    kept: tuple[Grant, ...] = ()
    made: Grant | None = None
    ended: Mapping[str, str] = field(default_factory=dict)

    @property
    def granted(self) -> tuple[Grant, ...]:
        """All grants as they are to be."""
        return (*self.kept, *([self.made] if self.made else []))

    @property
    def people(self) -> set[str]:
        """Everybody who has access."""
        return {grant.person for grant in self.granted}

    def table(self) -> str:
        """Give who has access, and what this run does to it, as text."""
        rows = [(grant, "stays") for grant in self.kept]
        rows += [(self.made, "made")] if self.made else []
        lines = [(g.person, g.group, f"{g.ends:%Y-%m-%d %H:%M} UTC", does) for g, does in rows]
        lines += [(person_of(one) or one, "", "", why) for one, why in self.ended.items()]
        if not lines:
            return "Nobody has access by deploys/access.py."
        return "\n".join(lines_of([("USER", "GROUP", "ENDS", "ACCESS"), *sorted(lines)]))


def access_of(
    spec: ClusterSpec,
    found: Mapping[str, Grant | None],
    held: Mapping[str, str],
    ca_cert: str,
    now: datetime,
) -> Access:
    """
    Give what a run makes of who has access: whoever is revoked or whose time is over loses it, and
    whoever is to be let in gets a grant, unless there is one like it.

    + spec: the cluster, with what is asked
    + found: identity → its grant, ``None`` where its binding is not as this package makes them
    + held: person → the kubeconfig that is kept on the control machine
    + ca_cert: PEM of the CA that signs clients
    + now: the time

    A grant is made anew where its kubeconfig is lost, for another group or life, and when a third
    of its life is left.
    """
    ended: dict[str, str] = {}
    kept: list[Grant] = []
    for identity, grant in found.items():
        if why := _why_ended(spec, identity, grant, now):
            ended[identity] = why
        elif grant and grant.person == spec.access_user:
            if any(one.person == grant.person for one in kept):
                ended[identity] = "ends: one is enough"
            elif why := _why_anew(spec, grant, held.get(grant.person, ""), ca_cert, now):
                ended[identity] = f"ends: {why}"
            else:
                kept.append(grant)
        elif grant:
            kept.append(grant)
    person, made = spec.access_user, None
    if person and all(one.person != person for one in kept):
        # Certificates know whole seconds.
        ends = now.replace(microsecond=0) + timedelta(days=spec.access_days)
        group = spec.access_group or ""
        made = Grant(person, secrets.token_hex(4), group, spec.access_days, ends)
    return Access(tuple(kept), made, ended)


def _why_ended(spec: ClusterSpec, identity: str, grant: Grant | None, now: datetime) -> str:
    person = grant.person if grant else person_of(identity)
    if spec.access_revoke and person == spec.access_revoke:
        return "revoked"
    if not grant:
        return "ends: its binding does not say until when, or has another role"
    return "expired" if grant.ends <= now else ""


def _why_anew(spec: ClusterSpec, grant: Grant, held: str, ca_cert: str, now: datetime) -> str:
    if (grant.group, grant.days) != (spec.access_group, spec.access_days):
        return f"was of {grant.group}, for {grant.days} days"
    pair = pair_of(held)
    if not pair or not pki.fits(pair.cert, pair.key):
        return "its kubeconfig is not here"
    if not pki.issued_by(pair.cert, ca_cert) or pki.read(pair.cert).common_name != grant.identity:
        return "the kubeconfig here is another"
    return "a third of its life is left" if grant.ends - now <= timedelta(grant.days) / 3 else ""


def pair_of(kubeconfig: str) -> pki.KeyPair | None:
    """
    Give the client certificate in a kubeconfig and its key; ``None`` where it has none.

    + kubeconfig: all of it
    """
    try:
        user = yaml.safe_load(kubeconfig)["users"][0]["user"]
        cert, key = (
            base64.b64decode(user[f"client-{part}-data"], validate=True).decode()
            for part in ("certificate", "key")
        )
    # Somebody may have put anything there.
    except Exception:
        return None
    return pki.KeyPair(cert, key) if pki.readable(cert) else None


def problems(spec: ClusterSpec, ca_cert: str, now: datetime) -> list[Problem]:
    """
    Name what is wrong with what is asked of a cluster.

    + spec: the cluster, with what is asked
    + ca_cert: PEM of the CA that signs clients
    + now: the time
    """
    found = _of_cluster(spec)
    if spec.access_user and not spec.access_group:
        groups = ", ".join(ROLES)
        fix = f"--data access_group=GROUP lets {spec.access_user} in as one of them"
        found.append(Problem("access_group", None, None, f"one of {groups}", fix))
    if spec.access_group and not spec.access_user:
        allowed = "nothing, for access_user names nobody to let in"
        fix = "--data access_user=NAME"
        found.append(Problem("access_group", spec.access_group, None, allowed, fix))
    if spec.access_user and spec.access_user == spec.access_revoke:
        allowed = "another than access_user: one run lets in or revokes"
        found.append(Problem("access_revoke", spec.access_revoke, None, allowed))
    left = (pki.read(ca_cert).not_after - now).days
    if spec.access_user and spec.access_days > left:
        allowed = f"at most {left}: no certificate outlives the CA"
        found.append(Problem("access_days", spec.access_days, None, allowed))
    return found


def _of_cluster(spec: ClusterSpec) -> list[Problem]:
    """Why no binding of a cluster could let somebody in, or keep him out."""
    release = Release.of(spec.kubernetes_version)
    modes = (spec.authorization_mode or release.authorization_mode).split(",")
    if not covers(RELEASES, release.minor):
        allowed = "1.8 or newer: before, no role of RBAC can be taken back from a user"
        return [Problem("kubernetes_version", release.version, None, allowed)]
    if spec.apiserver_approach != "https":
        allowed = "https: with http the apiserver asks nobody for a credential"
        return [Problem("apiserver_approach", spec.apiserver_approach, None, allowed)]
    if "RBAC" not in modes or "AlwaysAllow" in modes:
        allowed = "with RBAC and without AlwaysAllow: a binding must be what lets a user in"
        fix = 'write "Node,RBAC", or leave it out'
        return [Problem("authorization_mode", ",".join(modes), None, allowed, fix)]
    return []


def others_that_name(
    identities: Iterable[str], others: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """
    Give the bindings of others that still name identities without a grant.

    + identities: those that have one
    + others: binding → the users that it names
    """
    live = set(identities)
    named = {
        binding: [user for user in users if person_of(user) and user not in live]
        for binding, users in others.items()
    }
    return {binding: users for binding, users in named.items() if users}
