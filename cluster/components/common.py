"""What several components have in common: folders, conditions of rows, flags of logging, users."""

from __future__ import annotations

from pyinfra_kube.cluster.components.rows import Asked, Flag, Probe, Times, User

CONFIG_DIR = "/srv/kubernetes"
CLOUD_CONFIG = f"{CONFIG_DIR}/cloud.conf"
# It signs nobody but the apiserver: whoever shows such a certificate may be any user.
FRONT_PROXY_CA = f"{CONFIG_DIR}/front-proxy-ca.crt"
LOG_DIR = "/var/log"

HTTPS = {"apiserver_approach": "https"}
HTTP = {"apiserver_approach": "http"}

LOGGING = (
    Flag("logtostderr", "true", "1.2-1.25", {"log_to_host": False}),
    Flag("logtostderr", "false", "1.2-1.25", {"log_to_host": True}),
    Flag("alsologtostderr", "true", "1.2-1.25", {"log_to_host": True}),
    Flag("log-dir", LOG_DIR, "1.2-1.25", {"log_to_host": True}),
    Flag("v", "{log_level}"),
)


# What TLS 1.2 may use: keys made for each connection, and a cipher that notices changes. TLS 1.3
# has no others.
CIPHERS = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
)


def beside_apiserver(kubeconfig: str, releases: str = "1.20-") -> tuple[Flag, ...]:
    """
    Give the flags of a component that asks the apiserver of its own host.

    + kubeconfig: the path of its kubeconfig
    + releases: where a flag says it, and no configuration file
    """
    return (
        Flag("master", "http://{insecure_address}:{insecure_port}", "1.2-1.19"),
        Flag("kubeconfig", kubeconfig, releases),
        Flag("authentication-kubeconfig", kubeconfig, "1.20-"),
        Flag("authorization-kubeconfig", kubeconfig, "1.20-"),
        Flag("address", "127.0.0.1", "1.2-1.19"),
        Flag("port", "0", "1.20-1.23"),
        Flag("bind-address", "127.0.0.1", "1.20-"),
    )


TIMES: dict[Asked, Times] = {
    "liveness": Times(delay=10, period=10),
    "readiness": Times(delay=0, period=1, failures=3),
    "startup": Times(delay=10, period=10, failures=24),
}
"""When the control plane is asked from 1.24 on, with kubeadm's numbers."""


def asked(row: Probe, **paths: str) -> tuple[Probe, ...]:
    """
    Give the probes of a component from 1.24 on.

    + row: what they have in common
    + paths: what is asked → the path

    ```
    asked(Probe("HTTPS", "127.0.0.1", "{port}", "", "1.24-"), liveness="/healthz")
    ```
    """
    kinds: list[Asked] = ["liveness", "readiness", "startup"]
    return tuple(
        row._replace(path=paths[kind], asked=kind, times=TIMES[kind])
        for kind in kinds
        if kind in paths
    )


CLUSTER_ADMINS = "pyinfra-kube:cluster-admins"
"""The group that may do everything because a ClusterRoleBinding says so."""
ADMIN = User("admin", "admin", ("system:masters",))
"""The cluster's administrator; of ``CLUSTER_ADMINS`` where ``admins_bound`` says so."""
EMERGENCY = User("emergency", "emergency", ("system:masters",))
"""Who makes that binding, and whose credential no host has."""
