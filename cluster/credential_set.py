"""Every credential of a cluster, in memory, and what of them goes where."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.certificates import (
    CA,
    Certificate,
    authorities,
    stored_as,
    trusted,
)
from pyinfra_kube.cluster.components.common import ADMIN, CONFIG_DIR, EMERGENCY
from pyinfra_kube.cluster.components.kube_controller_manager import SIGNING_CA
from pyinfra_kube.cluster.components.rows import User
from pyinfra_kube.cluster.encryption import IDENTITY, key_name
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.identities import admins_bound, user_of, users
from pyinfra_kube.cluster.kubeconfigs import kubeconfig, server_of
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec
from pyinfra_kube.cluster.spec.checks import FIRST_CA

SERVICE_ACCOUNT = "service-account"
"""The store's name of the key of service accounts' tokens, without an ending."""
TOKENS, BASIC_AUTH = "tokens.json", "basic_auth.json"
ENCRYPTION = "encryption.json"
_ENDS = (".crt", ".key")


@dataclass(frozen=True)
class Credentials:
    """
    Every credential of a cluster, in memory. Made by ``CredentialStore.plan``.

    + spec: the cluster
    + changes: one line for each thing that the store does not hold like this yet, and why
    + warnings: what is allowed and yet worth a look
    + new: whether nothing of it was in the store
    + certificates: those that files of hosts hold
    + days_left: one line with the days that are left of certificates
    """

    spec: ClusterSpec
    changes: tuple[str, ...]
    warnings: tuple[str, ...]
    new: bool
    certificates: Sequence[Certificate]
    days_left: str
    _files: Mapping[str, str] = field(repr=False)

    @classmethod
    def none(cls, spec: ClusterSpec) -> Credentials:
        """
        Give the credentials of whoever only looks at a cluster: none, and nobody gets one of them.

        + spec: the cluster
        """
        return cls(spec, (), (), False, (), "", {})

    @property
    def ca_cert(self) -> str:
        """The root certificates that everybody trusts, PEM; the one that signs comes first."""
        return self._bundle(CA, "crt")

    @property
    def ca_fingerprints(self) -> frozenset[str]:
        """SHA-256 of each root certificate that the cluster has or had, in hexadecimal."""
        start = stored_as(CA, "")
        own = [name for name in self._files if name == f"{CA}.crt" or name.startswith(start)]
        texts = [self._files[name] for name in own if name.endswith(".crt")]
        return frozenset(pki.read(text).fingerprint for text in texts if pki.readable(text))

    def authority(self, authority: str, name: str) -> pki.Certificate | None:
        """
        Give what an authority's certificate says; ``None`` where the store has none.

        + authority: one of the cluster's
        + name: that ``ca`` gives it
        """
        text = self._files.get(f"{stored_as(authority, name)}.crt")
        return pki.read(text) if text else None

    def public_key(self, name: str) -> str:
        """
        Give a public key of service accounts' tokens, PEM; empty where the store has none.

        + name: that ``ca`` gives it
        """
        return self._files.get(f"{stored_as(SERVICE_ACCOUNT, name)}.pub", "")

    @property
    def known_cas(self) -> tuple[str, ...]:
        """The names of all CAs that the store has."""
        start = stored_as(CA, "")
        found = [name.removeprefix(start) for name in self._files if name.startswith(start)]
        named = [name.removesuffix(".crt") for name in found if name.endswith(".crt")]
        return (*([FIRST_CA] if f"{CA}.crt" in self._files else []), *named)

    def _bundle(self, what: str, end: str) -> str:
        return "".join(self._files[f"{stored_as(what, n)}.{end}"] for n in trusted(self.spec))

    @property
    def known_tokens_csv(self) -> str | None:
        """The apiserver's file of tokens; ``None`` where users have certificates."""
        if self.spec.credential_kind != "token":
            return None
        return _csv(self._tokens, users(self.spec))

    @property
    def basic_auth_csv(self) -> str | None:
        """The apiserver's file of passwords, where it was asked for."""
        if not self.spec.basic_auth:
            return None
        return _csv(words_in(self._files, BASIC_AUTH), [ADMIN])

    def kubeconfig(self, component: str, host: str | None = None) -> str:
        """
        Give a kubeconfig, always with its keys in the same order.

        + component: a component that asks the apiserver, or "admin" for the administrator
        + host: the host that it is for; needed for what runs on nodes

        What runs beside an apiserver asks that one, the others the control plane's
        endpoint.

        ```
        credentials.kubeconfig("kubelet", "node1")
        ```
        """
        who = user_of(self.spec, component, host)
        if self.spec.apiserver_approach != "https":
            return self._kubeconfig(component, who, {})
        return self._kubeconfig(component, who, self._secret_of(who))

    @property
    def emergency_kubeconfig(self) -> str:
        """The kubeconfig of ``EMERGENCY``; empty where administrators need no binding."""
        if not admins_bound(self.spec):
            return ""
        return self._kubeconfig("admin", EMERGENCY, self._certificate_of(EMERGENCY))

    def issue_client(self, user: str, days: int, now: datetime) -> pki.KeyPair:
        """
        Issue a certificate that names a user of no group. The store does not keep it.

        + user: whom it names
        + days: how long it is good
        + now: the time to count from

        Raises ``InputError`` where the store has no key of the CA.
        """
        name = f"{stored_as(CA, self.spec.ca)}.key"
        if not (key := self._files.get(name)):
            allowed = f"a folder with {name}, which signs certificates"
            fix = f"restore {name} from a copy"
            raise InputError([Problem("credentials_dir", f"no {name}", None, allowed, fix)])
        return pki.issue(pki.KeyPair(self.ca_cert, key), "client", user, days=days, now=now)

    def kubeconfig_of(self, person: str, pair: pki.KeyPair) -> str:
        """
        Give the kubeconfig of a person, who asks the control plane's endpoint.

        + person: the name, which tells the apiserver nothing
        + pair: the certificate that does, with its key
        """
        return self._kubeconfig("admin", User(person, person), _client_data(pair.cert, pair.key))

    def _kubeconfig(self, component: str, who: User, secret: Mapping[str, str]) -> str:
        cluster: dict[str, str] = {"server": server_of(self.spec, component)}
        if self.spec.apiserver_approach == "https":
            cluster["certificate-authority-data"] = _base64(self.ca_cert)
        names = self.spec.cluster_name, who.user
        return kubeconfig(*names, tuple(cluster.items()), tuple(secret.items()))

    @property
    def encryption_keys(self) -> dict[str, str]:
        """Every key of Secrets by its name, in base64, those that are no longer used too."""
        return words_in(self._files, ENCRYPTION)

    @property
    def encryption_provider(self) -> str:
        """The name of the key that Secrets are to be encrypted with, or ``IDENTITY``."""
        return encryption_key(self.spec, self._files) if self.spec.encryption else IDENTITY

    def host_files(self, host: HostSpec) -> dict[str, str]:
        """
        Give the certificates, keys and tables of users that a host holds, by path.

        + host: it

        Everything here but what ends in ``.crt`` or ``.pub`` is a secret.
        """
        texts = {
            f"{CONFIG_DIR}/{name}.crt": self._bundle(name, "crt")
            for name, roles in authorities(self.spec).items()
            if host.roles.intersection(roles)
        }
        for one in self.certificates:
            if one.role in host.roles and one.host in ("", host.name):
                texts |= {f"{one.path}{end}": self._files[one.file + end] for end in _ENDS}
        if "control_plane" in host.roles:
            texts |= {f"{CONFIG_DIR}/{name}": text for name, text in self._of_apiserver().items()}
        return {path: text for path, text in texts.items() if text}

    def _of_apiserver(self) -> dict[str, str]:
        """What every control-plane host holds besides, by name."""
        signing = stored_as(SERVICE_ACCOUNT, self.spec.ca)
        texts = {
            f"{SERVICE_ACCOUNT}.pub": self._bundle(SERVICE_ACCOUNT, "pub"),
            f"{SERVICE_ACCOUNT}.key": self._files[f"{signing}.key"],
        }
        if self.spec.certificate_signing:
            signer = stored_as(CA, self.spec.ca)
            # The controller wants one certificate alone.
            texts[f"{SIGNING_CA}.crt"] = self._files[f"{signer}.crt"]
            texts[f"{CA}.key"] = self._files[f"{signer}.key"]
        if self.spec.apiserver_approach == "https":
            texts["known_tokens.csv"] = self.known_tokens_csv or ""
            texts["basic_auth.csv"] = self.basic_auth_csv or ""
        return texts

    def secrets(self) -> list[str]:
        """Give every secret text: tokens, passwords, keys, and each line of each private key."""
        found = [*self._tokens.values(), *words_in(self._files, BASIC_AUTH).values()]
        found += self.encryption_keys.values()
        for name, text in self._files.items():
            if name.endswith(".key"):
                found += [line for line in text.splitlines() if "-----" not in line]
                found.append(_base64(text))
        return found

    @property
    def _tokens(self) -> dict[str, str]:
        return words_in(self._files, TOKENS)

    def _secret_of(self, who: User) -> dict[str, str]:
        if self.spec.credential_kind == "token":
            return {"token": self._tokens[who.name]}
        return self._certificate_of(who)

    def _certificate_of(self, who: User) -> dict[str, str]:
        cert, key = client_files(who)
        return _client_data(self._files[cert], self._files[key])


