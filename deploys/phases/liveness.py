"""
Liveness: supervisord's monitors restart a container runtime, kubelet or kube-proxy that hangs.
"""

from __future__ import annotations

from pyinfra_kube.deploys.phases.host_preparation import distribution_packages
from pyinfra_kube.deploys.phases.verification import answers
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import Files
from pyinfra_kube.facts.services import Units, UnitState
from pyinfra_kube.operations import packages, services, supervisor


@phase("Liveness")
def monitor_units() -> None:
    """Have supervisord monitor the units of every host, or no more."""

    set_monitors(current_cluster())


@phase("Liveness")
def monitor_fedora_units() -> None:
    """Have supervisord monitor the units of nodes, or no more."""

    if current_cluster().is_a("node"):
        set_monitors(current_cluster())


def set_monitors(cluster: Cluster) -> None:
    """
    Install and run supervisord on the current host with its monitors, or remove those.

    + cluster: the cluster
    """

    if cluster.spec.liveness_monitor != "supervisord":
        forget_monitors(cluster)
        return
    installs = False
    if cluster.spec.install_packages:
        installed = packages.packages(
            name="Install supervisord",
            packages=distribution_packages(["supervisor"]),
            removable=cluster.spec.removable_packages,
        )
        installs = installed.will_change
    daemon = "supervisor.service" if _is_debian(cluster) else "supervisord.service"
    state = read(Units, units=[daemon]).units.get(daemon, UnitState())
    # Programs of others run there: nothing that it reads is a reason to restart it. A new one may
    # have been started by its package.
    if (state.active, state.enabled) != ("active", "enabled"):
        unit = services.Unit(daemon, restart=installs)
        services.services(name="Run supervisord", units=[unit])
    asked = {f"{one}.service": answers(cluster, one, "unit").command for one in cluster.units}
    supervisor.monitors(
        name="Monitor the container runtime, kubelet and kube-proxy",
        units={cluster.runtime.unit: cluster.runtime.pods, **asked},
        config=_config(cluster),
    )


def forget_monitors(cluster: Cluster) -> None:
    """
    Remove the monitors of the current host, where it has any. supervisord stays.

    + cluster: the cluster
    """

    config = _config(cluster)
    if config in read(Files, paths=[config], digest=False):
        supervisor.monitors(name="Remove the monitors", units={}, config=config)


def _config(cluster: Cluster) -> str:
    return supervisor.CONFIG if _is_debian(cluster) else supervisor.FEDORA_CONFIG


def _is_debian(cluster: Cluster) -> bool:
    return cluster.own_facts.system in ("debian", "ubuntu")


if "__name__" not in globals():
    run_phases([monitor_units])
