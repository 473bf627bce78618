"""
NetworkPolicies: kube-router enforces them on each node, and packets try it.
"""

from __future__ import annotations

from functools import partial

from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from pyinfra_kube.deploys.phases.addons import cas_of_pods, load_image, set_objects
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.snapshot import ask_now
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.facts.reach import Place, PlaceOfPods
from pyinfra_kube.operations import files, reach, verify
from pyinfra_kube.operations.manifests import documents
from pyinfra_kube.operations.policy_rules import MARKER

OWNER = "network-policies"
"""The name of the set of kube-router and of our policies."""

_IN_SYSTEM = f"{kubectl_words(KUBECTL, ADMIN)} --namespace=kube-system"
_PODS = "pods --selector=k8s-app=kube-router"
_MARK = "kube-router enforces NetworkPolicies here. pyinfra-kube removes its rules after it.\n"


@phase("Network policies")
def enforce_policies() -> None:
    """
    Have kube-router enforce NetworkPolicies, and send packets: one that a policy allows must
    arrive, and one that it does not allow must not.
    """

    cluster = current_cluster()
    if not cluster.spec.network_policies:
        return
    load_image(cluster, "kube-router", "kube-router")
    if cluster.is_a("node"):
        files.files(
            name="Note that the rules of NetworkPolicies are ours",
            files=[files.File(MARKER, _MARK)],
        )
    if cluster.is_first_control_plane:
        manifest = policies_manifest(cluster)
        set_objects(cluster, "Set kube-router and policies", OWNER, manifest, owner=OWNER)
    wait = partial(verify.verified, timeout=cluster.spec.verify_timeout)
    if cluster.is_first_control_plane:
        wait(name="Wait for kube-router on each node", checks=_pods(cluster), given=_states())
    if cluster.is_a("node"):
        wait(name="Wait for the rules of NetworkPolicies", checks=[_rules()])
    if cluster.is_first_control_plane:
        _try_policies(cluster)


def policies_manifest(cluster: Cluster) -> str:
    """
    Return the objects of kube-router, and the policies that settings ask for.

    + cluster: the cluster
    """

    spec = cluster.spec
    return render(
        "addons/kube-router.yaml.j2",
        image=image_of("kube-router", spec).name,
        service_cidr=spec.service_cidr,
        cas=cas_of_pods(cluster),
        metrics=spec.dns_metrics,
        node_dns=NODE_DNS if spec.node_local_dns else "",
        default_deny=spec.default_deny,
        made=[name for name in spec.default_deny if name not in _own_namespaces(cluster)],
    )


def _own_namespaces(cluster: Cluster) -> set[str]:
    """Those that the user's manifests make, with labels that we do not know."""

    found = [one for manifest in cluster.manifests for one in documents(manifest)]
    return {one["metadata"]["name"] for one in found if one["kind"] == "Namespace"}


def _states() -> dict[str, str]:
    shown = '{range .items[*]}{.spec.nodeName} {.status.conditions[?(@.type=="Ready")].status}'
    return {"pods": f"{_IN_SYSTEM} get {_PODS} --output='jsonpath={shown}{{\"\\n\"}}{{end}}'"}


def _pods(cluster: Cluster) -> list[verify.Check]:
    """That kube-router runs on each node that takes part in the run."""

    active = cluster.active
    return [
        verify.Check(
            f"kube-router runs on {node.hostname_override}",
            f"printf '%s\\n' \"$pods\" | grep -qxF '{node.hostname_override} True'",
            f"{_IN_SYSTEM} get {_PODS} --output=wide; {_IN_SYSTEM} logs --selector="
            "k8s-app=kube-router --tail=8 --prefix",
            f"kubectl --namespace=kube-system describe {_PODS}",
            host=node.name,
        )
        for node in cluster.spec.nodes
        if node.name in active
    ]


def _rules() -> verify.Check:
    return verify.Check(
        "kube-router has set its rules on this host",
        "iptables-save -t filter | grep -q '^-A FORWARD .*-j KUBE-ROUTER-FORWARD'",
        "iptables-save -t filter | grep KUBE-ROUTER",
        f"kubectl --namespace=kube-system logs {_PODS.removeprefix('pods ')}",
    )


def _try_policies(cluster: Cluster) -> None:
    """
    Send packets from the pod network of this host to the pods of CoreDNS. Their policy opens port
    53 alone, and they listen on others for their own hosts.
    """

    places, own = cluster.notes("places of policies"), cluster.host_spec.name
    where = {"bridge": BRIDGE, "pod_cidr": cluster.node.pod_cidr, "visitors": 0}
    # Only now: a host has one such place at a time, and an earlier step had another.
    verify.barrier(
        name="Join the pod network to try policies",
        at=lambda: places.update({own: ask_now(PlaceOfPods, **where)}),
    )
    addresses = '{range .items[*]}{.status.podIP}{"\\n"}{end}'
    running = "pods --selector=k8s-app=kube-dns --field-selector=status.phase=Running"
    verify.verified(
        name="Send packets that policies allow and forbid",
        checks=_packets(),
        timeout=min(90, cluster.spec.verify_timeout),
        given={
            "servers": f"{_IN_SYSTEM} get {running} --output='jsonpath={addresses}'",
            "place": lambda: f"echo {places.get(own, Place()).pid}",
        },
    )
    reach.send(
        name="Leave the pod network", places=places, visits=cluster.notes("visits of policies")
    )


_TRY = """\
[ -n "$servers" ] || exit 1
arrives() { timeout 3 nsenter --target "$place" --net bash -c "</dev/tcp/$1/$2"; }
for server in $servers; do arrives "$server" 53 || exit 1; done
"""


def _packets() -> list[verify.Check]:
    log = f"{_IN_SYSTEM} logs --selector=k8s-app=kube-router --tail=8 --prefix"
    hint = "kubectl --namespace=kube-system describe networkpolicy coredns"
    return [
        verify.Check("a packet to port 53 of CoreDNS' pods arrives", _TRY, log, hint),
        verify.Check(
            "a packet to port 8181 of CoreDNS' pods, which their policy does not allow, is stopped",
            f'{_TRY}for server in $servers; do ! arrives "$server" 8181 || exit 1; done',
            log,
            f"{hint}: nothing enforces policies while such a packet arrives",
        ),
    ]


if "__name__" not in globals():
    run_phases([enforce_policies])
