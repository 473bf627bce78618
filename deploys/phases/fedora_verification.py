"""
Check that a cluster on Fedora works: components, flannel's leases, nodes.
"""

from __future__ import annotations

from typing import Any

from pyinfra.api import OperationError

from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases.addons import allow_components, load_dns_image, run_dns
from pyinfra_kube.deploys.phases.pod_network import bridge_of_pods
from pyinfra_kube.deploys.phases.verification import (
    answers,
    obeys,
    set_nodes,
    show,
    verify_nodes,
    wait_until,
)
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE, DOCKER_BRIDGE
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import ask_now
from pyinfra_kube.facts.bridge import Links
from pyinfra_kube.facts.etcd import EtcdKeys, trouble
from pyinfra_kube.facts.flannel import Flannel, lease_states
from pyinfra_kube.operations import verify
from pyinfra_kube.operations.flannel_agreement import HostNetwork, compare, table

# Where its package has it.
_KUBECTL = "/usr/bin/kubectl"


def allow_fedora_components() -> None:
    """Let components use the API, from 1.24 on, where no role of Kubernetes' own lets them."""

    if current_cluster().runtime is not DOCKER:
        allow_components()


def run_fedora_dns() -> None:
    """Run the cluster's DNS, from 1.24 on."""

    if current_cluster().runtime is not DOCKER:
        load_dns_image()
        run_dns()


@phase("Verification")
def verify_fedora_cluster() -> None:
    """Wait for every unit to answer, then for the nodes."""

    cluster = current_cluster()
    parts = cluster.components_of(cluster.host_spec)
    # An operation of all hosts: nobody looks for nodes before each host is set up.
    checks = [
        *(answers(cluster, part, "unit") for part in parts),
        # etcd takes its settings from its environment.
        *(obeys(cluster, part) for part in parts if part != "etcd"),
    ]
    wait_until(cluster, "Wait for every component to answer", checks)
    set_nodes(cluster, kubectl=_KUBECTL)
    verify_nodes(cluster, bridge_of_pods(cluster), kubectl=_KUBECTL)
    of_nodes = [cluster.runtime.name, *(["flanneld"] if cluster.on_flannel else [])]
    show(
        cluster,
        lambda host: [*(of_nodes if "node" in host.roles else []), *cluster.components_of(host)],
    )


@phase("flannel's verification")
def verify_flannel() -> None:
    """Compare leases, devices and docker on all nodes."""

    cluster = current_cluster()
    networks = cluster.notes("networks")
    name = cluster.host_spec.name

    def note() -> None:
        links = ask_now(Links)
        networks[name] = HostNetwork(name, links, ask_now(Flannel).subnet)

    verify.barrier(name="Read the network of each node", at=note if cluster.is_a("node") else None)
    if name == cluster.spec.etcd_members[0].name:
        verify.agreed(
            name="Check that leases and hosts agree", findings=lambda: _findings(cluster, networks)
        )


def _findings(cluster: Cluster, networks: dict[str, Any]) -> tuple[str, bool]:
    """The comparison as a table, and whether nothing disagrees."""

    spec = cluster.spec
    prefix = spec.flannel_etcd_prefix
    access, api = cluster.etcd_as_member, cluster.flannel_api
    keys = ask_now(EtcdKeys, prefix=f"{prefix}/", api=api, **access)
    if keys.status != "ok":
        raise OperationError(trouble(keys.status, keys.said, access["endpoints"], api))
    # This run did not read the networks of other nodes.
    others = {cluster.plan.addresses[node.name] for node in spec.nodes if node.name not in networks}
    findings = compare(
        [one for one in lease_states(keys, prefix).leases if one.public_ip not in others],
        list(networks.values()),
        spec.flannel_network,
        spec.flannel_backend,
        spec.flannel_vni,
        DOCKER_BRIDGE if spec.flannel_leases else BRIDGE,
        lasting=not spec.flannel_leases,
    )
    return table(findings), all(finding.agrees is not False for finding in findings)
