"""
Who may do what in a cluster, and with which secret (C1–C7).

Credentials live in a folder on the control machine. ``CredentialStore.plan`` makes in memory what
the folder lacks, so that a dry run knows everything and writes nothing; ``CredentialStore.save``
writes it. What is there stays as it is, but for certificates whose names changed or whose end is
near.
"""

from __future__ import annotations

import base64
import csv
import fcntl
import io
import json
import os
import secrets
import string
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.allocation import AddressPlan
from pyinfra_kube.cluster.components import CONFIG_DIR
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.spec import ClusterSpec


class User(NamedTuple):
    """
    Who a component is to the apiserver. ``{node}`` stands for the node's name.

    + name: what the store calls it
    + user: the user's name
    + groups: the user's groups
    """

    name: str
    user: str
    groups: tuple[str, ...] = ()


ADMIN = User("admin", "admin", ("system:masters",))
CONTROLLER_MANAGER = User("kube-controller-manager", "system:kube-controller-manager")
SCHEDULER = User("kube-scheduler", "system:kube-scheduler")

POLICIES: dict[str, dict[str, User]] = {
    "shared": {
        "admin": ADMIN,
        "kube-controller-manager": ADMIN,
        "kube-scheduler": ADMIN,
        "kubelet": ADMIN,
        "kube-proxy": ADMIN,
    },
    "per_component": {
        "admin": ADMIN,
        "kube-controller-manager": CONTROLLER_MANAGER,
        "kube-scheduler": SCHEDULER,
        # Node authorization needs a name per node; one for all can only be let do everything.
        "kubelet": User("kubelet", "kubelet", ("system:masters",)),
        "kube-proxy": User("kube-proxy", "system:kube-proxy"),
    },
    "per_node": {
        "admin": ADMIN,
        "kube-controller-manager": CONTROLLER_MANAGER,
        "kube-scheduler": SCHEDULER,
        "kubelet": User("kubelet-{node}", "system:node:{node}", ("system:nodes",)),
        "kube-proxy": User("kube-proxy-{node}", "system:kube-proxy"),
    },
}
"""Which user each component is, by ``credential_policy`` (C4)."""

ON_NODES = ("kubelet", "kube-proxy")
ON_CONTROL_PLANE = ("kube-controller-manager", "kube-scheduler")

KUBELET_CLIENT = User("kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",))
"""Who the apiserver is to kubelets."""

CA_CERT, CA_KEY = "ca.crt", "ca.key"
SERVICE_ACCOUNT_KEY, SERVICE_ACCOUNT_PUB = "service-account.key", "service-account.pub"
TOKENS, BASIC_AUTH, LOCK = "tokens.json", "basic_auth.json", ".lock"
UNFINISHED = ".new-"
TOKEN_LETTERS = string.ascii_letters + string.digits
TOKEN_LENGTH = 32
# The longest common name that X.509 allows.
LONGEST_NAME = 64


