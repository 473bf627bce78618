"""
The command line of each component, as tables: which setting becomes which flag in which releases
(N1, N2, A1–A5).

A row is left out where the release is not within its span, where its ``when`` does not hold, and
where a setting that its value names is ``None``. ``data/flags.json`` checks every flag again, so no
component ever meets one that its release does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from types import MappingProxyType
from typing import NamedTuple

from pyinfra_kube.cluster.allocation import AddressPlan
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.flannel import etcd_api
from pyinfra_kube.cluster.releases import Minor, Release, covers, minor_of
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec

ALWAYS: Mapping[str, object] = MappingProxyType({})

CONTROL_PLANE_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE_COMPONENTS = ("kubelet", "kube-proxy")

CONFIG_DIR = "/srv/kubernetes"
CLOUD_CONFIG = f"{CONFIG_DIR}/cloud.conf"
LOG_DIR = "/var/log"
KUBECONFIGS = {
    "kubelet": "/var/lib/kubelet/kubeconfig",
    "kube-proxy": "/var/lib/kube-proxy/kubeconfig",
    "kube-controller-manager": f"{CONFIG_DIR}/kube-controller-manager.kubeconfig",
    "kube-scheduler": f"{CONFIG_DIR}/kube-scheduler.kubeconfig",
}
"""Where each component finds its kubeconfig on its host (C6)."""


class Row(NamedTuple):
    """
    One flag.

    + flag: without leading dashes
    + value: text with ``{settings}`` in it
    + releases: where the row holds, as spans (etcd's rows: of etcd)
    + when: settings that must have these values
    """

    flag: str
    value: str
    releases: str = "1.2-"
    when: Mapping[str, object] = ALWAYS


class Probe(NamedTuple):
    """
    How a component is asked whether it lives.

    + scheme: "HTTP", "HTTPS" or "TCP"
    + host: the address to ask
    + port: the port, as text
    + path: the path; empty for TCP
    + releases: where the row holds
    + when: settings that must have these values
    """

    scheme: str
    host: str
    port: str
    path: str
    releases: str = "1.2-"
    when: Mapping[str, object] = ALWAYS


HTTPS = {"apiserver_approach": "https"}
HTTP = {"apiserver_approach": "http"}
NODE = {"standalone": False}
STANDALONE = {"standalone": True}
KUBELET_BRIDGE = {"kubelet_bridge": True}

LOGGING = (
    Row("logtostderr", "true", "1.2-1.25", {"log_to_host": False}),
    Row("logtostderr", "false", "1.2-1.25", {"log_to_host": True}),
    Row("alsologtostderr", "true", "1.2-1.25", {"log_to_host": True}),
    Row("log-dir", LOG_DIR, "1.2-1.25", {"log_to_host": True}),
    Row("v", "{log_level}"),
)

APISERVER = (
    Row("etcd-servers", "{etcd_servers}"),
    Row("service-cluster-ip-range", "{service_cidr}"),
    Row("bind-address", "0.0.0.0"),
    Row("secure-port", "{secure_port}"),
    # In place of --address, its deprecated alias: this port asks nobody who they are.
    Row("insecure-bind-address", "{insecure_address}", "1.2-1.19"),
    Row("insecure-port", "{insecure_port}", "1.2-1.19"),
    Row("advertise-address", "{host_address}"),
    Row("apiserver-count", "{apiserver_count}", "1.2-1.10"),
    Row("allow-privileged", "{allow_privileged}"),
    Row("tls-cert-file", f"{CONFIG_DIR}/server.crt"),
    Row("tls-private-key-file", f"{CONFIG_DIR}/server.key"),
    Row("client-ca-file", f"{CONFIG_DIR}/ca.crt", when=HTTPS),
    Row("token-auth-file", "{token_auth_file}"),
    Row("basic-auth-file", "{basic_auth_file}", "1.2-1.18", HTTPS),
    # 1.5.0 lets anybody in, and AlwaysAllow would let them do anything.
    Row("anonymous-auth", "false", "1.5-", {"anonymous": False}),
    Row("authorization-mode", "{authorization_mode}"),
    # RBAC without the roles that 1.6 brought: somebody has to be let in to make some.
    Row("authorization-rbac-super-user", "admin", "1.3-1.5", {"rbac": True}),
    Row("admission-control", "{admission_control}", "1.2-1.9"),
    Row("enable-admission-plugins", "{admission_control}", "1.10-"),
    Row("service-account-key-file", f"{CONFIG_DIR}/service-account.pub"),
    Row("service-account-signing-key-file", f"{CONFIG_DIR}/service-account.key", "1.20-"),
    Row("service-account-issuer", "https://kubernetes.default.svc.{cluster_domain}", "1.20-"),
    Row("kubelet-client-certificate", f"{CONFIG_DIR}/kubelet-client.crt"),
    Row("kubelet-client-key", f"{CONFIG_DIR}/kubelet-client.key"),
    # The default asks for host names first, which the apiserver's pod need not resolve.
    Row("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname", "1.5-"),
    Row("cloud-provider", "{cloud_provider}", "1.2-1.32"),
    Row("cloud-config", "{cloud_config}", "1.2-1.32"),
    *LOGGING,
)

CONTROLLER_MANAGER = (
    Row("master", "http://{insecure_address}:{insecure_port}", "1.2-1.19"),
    Row("kubeconfig", KUBECONFIGS["kube-controller-manager"], "1.20-"),
    Row("authentication-kubeconfig", KUBECONFIGS["kube-controller-manager"], "1.20-"),
    Row("authorization-kubeconfig", KUBECONFIGS["kube-controller-manager"], "1.20-"),
    Row("address", "127.0.0.1", "1.2-1.19"),
    Row("port", "0", "1.20-1.23"),
    Row("bind-address", "127.0.0.1", "1.20-"),
    Row("cluster-name", "{cluster_name}"),
    Row("cluster-cidr", "{cluster_cidr}"),
    # The plan gives each node its pod CIDR; a second hand would renumber nodes.
    Row("allocate-node-cidrs", "false"),
    Row("service-cluster-ip-range", "{service_cidr}", "1.3-"),
    Row("service-account-private-key-file", f"{CONFIG_DIR}/service-account.key"),
    Row("root-ca-file", f"{CONFIG_DIR}/ca.crt"),
    Row("use-service-account-credentials", "true", "1.6-", {"rbac": True}),
    Row("leader-elect", "{leader_elect}"),
    Row("cloud-provider", "{cloud_provider}"),
    Row("cloud-config", "{cloud_config}"),
    *LOGGING,
)

SCHEDULER = (
    Row("master", "http://{insecure_address}:{insecure_port}", "1.2-1.19"),
    Row("kubeconfig", KUBECONFIGS["kube-scheduler"], "1.20-"),
    Row("authentication-kubeconfig", KUBECONFIGS["kube-scheduler"], "1.20-"),
    Row("authorization-kubeconfig", KUBECONFIGS["kube-scheduler"], "1.20-"),
    Row("address", "127.0.0.1", "1.2-1.19"),
    Row("port", "0", "1.20-1.23"),
    Row("bind-address", "127.0.0.1", "1.20-"),
    Row("leader-elect", "{leader_elect}"),
    *LOGGING,
)

KUBELET = (
    # A kubelet with neither flag is standalone: it runs its static pods and registers nowhere.
    Row("api-servers", "{apiserver_url}", "1.2-1.7", NODE),
    Row("kubeconfig", KUBECONFIGS["kubelet"], "1.2-1.7", {**NODE, **HTTPS}),
    Row("kubeconfig", KUBECONFIGS["kubelet"], "1.8-", NODE),
    Row("config", "{manifest_dir}", "1.2-1.3"),
    Row("pod-manifest-path", "{manifest_dir}", "1.4-"),
    Row("register-node", "{register_node}", when=NODE),
    Row("register-node", "false", when=STANDALONE),
    Row("hostname-override", "{node_name}"),
    Row("node-ip", "{host_address}"),
    Row("node-labels", "{node_labels}", when=NODE),
    Row("address", "0.0.0.0", when=NODE),
    # Its pods are in no API: nobody else has a reason to ask, and whoever may, is root there.
    Row("address", "127.0.0.1", when=STANDALONE),
    Row("read-only-port", "0", "1.20-"),
    Row("client-ca-file", f"{CONFIG_DIR}/ca.crt", "1.5-"),
    Row("anonymous-auth", "false", "1.5-"),
    Row("authentication-token-webhook", "true", "1.5-", NODE),
    Row("authorization-mode", "Webhook", "1.5-", NODE),
    # Nobody to ask: a client certificate of the cluster's CA is what lets a caller in.
    Row("authorization-mode", "AlwaysAllow", "1.5-", STANDALONE),
    Row("allow-privileged", "{allow_privileged}", "1.2-1.14"),
    Row("cluster-dns", "{cluster_dns}"),
    Row("cluster-domain", "{cluster_domain}"),
    Row("root-dir", "{kubelet_root}"),
    Row("docker-root", "{docker_root}", "1.2-1.23"),
    Row("container-runtime", "docker", "1.2-1.23"),
    Row("container-runtime", "remote", "1.24-1.26"),
    Row("container-runtime-endpoint", "{container_runtime_endpoint}", "1.24-"),
    Row("pod-infra-container-image", "{pause_image}", "1.2-1.34"),
    Row("cgroup-driver", "{cgroup_driver}", "1.5-"),
    Row("fail-swap-on", "{fail_swap_on}", "1.8-"),
    Row("max-pods", "{max_pods}"),
    Row("configure-cbr0", "{kubelet_bridge}", "1.2-1.4"),
    # The plan's CIDR as it is, without waiting for the node object to carry it.
    Row("pod-cidr", "{pod_cidr}", "1.2-1.4", KUBELET_BRIDGE),
    Row("reconcile-cidr", "false", "1.2-1.4", KUBELET_BRIDGE),
    Row("network-plugin", "kubenet", "1.5-1.23", KUBELET_BRIDGE),
    # kubenet looks for its plugins in one of these; which one changed with 1.7.
    Row("network-plugin-dir", "{cni_bin_dir}", "1.5-1.6", KUBELET_BRIDGE),
    Row("cni-bin-dir", "{cni_bin_dir}", "1.7-1.23", KUBELET_BRIDGE),
    # Without it the kubelet masquerades nothing that goes to 10.0.0.0/8.
    Row("non-masquerade-cidr", "{cluster_cidr}", "1.2-1.23", KUBELET_BRIDGE),
    # So that a pod reaches itself through its service; a promiscuous bridge loses such packets.
    Row("hairpin-mode", "hairpin-veth", "1.2-1.23", NODE),
    Row("cloud-provider", "{cloud_provider}"),
    # Their default looks for a cloud by itself, and would take the node's name from it.
    Row("cloud-provider", "", "1.3-1.9", {"cloud_provider": None}),
    Row("cloud-config", "{cloud_config}", "1.2-1.33"),
    Row("logtostderr", "true", "1.2-1.25"),
    Row("v", "{log_level}"),
)

PROXY = (
    # kube-proxy never had --api-servers.
    Row("master", "{apiserver_url}", when=HTTP),
    Row("kubeconfig", KUBECONFIGS["kube-proxy"], when=HTTPS),
    Row("cluster-cidr", "{cluster_cidr}"),
    Row("proxy-mode", "{proxy_mode}"),
    Row("hostname-override", "{node_name}"),
    Row("logtostderr", "true", "1.2-1.25"),
    Row("v", "{log_level}"),
)

ETCD = (
    Row("name", "{etcd_name}", "2.2-"),
    Row("data-dir", "{etcd_data_dir}", "2.2-"),
    Row("listen-client-urls", "{etcd_listen_client_urls}", "2.2-"),
    Row("advertise-client-urls", "{etcd_advertise_client_urls}", "2.2-"),
    Row("listen-peer-urls", "{etcd_peer_url}", "2.2-"),
    Row("initial-advertise-peer-urls", "{etcd_peer_url}", "2.2-"),
    Row("initial-cluster", "{etcd_initial_cluster}", "2.2-"),
    Row("initial-cluster-state", "{etcd_initial_cluster_state}", "2.2-"),
    Row("initial-cluster-token", "{cluster_name}", "2.2-"),
    # From 3.4 on the v2 API is off by default; releases up to 1.5 keep their objects in it, and
    # flannel up to 0.17 its leases.
    Row("enable-v2", "true", "3.4-3.5", {"etcd_v2": True}),
)

TABLES: dict[str, tuple[Row, ...]] = {
    "kube-apiserver": APISERVER,
    "kube-controller-manager": CONTROLLER_MANAGER,
    "kube-scheduler": SCHEDULER,
    "kubelet": KUBELET,
    "kube-proxy": PROXY,
    "etcd": ETCD,
}

PROBES: dict[str, tuple[Probe, ...]] = {
    "kube-apiserver": (
        Probe("HTTP", "{insecure_address}", "{insecure_port}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "{host_address}", "{secure_port}", "/livez", "1.20-", {"anonymous": True}),
        Probe("TCP", "{host_address}", "{secure_port}", "", "1.20-", {"anonymous": False}),
    ),
    "kube-controller-manager": (
        Probe("HTTP", "127.0.0.1", "{port_controller_manager}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "127.0.0.1", "{port_controller_manager}", "/healthz", "1.20-"),
    ),
    "kube-scheduler": (
        Probe("HTTP", "127.0.0.1", "{port_scheduler}", "/healthz", "1.2-1.19"),
        Probe("HTTPS", "127.0.0.1", "{port_scheduler}", "/healthz", "1.20-"),
    ),
    "kubelet": (Probe("HTTP", "127.0.0.1", "{port_kubelet_healthz}", "/healthz"),),
    "kube-proxy": (Probe("HTTP", "127.0.0.1", "{port_proxy_healthz}", "/healthz"),),
    "etcd": (Probe("HTTP", "127.0.0.1", "{etcd_client_port}", "/health"),),
}


def command_line(
    component: str,
    release: Release,
    context: Mapping[str, object],
    extra: Mapping[str, object] = ALWAYS,
) -> list[str]:
    """
    Give a component's flags, "--flag=value" each, always in the same order.

    + component: a key of ``TABLES``
    + release: the Kubernetes release
    + context: the settings that the component's rows name, as ``settings`` gives them
    + extra: flags without leading dashes; one that a row has too takes the row's place, the others
      follow by name

    Raises ``InputError`` with every flag that the release does not have, and what replaces it.

    ```
    >>> command_line("kube-scheduler", Release.of("1.3.10"), context, {"algorithm-provider": "x"})
    ['--master=http://127.0.0.1:8080', '--address=127.0.0.1', … '--algorithm-provider=x']
    ```
    """
    etcd = str(context["etcd_version"]) if component == "etcd" else None
    line = minor_of(etcd) if etcd else release.minor
    own = {
        row.flag: _fill(row.value, context)
        for row in TABLES[component]
        if _holds(row, line, context) and _is_set(row.value, context)
    }
    more = {flag: _text(extra[flag]) for flag in sorted(extra)}
    problems = release.check_flags(component, {**own, **more}, etcd)
    if problems:
        raise InputError(problems)
    return [f"--{flag}={value}" for flag, value in {**own, **more}.items()]


def probe(component: str, release: Release, context: Mapping[str, object]) -> Probe:
    """
    Give how a component is asked whether it lives (A6), filled in.

    + component: a key of ``PROBES``
    + release: the Kubernetes release
    + context: as for ``command_line``

    ```
    >>> probe("kube-apiserver", Release.of("1.3.10"), context)[:4]
    ('HTTP', '127.0.0.1', '8080', '/healthz')
    ```
    """
    context = {**context, **{f"port_{name}": port for name, port in release.ports.items()}}
    row = next(row for row in PROBES[component] if _holds(row, release.minor, context))
    return row._replace(host=_fill(row.host, context), port=_fill(row.port, context))


# Fields of the spec that rows name as they are.
FROM_SPEC = (
    "allow_privileged",
    "apiserver_approach",
    "cloud_provider",
    "cluster_dns",
    "cluster_domain",
    "cluster_name",
    "cluster_cidr",
    "etcd_client_port",
    "etcd_data_dir",
    "insecure_port",
    "kubelet_root",
    "log_level",
    "log_to_host",
    "manifest_dir",
    "max_pods",
    "secure_port",
    "service_cidr",
)

# What a host's context tells besides the spec, when nobody says otherwise.
HOST_FACTS: Mapping[str, object] = MappingProxyType(
    {
        "cgroup_driver": "cgroupfs",
        "cni_bin_dir": "/opt/cni/bin",
        "container_runtime_endpoint": "unix:///run/containerd/containerd.sock",
        "docker_root": "/var/lib/docker",
        "etcd_initial_cluster_state": "new",
        "fail_swap_on": None,
        "proxy_mode": "iptables",
    }
)


def settings(
    spec: ClusterSpec, plan: AddressPlan, host: str, facts: Mapping[str, object] = ALWAYS
) -> dict[str, object]:
    """
    Give the context of a host's command lines.

    + spec: the cluster
    + plan: its addresses
    + host: the host that the components run on, as the inventory calls it
    + facts: what the spec does not know, in place of ``HOST_FACTS``

    Raises ``InputError`` when the address of a host that matters is not known.

    ```
    context = settings(spec, plan, "node1", {"cgroup_driver": "systemd"})
    command_line("kubelet", Release.of(spec.kubernetes_version), context, spec.kubelet_flags)
    ```
    """
    release = Release.of(spec.kubernetes_version)
    host_spec = spec.host(host)
    return {
        **{name: getattr(spec, name) for name in FROM_SPEC},
        **_release_settings(spec, release),
        **_apiserver_settings(spec, plan, host_spec),
        **_kubelet_settings(spec, plan, host_spec, release),
        **_etcd_settings(spec, plan, host_spec, release),
        **HOST_FACTS,
        **facts,
        **({"docker_root": spec.docker_root} if spec.docker_root else {}),
    }


def _release_settings(spec: ClusterSpec, release: Release) -> dict[str, object]:
    modes = spec.authorization_mode or release.authorization_mode
    chosen = spec.admission_control
    plugins = release.admission_control if chosen is None else chosen
    return {
        # Without any the flag is left out: no release takes an empty name.
        "admission_control": plugins or None,
        "anonymous": "AlwaysAllow" not in modes.split(","),
        "authorization_mode": modes,
        "etcd_version": spec.etcd_version or release.etcd_version,
        "pause_image": release.pause_image,
        "rbac": "RBAC" in modes.split(","),
    }


def _apiserver_settings(
    spec: ClusterSpec, plan: AddressPlan, host_spec: HostSpec
) -> dict[str, object]:
    https = spec.apiserver_approach == "https"
    tokens = f"{CONFIG_DIR}/known_tokens.csv" if spec.credential_kind == "token" else None
    several = len(spec.control_plane) > 1
    address = plan.own_address(host_spec.name)
    return {
        "apiserver_count": len(spec.control_plane) if several else None,
        "apiserver_url": spec.apiserver_url,
        "basic_auth_file": f"{CONFIG_DIR}/basic_auth.csv" if spec.basic_auth else None,
        "cloud_config": CLOUD_CONFIG if spec.cloud_config else None,
        "host_address": address,
        "insecure_address": "127.0.0.1" if https else address,
        "leader_elect": several,
        "token_auth_file": tokens if https else "/dev/null",
    }


def _kubelet_settings(
    spec: ClusterSpec, plan: AddressPlan, host_spec: HostSpec, release: Release
) -> dict[str, object]:
    node = plan.nodes.get(host_spec.name)
    wanted = spec.network == "routes" and spec.bridge_approach == "kubelet"
    return {
        "kubelet_bridge": bool(wanted and node and release.kubelet_bridge),
        "node_labels": [
            f"{key}={host_spec.node_labels[key]}"
            for key in sorted(host_spec.node_labels.keys() - host_spec.reserved_labels.keys())
        ]
        or None,
        "node_name": host_spec.hostname_override,
        "pod_cidr": node.pod_cidr if node else None,
        "register_node": spec.nodes_register,
        "standalone": "node" not in host_spec.roles,
    }


def _etcd_settings(
    spec: ClusterSpec, plan: AddressPlan, host_spec: HostSpec, release: Release
) -> dict[str, object]:
    members = spec.etcd_members
    # One member on the only control-plane host serves it alone, unless flannel asks from all nodes.
    alone = len(members) == 1 and members == spec.control_plane and spec.network != "flannel"
    known = {one.name: "127.0.0.1" if alone else plan.own_address(one.name) for one in members}
    own = known.get(host_spec.name)
    client = {name: f"http://{address}:{spec.etcd_client_port}" for name, address in known.items()}
    peer = {name: f"http://{address}:{spec.etcd_peer_port}" for name, address in known.items()}
    local = f"http://127.0.0.1:{spec.etcd_client_port}"
    flannel = etcd_api(spec.flannel_version or "") if spec.network == "flannel" else ""
    return {
        "etcd_advertise_client_urls": client.get(host_spec.name),
        "etcd_initial_cluster": [f"{name}={url}" for name, url in peer.items()],
        "etcd_listen_client_urls": spec.etcd_listen_client_urls
        or list(dict.fromkeys([local, client[host_spec.name]] if own else [])),
        "etcd_name": host_spec.name,
        "etcd_peer_url": peer.get(host_spec.name),
        "etcd_servers": list(client.values()),
        "etcd_v2": release.api_storage == "etcd2" or flannel == "v2",
    }


def _holds(row: Row | Probe, line: Minor, context: Mapping[str, object]) -> bool:
    return covers(row.releases, line) and all(context[key] == row.when[key] for key in row.when)


def _is_set(value: str, context: Mapping[str, object]) -> bool:
    names = [name for _, name, _, _ in Formatter().parse(value) if name]
    return all(context[name] is not None for name in names)


def _fill(value: str, context: Mapping[str, object]) -> str:
    return value.format_map({key: _text(context[key]) for key in context})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_text(item) for item in value)
    return str(value)