def client_files(who: User) -> tuple[str, str]:
    """
    Give the names that the certificate and the key of a user have in the store.

    + who: the user
    """
    return f"clients/{who.name}.crt", f"clients/{who.name}.key"


def encryption_key(spec: ClusterSpec, files: Mapping[str, str]) -> str:
    """
    Give the name of the key that a cluster's Secrets are to be encrypted with; empty where the
    store has none of that name.

    + spec: the cluster
    + files: the store's files
    """
    wanted, keys = spec.encryption_key, words_in(files, ENCRYPTION)
    return next((name for name in keys if name == key_name(wanted, keys[name])), "")


def words_in(files: Mapping[str, str], name: str) -> dict[str, str]:
    """
    Give the secret words that a file of the store holds, by the names of their users.

    + files: the store's files
    + name: of the file

    Raises ``InputError`` when it is damaged.
    """
    try:
        words = dict(json.loads(files.get(name, "{}")))
    except (ValueError, TypeError):
        again = ", or delete it: then everybody in {name} gets a new one"
        fix = "restore it" if name == ENCRYPTION else f"restore it{again.format(name=name)}"
        problem = Problem("credentials_dir", name, None, "names with their secret words", fix)
        raise InputError([problem]) from None
    return {str(key): str(word) for key, word in words.items()}


def _client_data(cert: str, key: str) -> dict[str, str]:
    return {"client-certificate-data": _base64(cert), "client-key-data": _base64(key)}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _csv(words: Mapping[str, str], whose: Iterable[User]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for who in whose:
        groups = [",".join(who.groups)] if who.groups else []
        writer.writerow([words[who.name], who.user, who.name, *groups])
    return text.getvalue()
