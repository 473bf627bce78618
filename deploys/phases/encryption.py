"""
Secrets move from one key to another: every apiserver learns the new key with its other credentials,
and here it writes with that, Secrets are rewritten, and the old key goes.
"""

from __future__ import annotations

from pyinfra_kube.cluster.encryption import IDENTITY, Providers
from pyinfra_kube.deploys.phases.control_plane import KUBECTL, manifest, ready_url
from pyinfra_kube.deploys.phases.credentials import ADMIN, encryption_file
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import encryption
from pyinfra_kube.operations.static_pods import StaticPod


@phase("Encryption")
def encrypt_secrets() -> None:
    """Take the steps that are left to the key that is wanted."""

    cluster = current_cluster()
    plan = cluster.encryption
    if not cluster.is_a("control_plane"):
        return
    if plan.turned:
        _set(cluster, "Encrypt Secrets with the new key", plan.turned)
    if not plan.last:
        return
    if cluster.is_first_control_plane:
        encryption.secrets_rewritten(
            name="Rewrite Secrets",
            wanted=plan.wanted,
            etcd=cluster.etcd_access,
            kubectl=KUBECTL,
            kubeconfig=ADMIN,
            wait=cluster.spec.verify_timeout,
            missing=lambda: _missing(cluster),
        )
    old = "Forget the old key" if plan.wanted != IDENTITY else "Forget the key"
    _set(cluster, old, plan.last, plan.wanted)


def _set(cluster: Cluster, name: str, providers: Providers, needed_alone: str = "") -> None:
    encryption.providers(
        name=name,
        file=encryption_file(cluster, providers),
        pod=StaticPod(
            "kube-apiserver",
            manifest(cluster, "kube-apiserver", providers),
            ready=ready_url(cluster, "kube-apiserver"),
        ),
        directory=cluster.spec.manifest_dir,
        runtime=cluster.runtime.name,
        missing=lambda: _missing(cluster),
        needed_alone=needed_alone,
        etcd=cluster.etcd_access,
        # One apiserver after the other: clients of several always have one.
        _serial=len(cluster.spec.control_plane) > 1,
    )


def _missing(cluster: Cluster) -> str:
    """Which apiservers a step must wait for, before it asks them to read what it writes."""

    gone = [host.name for host in cluster.spec.control_plane if host.name not in cluster.active]
    if not gone:
        return ""
    return (
        f"{', '.join(gone)}: its apiserver may not know the new key; nothing is lost: run again "
        "when it answers"
    )


if "__name__" not in globals():
    run_phases([encrypt_secrets])
