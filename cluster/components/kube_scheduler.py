"""kube-scheduler."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import ADMIN, CONFIG_DIR, LOGGING, beside_apiserver
from pyinfra_kube.cluster.components.rows import Component, Flag, Pod, Probe, User

USER = User("kube-scheduler", "system:kube-scheduler")
KUBECONFIG = f"{CONFIG_DIR}/kube-scheduler.kubeconfig"

COMPONENT = Component(
    name="kube-scheduler",
    role="control_plane",
    rows=(
        *beside_apiserver(KUBECONFIG),
        Flag("leader-elect", "{leader_elect}"),
        *LOGGING,
    ),
    probes=(
        Probe("HTTP", "127.0.0.1", "{port}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "127.0.0.1", "{port}", "/healthz", "1.20-"),
    ),
    ports={"port": {"1.2-1.19": 10251, "1.20-": 10259}},
    users={"shared": ADMIN, "per_component": USER, "per_node": USER},
    kubeconfig=KUBECONFIG,
    pod=Pod(cpu="100m"),
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_MASTER"),
    other_flags="KUBE_SCHEDULER_ARGS",
)
