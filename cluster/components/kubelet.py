"""kubelet, of a node or alone for the static pods of a control-plane host."""

from __future__ import annotations

from pyinfra_kube.cluster.components.common import ADMIN, CIPHERS, CONFIG_DIR, HTTPS
from pyinfra_kube.cluster.components.rows import Component, Field, Flag, Probe, User

KUBECONFIG = "/var/lib/kubelet/kubeconfig"
CONFIGURATION = "/var/lib/kubelet/config.yaml"
SERVING_CERT = "/var/lib/kubelet/pki/kubelet.crt"
SERVING_KEY = "/var/lib/kubelet/pki/kubelet.key"
NODE = {"standalone": False}
STANDALONE = {"standalone": True}
KUBELET_BRIDGE = {"kubelet_bridge": True}

FIELDS = (
    Field("apiVersion", "kubelet.config.k8s.io/v1beta1", "1.24-"),
    Field("kind", "KubeletConfiguration", "1.24-"),
    Field("staticPodPath", "{manifest_dir}", "1.24-"),
    Field("registerNode", "{register_node}", "1.24-", NODE),
    Field("registerNode", False, "1.24-", STANDALONE),
    Field("registerWithTaints", "{node_taints}", "1.24-", NODE),
    Field("address", "0.0.0.0", "1.24-", NODE),
    # Its pods are in no API: nobody else has a reason to ask, and whoever may, is root there.
    Field("address", "127.0.0.1", "1.24-", STANDALONE),
    Field("authentication.anonymous.enabled", False, "1.24-"),
    Field("authentication.webhook.enabled", True, "1.24-", NODE),
    Field("authentication.webhook.enabled", False, "1.24-", STANDALONE),
    # cmd/kubelet/app/auth.go: a DynamicCAContent.
    Field("authentication.x509.clientCAFile", f"{CONFIG_DIR}/ca.crt", "1.24-", rereads="1.24-"),
    Field("authorization.mode", "Webhook", "1.24-", NODE),
    # Nobody to ask: a client certificate of the cluster's CA is what lets a caller in.
    Field("authorization.mode", "AlwaysAllow", "1.24-", STANDALONE),
    # The apiserver checks them. One that is no node makes its own.
    # The feature gate ReloadKubeletServerCertificateFile is on by default from 1.31 on.
    Field("tlsCertFile", SERVING_CERT, "1.24-", NODE, "1.31-"),
    Field("tlsPrivateKeyFile", SERVING_KEY, "1.24-", NODE, "1.31-"),
    Field("tlsCipherSuites", [*CIPHERS], "1.24-"),
    Field("enableProfilingHandler", False, "1.24-"),
    Field("clusterDNS", "{dns_servers}", "1.24-"),
    Field("clusterDomain", "{cluster_domain}", "1.24-"),
    Field("resolvConf", "{resolv_conf}", "1.24-"),
    Field("containerRuntimeEndpoint", "{container_runtime_endpoint}", "1.27-"),
    # containerd 1 does not tell it, and 2 overrules it.
    Field("cgroupDriver", "{cgroup_driver}", "1.24-"),
    Field("failCgroupV1", "{fail_cgroup_v1}", "1.31-"),
    Field("failSwapOn", "{fail_swap_on}", "1.24-"),
    Field("memorySwap.swapBehavior", "{swap_behavior}", "1.30-"),
    Field("maxPods", "{max_pods}", "1.24-"),
    # What the logs of a container take, and from when on images that nobody uses go: as percentages
    # of the disk.
    Field("containerLogMaxSize", "10Mi", "1.24-"),
    Field("containerLogMaxFiles", 5, "1.24-"),
    Field("imageGCHighThresholdPercent", 85, "1.24-"),
    Field("imageGCLowThresholdPercent", 80, "1.24-"),
    # So that no pod takes all process numbers of its node.
    Field("podPidsLimit", 4096, "1.24-"),
    # Containers that name no profile of system calls get that of the runtime, and not none.
    Field("seccompDefault", True, "1.27-"),
)

