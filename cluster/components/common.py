"""What several components have in common: folders, conditions of rows, flags of logging, users."""

from __future__ import annotations

from pyinfra_kube.cluster.components.rows import Flag, User

CONFIG_DIR = "/srv/kubernetes"
CLOUD_CONFIG = f"{CONFIG_DIR}/cloud.conf"
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


def beside_apiserver(kubeconfig: str) -> tuple[Flag, ...]:
    """
    Give the flags of a component that asks the apiserver of its own host.

    + kubeconfig: the path of its kubeconfig
    """
    return (
        Flag("master", "http://{insecure_address}:{insecure_port}", "1.2-1.19"),
        Flag("kubeconfig", kubeconfig, "1.20-"),
        Flag("authentication-kubeconfig", kubeconfig, "1.20-"),
        Flag("authorization-kubeconfig", kubeconfig, "1.20-"),
        Flag("address", "127.0.0.1", "1.2-1.19"),
        Flag("port", "0", "1.20-1.23"),
        Flag("bind-address", "127.0.0.1", "1.20-"),
    )


ADMIN = User("admin", "admin", ("system:masters",))
"""The cluster's administrator."""
