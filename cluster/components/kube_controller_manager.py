"""kube-controller-manager."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import (
    ADMIN,
    CONFIG_DIR,
    FRONT_PROXY_CA,
    LOGGING,
    asked,
    beside_apiserver,
)
from pyinfra_kube.cluster.components.rows import Component, Flag, Pod, Probe, User

USER = User("kube-controller-manager", "system:kube-controller-manager")
KUBECONFIG = f"{CONFIG_DIR}/kube-controller-manager.kubeconfig"
SIGNING = {"certificate_signing": True}
SIGNING_CA = "signing-ca"
"""The name of the certificate of the CA that signs, without its ending."""

COMPONENT = Component(
    name="kube-controller-manager",
    role="control_plane",
    rows=(
        *beside_apiserver(KUBECONFIG),
        Flag("cluster-name", "{cluster_name}"),
        Flag("cluster-cidr", "{cluster_cidr}"),
        # The plan gives each node its pod CIDR; a second hand would renumber nodes.
        Flag("allocate-node-cidrs", "false"),
        Flag("service-cluster-ip-range", "{service_cidr}", "1.3-"),
        Flag("service-account-private-key-file", f"{CONFIG_DIR}/service-account.key"),
        Flag("root-ca-file", f"{CONFIG_DIR}/ca.crt"),
        Flag("client-ca-file", f"{CONFIG_DIR}/ca.crt", "1.24-", rereads="1.24-"),
        Flag("requestheader-client-ca-file", FRONT_PROXY_CA, "1.24-", rereads="1.24-"),
        # pkg/controller/certificates/signer/ca_provider.go wants one certificate, and rereads it.
        Flag(
            "cluster-signing-cert-file", f"{CONFIG_DIR}/{SIGNING_CA}.crt", "1.24-", SIGNING, "1.24-"
        ),
        Flag("cluster-signing-key-file", f"{CONFIG_DIR}/ca.key", "1.24-", SIGNING, "1.24-"),
        Flag("use-service-account-credentials", "true", "1.6-", {"rbac": True}),
        Flag("leader-elect", "{leader_elect}"),
        Flag("profiling", "false"),
        Flag("cloud-provider", "{cloud_provider}"),
        Flag("cloud-config", "{cloud_config}"),
        *LOGGING,
    ),
    probes=(
        Probe("HTTP", "127.0.0.1", "{port}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "127.0.0.1", "{port}", "/healthz", "1.20-1.23"),
        *asked(
            Probe("HTTPS", "127.0.0.1", "{port}", "", "1.24-"),
            liveness="/healthz",
            startup="/healthz",
        ),
    ),
    ports={"port": {"1.2-1.19": 10252, "1.20-": 10257}},
    users={"shared": ADMIN, "per_component": USER, "per_node": USER},
    kubeconfig=KUBECONFIG,
    # It calls the API of a cloud provider, and must know whose certificate to trust there.
    pod=Pod(cpu="200m", volumes=("credentials", "logs", "ssl")),
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_MASTER"),
    other_flags="KUBE_CONTROLLER_MANAGER_ARGS",
)
