"""The settings that rows name: what the spec, the plan and a host's facts say of one host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from pyinfra_kube.cluster.allocation import AddressPlan
from pyinfra_kube.cluster.components.common import CLOUD_CONFIG, CONFIG_DIR
from pyinfra_kube.cluster.components.flanneld import etcd_api
from pyinfra_kube.cluster.components.kube_apiserver import AUTHENTICATION_FILE
from pyinfra_kube.cluster.components.rows import ALWAYS
from pyinfra_kube.cluster.images import image_of
from pyinfra_kube.cluster.releases import Release, minor_of
from pyinfra_kube.cluster.spec import ClusterSpec, HostSpec
from pyinfra_kube.cluster.spec.host import CONTROL_PLANE_ROLE
from pyinfra_kube.cluster.spec.settings import NODE_DNS

# What a host's context tells besides the spec, when nobody says otherwise.
HOST_FACTS: Mapping[str, object] = MappingProxyType(
    {
        "cgroup_driver": "cgroupfs",
        "cni_bin_dir": "/opt/cni/bin",
        # 0 lets kube-proxy leave the limit of tracked connections to the machine of a container.
        "conntrack_per_core": None,
        "container_runtime_endpoint": "unix:///run/containerd/containerd.sock",
        "docker_root": "/var/lib/docker",
        # Where Secrets are encrypted, the file that says with which keys.
        "encryption_file": None,
        "etcd_initial_cluster_state": "new",
        # False lets a kubelet from 1.31 on run where the host has cgroup v1.
        "fail_cgroup_v1": None,
        "fail_swap_on": None,
        # Where hosts have swap and pods may use it, LimitedSwap.
        "swap_behavior": None,
        "proxy_mode": "iptables",
        # Where systemd-resolved runs, /run/systemd/resolve/resolv.conf.
        "resolv_conf": None,
    }
)


CONTROL_PLANE_TAINT = {"key": CONTROL_PLANE_ROLE, "effect": "NoSchedule"}


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
        **dict(spec),
        **_release_settings(spec, release),
        **_apiserver_settings(spec, plan, host_spec),
        **_kubelet_settings(spec, plan, host_spec, release),
        **HOST_FACTS,
        **_etcd_settings(spec, plan, host_spec, release, facts),
        **facts,
        **({"docker_root": spec.docker_root} if spec.docker_root else {}),
    }


def health_settings(spec: ClusterSpec) -> dict[str, object]:
    """
    Give what tells on which ports components are asked for their health: no address does.

    + spec: the cluster
    """
    release = Release.of(spec.kubernetes_version)
    metrics = bool(release.fact("etcd_metrics"))
    return {
        **dict(spec),
        **_release_settings(spec, release),
        "etcd_metrics": metrics,
        "etcd_own_health": metrics or spec.etcd_tls,
        "host_address": "",
        "insecure_address": "",
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
        "pause_image": image_of("pause", spec).name,
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
        "authentication_file": None if _own_authentication(spec) else AUTHENTICATION_FILE,
        "basic_auth_file": f"{CONFIG_DIR}/basic_auth.csv" if spec.basic_auth else None,
        "cloud_config": CLOUD_CONFIG if spec.cloud_config else None,
        "host_address": address,
        "insecure_address": "127.0.0.1" if https else address,
        "leader_elect": several,
        "token_auth_file": tokens if https else "/dev/null",
    }


# An apiserver does not start with one of these beside the file.
_OF_AUTHENTICATION = ("anonymous-auth", "authentication-config", "oidc-")


def _own_authentication(spec: ClusterSpec) -> bool:
    """Whether anonymous requests are refused, or flags of the inventory say who is who."""
    modes = spec.authorization_mode or Release.of(spec.kubernetes_version).authorization_mode
    refused = "AlwaysAllow" in modes.split(",")
    return refused or any(flag.startswith(_OF_AUTHENTICATION) for flag in spec.apiserver_flags)


def _kubelet_settings(
    spec: ClusterSpec, plan: AddressPlan, host_spec: HostSpec, release: Release
) -> dict[str, object]:
    node = plan.nodes.get(host_spec.name)
    wanted = spec.network == "routes" and spec.bridge_approach == "kubelet"
    labels, reserved = host_spec.node_labels, host_spec.reserved_labels
    return {
        # Whoever gets no answer from the first asks the second.
        "dns_servers": [*([NODE_DNS] if spec.node_local_dns else []), spec.cluster_dns],
        "kubelet_bridge": bool(wanted and node and release.kubelet_bridge),
        "node_labels": [f"{key}={labels[key]}" for key in sorted(labels.keys() - reserved)] or None,
        "node_name": host_spec.hostname_override,
        "node_taints": [CONTROL_PLANE_TAINT] if _is_tainted(spec, host_spec) else None,
        "pod_cidr": node.pod_cidr if node else None,
        "register_node": spec.nodes_register,
        "standalone": "node" not in host_spec.roles,
    }


def _is_tainted(spec: ClusterSpec, host_spec: HostSpec) -> bool:
    """Whether a host of the control plane is a node for the control plane's own pods alone."""
    return spec.control_plane_taint and host_spec.control_plane_only


