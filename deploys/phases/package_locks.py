"""
Packages that the cluster runs from keep their version when the system is upgraded.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra_kube.cluster.packages import LOCKED, parse_rpm
from pyinfra_kube.deploys.phases import fedora_hosts
from pyinfra_kube.deploys.phases.container_runtime import packaged_parts
from pyinfra_kube.deploys.phases.host_preparation import distribution_packages
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.operations import packages


@phase("Packages")
def lock_packages() -> None:
    """Lock the container runtime's packages."""

    cluster = current_cluster()
    _lock(cluster, packaged_parts(cluster))


@phase("Packages")
def lock_fedora_packages() -> None:
    """Lock the packages of Kubernetes, etcd, flannel and the container runtime."""

    cluster = current_cluster()
    runtime = packaged_parts(cluster) if cluster.is_a("node") else []
    parts = [*fedora_hosts.packaged_parts(cluster), *runtime]
    _lock(cluster, parts, cluster.spec.rpm_files)


def _lock(cluster: Cluster, parts: Iterable[str], rpm_files: Iterable[str] = ()) -> None:
    spec, names = cluster.spec, list[str]()
    if spec.install_packages and spec.lock_packages:
        names = distribution_packages([part for part in LOCKED if part in parts])
        names += [found[0] for found in map(parse_rpm, rpm_files) if found]
    packages.locked(name="Lock the versions of packages", packages=list(dict.fromkeys(names)))
