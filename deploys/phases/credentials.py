"""
Credentials are kept on the control machine, then given to the hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.components.common import CLOUD_CONFIG, CONFIG_DIR
from pyinfra_kube.cluster.components.etcd import FLANNEL
from pyinfra_kube.cluster.components.flanneld import KUBECONFIG
from pyinfra_kube.cluster.components.kube_apiserver import ENCRYPTION_FILE
from pyinfra_kube.cluster.encryption import IDENTITY, Providers
from pyinfra_kube.cluster.identities import ON_CONTROL_PLANE, is_own_user
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.run import host_facts
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.encryption import encryption_text
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import control_machine, files, users

ADMIN = host_facts.ADMIN
# Where kubectl looks by itself.
KUBECTL_CONFIG = "/root/.kube/config"
# The group of the users that Fedora's units run as up to 1.23, and that of etcd's, beside which
# there are no others since.
FEDORA_GROUP = "kube"
ETCD_GROUP = "etcd"


@phase("Credentials")
def keep_credentials() -> None:
    """Keep the credentials on the control machine, before any host has them."""

    cluster = current_cluster()
    # An operation of all hosts: none goes on before one of them has written.
    control_machine.save(
        name="Keep the credentials on the control machine",
        pending=lambda: cluster.credentials.changes if cluster.runs_once else (),
        write=cluster.store.save,
    )


@phase("Credentials")
def give_credentials() -> None:
    """Give the control plane its credentials, and the other hosts the CA."""

    _give("root")


@phase("Credentials")
def give_fedora_credentials() -> None:
    """Give credentials to hosts, readable by the users that Fedora's units run as."""

    _give(fedora_group(current_cluster()))


def fedora_group(cluster: Cluster) -> str:
    """The group of the users that the control plane's units run as, beside etcd's."""

    return FEDORA_GROUP if cluster.runtime is DOCKER else ETCD_GROUP


def _give(group: str) -> None:
    cluster = current_cluster()
    held = credential_files(cluster, group)
    if cluster.is_a("control_plane"):
        _give_control_plane(held, group)
    else:
        files.files(name="Give the host the cluster's CA", files=held)


def _give_control_plane(held: list[files.File], group: str) -> None:
    tables = {f.path: str(f.content) for f in held if f.path.endswith(".csv")}
    others = [file for file in held if file.path not in tables]
    files.files(name="Give the control plane its credentials", files=others)
    if tables:
        users.user_tables(
            name="Set the users of the apiserver",
            tables=tables,
            ours=lambda row: is_own_user(row.user, row.uid, row.groups),
            mode=_mode(_reader("", group)),
            group=_reader("", group),
        )
    link = files.File(KUBECTL_CONFIG, kind="link", target=ADMIN, if_absent=True)
    parent = str(Path(KUBECTL_CONFIG).parent)
    folder = files.File(parent, kind="directory", mode="700", if_absent=True)
    files.files(name="Let root use kubectl", files=[folder, link])


def credential_files(cluster: Cluster, group: str = "root") -> list[files.File]:
    """What the current host holds in /srv/kubernetes, its secrets readable by a group."""

    texts = _host_files(cluster, inside=True)
    if not cluster.is_a("control_plane"):
        return _as_files(texts, group)
    for component in ON_CONTROL_PLANE:
        texts[COMPONENTS[component].kubeconfig] = cluster.credentials.kubeconfig(component)
    texts[ADMIN] = cluster.credentials.kubeconfig("admin")
    folder = files.File(CONFIG_DIR, kind="directory", mode="755")
    providers = cluster.encryption.first[cluster.host_spec.name]
    encrypted = [encryption_file(cluster, providers)] if providers != (IDENTITY,) else []
    return [folder, *_as_files(texts, group), *encrypted, *cloud_files(cluster, _reader("", group))]


def encryption_file(cluster: Cluster, providers: Providers) -> files.File:
    """
    What tells the current host's apiserver with which keys it encrypts Secrets.

    + cluster: the cluster
    + providers: names of keys, and ``IDENTITY``, which alone needs no file
    """

    if providers == (IDENTITY,):
        return files.File(ENCRYPTION_FILE, kind="absent")
    text = encryption_text(providers, cluster.credentials.encryption_keys)
    return _secret(ENCRYPTION_FILE, text, "root")


def serving_files(cluster: Cluster) -> list[files.File]:
    """The certificate that the current host's kubelet serves with, and its key."""

    return _as_files(_host_files(cluster, inside=False), "root")


def _host_files(cluster: Cluster, inside: bool) -> dict[str, str]:
    held = cluster.credentials.host_files(cluster.host_spec)
    return {path: held[path] for path in held if path.startswith(f"{CONFIG_DIR}/") == inside}


def _as_files(texts: Mapping[str, str], group: str) -> list[files.File]:
    public = (".crt", ".pub")
    return [
        files.File(path, text)
        if path.endswith(public)
        else _secret(path, text, _reader(path, group))
        for path, text in texts.items()
    ]


def _reader(path: str, group: str) -> str:
    """The group that reads a key, where units have users of their own."""

    if group == "root" or path == f"{CONFIG_DIR}/{FLANNEL.name}.key":
        return "root"
    if path == f"{CONFIG_DIR}/etcd-server.key":
        return ETCD_GROUP
    return "root" if group == ETCD_GROUP else group


def kubeconfig_file(cluster: Cluster, component: str) -> files.File:
    """The kubeconfig of a component of the current node."""

    text = cluster.credentials.kubeconfig(component, cluster.host_spec.name)
    path = KUBECONFIG if component == "flanneld" else COMPONENTS[component].kubeconfig
    return files.File(path, text, mode="600", secret=True)


def ca_file(cluster: Cluster) -> files.File:
    """The CA certificate, as every host has it."""

    return files.File(f"{CONFIG_DIR}/ca.crt", cluster.credentials.ca_cert)


def _secret(path: str, content: str | bytes, group: str) -> files.File:
    return files.File(path, content, mode=_mode(group), group=group, secret=True)


def _mode(group: str) -> str:
    return "600" if group == "root" else "640"


def cloud_files(cluster: Cluster, group: str = "root") -> list[files.File]:
    """The cloud provider's file, which may hold keys."""

    if not cluster.spec.cloud_config:
        return []
    content = Path(cluster.spec.cloud_config).expanduser().read_bytes()
    return [_secret(CLOUD_CONFIG, content, group)]


if "__name__" not in globals():
    run_phases([keep_credentials, give_credentials])
