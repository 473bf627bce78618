"""
Every setting of a cluster, by subject, each declared once: type, default, what it is for.

A setting's name is its key in the inventory. `docs/settings.md` is made from this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from netaddr import IPNetwork
from pydantic import Field

from pyinfra_kube.cluster.releases import minor_of, value_at
from pyinfra_kube.cluster.spec.values import (
    Address,
    Configuration,
    ContainerdVersion,
    Days,
    Digest,
    DnsName,
    EndpointText,
    EtcdVersion,
    Flags,
    FlannelVersion,
    KeyName,
    KubernetesVersion,
    Length,
    Local,
    Locals,
    Mirrors,
    Modes,
    Mtu,
    Namespaces,
    Network,
    PacketTarget,
    Path,
    PersonName,
    PodName,
    Port,
    Positive,
    ResetData,
    Settings,
    Strings,
    Url,
    Word,
)

OVERHEAD = {"vxlan": 50, "udp": 28, "host-gw": 0}
"""What a backend of flannel adds to each packet, in bytes."""
FLANNEL_PORTS = {"vxlan": 8472, "udp": 8285}
"""Where flannel wraps packets into others, the UDP port of those."""
NODE_DNS = "169.254.20.10"
"""Where each node's own DNS cache answers: an address that no network routes."""


# Defaults that follow from other settings. Their docstrings are the default column of the document.


def _tenth(data: Mapping[str, Any]) -> str:
    """the tenth address of `service_cidr`"""
    services = IPNetwork(data["service_cidr"])
    return str(services[min(10, services.size - 1)])


def _bridge_mtu(data: Mapping[str, Any]) -> int:
    """what an overlay leaves of `host_mtu`; without one 1460, or `host_mtu` if that is less"""
    if data["network"] == "flannel":
        return int(data["host_mtu"]) - OVERHEAD[data["flannel_backend"]]
    return min(1460, int(data["host_mtu"]))


def _cluster_cidr(data: Mapping[str, Any]) -> str:
    """`cluster_cidr`"""
    return str(data.get("cluster_cidr"))


def _flannel_port(data: Mapping[str, Any]) -> int | None:
    """the backend's own: 8472 of vxlan, 8285 of udp"""
    return FLANNEL_PORTS.get(data["flannel_backend"])


def _etcd_tls(data: Mapping[str, Any]) -> bool:
    """`True`, unless `apiserver_approach` is `"http"`"""
    return data.get("apiserver_approach") != "http"


def _encryption(data: Mapping[str, Any]) -> bool:
    """`True` from 1.24 on, unless `apiserver_flags` names a file of your own"""
    own = "encryption-provider-config" in data.get("apiserver_flags", {})
    return not own and _from_1_24(data)


def _from_1_24(data: Mapping[str, Any]) -> bool:
    """`True` from 1.24 on"""
    version = data.get("kubernetes_version")
    return bool(version and value_at({"1.24-": True}, minor_of(version)))


class ClusterSettings(Settings):
    """The cluster"""

    cluster_name: Word = "kubernetes"
    """Its name, in kubeconfigs and certificates."""
    kubernetes_version: KubernetesVersion
    """The release of Kubernetes, of 1.2 to 1.37. Fedora's deploys take a minor release too, such as
    `"1.37"`: whatever patch its packages have."""
    control_plane_endpoint: EndpointText | None = None
    """Where clients reach the control plane: the address of a host, or a load balancer or DNS name
    that leads to the apiserver. The default is the address of the first control-plane host, and the
    apiserver's own port."""


class AddressSettings(Settings):
    """Addresses"""

    cluster_cidr: Network = "10.10.0.0/16"
    """The range of all pods. Where only `flannel_network` is set, it is that."""
    node_cidr_mask_size: Length = 24
    """The prefix length of a node's pod CIDR. 24 has room for 253 pods."""
    service_cidr: Network = "10.0.0.0/16"
    """The range of the services. It is routed nowhere."""
    cluster_dns: Address = Field(default_factory=_tenth)
    """The address of the DNS service."""
    cluster_domain: DnsName = "cluster.local"
    """The DNS domain of the cluster."""
    allow_public_ranges: bool = True
    """Whether public ranges are allowed, with a warning."""
    allow_network_change: bool = False
    """Whether a node may get another pod CIDR than it has, and the services another range."""
    max_pods: Positive | None = None
    """How many pods a node may have. By default the kubelet's own limit, 110."""