@dataclass(frozen=True)
class Credentials:
    """
    Every credential of a cluster, in memory. Made by ``CredentialStore.plan``.

    + spec: the cluster
    + changes: one line for each thing that the store does not hold like this yet, and why
    + warnings: what is allowed and yet worth a look
    + new: whether nothing of it was in the store
    """

    spec: ClusterSpec
    changes: tuple[str, ...]
    warnings: tuple[str, ...]
    new: bool
    _files: Mapping[str, str] = field(repr=False)
    _basic_auth: bool = field(default=False, repr=False)

    @property
    def ca_cert(self) -> str:
        """The root certificate, PEM (C1)."""
        return self._files[CA_CERT]

    @property
    def ca_fingerprint(self) -> str:
        """SHA-256 of the root certificate, in hexadecimal."""
        return pki.read(self.ca_cert).fingerprint

    @property
    def server_cert(self) -> str:
        """The apiserver's certificate, PEM (C1)."""
        return self._files["server.crt"]

    @property
    def server_key(self) -> str:
        """The apiserver's key, PEM; a secret."""
        return self._files["server.key"]

    @property
    def kubelet_client_cert(self) -> str:
        """The apiserver's certificate as a client of kubelets, PEM."""
        return self._files["kubelet-client.crt"]

    @property
    def kubelet_client_key(self) -> str:
        """Its key, PEM; a secret."""
        return self._files["kubelet-client.key"]

    @property
    def service_account_key(self) -> str:
        """The key that signs service account tokens, PEM; a secret (C7)."""
        return self._files[SERVICE_ACCOUNT_KEY]

    @property
    def service_account_pub(self) -> str:
        """The key that verifies service account tokens, PEM."""
        return self._files[SERVICE_ACCOUNT_PUB]

    @property
    def known_tokens_csv(self) -> str | None:
        """The apiserver's file of tokens; ``None`` where users have certificates (C3)."""
        if self.spec.credential_kind != "token":
            return None
        tokens = self._tokens
        return _csv(
            [tokens[who.name], who.user, who.name, ",".join(who.groups)] for who in users(self.spec)
        )

    @property
    def basic_auth_csv(self) -> str | None:
        """The apiserver's file of passwords, where it was asked for (C3)."""
        if not self._basic_auth:
            return None
        password = _words(self._files, BASIC_AUTH)[ADMIN.name]
        return _csv([[password, ADMIN.user, ADMIN.name, ",".join(ADMIN.groups)]])

    def kubeconfig(self, component: str, host: str | None = None) -> str:
        """
        Give a kubeconfig (C5, C6), always with its keys in the same order.

        + component: "admin", "kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"
        + host: the host that it is for; needed for "kubelet" and "kube-proxy"

        Those on its hosts ask the apiserver of their own host, the others the
        control plane's endpoint.

        ```
        credentials.kubeconfig("kubelet", "node1")
        ```
        """
        who = _user(self.spec, component, host)
        cluster: dict[str, str] = {"server": _server(self.spec, component)}
        user: dict[str, str] = {}
        if self.spec.apiserver_approach == "https":
            cluster["certificate-authority-data"] = _base64(self.ca_cert)
            user = self._secret_of(who)
        names = self.spec.cluster_name, who.user
        return _kubeconfig(*names, tuple(cluster.items()), tuple(user.items()))

    def control_plane_files(self) -> dict[str, str]:
        """
        Give what a control-plane host holds in /srv/kubernetes, by path (C1, C3, C7).

        Everything here but what ends in ``.crt`` or ``.pub`` is a secret.
        """
        names = {
            CA_CERT: self.ca_cert,
            "server.crt": self.server_cert,
            "server.key": self.server_key,
            "kubelet-client.crt": self.kubelet_client_cert,
            "kubelet-client.key": self.kubelet_client_key,
            SERVICE_ACCOUNT_PUB: self.service_account_pub,
            SERVICE_ACCOUNT_KEY: self.service_account_key,
        }
        if self.spec.apiserver_approach == "https":
            names["known_tokens.csv"] = self.known_tokens_csv or ""
            names["basic_auth.csv"] = self.basic_auth_csv or ""
        return {f"{CONFIG_DIR}/{name}": text for name, text in names.items() if text}

    def secrets(self) -> list[str]:
        """Give every secret text: tokens, passwords, and each line of each private key."""
        found = [*self._tokens.values(), *_words(self._files, BASIC_AUTH).values()]
        for name, text in self._files.items():
            if name.endswith(".key"):
                found += [line for line in text.splitlines() if "-----" not in line]
                found.append(_base64(text))
        return found

    @property
    def _tokens(self) -> dict[str, str]:
        return _words(self._files, TOKENS)

    def _secret_of(self, who: User) -> dict[str, str]:
        if self.spec.credential_kind == "token":
            return {"token": self._tokens[who.name]}
        cert, key = _client_files(who)
        return {
            "client-certificate-data": _base64(self._files[cert]),
            "client-key-data": _base64(self._files[key]),
        }