# From this release of etcd on, health is told on a port of its own.
_OWN_HEALTH = (3, 3)


def _etcd_settings(
    spec: ClusterSpec,
    plan: AddressPlan,
    host_spec: HostSpec,
    release: Release,
    facts: Mapping[str, object],
) -> dict[str, object]:
    """While etcd moves to TLS, ``facts`` tell what the host's member serves and how it is asked."""
    serves = facts.get("etcd_serves") or ("tls" if spec.etcd_tls else "http")
    asked = facts.get("etcd_asked") or ("https" if spec.etcd_tls else "http")
    peer = "https" if serves == "tls" else "http"
    schemes = {"http": ["http"], "both": ["http", "https"], "tls": ["https"]}[str(serves)]
    flannel = etcd_api(spec.flannel_version or "") if spec.flannel_in_etcd else ""
    metrics = bool(release.fact("etcd_metrics"))
    listen = [url for scheme in schemes for url in _listen_urls(spec, plan, host_spec, scheme)]
    peers = etcd_peer_urls(spec, plan, peer)
    own = host_spec.name
    return {
        "etcd_alone": {*_etcd_addresses(spec, plan, peer).values()} == {"127.0.0.1"},
        "etcd_advertise_client_urls": etcd_client_urls(spec, plan, peer).get(own),
        "etcd_has_tls": serves != "http",
        "etcd_initial_cluster": [f"{name}={url}" for name, url in peers.items()],
        "etcd_listen_client_urls": listen,
        "etcd_metrics": metrics,
        "etcd_name": own,
        "etcd_own_health": metrics or serves != "http",
        "etcd_peer_url": peers.get(own),
        "etcd_servers": list(etcd_client_urls(spec, plan, str(asked)).values()),
        "etcd_tls": asked == "https",
        "etcd_v2": release.api_storage == "etcd2" or flannel == "v2",
    }


def etcd_client_urls(spec: ClusterSpec, plan: AddressPlan, scheme: str) -> dict[str, str]:
    """
    Give the URL of each member of etcd for clients, by its host.

    + spec: the cluster
    + plan: its addresses
    + scheme: ``http`` or ``https``
    """
    at = _etcd_addresses(spec, plan, scheme)
    return {name: f"{scheme}://{one}:{spec.etcd_client_port}" for name, one in at.items()}


def etcd_peer_urls(spec: ClusterSpec, plan: AddressPlan, scheme: str) -> dict[str, str]:
    """
    Give the URL of each member of etcd for the other members, by its host.

    + spec: the cluster
    + plan: its addresses
    + scheme: ``http`` or ``https``
    """
    at = _etcd_addresses(spec, plan, scheme)
    return {name: f"{scheme}://{one}:{spec.etcd_peer_port}" for name, one in at.items()}


def _etcd_addresses(spec: ClusterSpec, plan: AddressPlan, scheme: str) -> dict[str, str]:
    members = spec.etcd_members
    # One member on the only control-plane host serves it alone, unless flannel asks from all nodes.
    alone = len(members) == 1 and members == spec.control_plane and not spec.flannel_in_etcd
    version = spec.etcd_version or Release.of(spec.kubernetes_version).etcd_version
    if scheme == "https" and minor_of(version) < _OWN_HEALTH:
        # kubelet can only try whether the port is open, at the host's address.
        alone = False
    return {one.name: "127.0.0.1" if alone else plan.own_address(one.name) for one in members}


def _listen_urls(spec: ClusterSpec, plan: AddressPlan, host: HostSpec, scheme: str) -> list[str]:
    """Where the member of a host listens for clients; nowhere where it has none."""
    if given := spec.etcd_listen_client_urls:
        return [re.sub(r"^https?://", f"{scheme}://", url.strip()) for url in given.split(",")]
    own = etcd_client_urls(spec, plan, scheme).get(host.name)
    local = f"{scheme}://127.0.0.1:{spec.etcd_client_port}"
    return list(dict.fromkeys([local, own])) if own else []
