"""
Add-ons that are no longer wanted: their objects, and what they left on hosts.
"""

from __future__ import annotations

from pyinfra_kube.cluster.releases import covers
from pyinfra_kube.deploys.phases import (
    manifests,
    metrics_server,
    network_policies,
    node_local_dns,
    node_logs,
    pod_network,
)
from pyinfra_kube.deploys.phases.addons import DNS
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import objects, policy_rules


@phase("Add-ons")
def leave_addons() -> None:
    """Delete the objects of add-ons that are turned off, and then what they left on hosts."""

    cluster = current_cluster()
    spec = cluster.spec
    release = cluster.release
    of_today = covers("1.24-", release.minor)
    # Whether it is wanted, and whether the release can have it: else there is nothing to look for.
    addons = {
        DNS: (spec.dns, True in release.fact("dns")),
        node_local_dns.OWNER: (spec.node_local_dns, True in release.fact("node_local_dns")),
        node_logs.OWNER: (bool(spec.log_receiver), of_today),
        metrics_server.OWNER: (spec.metrics_server, True in release.fact("metrics_server")),
        network_policies.OWNER: (spec.network_policies, True in release.fact("network_policies")),
        manifests.OWNER: (bool(spec.manifests), of_today),
    }
    absent = [owner for owner, (wanted, possible) in addons.items() if possible and not wanted]
    if cluster.is_first_control_plane and absent:
        objects.sets_absent(
            name="Delete the add-ons that are not wanted",
            owners=absent,
            kubectl=KUBECTL,
            kubeconfig=ADMIN,
            wait=spec.verify_timeout,
        )
    if node_local_dns.OWNER in absent and cluster.is_a("node"):
        pod_network.set_node_dns(cluster, present=False)
    if node_logs.OWNER in absent and cluster.is_a("node"):
        node_logs.forget_logs()
    if network_policies.OWNER in absent and cluster.is_a("node"):
        policy_rules.policy_rules_absent(name="Remove the rules of NetworkPolicies")


if "__name__" not in globals():
    run_phases([leave_addons])