class PodNetworkSettings(Settings):
    """The network of the pods"""

    network: Literal["routes", "flannel", "none"] = "routes"
    """What carries packets between the pods of different nodes: routes on the hosts, or flannel.
    `"none"` leaves it to a CNI plugin of your own, from 1.24 on."""
    route_pods: bool = True
    """Whether hosts get routes to each other's pods. Turn it off where your router has them."""
    bridge_approach: Literal["manual", "kubelet"] = "manual"
    """Who makes the bridge cbr0: this package, or the kubelet, up to 1.23."""
    packet_filter: Literal["iptables", "nftables"] = "iptables"
    """What lets pods' packets leave under the addresses of hosts. With nftables no iptables is
    installed, and a firewall of yours must let pods' packets and those to the apiserver pass. From
    1.29 on; for a new cluster."""
    host_mtu: Mtu = 1500
    """The MTU of the network between the hosts."""
    flannel_backend: Literal["vxlan", "udp", "host-gw"] = "vxlan"
    """How flannel's packets travel."""
    bridge_mtu: Mtu = Field(default_factory=_bridge_mtu)
    """The MTU of the pods' bridge."""
    flannel_store: Literal["etcd", "api"] | None = None
    """Where flannel finds its network: etcd, up to 1.23 and on `deploys/multinode.py`, or the API.
    By default etcd up to 1.23, the API from 1.24 on."""
    flannel_network: Network = Field(default_factory=_cluster_cidr)
    """flannel's range, within `cluster_cidr`. From 1.24 on it is all of that."""
    flannel_subnet_len: Length = 24
    """The prefix length of the subnet that flannel gives a node, up to 1.23."""
    flannel_vni: Annotated[int, Field(ge=1, le=2**24 - 1)] = 1
    """The number of the VXLAN network."""
    flannel_port: Port | None = Field(default_factory=_flannel_port)
    """The UDP port of flannel's packets."""
    flannel_etcd_prefix: Path = "/coreos.com/network"
    """Where flannel's keys are in etcd."""
    flannel_version: FlannelVersion | None = None
    """Which flannel runs, where it has its keys in etcd. Up to 0.17 it uses etcd's v2 API, then
    v3."""
    flannel_source: Local | None = None
    """The URL, file or folder of flanneld, where no package brings it, as from 1.24 on."""
    flannel_sha256: Digest | None = None
    """The digest of flanneld, where none is published beside its URL."""


class AccessSettings(Settings):
    """Access"""

    apiserver_approach: Literal["https", "http"] = "https"
    """How the apiserver is reached. `"http"` ends with 1.19."""
    secure_port: Port = 6443
    """The apiserver's port with TLS."""
    insecure_port: Port = 8080
    """The apiserver's port without TLS, up to 1.19."""
    authorization_mode: Modes | None = None
    """Who decides what a user may do. By default AlwaysAllow up to 1.7, then Node,RBAC."""
    admission_control: Strings | None = None
    """Admission plugins, up to 1.9 in this order. From 1.10 on they are added to those that the
    apiserver has by itself, and the default is NodeRestriction; `[]` adds none."""
    allow_privileged: bool = True
    """Whether pods may be privileged."""
    credential_policy: Literal["shared", "per_component", "per_node"] = "per_node"
    """Who shares a credential: everybody, all of one component, or nobody."""
    credential_kind: Literal["token", "certificate"] = "token"
    """What a client shows: a token, or a client certificate."""
    basic_auth: bool = False
    """Whether the administrator may use a password too, up to 1.18."""
    credentials_dir: Local | None = None
    """The folder of credentials on the control machine. By default `<cluster_name>-credentials`
    beside the inventory."""
    replace_credentials: bool = False
    """Whether hosts that hold another CA get new credentials. Without it they are refused."""
    ca: KeyName = "1"
    """What the cluster's CAs are called, and the key of service accounts' tokens with them. From
    1.24 on others can follow, in the steps of `ca_rotation`."""
    ca_rotation: KeyName | None = None
    """Another name, such as a date: CAs that are trusted beside those of `ca`, first as the ones
    that come, then as the ones that go; docs/rotation.md has the steps."""
    certificate_signing: bool = False
    """Whether the control plane signs CertificateSigningRequests, from 1.24 on. Its hosts then hold
    the key of the CA."""
    certificate_days: Days = 365
    """How long a certificate lasts, in days."""
    certificate_renew_days: Days | None = None
    """How long before its end a certificate is made anew, in days. By default a third of its
    life."""


