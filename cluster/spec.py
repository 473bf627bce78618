"""
What somebody wants: inventory data, read once into a typed `ClusterSpec`, or refused whole.

Nothing is coerced: a version written as a float, a number in quotes, a list written as text are
each named, with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from netaddr import IPNetwork
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from pyinfra_kube.cluster import addressing
from pyinfra_kube.cluster.errors import HIDDEN, InputError, Problem, Wrong
from pyinfra_kube.cluster.releases import Release

Groups = Mapping[str, Sequence[str]]
Data = Mapping[str, Mapping[str, Any]]

# Our groups, each with the names that an inventory may use for it.
GROUPS = {
    "control_plane": ("control_plane", "masters"),
    "nodes": ("nodes", "minions"),
    "etcd": ("etcd",),
}
ROLES = {"control_plane": "control_plane", "nodes": "node", "etcd": "etcd"}

# Keys of the seed, in small letters, and of earlier versions.
ALIASES = {
    "cluster_subnet": "cluster_cidr",
    "node_pod_cidr": "pod_cidr",
    "node_x_pod_cidr": "pod_cidr",
    "service_cluster_ip_range": "service_cidr",
}

# Keys that are pyinfra's, or the user's own.
FOREIGN_PREFIXES = ("_", "ssh_", "fake_")
FOREIGN_KEYS = {
    *("docker_identifier", "docker_platform", "docker_architecture"),
    *("sudo", "sudo_user", "sudo_password", "use_sudo_login", "preserve_sudo_env"),
    *("su_user", "use_su_login", "preserve_su_env", "su_shell"),
    *("doas", "doas_user", "shell_executable", "env"),
}

AUTHORIZATION_MODES = ("AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook", "RBAC", "Node")
ETCD_SIZES = (1, 3, 5)


# Types of values


def node_name(name: str) -> str:
    """
    What a node may be called whose host has a name: as kubelet does, in small letters, and with a
    dash for what no DNS name has; of one that is too long for a node the first part. Empty where
    nothing is left.

    + name: of the host
    """
    parts = (re.sub("[^a-z0-9]+", "-", part).strip("-") for part in name.lower().split("."))
    found = [part for part in parts if part]
    whole = ".".join(found)
    return whole if len(whole) <= 63 else found[0]


def _version(value: object) -> object:
    allowed = 'a release in quotes, such as "1.20.2"'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        minors = [str(value), f"{value}0"] if re.fullmatch(r"1\.[1-3]", str(value)) else [value]
        either = " or ".join(f'"{minor}.x"' for minor in minors)
        raise Wrong(allowed, f"write {either} in quotes, with its patch number for x")
    if not isinstance(value, str):
        raise Wrong(allowed)
    if re.fullmatch(r"v?\d+\.\d+", value):
        raise Wrong(allowed, f'write "{value.lstrip("v")}.x", with its patch number for x')
    if re.fullmatch(r"v\d+\.\d+\.\d+\S*", value):
        raise Wrong(allowed, f'write "{value[1:]}"')
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", value):
        raise Wrong(allowed)
    return value


def _parsed(parse: Callable[[str], object]) -> AfterValidator:
    """Text that another function can read, kept as text."""

    def check(value: str) -> str:
        parse(value)
        return value

    return AfterValidator(check)


def _like(pattern: str, allowed: str, fix: Callable[[str], str] | None = None) -> AfterValidator:
    """Text of a pattern; `fix` makes a right value of a wrong one."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value):
            return value
        better = fix(value) if fix else ""
        raise Wrong(allowed, f'write "{better}"' if re.fullmatch(pattern, better) else None)

    return AfterValidator(check)


def _modes(value: str) -> str:
    wrong = [mode for mode in value.split(",") if mode not in AUTHORIZATION_MODES]
    if wrong:
        raise Wrong(
            f"some of {', '.join(AUTHORIZATION_MODES)}, with a comma between",
            _did_you_mean(wrong[0], AUTHORIZATION_MODES),
        )
    return value


def _list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DNS = rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*"
# A node's name is the value of one of its labels too.
_NODE = rf"(?=.{{1,63}}$){_DNS}"
_HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

_RESERVED = re.compile(r"(^|\.)(kubernetes|k8s)\.io/")

