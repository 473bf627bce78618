"""kube-proxy."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import ADMIN, HTTP, HTTPS
from pyinfra_kube.cluster.components.rows import Component, Field, Flag, Probe, User

KUBECONFIG = "/var/lib/kube-proxy/kubeconfig"
CONFIGURATION = "/var/lib/kube-proxy/config.yaml"

COMPONENT = Component(
    name="kube-proxy",
    role="node",
    rows=(
        # kube-proxy never had --api-servers.
        Flag("master", "{apiserver_url}", when=HTTP),
        Flag("config", CONFIGURATION, "1.24-"),
        Flag("kubeconfig", KUBECONFIG, "1.2-1.23", HTTPS),
        Flag("cluster-cidr", "{cluster_cidr}", "1.2-1.23"),
        Flag("proxy-mode", "{proxy_mode}", "1.2-1.23"),
        Flag("hostname-override", "{node_name}", "1.2-1.23"),
        Flag("conntrack-max-per-core", "{conntrack_per_core}", "1.3-1.23"),
        Flag("logtostderr", "true", "1.2-1.25"),
        Flag("v", "{log_level}"),
        Field("apiVersion", "kubeproxy.config.k8s.io/v1alpha1", "1.24-"),
        Field("kind", "KubeProxyConfiguration", "1.24-"),
        Field("clientConnection.kubeconfig", KUBECONFIG, "1.24-"),
        Field("hostnameOverride", "{node_name}", "1.24-"),
        Field("mode", "{proxy_mode}", "1.24-"),
        Field("clusterCIDR", "{cluster_cidr}", "1.24-"),
        Field("conntrack.maxPerCore", "{conntrack_per_core}", "1.24-"),
        # It answers whoever asks; by default on every address of the host.
        Field("healthzBindAddress", "127.0.0.1:{healthz_port}", "1.24-"),
    ),
    probes=(Probe("HTTP", "127.0.0.1", "{healthz_port}", "/healthz"),),
    ports={
        "healthz_port": {"1.2-1.6": 10249, "1.7-": 10256},
        "metrics_port": {"1.2-1.6": None, "1.7-": 10249},
    },
    users={
        "shared": ADMIN,
        "per_component": User("kube-proxy", "system:kube-proxy"),
        "per_node": User("kube-proxy-{node}", "system:kube-proxy"),
    },
    kubeconfig=KUBECONFIG,
    configuration=CONFIGURATION,
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_MASTER"),
    other_flags="KUBE_PROXY_ARGS",
)