COMPONENT = Component(
    name="kubelet",
    role="node",
    rows=(
        # A kubelet with neither flag is standalone: it runs its static pods, registers nowhere.
        Flag("api-servers", "{apiserver_url}", "1.2-1.7", NODE),
        Flag("kubeconfig", KUBECONFIG, "1.2-1.7", {**NODE, **HTTPS}),
        Flag("kubeconfig", KUBECONFIG, "1.8-", NODE),
        Flag("config", "{manifest_dir}", "1.2-1.3"),
        Flag("config", CONFIGURATION, "1.24-"),
        Flag("pod-manifest-path", "{manifest_dir}", "1.4-1.23"),
        Flag("register-node", "{register_node}", "1.2-1.23", NODE),
        Flag("register-node", "false", "1.2-1.23", STANDALONE),
        Flag("hostname-override", "{node_name}"),
        Flag("node-ip", "{host_address}"),
        Flag("node-labels", "{node_labels}", when=NODE),
        Flag("address", "0.0.0.0", "1.2-1.23", NODE),
        # Its pods are in no API: nobody else has a reason to ask, and whoever may, is root there.
        Flag("address", "127.0.0.1", "1.2-1.23", STANDALONE),
        # Nobody is asked for a credential there.
        Flag("read-only-port", "0", "1.2-1.23"),
        Flag("cadvisor-port", "0", "1.2-1.10"),
        # The apiserver checks them. One that is no node makes its own.
        Flag("tls-cert-file", SERVING_CERT, "1.2-1.23", NODE),
        Flag("tls-private-key-file", SERVING_KEY, "1.2-1.23", NODE),
        Flag("client-ca-file", f"{CONFIG_DIR}/ca.crt", "1.5-1.23"),
        Flag("anonymous-auth", "false", "1.5-1.23"),
        Flag("authentication-token-webhook", "true", "1.5-1.23", NODE),
        Flag("authorization-mode", "Webhook", "1.5-1.23", NODE),
        # Nobody to ask: a client certificate of the cluster's CA is what lets a caller in.
        Flag("authorization-mode", "AlwaysAllow", "1.5-1.23", STANDALONE),
        Flag("allow-privileged", "{allow_privileged}", "1.2-1.14"),
        Flag("cluster-dns", "{cluster_dns}", "1.2-1.23"),
        Flag("cluster-domain", "{cluster_domain}", "1.2-1.23"),
        Flag("root-dir", "{kubelet_root}"),
        Flag("docker-root", "{docker_root}", "1.2-1.23"),
        Flag("container-runtime", "docker", "1.2-1.23"),
        Flag("container-runtime", "remote", "1.24-1.26"),
        Flag("container-runtime-endpoint", "{container_runtime_endpoint}", "1.24-1.26"),
        Flag("pod-infra-container-image", "{pause_image}", "1.2-1.34"),
        Flag("cgroup-driver", "{cgroup_driver}", "1.5-1.23"),
        Flag("resolv-conf", "{resolv_conf}", "1.2-1.23"),
        Flag("fail-swap-on", "{fail_swap_on}", "1.8-1.23"),
        Flag("max-pods", "{max_pods}", "1.2-1.23"),
        Flag("configure-cbr0", "{kubelet_bridge}", "1.2-1.4"),
        # The plan's CIDR as it is, without waiting for the node object to carry it.
        Flag("pod-cidr", "{pod_cidr}", "1.2-1.4", KUBELET_BRIDGE),
        Flag("reconcile-cidr", "false", "1.2-1.4", KUBELET_BRIDGE),
        Flag("network-plugin", "kubenet", "1.5-1.23", KUBELET_BRIDGE),
        # kubenet looks for its plugins in one of these; which one changed with 1.7.
        Flag("network-plugin-dir", "{cni_bin_dir}", "1.5-1.6", KUBELET_BRIDGE),
        Flag("cni-bin-dir", "{cni_bin_dir}", "1.7-1.23", KUBELET_BRIDGE),
        # Without it the kubelet masquerades nothing that goes to 10.0.0.0/8.
        Flag("non-masquerade-cidr", "{cluster_cidr}", "1.2-1.23", KUBELET_BRIDGE),
        # So that a pod reaches itself through its service; a promiscuous bridge loses such packets.
        Flag("hairpin-mode", "hairpin-veth", "1.2-1.23", NODE),
        Flag("cloud-provider", "{cloud_provider}"),
        # Their default looks for a cloud by itself, and would take the node's name from it.
        Flag("cloud-provider", "", "1.3-1.9", {"cloud_provider": None}),
        Flag("cloud-config", "{cloud_config}", "1.2-1.33"),
        Flag("logtostderr", "true", "1.2-1.25"),
        Flag("v", "{log_level}"),
        *FIELDS,
    ),
    probes=(Probe("HTTP", "127.0.0.1", "{healthz_port}", "/healthz"),),
    ports={
        "port": {"1.2-": 10250},
        "healthz_port": {"1.2-": 10248},
    },
    users={
        "shared": ADMIN,
        # Node authorization needs a name per node; one for all can only be let do everything.
        "per_component": User("kubelet", "kubelet", ("system:masters",)),
        "per_node": User("kubelet-{node}", "system:node:{node}", ("system:nodes",)),
    },
    kubeconfig=KUBECONFIG,
    configuration=CONFIGURATION,
    variables={
        "KUBELET_ADDRESS": ("address",),
        "KUBELET_PORT": ("port",),
        "KUBELET_HOSTNAME": ("hostname-override",),
        "KUBELET_API_SERVER": ("api-servers",),
    },
    shared_variables=("KUBE_LOGTOSTDERR", "KUBE_LOG_LEVEL", "KUBE_ALLOW_PRIV"),
    other_flags="KUBELET_ARGS",
)
