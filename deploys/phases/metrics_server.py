"""
metrics-server: what nodes and pods use, as an API of the cluster.
"""

from __future__ import annotations

from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.deploys.phases.addons import cas_of_pods, load_image, set_objects
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.operations import verify

OWNER = "metrics-server"
"""The name of its objects' set."""
PORT = 4443
"""Where it listens."""


@phase("Metrics")
def run_metrics_server() -> None:
    """
    Run metrics-server, and wait until the apiserver has its API.

    It has asked kubelets once when its pod is ready, so that there are figures then.
    """

    cluster = current_cluster()
    if not cluster.spec.metrics_server:
        return
    load_image(cluster, OWNER, OWNER)
    if not cluster.is_first_control_plane:
        return
    set_objects(
        cluster, "Set metrics-server and its API", OWNER, metrics_manifest(cluster), owner=OWNER
    )
    # Else its pod has no network yet, or does not reach the API.
    if "none" not in (cluster.spec.network, cluster.spec.proxy_mode):
        verify.verified(
            name="Wait for figures of metrics-server",
            checks=_checks(),
            timeout=cluster.spec.verify_timeout,
        )


def metrics_manifest(cluster: Cluster) -> str:
    """
    Return the objects of metrics-server.

    + cluster: the cluster
    """

    return render(
        "addons/metrics-server.yaml.j2",
        image=image_of(OWNER, cluster.spec).name,
        port=PORT,
        cas=cas_of_pods(cluster),
    )


def _checks() -> list[verify.Check]:
    ask = kubectl_words(KUBECTL, ADMIN)
    in_system = f"{ask} --namespace=kube-system"
    api, pods = "apiservice/v1beta1.metrics.k8s.io", "pods --selector=k8s-app=metrics-server"
    return [
        verify.Check(
            "metrics-server runs as its Deployment says",
            f"{in_system} rollout status deployment/metrics-server --timeout=8s",
            f"{in_system} get {pods} --output=wide; {in_system} logs deployment/metrics-server "
            f"--tail=10; {in_system} describe {pods} | tail -n 10",
            f"kubectl --namespace=kube-system describe {pods}",
        ),
        verify.Check(
            "the API metrics.k8s.io is available",
            f"{ask} wait --for=condition=Available {api} --timeout=8s",
            f"{ask} describe {api} | grep -A 8 Conditions",
            f"kubectl describe {api}: the apiserver must reach the pod of metrics-server",
        ),
    ]


if "__name__" not in globals():
    run_phases([run_metrics_server])
