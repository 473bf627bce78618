"""
Prepare Fedora's hosts: packages, kernel settings, names, and no firewall beside docker's.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS, NODE_COMPONENTS
from pyinfra_kube.cluster.packages import BY_MINOR, NETWORK_TOOLS, packages_for
from pyinfra_kube.cluster.releases import minor_of
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases import container_runtime
from pyinfra_kube.deploys.phases.fedora_units import PACKAGED_ETCD, brings_etcd
from pyinfra_kube.deploys.phases.firewalls import open_firewalld, see_firewalls
from pyinfra_kube.deploys.phases.host_preparation import (
    connect_host,
    distribution_packages,
    runtime_helpers,
    set_swap,
)
from pyinfra_kube.deploys.phases.pod_network import bridge_of_pods
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.fitness import check_hosts
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations import files, packages, services, verify

# The guide's "iptables-services" is a package; its unit has another name.
FIREWALLS = ("firewalld.service", "iptables.service", "ip6tables.service", "nftables.service")
# The folder of the control plane's runtime files; /var/run is a link to /run.
RUNTIME = "/run/kubernetes"
# Of this name, so that it replaces the package's own.
TMPFILES = "/etc/tmpfiles.d/kubernetes.conf"
TESTING = "updates-testing"
# The program whose package has the release of a role.
PROGRAMS = {"control_plane": "kube-apiserver", "node": "kubelet"}


@phase("Fedora hosts")
def prepare_fedora_host() -> None:
    """
    Refuse hosts that cannot carry the cluster; install the host's packages, and stop firewalls that
    conflict with docker. A host with another release keeps that until its turn of the upgrade.
    """

    cluster = current_cluster()
    check_hosts(cluster, as_units=True)
    waits = cluster.in_turn("node")
    if cluster.spec.install_packages:
        parts = [part for part in packaged_parts(cluster) if not (waits and part in BY_MINOR)]
        helpers = runtime_helpers(cluster) if cluster.is_a("node") else []
        installed = packages.packages(
            name="Install the host's packages",
            packages=distribution_packages([*parts, *helpers]),
            enablerepo=TESTING if cluster.spec.enable_updates_testing else None,
            rpm_files=() if waits else cluster.spec.rpm_files,
            removable=cluster.spec.removable_packages,
        )
        if installed.will_change and not waits:
            packaged_etcd = cluster.is_a("etcd") and not cluster.spec.etcd_source
            # Up to 1.23 it has no flags.
            of_today = packaged_etcd and cluster.runtime is not DOCKER
            hint = "give another package in rpm_files, or etcd_source"
            _check_packages(
                cluster, [brings_etcd(cluster, PACKAGED_ETCD, hint)] if of_today else []
            )
    set_swap(cluster)
    # One that is stopped takes nothing back.
    open_firewalld(cluster)
    stopped = services.services(
        name="Stop other firewalls",
        units=[
            services.Unit(unit, running=False, enabled=False)
            for unit in FIREWALLS
            if not (cluster.spec.open_firewalld and unit == "firewalld.service")
        ],
    )
    connect_host()
    # A firewall that this run stops blocks nothing afterwards.
    if not stopped.will_change:
        see_firewalls(cluster, bridge_of_pods(cluster))
    # Packages of 1.24 on have no user of their own.
    if cluster.is_a("control_plane") and cluster.runtime is DOCKER:
        folder = files.File(RUNTIME, kind="directory", mode="750", user="kube", group="kube")
        at_boot = files.File(TMPFILES, render(f"{TMPFILES[1:]}.j2"))
        files.files(name="Make /run/kubernetes, at every boot too", files=[at_boot, folder])


def move_packages(cluster: Cluster) -> None:
    """
    Have the packages of the wanted release on the current host, in place of those of another one.

    + cluster: the cluster
    """

    runtime = [one for one in container_runtime.packaged_parts(cluster) if one in BY_MINOR]
    parts = [*(part for part in packaged_parts(cluster) if part in BY_MINOR), *runtime]
    here, spec = cluster.own_facts, cluster.spec
    had = [version for one, version in here.versions.items() if one != "containerd"]
    others = {minor_of(version) for version in had} - {cluster.release.minor}
    gone = [
        name
        for major, minor in sorted(others)
        for name in packages_for(parts, here.system, here.release, f"{major}.{minor}")
    ]
    components = [*CONTROL_PLANE_COMPONENTS] if cluster.is_a("control_plane") else []
    programs = [f"/usr/bin/{one}" for one in (*components, *NODE_COMPONENTS)]
    programs += [container_runtime.PACKAGED_CRIO] if "cri-o" in runtime else []
    major, minor = cluster.release.minor
    packages.packages(
        name=f"Move to the packages of {major}.{minor}",
        packages=distribution_packages(parts),
        enablerepo=TESTING if spec.enable_updates_testing else None,
        rpm_files=spec.rpm_files,
        removable=[*spec.removable_packages, *gone],
        programs=programs,
        kept=[spec.kubelet_root, spec.manifest_dir],
    )
    _check_packages(cluster)


def _check_packages(cluster: Cluster, more: Iterable[verify.Check] = ()) -> None:
    checks = [_brings(cluster, PROGRAMS[role]) for role in PROGRAMS if cluster.is_a(role)]
    verify.verified(
        name="Check that the packages bring the release", checks=[*checks, *more], timeout=1
    )


def packaged_parts(cluster: Cluster) -> list[str]:
    """The parts that the current host has from packages of the distribution."""

    if cluster.spec.package_source == "rpm":
        return []
    node = cluster.is_a("node")
    wanted = {
        # flannel's keys are asked for with etcdctl where it has a role.
        "etcd": cluster.is_a("etcd") or (node and cluster.flannel_has_role),
        "control-plane": cluster.is_a("control_plane"),
        "node": node,
        "docker": node and cluster.runtime is DOCKER and not cluster.own_facts.foreign_docker,
        "flannel": node and cluster.on_flannel and not cluster.spec.flannel_source,
        NETWORK_TOOLS[cluster.spec.packet_filter]: node,
    }
    return [part for part, needed in wanted.items() if needed]


def _brings(cluster: Cluster, program: str) -> verify.Check:
    """Refuse packages of another minor release, which would not know some of the flags."""

    major, minor = cluster.release.minor
    return verify.Check(
        f"{program} is of {major}.{minor}",
        command=f"{program} --version | grep -qF ' v{major}.{minor}.'",
        log=f"{program} --version",
        hint="set kubernetes_version to the release that the packages bring",
    )


if "__name__" not in globals():
    run_phases([prepare_fedora_host])