class CredentialStore:
    """
    The folder of a cluster's credentials on the control machine.

    + folder: where it is; it need not be there yet

    ```
    store = CredentialStore("inventories/kubernetes-credentials")
    credentials = store.plan(spec, plan)
    print("\\n".join(credentials.changes))
    store.save()
    ```
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._stored: dict[str, str] = {}
        self._planned: dict[str, str] = {}
        self._changes: dict[str, str] = {}
        self.load()

    @property
    def exists(self) -> bool:
        """Whether the folder holds a root certificate."""
        return (self.folder / CA_CERT).exists()

    def load(self) -> None:
        """
        Read the folder, and forget what was planned and not saved.

        Raises ``InputError`` when a file cannot be read.
        """
        self._stored = _read_folder(self.folder)
        self._planned = dict(self._stored)
        self._changes = {}

    def plan(
        self,
        spec: ClusterSpec,
        plan: AddressPlan,
        *,
        basic_auth: bool = False,
        now: datetime | None = None,
    ) -> Credentials:
        """
        Give every credential of a cluster; what the store lacks is made, in memory only.

        + spec: the cluster
        + plan: its addresses
        + basic_auth: whether administrators may come with a password too (up to 1.18)
        + now: the time; by default the present

        A second call gives the same. Raises ``InputError`` when something is to be issued and the
        store holds a CA without its key, and for a node name too long for a certificate.
        """
        maker = _Maker(spec, self._planned, now or datetime.now(timezone.utc))
        maker.make(_server_names(spec, plan), basic_auth=basic_auth)
        self._planned = maker.files
        self._changes.update(maker.changes)
        return Credentials(
            spec=spec,
            changes=tuple(f"{name}: {why}" for name, why in self._changes.items()),
            warnings=tuple(maker.warnings),
            new=not self._stored,
            _files=maker.files,
            _basic_auth=basic_auth,
        )

    def save(self) -> list[str]:
        """
        Write what was planned and is not stored yet; give the names of the files written.

        The folder is 0700, each file 0600 from its first byte and replaced whole. Raises
        ``InputError`` when another run wrote the folder since it was read.
        """
        new = {n: text for n, text in self._planned.items() if self._stored.get(n) != text}
        if new:
            with _locked(self.folder):
                if _read_folder(self.folder) != self._stored:
                    raise InputError([_changed_meanwhile(self.folder)])
                for name in sorted(new, key=_save_order):
                    _write(self.folder / name, new[name])
        else:
            _close_to_others(self.folder)
        self._stored, self._changes = dict(self._planned), {}
        return sorted(new)


def compare_with_hosts(
    credentials: Credentials,
    folder: str | Path,
    fingerprints: Mapping[str, str],
    *,
    replace: bool = False,
) -> list[Problem]:
    """
    Name the hosts that hold a CA which the store does not know: it was lost, or is another's.

    + credentials: what the store gives
    + folder: where the store is
    + fingerprints: host → SHA-256 of the CA certificate that it holds, for those that hold one
    + replace: whether these hosts are to get the store's credentials all the same

    ```
    compare_with_hosts(credentials, store.folder, {"master": "ab12…"})
    ```
    """
    strange: dict[str, list[str]] = {}
    for host, fingerprint in fingerprints.items():
        if fingerprint.lower().replace(":", "") != credentials.ca_fingerprint:
            strange.setdefault(fingerprint, []).append(host)
    allowed = "the folder that holds the CA of these hosts (SHA-256 {}…)"
    fix = (
        "restore that folder from a copy, or name it in credentials_dir; or set "
        "replace_credentials = True: every host then gets new credentials and service accounts' "
        "tokens end"
    )
    problems = [
        Problem("credentials_dir", str(folder), ", ".join(hosts), allowed.format(ca[:16]), fix)
        for ca, hosts in strange.items()
    ]
    return [] if replace else problems


def users(spec: ClusterSpec) -> list[User]:
    """
    Give every user of a cluster's apiserver, once each: administrators, control plane, then nodes.

    + spec: the cluster
    """
    policy = POLICIES[spec.credential_policy]
    of_nodes = [_user(spec, part, node.name) for node in spec.nodes for part in ON_NODES]
    return list(
        dict.fromkeys([*(policy[part] for part in ("admin", *ON_CONTROL_PLANE)), *of_nodes])
    )


def is_own_user(user: str, uid: str, groups: str) -> bool:
    """
    Whether a row of known_tokens.csv or basic_auth.csv is of a user of ours, under any policy and
    for any node, also one that is gone.

    + user, uid: the row's second and third value
    + groups: the others, with commas between

    ```
    >>> is_own_user("system:node:n1", "kubelet-n1", "system:nodes")
    True
    >>> is_own_user("alice", "alice-uid", "developers")
    False
    ```
    """

    def matches(who: User) -> bool:
        before, node, after = who.name.partition("{node}")
        name = uid[len(before) : len(uid) - len(after)] if node else ""
        own = who.name.format(node=name), who.user.format(node=name), ",".join(who.groups)
        return own == (uid, user, groups)

    return any(matches(who) for policy in POLICIES.values() for who in policy.values())


class _Maker:
    """Fills up a store's files, keeping what is good, and says why it made what it made."""

    def __init__(self, spec: ClusterSpec, files: Mapping[str, str], now: datetime) -> None:
        self.spec = spec
        self.files = dict(files)
        self.now = now
        self.changes: dict[str, str] = {}
        self.warnings: list[str] = []

    def make(self, server_names: list[str], *, basic_auth: bool) -> None:
        self._ca()
        self._pair("server", "server", User("server", "kube-apiserver"), server_names)
        self._pair("kubelet-client", "client", KUBELET_CLIENT)
        self._service_account()
        if self.spec.apiserver_approach == "https":
            self._tokens() if self.spec.credential_kind == "token" else self._clients()
            if basic_auth:
                self._keep_words(BASIC_AUTH, [ADMIN])

    def _ca(self) -> None:
        cert, key = self.files.get(CA_CERT), self.files.get(CA_KEY)
        if cert and not pki.readable(cert):
            again = ", or delete it: it is then made again from ca.key" if key else ""
            allowed = "a certificate, whole"
            raise InputError(
                [Problem("credentials_dir", CA_CERT, None, allowed, f"restore it{again}")]
            )
        if cert and key and pki.fits(cert, key):
            self._look_at_end(cert)
        elif not cert:
            name = f"{self.spec.cluster_name[:60]}-ca"
            why = "made again from ca.key, it was missing" if key else "made, the store has none"
            try:
                pair = pki.make_ca(name, key=key, now=self.now)
            except (ValueError, TypeError):
                raise InputError([_damaged(CA_KEY, "restore it")]) from None
            self._set(why, **{CA_CERT: pair.cert, CA_KEY: pair.key})
        elif key:
            allowed = f"the CA's own key, that of {CA_CERT}"
            raise InputError([Problem("credentials_dir", CA_KEY, None, allowed, "restore it")])

    def _look_at_end(self, cert: str) -> None:
        end = pki.read(cert).not_after
        if end - self.now < timedelta(days=self.spec.certificate_days):
            self.warnings.append(
                f"{CA_CERT} ends on {end:%Y-%m-%d}; certificates cannot outlive it. A new CA means "
                "new credentials on every host: set replace_credentials = True with an empty "
                "credentials_dir"
            )

    def _pair(self, file: str, kind: str, who: User, names: Iterable[str] = ()) -> None:
        cert, key = f"{file}.crt", f"{file}.key"
        why = self._why(self.files.get(cert), self.files.get(key), who, frozenset(names))
        if not why:
            return
        ca = pki.KeyPair(self.files[CA_CERT], self.files.get(CA_KEY, ""))
        if not ca.key:
            fix = "restore ca.key from a copy, or start with an empty credentials_dir"
            allowed = f"a folder with {CA_KEY}, for {cert} is to be {why}"
            raise InputError([Problem("credentials_dir", f"no {CA_KEY}", None, allowed, fix)])
        pair = pki.issue(
            ca,
            kind,
            who.user,
            organizations=who.groups,
            names=names,
            days=self.spec.certificate_days,
            now=self.now,
        )
        self._set(why, **{cert: pair.cert, key: pair.key})

    def _why(self, cert: str | None, key: str | None, who: User, names: frozenset[str]) -> str:
        """Why a certificate is to be issued; empty when it is good as it is."""
        if not cert or not key:
            return "made, the store has none" if not cert else "re-issued, its key is missing"
        if not pki.fits(cert, key):
            return "re-issued, its key does not belong to it"
        if not pki.issued_by(cert, self.files[CA_CERT]):
            return "re-issued, another CA signed it"
        old = pki.read(cert)
        if (old.common_name, set(old.organizations)) != (who.user, set(who.groups)):
            return f"re-issued, it names {old.common_name} and not {who.user}"
        reasons = _new_names(names - old.names) + _gone_names(old.names - names)
        if reasons:
            return f"re-issued, {', '.join(reasons)}"
        return self._near_end(old.not_after)

    def _near_end(self, end: datetime) -> str:
        left = end - self.now
        longest = pki.read(self.files[CA_CERT]).not_after
        next_end = min(self.now + timedelta(days=self.spec.certificate_days), longest)
        # A certificate that can only end as soon again would be issued in every run.
        if left > timedelta(days=self.spec.certificate_renew_days) or next_end - end < timedelta(1):
            return ""
        when = f"in {left.days} days" if left > timedelta(0) else "which is past"
        return f"re-issued, it ends on {end:%Y-%m-%d}, {when}"

    def _service_account(self) -> None:
        key = self.files.get(SERVICE_ACCOUNT_KEY)
        if not key:
            why = "made, the store has none"
            self._set(why, **{SERVICE_ACCOUNT_KEY: (key := pki.make_key())})
        try:
            public = pki.public_key(key)
        except (ValueError, TypeError):
            fix = "restore it, or delete it: service accounts' tokens then end"
            raise InputError([_damaged(SERVICE_ACCOUNT_KEY, fix)]) from None
        if self.files.get(SERVICE_ACCOUNT_PUB) != public:
            self._set(f"made from {SERVICE_ACCOUNT_KEY}", **{SERVICE_ACCOUNT_PUB: public})

    def _tokens(self) -> None:
        self._keep_words(TOKENS, users(self.spec))

    def _keep_words(self, file: str, whose: Iterable[User]) -> None:
        """Keep one secret word for each user, and none for whoever is gone."""
        old = _words(self.files, file)
        new = {who.name: old.get(who.name) or _token() for who in whose}
        if new != old:
            added = [name for name in new if name not in old]
            gone = [name for name in old if name not in new]
            parts = (("new for", added), ("none any more for", gone))
            why = ", ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
            self._set(why or "in another order", **{file: json.dumps(new, indent=1) + "\n"})

    def _clients(self) -> None:
        long = [who for who in users(self.spec) if len(who.user) > LONGEST_NAME]
        if long:
            allowed = f"at most {LONGEST_NAME} characters in a certificate"
            fix = 'a shorter hostname_override, or credential_kind = "token"'
            raise InputError(
                Problem("hostname_override", who.user, None, allowed, fix) for who in long
            )
        for who in users(self.spec):
            self._pair(_client_files(who)[0].removesuffix(".crt"), "client", who)

    def _set(self, why: str, **files: str) -> None:
        self.files.update(files)
        self.changes[next(iter(files))] = why