class SoftwareSettings(Settings):
    """Software"""

    kubernetes_source: Local | None = None
    """Where Kubernetes' binaries come from: a URL, or a folder on the control machine. By default
    https://dl.k8s.io."""
    kubernetes_sha256: dict[str, Digest] = {}
    """Digests of binaries by file name, beside those that the release publishes."""
    image_source: Local | None = None
    """A folder of image archives, such as `etcd.tar`. By default that of `kubernetes_source`, if it
    is a folder. An image that is not there is pulled."""
    image_sha256: dict[str, Digest] = {}
    """The digest of an image that is pulled, by its name, as its registry tells it. Whatever else
    the registry has under the name is not pulled, and `deploys/verify.py` names what runs from
    another."""
    container_runtime: Literal["docker", "containerd", "cri-o"] | None = None
    """What runs containers: docker up to 1.23, from 1.24 on containerd or `"cri-o"`. By default
    docker or containerd, and CRI-O where all hosts are of Fedora 41 or later. A host keeps the one
    that it has."""
    runtime_source: Local | None = None
    """Where containerd, containerd-shim-runc-v2, ctr, crictl, runc and the CNI plugins bridge,
    host-local, loopback and portmap come from. A folder on the control machine has them at its
    top, in `bin/` or in `cni/`; a URL has plugins in `cni/` and the rest at its top. Where runc is
    not there, it is the distribution's. By default all are the distribution's but crictl, which
    comes from https://github.com/kubernetes-sigs/cri-tools. For CRI-O it has crio and pinns in
    place of containerd's programs, and conmon like runc."""
    runtime_sha256: dict[str, Digest] = {}
    """Digests of programs of `runtime_source`, and of crictl's archive, by file name, beside those
    that are published there."""
    containerd_version: ContainerdVersion | None = None
    """Which containerd `runtime_source` has, or a package of your own. The form of containerd's
    configuration depends on it. By default the one that the distribution has."""
    registry_mirrors: Mirrors = {}
    """Mirrors of registries, from 1.24 on, such as
    `{"registry.k8s.io": "https://mirror.example.com"}`: a URL, or several in their order.
    The runtime asks them, then the registry itself. `_default` is any registry that is not named;
    CRI-O has none. A URL with a path is the whole path of the API, such as
    `https://example.com/v2/mirror`."""
    hyperkube: bool = False
    """Whether the control plane runs from the one image hyperkube."""
    package_source: Literal["distribution", "rpm"] = "distribution"
    """Where Fedora's packages come from: its repositories, or `rpm_files`."""
    rpm_files: Locals = ()
    """URLs or local files of packages."""
    enable_updates_testing: bool = False
    """Whether Fedora's testing updates are used."""
    install_packages: bool = True
    """Whether missing packages of the distribution are installed."""
    lock_packages: bool = True
    """Whether packages that the cluster runs from, such as Fedora's of Kubernetes and the container
    runtime's, keep their version when somebody upgrades the system: by dnf's versionlock or apt's
    hold."""
    removable_packages: Strings = ()
    """Packages that an installation may remove, where it takes their place."""


