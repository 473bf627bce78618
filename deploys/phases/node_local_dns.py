"""
A DNS cache on each node: CoreDNS in the node's own network, which pods ask before the service.
"""

from __future__ import annotations

from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from pyinfra_kube.deploys.phases.addons import dns_query, set_objects
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.operations import verify

OWNER = "node-local-dns"
"""The name of its objects' set."""


@phase("DNS cache of nodes")
def run_node_dns() -> None:
    """
    Run a DNS cache on each node, and wait until it answers.

    Its address is set with the pod network, and its image is that of the cluster's DNS.
    """

    cluster = current_cluster()
    if not cluster.spec.node_local_dns:
        return
    if cluster.is_first_control_plane:
        set_objects(cluster, "Set the DNS cache", OWNER, cache_manifest(cluster), owner=OWNER)
    if cluster.is_a("node"):
        verify.verified(
            name="Wait for answers from the node's own DNS cache",
            checks=[_answers(cluster)],
            timeout=cluster.spec.verify_timeout,
        )


def cache_manifest(cluster: Cluster) -> str:
    """
    Return the objects of the cache.

    + cluster: the cluster
    """

    return render(
        "addons/node-local-dns.yaml.j2",
        domain=cluster.spec.cluster_domain,
        address=NODE_DNS,
        dns=cluster.spec.cluster_dns,
        image=image_of("coredns", cluster.spec).name,
    )


def _answers(cluster: Cluster) -> verify.Check:
    name = f"kubernetes.default.svc.{cluster.spec.cluster_domain}"
    in_system = f"{kubectl_words(KUBECTL, ADMIN)} --namespace=kube-system"
    pods = "pods --selector=k8s-app=node-local-dns"
    return verify.Check(
        f"{NODE_DNS} of this node answers where {name} is",
        dns_query(NODE_DNS, name, cluster.plan.service_ip),
        # Port 53 may be taken, as by a server for all addresses.
        "ss -Hlnp 'sport = 53'",
        f"{in_system} get {pods} --output=wide; {in_system} logs {pods.removeprefix('pods ')}",
    )


if "__name__" not in globals():
    run_phases([run_node_dns])