# Users and kubeconfigs


def _user(spec: ClusterSpec, component: str, host: str | None) -> User:
    who = POLICIES[spec.credential_policy][component]
    if component not in ON_NODES or host is None:
        return who
    node = spec.host(host).hostname_override
    return who._replace(name=who.name.format(node=node), user=who.user.format(node=node))


def _client_files(who: User) -> tuple[str, str]:
    return f"clients/{who.name}.crt", f"clients/{who.name}.key"


def _server(spec: ClusterSpec, component: str) -> str:
    if spec.apiserver_approach == "https" and component in ON_CONTROL_PLANE:
        return f"https://127.0.0.1:{spec.secure_port}"
    return spec.apiserver_url


@cache
def _kubeconfig(
    name: str,
    user_name: str,
    cluster: tuple[tuple[str, str], ...],
    user: tuple[tuple[str, str], ...],
) -> str:
    context = {"cluster": name, "user": user_name} if user else {"cluster": name}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": dict(cluster)}],
        "users": [{"name": user_name, "user": dict(user)}] if user else [],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    return str(yaml.safe_dump(config, sort_keys=False, width=10**6))


def _server_names(spec: ClusterSpec, plan: AddressPlan) -> list[str]:
    """Everything that a client may call the apiserver (C1)."""
    masters = [name for host in spec.control_plane for name in (host.name, host.hostname_override)]
    addresses = [plan.addresses.get(host.name) for host in spec.control_plane]
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names = [
        *filter(None, [spec.endpoint_host, *addresses]),
        plan.service_ip,
        "127.0.0.1",
        *service,
        f"{service[-1]}.{spec.cluster_domain}",
        *masters,
    ]
    return list(dict.fromkeys(names))


