"""
What is to be made of a cluster's credentials: what the store lacks, and certificates whose names
changed or whose end is near. What is good stays as it is.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.certificates import (
    CA,
    Certificate,
    authorities,
    stored_as,
    trusted,
)
from pyinfra_kube.cluster.components.common import ADMIN, EMERGENCY
from pyinfra_kube.cluster.components.rows import User
from pyinfra_kube.cluster.credential_set import (
    BASIC_AUTH,
    ENCRYPTION,
    SERVICE_ACCOUNT,
    TOKENS,
    client_files,
    encryption_key,
    words_in,
)
from pyinfra_kube.cluster.encryption import key_name
from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.identities import admins_bound, users
from pyinfra_kube.cluster.releases import Release, covers
from pyinfra_kube.cluster.spec import ClusterSpec

TOKEN_LETTERS = string.ascii_letters + string.digits
TOKEN_LENGTH = 32
# The longest common name that X.509 allows.
LONGEST_NAME = 64

_KEY = "an RSA key, whole"
_NEW = "made, the store has none"


class CredentialPlan:
    """
    Fills up a store's files, keeps what is good, and says why it made what it made.

    + spec: the cluster
    + files: what the store holds, by name
    + now: the time
    """

    def __init__(self, spec: ClusterSpec, files: Mapping[str, str], now: datetime) -> None:
        self.spec = spec
        self.files = dict(files)
        self.now = now
        self.changes: dict[str, str] = {}
        self.warnings: list[str] = []

    def make(self, certificates: Iterable[Certificate]) -> None:
        """
        Make what is to be made, in ``files``; ``changes`` says why, ``warnings`` what is near.

        + certificates: those that files of hosts hold
        """
        for name in trusted(self.spec):
            for authority in authorities(self.spec):
                self._authority(authority, name)
        for one in certificates:
            # A host that nobody has asked yet gets it in a run that does.
            if one.names is not None:
                self._pair(one.file, one.kind, one.user, one.names, one.authority)
        for name in trusted(self.spec):
            self._service_account(name)
        self._encryption_key()
        if admins_bound(self.spec):
            self._pair(client_files(EMERGENCY)[0].removesuffix(".crt"), "client", EMERGENCY)
        if self.spec.apiserver_approach == "https":
            if self.spec.credential_kind == "token":
                self._keep_words(TOKENS, users(self.spec))
            else:
                self._clients()
            if self.spec.basic_auth:
                self._keep_words(BASIC_AUTH, [ADMIN])

    def _authority(self, authority: str, which: str) -> None:
        file = stored_as(authority, which)
        cert_file, key_file = f"{file}.crt", f"{file}.key"
        cert, key = self.files.get(cert_file), self.files.get(key_file)
        if cert and not pki.readable(cert):
            again = f", or delete it: it is then made again from {key_file}" if key else ""
            raise InputError([_damaged(cert_file, "a certificate, whole", f"restore it{again}")])
        if cert and key and pki.fits(cert, key):
            self._look_at_end(cert_file, cert)
        elif not cert:
            tail = f"-{file.rpartition('/')[2]}"
            name = f"{self.spec.cluster_name[: LONGEST_NAME - len(tail)]}{tail}"
            why = f"made again from {key_file}, it was missing" if key else _NEW
            try:
                pair = pki.make_ca(name, key=key, now=self.now)
            except (ValueError, TypeError):
                raise InputError([_damaged(key_file, _KEY, "restore it")]) from None
            self._set(why, **{cert_file: pair.cert, key_file: pair.key})
        elif key:
            allowed = f"the CA's own key, that of {cert_file}"
            raise InputError([_damaged(key_file, allowed, "restore it")])

    def _look_at_end(self, file: str, cert: str) -> None:
        end = pki.read(cert).not_after
        if end - self.now < timedelta(days=self.spec.certificate_days):
            self.warnings.append(
                f"{file} ends on {end:%Y-%m-%d}; certificates cannot outlive it. {self._way_out}"
            )

    @property
    def _way_out(self) -> str:
        if covers("1.24-", Release.of(self.spec.kubernetes_version).minor):
            return "docs/rotation.md says how another one takes its place: ca_rotation"
        return (
            "A new CA means new credentials on every host: set replace_credentials = True with an "
            "empty credentials_dir"
        )

    def _pair(
        self, file: str, kind: str, who: User, names: Iterable[str] = (), authority: str = CA
    ) -> None:
        cert, key = f"{file}.crt", f"{file}.key"
        authority = stored_as(authority, self.spec.ca)
        ca = pki.KeyPair(self.files[f"{authority}.crt"], self.files.get(f"{authority}.key", ""))
        why = self._why(ca, self.files.get(cert), self.files.get(key), who, frozenset(names))
        if not why:
            return
        if not ca.key:
            missing = f"{authority}.key"
            fix = f"restore {missing} from a copy, or start with an empty credentials_dir"
            allowed = f"a folder with {missing}, for {cert} is to be {why}"
            raise InputError([_damaged(f"no {missing}", allowed, fix)])
        days = self.spec.certificate_days
        pair = pki.issue(ca, kind, who.user, who.groups, names, days=days, now=self.now)
        self._set(why, **{cert: pair.cert, key: pair.key})

    def _why(
        self,
        ca: pki.KeyPair,
        cert: str | None,
        key: str | None,
        who: User,
        names: frozenset[str],
    ) -> str:
        """Why a certificate is to be issued; empty when it is good as it is."""
        if not cert or not key:
            return _NEW if not cert else "re-issued, its key is missing"
        if not pki.fits(cert, key):
            return "re-issued, its key does not belong to it"
        if not pki.issued_by(cert, ca.cert):
            return "re-issued, another CA signed it"
        old = pki.read(cert)
        if (old.common_name, set(old.organizations)) != (who.user, set(who.groups)):
            return f"re-issued, it names {old.common_name} and not {who.user}"
        reasons = [f"{name} is a new name" for name in sorted(names - old.names)]
        reasons += [f"{name} is no name of it any more" for name in sorted(old.names - names)]
        if reasons:
            return f"re-issued, {', '.join(reasons)}"
        return self._near_end(ca, old)

    def _near_end(self, ca: pki.KeyPair, old: pki.Certificate) -> str:
        left, days = old.not_after - self.now, self.spec.certificate_renew_days
        near = timedelta(days=days) if days else (old.not_after - old.not_before) / 3
        # A certificate that can only end as soon again would be issued in every run.
        if left > near or old.not_after >= pki.read(ca.cert).not_after:
            return ""
        when = f"in {_time(left)}" if left > timedelta(0) else "which is past"
        return f"re-issued, it ends on {old.not_after:%Y-%m-%d}, {when}"

    def _service_account(self, which: str) -> None:
        file = stored_as(SERVICE_ACCOUNT, which)
        key_file, pub_file = f"{file}.key", f"{file}.pub"
        key = self.files.get(key_file)
        if not key:
            self._set(_NEW, **{key_file: (key := pki.make_key())})
        try:
            public = pki.public_key(key)
        except (ValueError, TypeError):
            fix = "restore it, or delete it: service accounts' tokens then end"
            raise InputError([_damaged(key_file, _KEY, fix)]) from None
        if self.files.get(pub_file) != public:
            self._set(f"made from {key_file}", **{pub_file: public})

    def _encryption_key(self) -> None:
        """Make the key of the Secrets. Older ones stay: copies of etcd's data need them."""
        keys = words_in(self.files, ENCRYPTION)
        if self.spec.encryption and not encryption_key(self.spec, self.files):
            secret = base64.b64encode(secrets.token_bytes(32)).decode()
            name = key_name(self.spec.encryption_key, secret)
            why = f"{name} is new"
            self._set(why, **{ENCRYPTION: json.dumps({**keys, name: secret}, indent=1) + "\n"})

    def _keep_words(self, file: str, whose: Iterable[User]) -> None:
        """Keep one secret word for each user, and none for whoever is gone."""
        old = words_in(self.files, file)
        new = {who.name: old.get(who.name) or _token() for who in whose}
        if new != old:
            added = [name for name in new if name not in old]
            gone = [name for name in old if name not in new]
            parts = (("new for", added), ("none any more for", gone))
            why = ", ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
            self._set(why or "in another order", **{file: json.dumps(new, indent=1) + "\n"})

    def _clients(self) -> None:
        long = [who.user for who in users(self.spec) if len(who.user) > LONGEST_NAME]
        allowed = f"at most {LONGEST_NAME} characters in a certificate"
        fix = 'a shorter hostname_override, or credential_kind = "token"'
        refuse(Problem("hostname_override", user, None, allowed, fix) for user in long)
        for who in users(self.spec):
            self._pair(client_files(who)[0].removesuffix(".crt"), "client", who)

    def _set(self, why: str, **files: str) -> None:
        self.files.update(files)
        self.changes[next(iter(files))] = why


def _time(left: timedelta) -> str:
    return f"{left.days} days" if left.days else f"{left.seconds // 3600} hours"


def _token() -> str:
    return "".join(secrets.choice(TOKEN_LETTERS) for _ in range(TOKEN_LENGTH))


def _damaged(file: str, allowed: str, fix: str) -> Problem:
    return Problem("credentials_dir", file, None, allowed, fix)
