"""kube-apiserver."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import (
    CIPHERS,
    CONFIG_DIR,
    FRONT_PROXY_CA,
    HTTPS,
    LOGGING,
    asked,
)
from pyinfra_kube.cluster.components.rows import Component, Flag, Pod, Probe, User

SERVER = User("server", "kube-apiserver")
"""Who the apiserver is to its clients."""

KUBELET_CLIENTS = {
    "1.2-1.23": User("kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)),
    # The ClusterRole system:kubelet-api-admin is what lets it in.
    "1.24-": User("kubelet-client", "kube-apiserver-kubelet-client"),
}
"""Who the apiserver is to kubelets, by release."""

FRONT_PROXY = User("front-proxy-client", "front-proxy-client")
FRONT_PROXIES = {"1.7-": FRONT_PROXY}
"""Who the apiserver is to API servers behind it, by release; ``FRONT_PROXY_CA`` says so."""

ENCRYPTION_FILE = f"{CONFIG_DIR}/encryption.yaml"
AUDIT_POLICY = f"{CONFIG_DIR}/audit-policy.yaml"
AUDIT_DIR = "/var/log/kube-apiserver"
AUTHENTICATION_FILE = f"{CONFIG_DIR}/authentication.yaml"
AUTHENTICATION_APIS = {
    "1.32-1.33": "apiserver.config.k8s.io/v1beta1",
    "1.34-": "apiserver.config.k8s.io/v1",
}
"""The version of AuthenticationConfiguration, by release, where that limits anonymous requests."""

ETCD_TLS = {"etcd_tls": True}
AUDIT = {"audit": True}
WITHOUT_PROXY = {"standalone": True, "network": "routes"}
ANONYMOUS = {"anonymous": True}
NOT_ANONYMOUS = {"anonymous": False}

COMPONENT = Component(
    name="kube-apiserver",
    role="control_plane",
    rows=(
        Flag("etcd-servers", "{etcd_servers}"),
        Flag("etcd-cafile", f"{CONFIG_DIR}/etcd-ca.crt", "1.2-", ETCD_TLS),
        # At each handshake: etcd's client/pkg/transport/listener.go, GetClientCertificate.
        Flag("etcd-certfile", f"{CONFIG_DIR}/etcd-client.crt", "1.2-", ETCD_TLS, "1.24-"),
        Flag("etcd-keyfile", f"{CONFIG_DIR}/etcd-client.key", "1.2-", ETCD_TLS, "1.24-"),
        Flag("encryption-provider-config", "{encryption_file}", "1.13-"),
        Flag("service-cluster-ip-range", "{service_cidr}"),
        Flag("bind-address", "0.0.0.0"),
        Flag("secure-port", "{secure_port}"),
        # In place of --address, its deprecated alias: this port asks nobody who they are.
        Flag("insecure-bind-address", "{insecure_address}", "1.2-1.19"),
        Flag("insecure-port", "{insecure_port}", "1.2-1.19"),
        Flag("advertise-address", "{host_address}"),
        Flag("apiserver-count", "{apiserver_count}", "1.2-1.10"),
        Flag("allow-privileged", "{allow_privileged}"),
        # apiserver/pkg/server/dynamiccertificates: dynamic_serving_content.go, and for CAs
        # dynamic_cafile_content.go.
        Flag("tls-cert-file", f"{CONFIG_DIR}/server.crt", rereads="1.24-"),
        Flag("tls-private-key-file", f"{CONFIG_DIR}/server.key", rereads="1.24-"),
        Flag("tls-cipher-suites", ",".join(CIPHERS), "1.24-"),
        Flag("client-ca-file", f"{CONFIG_DIR}/ca.crt", when=HTTPS, rereads="1.24-"),
        Flag("token-auth-file", "{token_auth_file}"),
        Flag("basic-auth-file", "{basic_auth_file}", "1.2-1.18", HTTPS),
        # Nobody without a credential gets more than these answers of health.
        Flag("authentication-config", "{authentication_file}", "1.32-"),
        # 1.5.0 lets anybody in, and AlwaysAllow would let them do anything.
        Flag("anonymous-auth", "false", "1.5-", NOT_ANONYMOUS),
        Flag("authorization-mode", "{authorization_mode}"),
        # RBAC without the roles that 1.6 brought: somebody has to be let in to make some.
        Flag("authorization-rbac-super-user", "admin", "1.3-1.5", {"rbac": True}),
        Flag("admission-control", "{admission_control}", "1.2-1.9"),
        Flag("enable-admission-plugins", "{admission_control}", "1.10-"),
        Flag("service-account-key-file", f"{CONFIG_DIR}/service-account.pub"),
        Flag("service-account-signing-key-file", f"{CONFIG_DIR}/service-account.key", "1.20-"),
        Flag("service-account-issuer", "https://kubernetes.default.svc.{cluster_domain}", "1.20-"),
        # Otherwise a pod's token is good for a year, for clients of 2021 that read it once.
        Flag("service-account-extend-token-expiration", "false", "1.32-"),
        # client-go/transport/cert_rotation.go, for pkg/kubelet/client sets ReloadTLSFiles.
        Flag("kubelet-client-certificate", f"{CONFIG_DIR}/kubelet-client.crt", rereads="1.24-"),
        Flag("kubelet-client-key", f"{CONFIG_DIR}/kubelet-client.key", rereads="1.24-"),
        Flag("kubelet-certificate-authority", f"{CONFIG_DIR}/ca.crt"),
        # The default asks for host names first, which the apiserver's pod need not resolve.
        Flag("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname", "1.5-"),
        # cmd/kube-apiserver/app/server.go: a DynamicServingContent, too.
        Flag(
            "proxy-client-cert-file",
            f"{CONFIG_DIR}/front-proxy-client.crt",
            "1.7-",
            rereads="1.24-",
        ),
        Flag(
            "proxy-client-key-file",
            f"{CONFIG_DIR}/front-proxy-client.key",
            "1.7-",
            rereads="1.24-",
        ),
        Flag("requestheader-client-ca-file", FRONT_PROXY_CA, "1.7-", rereads="1.24-"),
        Flag("requestheader-allowed-names", FRONT_PROXY.user, "1.7-"),
        Flag("requestheader-username-headers", "X-Remote-User", "1.7-"),
        Flag("requestheader-group-headers", "X-Remote-Group", "1.7-"),
        Flag("requestheader-extra-headers-prefix", "X-Remote-Extra-", "1.7-"),
        # It asks pods of webhooks and of other API servers: to the addresses of their services no
        # kube-proxy leads a control plane that is no node.
        Flag("enable-aggregator-routing", "true", "1.7-1.23", WITHOUT_PROXY),
        Flag("audit-policy-file", AUDIT_POLICY, "1.24-", AUDIT),
        Flag("audit-log-path", f"{AUDIT_DIR}/audit.log", "1.24-", AUDIT),
        # Days, files and megabytes: a month, or one gigabyte.
        Flag("audit-log-maxage", "30", "1.24-", AUDIT),
        Flag("audit-log-maxbackup", "10", "1.24-", AUDIT),
        Flag("audit-log-maxsize", "100", "1.24-", AUDIT),
        Flag("profiling", "false"),
        # Otherwise it takes a minute to end while anybody watches.
        Flag("shutdown-watch-termination-grace-period", "2s", "1.27-"),
        Flag("cloud-provider", "{cloud_provider}", "1.2-1.32"),
        Flag("cloud-config", "{cloud_config}", "1.2-1.32"),
        *LOGGING,
    ),
    probes=(
        Probe("HTTP", "{insecure_address}", "{insecure_port}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "{host_address}", "{secure_port}", "/livez", "1.20-1.23", ANONYMOUS),
        Probe("TCP", "{host_address}", "{secure_port}", "", "1.20-1.23", NOT_ANONYMOUS),
        *asked(
            Probe("HTTPS", "{host_address}", "{secure_port}", "", "1.24-", ANONYMOUS),
            liveness="/livez",
            readiness="/readyz",
            startup="/livez",
        ),
        *asked(
            Probe("TCP", "{host_address}", "{secure_port}", "", "1.24-", NOT_ANONYMOUS),
            liveness="",
            readiness="",
            startup="",
        ),
    ),
    pod=Pod(
        cpu="250m",
        # It answers nobody new while it ends, and waits a minute for those that watch.
        grace=10,
        # It calls the API of a cloud provider, and must know whose certificate to trust there.
        volumes=("credentials", "logs", "ssl"),
        written=(AUDIT_DIR,),
        # It finds nodes by name, and docker's own copy of the file is as old as the pod.
        files={"1.2-1.4": "/etc/hosts"},
    ),
    variables={
        "KUBE_API_ADDRESS": ("insecure-bind-address", "address", "bind-address"),
        "KUBE_API_PORT": ("insecure-port", "port", "secure-port"),
        "KUBELET_PORT": ("kubelet-port",),
        "KUBE_ETCD_SERVERS": ("etcd-servers",),
        "KUBE_SERVICE_ADDRESSES": ("service-cluster-ip-range",),
        "KUBE_ADMISSION_CONTROL": ("admission-control", "enable-admission-plugins"),
    },
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_ALLOW_PRIV"),
    other_flags="KUBE_API_ARGS",
)