# Small things


def _token() -> str:
    return "".join(secrets.choice(TOKEN_LETTERS) for _ in range(TOKEN_LENGTH))


def _damaged(file: str, fix: str) -> Problem:
    return Problem("credentials_dir", file, None, "an RSA key, whole", fix)


def _words(files: Mapping[str, str], name: str) -> dict[str, str]:
    try:
        words = dict(json.loads(files.get(name, "{}")))
    except (ValueError, TypeError):
        fix = f"restore it, or delete it: then everybody in {name} gets a new one"
        problem = Problem("credentials_dir", name, None, "names with their secret words", fix)
        raise InputError([problem]) from None
    return {str(key): str(word) for key, word in words.items()}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _csv(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(row if row[-1] else row[:-1] for row in rows)
    return text.getvalue()


def _new_names(names: Iterable[str]) -> list[str]:
    return [f"{name} is a new name" for name in sorted(names)]


def _gone_names(names: Iterable[str]) -> list[str]:
    return [f"{name} is no name of it any more" for name in sorted(names)]


# The folder


def _read_folder(folder: Path) -> dict[str, str]:
    try:
        paths = [path for part in (folder, folder / "clients") for path in _files_of(part)]
        return {
            str(path.relative_to(folder)): path.read_text(encoding="ascii")
            for path in sorted(paths)
            if path.suffix in (".crt", ".key", ".pub", ".json")
        }
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"a folder of credentials that can be read ({error})"
        raise InputError([Problem("credentials_dir", str(folder), None, allowed)]) from None


def _files_of(folder: Path) -> list[Path]:
    # Not glob: that takes a folder which it may not read for an empty one.
    if not folder.exists():
        return []
    return [Path(entry.path) for entry in os.scandir(folder) if entry.is_file()]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs out while a folder is written."""
    for path in (folder, folder / "clients"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_to_others(folder)
    with open(os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for rest in folder.rglob(f"{UNFINISHED}*"):
            rest.unlink()
        if not (folder / ".gitignore").exists():
            _write(folder / ".gitignore", "*\n")
        yield


def _save_order(name: str) -> tuple[bool, bool, str]:
    # The CA first and each key before its certificate: what a run that dies leaves can be mended.
    return name != CA_KEY, not name.endswith(".key"), name


def _write(path: Path, text: str) -> None:
    """Put a file in its place whole, closed to others from its first byte."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with open(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _close_to_others(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = 0o700 if path.is_dir() else 0o600
        if path.exists() and path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)


def _changed_meanwhile(folder: Path) -> Problem:
    allowed = "a folder that only one run writes; another one wrote it meanwhile"
    return Problem("credentials_dir", str(folder), None, allowed, "run again")
