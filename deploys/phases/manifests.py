"""
The user's own objects, from files and URLs.
"""

from __future__ import annotations

from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.deploys.phases.addons import dns_manifest
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.phases.metrics_server import metrics_manifest
from pyinfra_kube.deploys.phases.network_policies import policies_manifest
from pyinfra_kube.deploys.phases.node_local_dns import cache_manifest
from pyinfra_kube.deploys.phases.node_logs import logs_manifest
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.facts.objects import key
from pyinfra_kube.operations import objects
from pyinfra_kube.operations.manifests import Manifest, documents, title

OWNER = "manifests"
"""The name of their set."""


@phase("Manifests")
def apply_manifests() -> None:
    """Set the objects of ``manifests``, and delete those that are in none of them any more."""

    cluster = current_cluster()
    if cluster.manifests and cluster.is_first_control_plane:
        refuse(of_addons(cluster))
        objects.objects(
            name="Set the objects of manifests",
            manifests=cluster.manifests,
            kubectl=KUBECTL,
            kubeconfig=ADMIN,
            wait=cluster.spec.verify_timeout,
            owner=OWNER,
        )


def addons(cluster: Cluster) -> dict[str, str]:
    """
    Return the manifests of the add-ons but DNS, by the settings that ask for them.

    + cluster: the cluster
    """

    spec = cluster.spec
    made = {
        "node_local_dns": cache_manifest,
        "log_receiver": logs_manifest,
        "metrics_server": metrics_manifest,
        "network_policies": policies_manifest,
    }
    return {name: make(cluster) for name, make in made.items() if getattr(spec, name)}


def of_addons(cluster: Cluster) -> list[Problem]:
    """
    Return the objects of manifests that an add-on has too: each run would set them twice.

    + cluster: the cluster
    """

    known = {"dns": dns_manifest(cluster) if cluster.spec.dns else "", **addons(cluster)}
    settings = {
        key(one): setting
        for setting, text in known.items()
        for one in documents(Manifest(setting, text))
    }
    fix = "leave that object out, or turn that setting off"
    return [
        Problem(
            "manifests", manifest.name, None, f"other objects: {title(one)} is of {setting}", fix
        )
        for manifest in cluster.manifests
        for one in documents(manifest)
        if (setting := settings.get(key(one)))
    ]


if "__name__" not in globals():
    run_phases([apply_manifests])
