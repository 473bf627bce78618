"""etcd. Its rows count in etcd's own releases."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import CONFIG_DIR, asked
from pyinfra_kube.cluster.components.rows import Component, Flag, Pod, Probe, User
from pyinfra_kube.cluster.releases import minor_of

CLIENT = User("etcd-client", "kube-apiserver-etcd-client")
"""Who the apiserver is to etcd."""

FLANNEL = User("etcd-flannel", "flannel")
"""Who flanneld is to etcd, where its network is there."""

# From here on a user needs no password: it is known by the name of its certificate.
_ROLES = (3, 4)


def has_roles(version: str) -> bool:
    """
    Whether roles may limit clients by their certificates.

    + version: of etcd

    ```
    >>> has_roles("3.3.10"), has_roles("3.4.13")
    (False, True)
    ```
    """
    return minor_of(version) >= _ROLES


METRICS_PORT = 2381
# Health and metrics are on a port of their own where kubelet could not ask for them otherwise.
OWN_HEALTH = {"etcd_own_health": True}
# Of Kubernetes 1.24 and later: more probes, and a check of the data.
WITH_METRICS = {"etcd_metrics": True}
NO_OWN_HEALTH = {"etcd_own_health": False}
BEFORE_METRICS = {"etcd_own_health": True, "etcd_metrics": False}
TLS = {"etcd_has_tls": True}
HEALTH = Probe("HTTP", "127.0.0.1", str(METRICS_PORT), "", "2.2-3.5", WITH_METRICS)

COMPONENT = Component(
    name="etcd",
    role="etcd",
    rows=(
        Flag("name", "{etcd_name}", "2.2-"),
        Flag("data-dir", "{etcd_data_dir}", "2.2-"),
        Flag("listen-client-urls", "{etcd_listen_client_urls}", "2.2-"),
        Flag("advertise-client-urls", "{etcd_advertise_client_urls}", "2.2-"),
        Flag("listen-peer-urls", "{etcd_peer_url}", "2.2-"),
        Flag("initial-advertise-peer-urls", "{etcd_peer_url}", "2.2-"),
        Flag("initial-cluster", "{etcd_initial_cluster}", "2.2-"),
        Flag("initial-cluster-state", "{etcd_initial_cluster_state}", "2.2-"),
        Flag("initial-cluster-token", "{cluster_name}", "2.2-"),
        # From 3.4 on the v2 API is off by default; releases up to 1.5 keep their objects in it,
        # and flannel up to 0.17 its leases.
        Flag("enable-v2", "true", "3.4-3.5", {"etcd_v2": True}),
        # At each handshake: client/pkg/transport/listener.go, GetCertificate.
        Flag("cert-file", f"{CONFIG_DIR}/etcd-server.crt", "2.2-", TLS, "3.2-"),
        Flag("key-file", f"{CONFIG_DIR}/etcd-server.key", "2.2-", TLS, "3.2-"),
        Flag("trusted-ca-file", f"{CONFIG_DIR}/etcd-ca.crt", "2.2-", TLS),
        Flag("client-cert-auth", "true", "2.2-", TLS),
        Flag("peer-cert-file", f"{CONFIG_DIR}/etcd-server.crt", "2.2-", TLS, "3.2-"),
        Flag("peer-key-file", f"{CONFIG_DIR}/etcd-server.key", "2.2-", TLS, "3.2-"),
        Flag("peer-trusted-ca-file", f"{CONFIG_DIR}/etcd-ca.crt", "2.2-", TLS),
        Flag("peer-client-cert-auth", "true", "2.2-", TLS),
        Flag("listen-metrics-urls", f"http://127.0.0.1:{METRICS_PORT}", "3.3-", OWN_HEALTH),
        Flag("experimental-initial-corrupt-check", "true", "3.3-3.5", WITH_METRICS),
        Flag("experimental-watch-progress-notify-interval", "5s", "3.4-3.5", WITH_METRICS),
        Flag("feature-gates", "InitialCorruptCheck=true", "3.6-", WITH_METRICS),
        Flag("watch-progress-notify-interval", "5s", "3.6-", WITH_METRICS),
        # The default of 3.5 is ten times as much, which takes memory.
        Flag("snapshot-count", "10000", "3.2-3.5", WITH_METRICS),
    ),
    probes=(
        Probe("HTTP", "127.0.0.1", "{etcd_client_port}", "/health", "2.2-", NO_OWN_HEALTH),
        Probe("TCP", "{host_address}", "{etcd_client_port}", "", "2.2-3.2", BEFORE_METRICS),
        HEALTH._replace(path="/health", releases="3.3-", when=BEFORE_METRICS),
        *asked(
            HEALTH,
            liveness="/health?exclude=NOSPACE&serializable=true",
            readiness="/health",
            startup="/health?serializable=false",
        ),
        *asked(
            HEALTH._replace(releases="3.6-"),
            liveness="/livez",
            readiness="/readyz",
            startup="/readyz",
        ),
    ),
    pod=Pod(cpu="200m", volumes=("data",)),
)
