"""kube-scheduler."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import (
    ADMIN,
    CONFIG_DIR,
    LOGGING,
    asked,
    beside_apiserver,
)
from pyinfra_kube.cluster.components.rows import Component, Field, Flag, Pod, Probe, User

USER = User("kube-scheduler", "system:kube-scheduler")
KUBECONFIG = f"{CONFIG_DIR}/kube-scheduler.kubeconfig"
CONFIGURATION = f"{CONFIG_DIR}/kube-scheduler.yaml"

COMPONENT = Component(
    name="kube-scheduler",
    role="control_plane",
    rows=(
        Flag("config", CONFIGURATION, "1.24-"),
        *beside_apiserver(KUBECONFIG, "1.20-1.23"),
        Flag("leader-elect", "{leader_elect}", "1.2-1.23"),
        Flag("profiling", "false", "1.2-1.23"),
        *LOGGING,
        Field("apiVersion", "kubescheduler.config.k8s.io/v1beta3", "1.24"),
        Field("apiVersion", "kubescheduler.config.k8s.io/v1", "1.25-"),
        Field("kind", "KubeSchedulerConfiguration", "1.24-"),
        Field("clientConnection.kubeconfig", KUBECONFIG, "1.24-"),
        Field("leaderElection.leaderElect", "{leader_elect}", "1.24-"),
        Field("enableProfiling", False, "1.24-"),
    ),
    probes=(
        Probe("HTTP", "127.0.0.1", "{port}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "127.0.0.1", "{port}", "/healthz", "1.20-1.23"),
        *asked(
            Probe("HTTPS", "127.0.0.1", "{port}", "", "1.24-1.31"),
            liveness="/healthz",
            startup="/healthz",
        ),
        *asked(
            Probe("HTTPS", "127.0.0.1", "{port}", "", "1.32-"),
            liveness="/livez",
            readiness="/readyz",
            startup="/livez",
        ),
    ),
    ports={"port": {"1.2-1.19": 10251, "1.20-": 10259}},
    users={"shared": ADMIN, "per_component": USER, "per_node": USER},
    kubeconfig=KUBECONFIG,
    configuration=CONFIGURATION,
    pod=Pod(cpu="100m"),
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_MASTER"),
    other_flags="KUBE_SCHEDULER_ARGS",
)
