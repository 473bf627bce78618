"""
The user's own objects, from files and URLs.
"""

from __future__ import annotations

from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import objects

OWNER = "manifests"
"""The name of their set."""


@phase("Manifests")
def apply_manifests() -> None:
    """Set the objects of ``manifests``, and delete those that are in none of them any more."""

    cluster = current_cluster()
    if cluster.manifests and cluster.is_first_control_plane:
        objects.objects(
            name="Set the objects of manifests",
            manifests=cluster.manifests,
            kubectl=KUBECTL,
            kubeconfig=ADMIN,
            wait=cluster.spec.verify_timeout,
            owner=OWNER,
        )


if "__name__" not in globals():
    run_phases([apply_manifests])