class PartSettings(Settings):
    """Components"""

    cloud_provider: str | None = None
    """The cloud provider; which ones there are depends on the release, and from 1.29 on it is
    `"external"`. Without one, hosts are bare metal."""
    cloud_config: Local | None = None
    """The cloud provider's file, on the control machine."""
    proxy_mode: Literal["iptables", "nftables", "ipvs", "none"] | None = None
    """How kube-proxy leads packets to services; `"none"` sets up no kube-proxy. By default
    nftables from 1.33 on, on hosts with nft and Linux 5.13 or newer, else iptables."""
    register_node: bool = True
    """Whether kubelets register their nodes."""
    node_registration: Literal["self", "manual"] = "self"
    """Who makes the nodes' objects: kubelets, or this package."""
    control_plane_taint: bool = True
    """Whether a host of the control plane that is not in the group `nodes` keeps ordinary pods
    away, from 1.24 on."""
    dns: bool = Field(default_factory=_from_1_24)
    """Whether CoreDNS is set up as the cluster's DNS, from 1.19 on, by `deploys/scratch.py`."""
    dns_metrics: bool = False
    """Whether CoreDNS tells its metrics, at port 9153, to whoever reaches its pods: it asks nobody
    for a credential."""
    take_over_units: bool = False
    """Whether drop-ins of others that give a component another command line are put aside. Without
    it they are refused."""
    liveness_monitor: Literal["systemd", "supervisord"] = "systemd"
    """What keeps the container runtime, kubelet and kube-proxy alive. systemd starts one that ended
    again, and from 1.32 on a kubelet that hangs. With `"supervisord"`, supervisord of the
    distribution's package runs a monitor for each besides, which asks it every ten seconds, and
    restarts it if it does not answer. What somebody stopped stays stopped."""
    docker_root: Path | None = None
    """docker's folder, up to 1.23. By default the one that each host's docker has."""
    node_swap: bool | Literal["remove"] = False
    """Whether hosts may have swap, such as Fedora's zram. kubelet then runs beside it, and from
    1.30 on, with cgroup v2, pods may use it too (LimitedSwap). `"remove"` turns it off, also at
    boot: in /etc/fstab and in zram-generator's configuration. Without either a host with swap is
    refused, from 1.8 on."""
    kubelet_root: Path = "/var/lib/kubelet"
    """kubelet's folder."""
    manifest_dir: Path = "/etc/kubernetes/manifests"
    """The folder of static pods."""
    docker_options: Configuration = {}
    """More keys of docker's daemon.json, up to 1.23."""
    docker_mtu: Mtu | None = None
    """The MTU of docker's network, up to 1.23. By default that of the pods' bridge."""
    docker_nofile: Annotated[int, Field(ge=1024)] = 1_000_000
    """How many files docker may open, up to 1.23."""
    insecure_registries: Strings = ()
    """Registries that docker uses without TLS, up to 1.23. For containerd, a mirror in
    `registry_mirrors` may have `http://`; what else is in /etc/containerd/certs.d is yours."""
    etcd_data_dir: Path = "/var/lib/etcd"
    """etcd's folder."""
    etcd_client_port: Port = 2379
    """etcd's port for clients."""
    etcd_peer_port: Port = 2380
    """etcd's port for its other members."""
    etcd_tls: bool = Field(default_factory=_etcd_tls)
    """Whether etcd uses TLS, and lets in only who shows a certificate of its own CA. It can be
    turned on in a running cluster, and not off again."""
    etcd_version: EtcdVersion | None = None
    """Which etcd runs. By default the one that the release came with."""
    etcd_source: Local | None = None
    """The URL, file or folder of an etcd that runs in place of the package's, on Fedora from 1.24
    on. The package brings its user."""
    etcd_sha256: Digest | None = None
    """The digest of that etcd, where none is published beside its URL."""
    etcd_listen_client_urls: str | None = None
    """Where etcd listens for clients: URLs with commas between."""
    log_to_host: bool = False
    """Whether the control plane logs to the host's /var/log, up to 1.25."""
    log_level: Annotated[int, Field(ge=0, le=10)] = 2
    """How much is logged; 0 is least."""
    apiserver_flags: Flags = {}
    """More flags of kube-apiserver, without dashes, checked against the release."""
    controller_manager_flags: Flags = {}
    """More flags of kube-controller-manager."""
    scheduler_flags: Flags = {}
    """More flags of kube-scheduler."""
    kubelet_flags: Flags = {}
    """More flags of kubelet."""
    proxy_flags: Flags = {}
    """More flags of kube-proxy."""
    etcd_flags: Flags = {}
    """More flags of etcd."""
    kubelet_configuration: Configuration = {}
    """More fields of kubelet's configuration file, nested as there and checked against the release,
    from 1.24 on: `{"maxPods": 200}`."""
    proxy_configuration: Configuration = {}
    """More fields of kube-proxy's configuration file."""
    scheduler_configuration: Configuration = {}
    """More fields of kube-scheduler's configuration file."""


class AddonSettings(Settings):
    """Add-ons"""

    node_local_dns: bool = False
    """Whether each node has a DNS cache of its own, at 169.254.20.10, which its pods ask before the
    cluster's DNS, from 1.24 on, on routes and flannel."""
    metrics_server: bool = False
    """Whether metrics-server tells what nodes and pods use, for `kubectl top` and autoscalers, from
    1.21 on, by `deploys/scratch.py`."""
    network_policies: bool = False
    """Whether kube-router enforces NetworkPolicies, from 1.24 on, on routes and flannel."""
    default_deny: Namespaces = ()
    """Namespaces whose pods nobody reaches, and that reach nothing but the cluster's DNS, unless a
    NetworkPolicy allows it. Those that are not there are made."""
    log_receiver: Url | None = None
    """Where each node sends the logs of its containers and its journal, from 1.24 on: the URL of a
    receiver of OTLP over HTTP, such as `https://logs.example.com:4318`; `/v1/logs` is added."""
    manifests: Locals = ()
    """Objects of your own, from 1.24 on: folders with `.yaml`, `.yml` and `.json` files, files, and
    URLs. An object that is in none of them any more is deleted, but not what was there before them,
    a namespace, a volume, or the definition of a kind."""
    manifests_sha256: dict[str, Digest] = {}
    """The digest of each URL in `manifests`, by URL."""