Version = Annotated[str, BeforeValidator(_version)]
Network = Annotated[str, _parsed(addressing.parse_network)]
Address = Annotated[str, _parsed(addressing.parse_address)]
DnsName = Annotated[
    str,
    _like(
        _DNS,
        "a DNS name: lower-case letters, digits and -, in parts with dots between",
        lambda value: node_name(value),
    ),
]
NodeName = Annotated[
    str,
    _like(
        _NODE,
        "a DNS name of at most 63 characters: lower-case letters, digits and -, in parts with dots "
        "between",
        lambda value: node_name(value),
    ),
]
Word = Annotated[str, _like(_WORD, "letters, digits, -, _ and ., at most 63 of them")]
Path = Annotated[
    str,
    _like(r"/|(/[^/\0]+)+", "an absolute path", lambda value: re.sub("/+", "/", value).rstrip("/")),
]
Strings = Annotated[tuple[str, ...], BeforeValidator(_list)]
Flags = dict[
    Annotated[
        str,
        _like("[a-z0-9][-a-z0-9.]*", "a flag without dashes before it", lambda f: f.lstrip("-")),
    ],
    str | int | bool,
]
Labels = dict[
    Annotated[
        str, _like(rf"({_DNS}/)?{_WORD}", 'a label\'s key, such as "disk" or "example.com/disk"')
    ],
    Annotated[str, _like(rf"|{_WORD}", "a label's value: at most 63 letters, digits, -, _ and .")],
]
Digest = Annotated[str, _like("[0-9a-f]{64}", "a SHA-256 digest", str.lower)]
Port = Annotated[int, Field(ge=1, le=65535)]
Days = Annotated[int, Field(ge=1)]


# The data


