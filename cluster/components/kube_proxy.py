"""kube-proxy."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import ADMIN, HTTP, HTTPS
from pyinfra_kube.cluster.components.rows import Component, Flag, Probe, User

KUBECONFIG = "/var/lib/kube-proxy/kubeconfig"

COMPONENT = Component(
    name="kube-proxy",
    role="node",
    rows=(
        # kube-proxy never had --api-servers.
        Flag("master", "{apiserver_url}", when=HTTP),
        Flag("kubeconfig", KUBECONFIG, when=HTTPS),
        Flag("cluster-cidr", "{cluster_cidr}"),
        Flag("proxy-mode", "{proxy_mode}"),
        Flag("hostname-override", "{node_name}"),
        Flag("logtostderr", "true", "1.2-1.25"),
        Flag("v", "{log_level}"),
    ),
    probes=(Probe("HTTP", "127.0.0.1", "{healthz_port}", "/healthz"),),
    ports={"healthz_port": {"1.2-1.6": 10249, "1.7-": 10256}},
    users={
        "shared": ADMIN,
        "per_component": User("kube-proxy", "system:kube-proxy"),
        "per_node": User("kube-proxy-{node}", "system:kube-proxy"),
    },
    kubeconfig=KUBECONFIG,
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_MASTER"),
    other_flags="KUBE_PROXY_ARGS",
)
