"""
Logs: OpenTelemetry's collector sends those of containers, and the journal, from each node.
"""

from __future__ import annotations

import hashlib

from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.deploys.phases.addons import load_image, set_objects
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.operations import files, leftovers, verify

OWNER = "node-logs"
"""The name of its objects' set."""
FOLDER = "/var/lib/node-logs"
"""Where it notes on a host what it has read, and keeps what the receiver has not taken yet."""


@phase("Logs")
def send_logs() -> None:
    """Send the logs of each node, and wait until the collector runs there."""

    cluster = current_cluster()
    if not cluster.spec.log_receiver:
        return
    load_image(cluster, "otelcol", "OpenTelemetry's collector")
    if cluster.is_a("node"):
        files.files(
            name="Make the folder of logs that are to be sent",
            files=[files.File(FOLDER, kind="directory", mode="700")],
        )
    if not cluster.is_first_control_plane:
        return
    set_objects(cluster, "Set the collector of logs", OWNER, logs_manifest(cluster), owner=OWNER)
    verify.verified(
        name="Wait for the collector of logs",
        checks=[_runs()],
        timeout=cluster.spec.verify_timeout,
    )


def forget_logs() -> None:
    """Remove what the collector noted and kept on the current host."""

    leftovers.folders_emptied(name="Remove the folder of logs that were to be sent", whole=[FOLDER])


def logs_manifest(cluster: Cluster) -> str:
    """
    Return the objects of the collector.

    + cluster: the cluster
    """

    spec = cluster.spec
    configuration = render(
        "addons/node-logs-config.yaml.j2",
        receiver=str(spec.log_receiver).rstrip("/"),
        folder=FOLDER,
    )
    return render(
        "addons/node-logs.yaml.j2",
        image=image_of("otelcol", spec).name,
        configuration=configuration.rstrip("\n"),
        # It reads its configuration when it starts.
        digest=hashlib.sha256(configuration.encode()).hexdigest()[:16],
        folder=FOLDER,
        dns="ClusterFirstWithHostNet" if spec.dns else "Default",
    )


def _runs() -> verify.Check:
    in_system = f"{kubectl_words(KUBECTL, ADMIN)} --namespace=kube-system"
    pods = "pods --selector=k8s-app=node-logs"
    return verify.Check(
        "node-logs runs as its DaemonSet says",
        f"{in_system} rollout status daemonset/node-logs --timeout=8s",
        f"{in_system} get {pods} --output=wide; {in_system} logs {pods.removeprefix('pods ')} "
        "--tail=8 --prefix",
        f"kubectl --namespace=kube-system describe {pods}",
    )


if "__name__" not in globals():
    run_phases([send_logs])