class _Data(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class HostSpec(_Data):
    """
    What the inventory says of one host.

    + name: as the inventory calls it
    + groups: the groups that it is in, all of them
    + roles: of ``control_plane``, ``node`` and ``etcd``
    + address: IPv4, at which the other hosts reach it; from `ssh_hostname` or the name if one is
      an address, else ``None``: a fact tells
    + pod_cidr: the network of its pods, to choose it oneself (P1)
    + hostname_override: its name as a node; the host's name by default
    + node_labels: labels of its node; those in Kubernetes' own domains, which a kubelet may not
      set, come through the apiserver
    + flannel_iface: the interface, or its address, that flannel uses; by default that of the
      default route
    """

    name: str
    groups: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    address: Address | None = None
    pod_cidr: Network | None = None
    hostname_override: NodeName = Field(
        default_factory=lambda data: str(data.get("name", "")), validate_default=True
    )
    node_labels: Labels = {}
    flannel_iface: str | None = None

    @property
    def known_as(self) -> str | None:
        """
        The name that other hosts find it by, which may be the one of its node alone; ``None`` for
        a name that each host has for itself, and for an address.
        """
        name = self.name if re.fullmatch(_HOST_NAME, self.name) else self.hostname_override
        local = name.lower().split(".")[0] == "localhost"
        return None if local or re.fullmatch(r"[\d.]+", name) else name

    @property
    def reserved_labels(self) -> dict[str, str]:
        """The labels in Kubernetes' own domains, with which no kubelet from 1.16 on starts."""
        return {key: self.node_labels[key] for key in self.node_labels if _RESERVED.search(key)}


class ClusterSpec(_Data):
    """
    A cluster as it is wanted. Made by `from_inventory`; its fields are the keys of the inventory.

    The cluster
    + cluster_name: its name; regions are told apart by it (P4)
    + kubernetes_version: the release, whole and in quotes: ``"1.20.2"``
    + master_ip: the address of the control plane, a master's (P4)
    + hosts: every host with a role: control plane, then etcd members, then nodes

    Addresses
    + cluster_cidr: the range of all pods (P1); with flannel, `flannel_network` by default
    + node_cidr_mask_size: the length of one node's share of it
    + service_cidr: the range of the services, routed nowhere (P2)
    + cluster_dns: the DNS service, by default the tenth address of the services
    + cluster_domain: the DNS domain of the cluster
    + allow_public_ranges: whether a public range is only warned of (P5)
    + allow_network_change: whether a node may get another pod CIDR than the one it has (P6), and
      services another range than the one they have (P2)
    + max_pods: most pods of a node; the kubelet's default of 110 if not set

    Network of the pods
    + network: ``routes`` between the hosts, or ``flannel``
    + route_pods: whether hosts get the routes to each other's pods (N6)
    + bridge_approach: who makes cbr0: ``kubelet`` (N3), or ``manual``: we (N4)
    + bridge_mtu: 1460 as the kubelet sets it, or what an overlay leaves
    + host_mtu: what the network between the hosts carries
    + flannel_network: flannel's range, by default cluster_cidr (M1)
    + flannel_subnet_len: the length of one node's share of it
    + flannel_backend, flannel_vni, flannel_port: how packets travel; the port by default the
      backend's own
    + flannel_etcd_prefix: where flannel's keys are in etcd (M2)
    + flannel_version: which flannel; through 0.17 it speaks etcd's v2, from 0.18 on v3
    + flannel_source, flannel_sha256: flanneld's URL, file or folder, where no package brings it;
      the digest, where none is published beside the URL

    Access
    + apiserver_approach: ``https``, or ``http``, which ends with 1.19
    + secure_port, insecure_port: the apiserver's ports
    + authorization_mode: modes with commas between, by default the release's
    + admission_control: plugins in order, by default the release's; empty for those of the
      apiserver itself
    + allow_privileged: whether pods may be privileged
    + credential_policy: who shares a credential (C4)
    + credential_kind: ``token`` (C3) or ``certificate`` (C2)
    + basic_auth: whether the administrator may come with a password too, up to 1.18 (C3)
    + credentials_dir: where they are kept on the control machine
    + replace_credentials: whether hosts that hold another CA get new credentials all the same
    + certificate_days, certificate_renew_days: how long one lasts, how long before its end it is
      made anew

    Software
    + kubernetes_source: a URL, a mirror or a folder; by default https://dl.k8s.io (S1)
    + kubernetes_sha256: file → digest, beside those of the release
    + image_source: a folder of .tar files; by default images are pulled (S2)
    + hyperkube: whether the control plane runs from the one image (S2)
    + package_source: ``distribution``, or ``rpm`` for `rpm_files` (S3)
    + rpm_files: URLs or local files
    + enable_updates_testing: whether Fedora's testing updates are used (S3)
    + install_packages: whether what is missing is installed from the distribution
    + removable_packages: packages that an installation may remove, where it takes their place

    Parts
    + cloud_provider, cloud_config: the provider, and the local path of its file (A5)
    + register_node, node_registration: whether kubelets register themselves: ``False``, or
      ``manual``, has the nodes' objects made for them, as from a node.json (F7)
    + take_over_units: whether drop-ins of others that give a component another command line are
      put aside; without it they are refused
    + docker_root: docker's folder; by default the one that each host's docker has already
    + kubelet_root, manifest_dir: folders on the hosts
    + docker_options: more keys of daemon.json
    + docker_mtu, docker_nofile, insecure_registries: docker's (D1)
    + etcd_data_dir, etcd_client_port, etcd_peer_port, etcd_version: etcd's; the version by
      default the release's (S4)
    + etcd_listen_client_urls: where etcd listens, with commas between (F4)
    + log_to_host: whether the control plane logs to the host's /var/log (A2)
    + log_level: how much is logged; 0 is least
    + apiserver_flags … etcd_flags: more flags, without the dashes; checked against the release

    The run
    + verify_timeout: seconds to wait for the cluster to work (A6)
    + open_ports: whether the apiserver's ports are opened (H2)
    + manage_hosts: whether /etc/hosts knows every host (H3)
    + remove_nodes: the nodes that `deploys/remove_node.py` takes out
    + extra_data_keys: keys of the inventory that are the user's own
    """

    cluster_name: Word = "kubernetes"
    kubernetes_version: Version
    master_ip: Address
    hosts: tuple[HostSpec, ...] = ()

    cluster_cidr: Network = "10.10.0.0/16"
    node_cidr_mask_size: Annotated[int, Field(ge=1, le=32)] = 24
    service_cidr: Network = "10.0.0.0/16"
    cluster_dns: Address = Field(default_factory=lambda data: _tenth(data))
    cluster_domain: DnsName = "cluster.local"
    allow_public_ranges: bool = True
    allow_network_change: bool = False
    max_pods: Annotated[int, Field(ge=1)] | None = None

    network: Literal["routes", "flannel"] = "routes"
    route_pods: bool = True
    bridge_approach: Literal["manual", "kubelet"] = "manual"
    host_mtu: Annotated[int, Field(ge=576, le=65535)] = 1500
    flannel_backend: Literal["vxlan", "udp", "host-gw"] = "vxlan"
    bridge_mtu: Annotated[int, Field(ge=576, le=65535)] = Field(
        default_factory=lambda data: _bridge_mtu(data)
    )
    flannel_network: Network = Field(default_factory=lambda data: str(data.get("cluster_cidr")))
    flannel_subnet_len: Annotated[int, Field(ge=1, le=32)] = 24
    flannel_vni: Annotated[int, Field(ge=1, le=2**24 - 1)] = 1
    flannel_port: Port | None = Field(
        default_factory=lambda data: {"vxlan": 8472, "udp": 8285}.get(data["flannel_backend"])
    )
    flannel_etcd_prefix: Path = "/coreos.com/network"
    flannel_version: (
        Annotated[str, _like(r"v?\d+\.\d+\S*", 'a version of flannel, such as "0.9.0"')] | None
    ) = None
    flannel_source: str | None = None
    flannel_sha256: Digest | None = None

    apiserver_approach: Literal["https", "http"] = "https"
    secure_port: Port = 6443
    insecure_port: Port = 8080
    authorization_mode: Annotated[str, AfterValidator(_modes)] | None = None
    admission_control: Strings | None = None
    allow_privileged: bool = True
    credential_policy: Literal["shared", "per_component", "per_node"] = "per_node"
    credential_kind: Literal["token", "certificate"] = "token"
    basic_auth: bool = False
    credentials_dir: str | None = None
    replace_credentials: bool = False
    certificate_days: Days = 365
    certificate_renew_days: Days = 30

    kubernetes_source: str | None = None
    kubernetes_sha256: dict[str, Digest] = {}
    image_source: str | None = None
    hyperkube: bool = False
    package_source: Literal["distribution", "rpm"] = "distribution"
    rpm_files: Strings = ()
    enable_updates_testing: bool = False
    install_packages: bool = True
    removable_packages: Strings = ()

    cloud_provider: str | None = None
    cloud_config: str | None = None
    register_node: bool = True
    node_registration: Literal["self", "manual"] = "self"
    take_over_units: bool = False
    docker_root: Path | None = None
    kubelet_root: Path = "/var/lib/kubelet"
    manifest_dir: Path = "/etc/kubernetes/manifests"
    docker_options: dict[str, Any] = {}
    docker_mtu: Annotated[int, Field(ge=576, le=65535)] | None = None
    docker_nofile: Annotated[int, Field(ge=1024)] = 1_000_000
    insecure_registries: Strings = ()
    etcd_data_dir: Path = "/var/lib/etcd"
    etcd_client_port: Port = 2379
    etcd_peer_port: Port = 2380
    etcd_version: Version | None = None
    etcd_listen_client_urls: str | None = None
    log_to_host: bool = False
    log_level: Annotated[int, Field(ge=0, le=10)] = 2
    apiserver_flags: Flags = {}
    controller_manager_flags: Flags = {}
    scheduler_flags: Flags = {}
    kubelet_flags: Flags = {}
    proxy_flags: Flags = {}
    etcd_flags: Flags = {}

    verify_timeout: Annotated[int, Field(ge=1)] = 300
    open_ports: bool = True
    manage_hosts: bool = True
    extra_data_keys: Strings = ()
    remove_nodes: Strings = ()

    @classmethod
    def from_inventory(cls, groups: Groups, data: Data) -> ClusterSpec:
        """
        Read an inventory, or say everything that is wrong with it.

        + groups: group → its hosts in order; the seed's names are known too
        + data: host → its inventory data, as pyinfra merged it

        Hosts outside our groups are not looked at. Raises ``InputError``.

        ```
        ClusterSpec.from_inventory(
            {"control_plane": ["m1"], "nodes": ["n1", "n2"]},
            {"m1": {"kubernetes_version": "1.20.2", "MASTER_IP": "192.168.10.4"}},
        )
        ```
        """
        members, problems = _read_groups(groups)
        names = list(dict.fromkeys(name for group in members.values() for name in group))
        names = names or list(data)
        sorted_data, found = _sort_keys({name: data.get(name, {}) for name in names})
        problems += found
        hosts = []
        for name in names:
            host, found = _read_host(name, groups, members, sorted_data[name], data.get(name, {}))
            hosts.append(host)
            problems += found
        values, found = _one_value_each(sorted_data)
        problems += found
        spec, wrong, found = _read_cluster(values, tuple(hosts))
        problems += found
        for needs, check in CHECKS:
            if not wrong.intersection(needs):
                problems += check(spec)
        if problems:
            raise InputError(problems)
        return spec

    def with_addresses(
        self, addresses: Mapping[str, str], through: Collection[str] = ()
    ) -> ClusterSpec:
        """
        The same with addresses that hosts told; checked as if they had been written.

        + addresses: host → its address
        + through: hosts whose flanneld must be told that address, unless it has an interface

        Raises ``InputError``.
        """

        def told(host: HostSpec) -> HostSpec:
            address = addresses.get(host.name, host.address)
            iface = host.flannel_iface or (address if host.name in through else None)
            return host.model_copy(update={"address": address, "flannel_iface": iface})

        hosts = tuple(map(told, self.hosts))
        spec = self.model_copy(update={"hosts": hosts})
        problems = [problem for _, check in CHECKS for problem in check(spec)]
        if problems:
            raise InputError(problems)
        return spec

    @property
    def control_plane(self) -> tuple[HostSpec, ...]:
        """The hosts of the control plane."""
        return self._with_role("control_plane")

    @property
    def nodes(self) -> tuple[HostSpec, ...]:
        """The hosts that run pods."""
        return self._with_role("node")

    @property
    def etcd_members(self) -> tuple[HostSpec, ...]:
        """The hosts of group `etcd`, or those of the control plane if there is none (A1)."""
        return self._with_role("etcd")

    @property
    def nodes_register(self) -> bool:
        """Whether kubelets make the objects of their nodes (F7)."""
        return self.register_node and self.node_registration == "self"

    @property
    def apiserver_port(self) -> int:
        """The apiserver's port that clients use."""
        return self.secure_port if self.apiserver_approach == "https" else self.insecure_port

    @property
    def apiserver_url(self) -> str:
        """Where clients find the apiserver."""
        return f"{self.apiserver_approach}://{self.master_ip}:{self.apiserver_port}"

    def host(self, name: str) -> HostSpec:
        """
        One host by its name in the inventory.

        + name: the host

        Raises ``KeyError`` for a host without a role.
        """
        return {host.name: host for host in self.hosts}[name]

    def _with_role(self, role: str) -> tuple[HostSpec, ...]:
        return tuple(host for host in self.hosts if role in host.roles)


def _tenth(data: Mapping[str, Any]) -> str:
    services = IPNetwork(data["service_cidr"])
    return str(services[min(10, services.size - 1)])


def _bridge_mtu(data: Mapping[str, Any]) -> int:
    if data["network"] == "flannel":
        return int(data["host_mtu"]) - addressing.OVERHEAD[data["flannel_backend"]]
    return min(1460, int(data["host_mtu"]))


CLUSTER_KEYS = frozenset(ClusterSpec.model_fields) - {"hosts"}
HOST_KEYS = frozenset(HostSpec.model_fields) - {"name", "groups", "roles"}
KEYS = sorted(CLUSTER_KEYS | HOST_KEYS)


# From inventory to fields


def _read_groups(groups: Groups) -> tuple[dict[str, list[str]], list[Problem]]:
    """Our groups with their hosts in order, under one name each."""
    members = {
        group: list(dict.fromkeys(host for name in names for host in groups.get(name, ())))
        for group, names in GROUPS.items()
    }
    problems = [
        _missing_group(group, groups) for group in ("control_plane", "nodes") if not members[group]
    ]
    if "etcd" in groups and not members["etcd"]:
        fix = (
            "name hosts of the inventory, or leave the group out: the control plane has the members"
        )
        problems.append(Problem("etcd", [], None, "1, 3 or 5 hosts of the inventory", fix))
    members["etcd"] = members["etcd"] or members["control_plane"]
    return {group: members[group] for group in ("control_plane", "etcd", "nodes")}, problems


def _missing_group(group: str, groups: Groups) -> Problem:
    allowed = f"a group with at least one host, here or as {' or '.join(GROUPS[group][1:])}"
    if any(name in groups for name in GROUPS[group]):
        return Problem(group, [], None, allowed)
    near = next(filter(None, (_nearest(name, groups) for name in GROUPS[group])), None)
    return Problem(group, None, None, allowed, f"rename the group {near}" if near else None)


def _sort_keys(data: Data) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Our keys of each host under our names; what is neither ours nor anybody's is a problem."""
    own = {key for values in data.values() for key in _strings(values.get("extra_data_keys"))}
    ours: dict[str, dict[str, Any]] = {name: {} for name in data}
    strange: dict[str, list[str]] = {}
    problems = []
    for name, values in data.items():
        # Python lets anything be a key.
        for raw, value in ((str(key), value) for key, value in values.items()):
            key = our_name(raw)
            if key not in KEYS:
                if raw not in own and not _is_foreign(raw):
                    strange.setdefault(raw, []).append(name)
            elif key in ours[name] and not _same(ours[name][key], value):
                allowed = f"one value: it also says {key} = {ours[name][key]!r}"
                problems.append(Problem(raw, value, name, allowed))
            else:
                ours[name][key] = value
    for key, names in strange.items():
        host = None if len(names) == len(data) else ", ".join(names)
        near = _did_you_mean(our_name(key), KEYS)
        fix = f"{near or ''} If it is your own, add it to extra_data_keys".strip()
        problems.append(Problem(key, HIDDEN, host, "a known key", fix))
    return ours, problems


def _read_host(
    name: str,
    groups: Groups,
    members: Mapping[str, list[str]],
    ours: Mapping[str, Any],
    data: Mapping[str, Any],
) -> tuple[HostSpec, list[Problem]]:
    given: dict[str, Any] = {key: value for key, value in ours.items() if key in HOST_KEYS}
    if given.get("hostname_override", ...) is None:
        del given["hostname_override"]
    if given.get("address") is None:
        given["address"] = _address_of(data.get("ssh_hostname"), name)
    given["name"] = name
    given["groups"] = tuple(group for group, hosts in groups.items() if name in hosts)
    given["roles"] = frozenset(ROLES[group] for group, hosts in members.items() if name in hosts)
    try:
        return HostSpec.model_validate(given), []
    except ValidationError as error:
        problems = [_with_port(problem, name) for problem in _problems(error, name)]
        wrong = {problem.key.split(".")[0] for problem in problems}
        valid = {key: value for key, value in given.items() if key not in wrong}
        return HostSpec.model_construct(**valid), problems


def _with_port(problem: Problem, name: str) -> Problem:
    """The way out for a host that is named by its address and port."""
    match = re.fullmatch(r"([^:]+):(\d+)", name)
    if not match or (problem.key, problem.value) != ("hostname_override", name):
        return problem
    fix = f'name it as you like, with ssh_hostname = "{match[1]}" and ssh_port = {match[2]}'
    return replace(problem, fix=fix)


def _one_value_each(data: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], list[Problem]]:
    """The cluster's keys, each of which has one value wherever it has one."""
    values: dict[str, tuple[str, Any]] = {}
    problems = []
    for name, ours in data.items():
        for key in (key for key in ours if key in CLUSTER_KEYS):
            first, value = values.setdefault(key, (name, ours[key]))
            if not _same(value, ours[key]):
                allowed = f"one value for the whole cluster: {first} has {value!r}"
                problems.append(Problem(key, ours[key], name, allowed))
    return {key: value for key, (_, value) in values.items()}, problems