class SafetySettings(Settings):
    """Encryption and audit"""

    encryption: bool = Field(default_factory=_encryption)
    """Whether Secrets are encrypted in etcd, with secretbox. It can be turned on from 1.13 on, and
    off again; the Secrets that there are already are rewritten."""
    encryption_key: KeyName = "1"
    """What the key of the Secrets is called. Another name, such as a date, makes another key: the
    Secrets are rewritten with it, and then the apiservers forget the old one."""
    audit: bool = Field(default_factory=_from_1_24)
    """Whether the apiserver writes who asked what into a log on its host, from 1.24 on. It holds no
    content of Secrets, ConfigMaps and tokens."""


class RunSettings(Settings):
    """The run"""

    verify_timeout: Positive = 300
    """How long each wait for the cluster may take, in seconds."""
    open_ports: bool = True
    """Whether a rule of iptables opens the apiserver's port."""
    open_firewalld: bool = Field(default_factory=_from_1_24)
    """Whether a firewalld that runs stays, and lets the cluster's packets in: its zone `trusted`
    gets the pods' range and the hosts' addresses, and the zone of the host's link the apiserver's
    port. With `False` a run takes that back; then Fedora's paths stop it, as the guide does, and
    others leave it as it is. When it is reloaded it drops all rules of iptables, also ours until
    the next run; those of nftables stay."""
    manage_hosts: bool = True
    """Whether /etc/hosts gets the name and address of every host."""
    verify_json: Local | None = None
    """A file for what `deploys/verify.py` finds, as JSON for programs."""
    support_file: Local | None = None
    """The archive that `deploys/support.py` writes. By default one in the working directory, named
    by the cluster and the time."""
    profile: Local | None = None
    """A file, such as `run.svg`, for a picture of where the time of the run went. A table of it is
    printed too."""
    extra_data_keys: Strings = ()
    """Keys of the inventory that are your own."""
    drain_force: bool = False
    """Whether an upgrade also evicts pods that no controller makes anew, and which are lost then.
    Without it they are refused before the first change."""
    remove_nodes: Strings = ()
    """The nodes that `deploys/remove_node.py` takes out."""
    topology_file: Local | None = None
    """The file of the picture that `deploys/topology.py` draws; without it `CLUSTER-topology.svg`
    in the working directory."""
    packet_from: PodName | None = None
    """The pod whose packet `deploys/topology.py` follows, as NAMESPACE/POD."""
    packet_to: PacketTarget | None = None
    """Where that packet is to go: NAMESPACE/POD, NAMESPACE/SERVICE or an IPv4 address, with `:PORT`
    or without."""
    reset: str | None = None
    """What `deploys/reset.py` needs where nobody can be asked: `yes`, or the cluster's name."""
    reset_data: ResetData = ()
    """Data that `deploys/reset.py` removes too: `etcd` for what the cluster's API holds, `volumes`
    for what pods wrote into their own folders."""


class PeopleSettings(Settings):
    """People"""

    access_user: PersonName | None = None
    """Whom `deploys/access.py` lets in: a person's name."""
    access_group: Literal["viewers", "editors", "admins", "cluster-admins"] | None = None
    """What that person may do, in all namespaces: what Kubernetes' ClusterRoles view, edit, admin
    and cluster-admin allow."""
    access_days: Days = 30
    """How long, in days."""
    access_revoke: PersonName | None = None
    """Whose access `deploys/access.py` ends."""


SUBJECTS: tuple[type[Settings], ...] = (
    ClusterSettings,
    AddressSettings,
    PodNetworkSettings,
    AccessSettings,
    SoftwareSettings,
    PartSettings,
    AddonSettings,
    SafetySettings,
    RunSettings,
    PeopleSettings,
)
"""In the order of the document, where the docstring of each is its heading."""
