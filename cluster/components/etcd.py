"""etcd. Its rows count in etcd's own releases."""

from __future__ import annotations

from pyinfra_kube.cluster.components.rows import Component, Flag, Pod, Probe

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
    ),
    probes=(Probe("HTTP", "127.0.0.1", "{etcd_client_port}", "/health", "2.2-"),),
    pod=Pod(cpu="200m", volumes=("data",)),
)