def _read_cluster(
    values: Mapping[str, Any], hosts: tuple[HostSpec, ...]
) -> tuple[ClusterSpec, set[str], list[Problem]]:
    """The spec with defaults for what is wrong, the names of that, and why."""
    given = {"hosts": hosts, **values}
    if given.get("network") == "flannel" and "flannel_network" in given:
        given.setdefault("cluster_cidr", given["flannel_network"])
    # The seed's word for bare metal.
    if given.get("cloud_provider") == "unset":
        given["cloud_provider"] = None
    try:
        return ClusterSpec.model_validate(given), set(), []
    except ValidationError as error:
        wrong = {str(detail["loc"][0]) for detail in error.errors()}
        problems = [
            problem
            for problem in _problems(error)
            if problem.key.split(".")[0] in values or problem.value is None
        ]
        valid = {key: value for key, value in given.items() if key not in wrong}
        return ClusterSpec.model_construct(**valid), wrong, problems


# What a value should have been

_EXAMPLES = {
    "kubernetes_version": 'a release in quotes, such as "1.20.2"',
    "master_ip": 'the address of the control plane, such as "192.168.10.4"',
}
_EXPECTED = {
    "missing": "{example}; there is no default",
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "bool_type": "True or False",
    "dict_type": "a dictionary",
    "tuple_type": "a list",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def _problems(error: ValidationError, host: str | None = None) -> list[Problem]:
    """One problem a value, whatever number of types it could have had."""
    merged: dict[tuple[str, bool], Problem] = {}
    for detail in error.errors():
        if detail["type"] == "default_factory_not_called":
            continue
        allowed, fix = _expected(detail)
        key = ".".join(str(part) for part in detail["loc"][:2])
        value = None if detail["type"] == "missing" else detail["input"]
        place = key, "[key]" in detail["loc"]
        if place in merged:
            allowed = f"{merged[place].allowed} or {allowed}"
        merged[place] = Problem(key, value, host, allowed, fix)
    return list(merged.values())


def _expected(detail: ErrorDetails) -> tuple[str, str | None]:
    context = detail.get("ctx", {})
    wrong = context.get("error")
    if isinstance(wrong, Wrong):
        return wrong.allowed, wrong.fix
    value, kind = detail["input"], detail["type"]
    example = _EXAMPLES.get(str(detail["loc"][-1]), "a value")
    allowed = _EXPECTED.get(kind, detail["msg"]).format(**context, example=example)
    return allowed, _right_type(kind, value, allowed)


def _right_type(kind: str, value: object, allowed: str) -> str | None:
    """The same value as the type that it should have."""
    if kind == "string_type" and isinstance(value, (int, float)):
        return f'write "{value}"'
    if kind == "tuple_type" and isinstance(value, str) and value.isprintable():
        return f'write ["{value}"]'
    if not isinstance(value, str):
        return f"write {bool(value)}" if kind == "bool_type" and value in (0, 1) else None
    if kind == "int_type" and value.isdecimal():
        return f"write {value} without quotes"
    if kind == "bool_type" and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return f"write {value.lower() in ('true', 'yes', 'on')} without quotes"
    if kind == "literal_error":
        return _did_you_mean(value, re.findall("'([^']*)'", allowed))
    return None


def _did_you_mean(word: str, words: Iterable[str]) -> str | None:
    near = _nearest(word, words)
    return f"did you mean {near}?" if near else None


def _nearest(word: str, words: Iterable[str]) -> str | None:
    known = {one.lower(): one for one in words}
    near = get_close_matches(word.lower(), known, 1)
    return known[near[0]] if near else None


def our_name(key: str) -> str:
    """
    Our name for a key, which the seed spells in capitals.

    + key: as it is spelled in the inventory
    """
    name = key.lower() if key.isupper() else key
    return ALIASES.get(name, name)


def says_address(data: Mapping[str, Any]) -> bool:
    """
    Whether a host's data gives its address itself, and not only where SSH finds it.

    + data: of one host
    """
    return any(our_name(str(key)) == "address" and value is not None for key, value in data.items())


def _is_foreign(key: str) -> bool:
    return key.startswith(FOREIGN_PREFIXES) or key in FOREIGN_KEYS


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _address_of(*names: object) -> str | None:
    """The first that is an address which other hosts can use: not 127.0.0.1 of a forwarded port."""
    for name in names:
        try:
            return str(addressing.parse_address(str(name)))
        except Wrong:
            continue
    return None


# What several values say together


def check_release(spec: ClusterSpec) -> list[Problem]:
    """A release that is not known, or a setting or flag that it does not have (S1, A5)."""
    try:
        release = Release.of(spec.kubernetes_version)
    except InputError as error:
        return error.problems
    return release.check_settings(dict(spec))


def check_names(spec: ClusterSpec) -> list[Problem]:
    """Two hosts of one name, in whatever case, or at one address (M6)."""
    problems = []
    for key, fix in _OWN_KEYS.items():
        seen: dict[str, str] = {}
        for host in spec.hosts:
            value = getattr(host, key, None)
            same = value.lower() if isinstance(value, str) else ""
            if same in seen:
                allowed = f"its own: {seen[same]} has it too"
                problems.append(Problem(_KEYS_OF.get(key, key), value, host.name, allowed, fix))
            elif same:
                seen[same] = host.name
    return problems


# What each host has for itself, and the way out where two have the same.
_OWN_KEYS = {
    "hostname_override": "set hostname_override for one of the two",
    "address": 'set address = "…" for each, where it is not the one that SSH finds',
    "known_as": "rename one of the two in the inventory: names have no case",
}
_KEYS_OF = {"known_as": "name"}


def check_etcd_size(spec: ClusterSpec) -> list[Problem]:
    """A number of etcd members that cannot lose one without losing all, or too many (A1)."""
    names = [host.name for host in spec.etcd_members]
    if not names or len(names) in ETCD_SIZES:
        return []
    fix = "give the group etcd that many hosts; without it, the control plane has the members"
    return [Problem("etcd", names, None, "1, 3 or 5 members", fix)]


def check_certificate_days(spec: ClusterSpec) -> list[Problem]:
    """Certificates that would be made anew in every run."""
    if spec.certificate_renew_days < spec.certificate_days:
        return []
    allowed = f"less than certificate_days, {spec.certificate_days}"
    return [Problem("certificate_renew_days", spec.certificate_renew_days, None, allowed)]


def check_endpoint_known(spec: ClusterSpec) -> list[Problem]:
    """A master_ip that no master has, where the inventory tells all their addresses (P4)."""
    known = {host.name: [host.address] for host in spec.hosts if host.address}
    all_known = all(host.name in known for host in spec.control_plane)
    return check_endpoint(spec, known) if all_known else []


def check_endpoint(spec: ClusterSpec, addresses: Mapping[str, Sequence[str]]) -> list[Problem]:
    """
    A master_ip that no master has (P4).

    + spec: the cluster
    + addresses: host → every address that it has
    """
    masters = {host.name: addresses.get(host.name, ()) for host in spec.control_plane}
    if not masters or any(spec.master_ip in own for own in masters.values()):
        return []
    theirs = ", ".join(f"{name} ({', '.join(own) or 'none'})" for name, own in masters.items())
    others = [host.name for host in spec.hosts if spec.master_ip in addresses.get(host.name, ())]
    fix = (
        f"{others[0]} has it: is it to be in the control plane?"
        if others
        else "take one of these, or set address for the host that has it"
    )
    return [
        Problem(
            "master_ip", spec.master_ip, None, f"an address of the control plane: {theirs}", fix
        )
    ]


def check_ports(spec: ClusterSpec) -> list[Problem]:
    """Two servers of a host on one port."""
    problems = []
    seen: dict[int, str] = {}
    for key in ("secure_port", "insecure_port", "etcd_client_port", "etcd_peer_port"):
        port = getattr(spec, key)
        if port in seen:
            problems.append(Problem(key, port, None, f"a port apart from {seen[port]}"))
        seen.setdefault(port, key)
    return problems


def check_sources(spec: ClusterSpec) -> list[Problem]:
    """Software from a place that is not said, or that does not say which it is (S3)."""
    problems = []
    if spec.package_source == "rpm" and not spec.rpm_files:
        allowed = "at least one file, for package_source is rpm"
        problems.append(Problem("rpm_files", [], None, allowed))
    if spec.flannel_source and not spec.flannel_version:
        allowed = "the version of flannel_source, which tells how it speaks with etcd"
        problems.append(Problem("flannel_version", None, None, allowed))
    return problems


_RANGES = ("cluster_cidr", "service_cidr")
_SHARES = (
    *("cluster_cidr", "node_cidr_mask_size", "max_pods"),
    *("network", "flannel_network", "flannel_subnet_len"),
)

# Each check with the fields that must be right for it to mean anything.
CHECKS: tuple[tuple[tuple[str, ...], Callable[[ClusterSpec], list[Problem]]], ...] = (
    (("kubernetes_version",), check_release),
    ((), check_names),
    ((), check_etcd_size),
    (("certificate_days", "certificate_renew_days"), check_certificate_days),
    (("master_ip",), check_endpoint_known),
    (("secure_port", "insecure_port", "etcd_client_port", "etcd_peer_port"), check_ports),
    (("package_source", "rpm_files", "flannel_source", "flannel_version"), check_sources),
    ((*_RANGES, "allow_public_ranges", "master_ip"), addressing.check_ranges),
    ((*_RANGES, "master_ip"), addressing.check_overlaps),
    (("service_cidr", "cluster_dns"), addressing.check_services),
    (_SHARES, addressing.check_node_size),
    (_SHARES, addressing.check_node_cidrs),
    (("cluster_cidr", "flannel_network", "network"), addressing.check_flannel),
    (("network", "flannel_backend", "host_mtu", "bridge_mtu", "docker_mtu"), addressing.check_mtu),
)
