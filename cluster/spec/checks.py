"""What several settings say together, and what a release says of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from pyinfra_kube.cluster import fields
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.releases import Release, covers, minor_of
from pyinfra_kube.cluster.spec.base import BaseSpec
from pyinfra_kube.cluster.spec.host import HostSpec
from pyinfra_kube.cluster.spec.range_checks import (
    check_flannel,
    check_mtu,
    check_node_cidrs,
    check_node_size,
    check_overlaps,
    check_ranges,
    check_services,
)

ETCD_SIZES = (1, 3, 5)
FIRST_CA = "1"
"""What the CAs are called that a cluster begins with."""


def problems_between(spec: BaseSpec, wrong: Collection[str] = ()) -> list[Problem]:
    """
    Give what is wrong with values that are right by themselves.

    + spec: the cluster
    + wrong: fields that hold a default in place of what is wrong with them
    """
    return [
        problem
        for needs, check in CHECKS
        if not set(needs).intersection(wrong)
        for problem in check(spec)
    ]


def check_release(spec: BaseSpec) -> list[Problem]:
    """A release that is not known, or a setting, flag or field that it does not have."""
    try:
        release = Release.of(spec.kubernetes_version)
    except InputError as error:
        return error.problems
    return release.check_settings(dict(spec)) + fields.check_settings(dict(spec), release)


# What some runtimes read, and others do not.
_OF_RUNTIMES = {
    ("docker",): (
        *("docker_root", "docker_options", "docker_mtu", "docker_nofile"),
        "insecure_registries",
    ),
    ("containerd", "cri-o"): ("runtime_source", "runtime_sha256", "registry_mirrors"),
    ("containerd",): ("containerd_version",),
}


def check_runtime(spec: BaseSpec) -> list[Problem]:
    """Settings of a container runtime that the cluster does not have."""
    try:
        release = Release.of(spec.kubernetes_version)
    except InputError:
        return []
    chosen = spec.container_runtime
    # Where none is chosen, the hosts decide; one that the release has not is refused already.
    able = [one for one in release.fact("container_runtime") if chosen in (None, one)]
    allowed = f"nothing: Kubernetes {release.version} runs containers with {' or '.join(able)}"
    return [
        Problem(key, getattr(spec, key), None, allowed, "leave it out")
        for runtimes, keys in _OF_RUNTIMES.items()
        for key in keys
        if able
        and not {*able}.intersection(runtimes)
        and key in spec.model_fields_set
        and getattr(spec, key)
    ]


def check_packet(spec: BaseSpec) -> list[Problem]:
    """A packet that has no beginning, or no end."""
    given = {key: getattr(spec, key) for key in ("packet_from", "packet_to")}
    if all(given.values()) or not any(given.values()):
        return []
    allowed = "one that is set when the other is: a packet has both"
    return [Problem(key, None, None, allowed) for key, value in given.items() if not value]


def check_mirrors(spec: BaseSpec) -> list[Problem]:
    """Mirrors of registries that CRI-O cannot be told of."""
    if spec.container_runtime != "cri-o":
        return []
    problems = []
    if "_default" in spec.registry_mirrors:
        allowed = "registries by their names: CRI-O has no mirror of all others"
        problems.append(Problem("registry_mirrors", "_default", None, allowed))
    for registry, urls in spec.registry_mirrors.items():
        for url in urls:
            if mirror_location(url) is None:
                allowed = "for CRI-O a URL without a path, or with one that begins with /v2/"
                problems.append(Problem(f"registry_mirrors.{registry}", url, None, allowed))
    return problems


def mirror_location(url: str) -> str | None:
    """
    Give where the images of a mirror begin, as registries.conf has it; nothing for a URL that it
    cannot have.

    + url: of the API, without a path or with the whole one

    ```
    >>> mirror_location("https://example.com/v2/mirror")
    'example.com/mirror'
    ```
    """
    host, _, path = url.partition("://")[2].rstrip("/").partition("/")
    if not path or path == "v2":
        return host
    return f"{host}/{path[3:]}" if path.startswith("v2/") else None


def check_kubelet_port(spec: BaseSpec) -> list[Problem]:
    """A port of kubelet that is none."""
    given = {key: getattr(spec, key) for key in ("kubelet_configuration", "kubelet_flags")}
    return [
        Problem(f"{key}.port", more["port"], None, "a port from 1 to 65535")
        for key, more in given.items()
        if "port" in more
        and not (re.fullmatch("[0-9]{1,5}", str(more["port"])) and 1 <= int(more["port"]) <= 65535)
    ]


PORTS = ("secure_port", "insecure_port", "etcd_client_port", "etcd_peer_port")


def check_names(spec: BaseSpec) -> list[Problem]:
    """Two hosts of one name, in whatever case, or at one address."""
    problems = []
    for attribute, (key, fix) in _OWN_KEYS.items():
        seen: dict[str, str] = {}
        for host in spec.hosts:
            value = getattr(host, attribute, None)
            same = value.lower() if isinstance(value, str) else ""
            if same in seen:
                allowed = f"its own: {seen[same]} has it too"
                problems.append(Problem(key, value, host.name, allowed, fix))
            elif same:
                seen[same] = host.name
    return problems


# What each host has for itself: its key, and the way out where two have the same.
_OWN_KEYS = {
    "hostname_override": ("hostname_override", "set hostname_override for one of the two"),
    "address": ("address", 'set address = "…" for each, where it is not the one that SSH finds'),
    "known_as": ("name", "rename one of the two in the inventory: names have no case"),
}


def check_etcd_size(spec: BaseSpec) -> list[Problem]:
    """A number of etcd members that cannot lose one without losing all, or too many."""
    names = [host.name for host in spec.etcd_members]
    if not names or len(names) in ETCD_SIZES:
        return []
    fix = "give the group etcd that many hosts; without it, the control plane has the members"
    return [Problem("etcd", names, None, "1, 3 or 5 members", fix)]


def check_etcd_urls(spec: BaseSpec) -> list[Problem]:
    """An address where etcd listens for clients, but not as they ask."""
    given = spec.etcd_listen_client_urls or ""
    urls = [url.strip() for url in given.split(",") if url]
    scheme, port = "https" if spec.etcd_tls else "http", spec.etcd_client_port
    found = [re.fullmatch(rf"{scheme}://([\d.]+|\[[\da-f:]+\]):(\d+)", url) for url in urls]
    asked = {match[1] for match in found if match and int(match[2]) == port}
    if not all(url.startswith(f"{scheme}://") for url in urls):
        fix = f"write {scheme}://, or set etcd_tls = {not spec.etcd_tls}"
        allowed = f"URLs with {scheme}, as etcd_tls = {spec.etcd_tls} says"
    elif not all(found):
        fix, allowed = None, "URLs with an address and a port"
    elif urls and not asked:
        fix, allowed = "set etcd_client_port", f"one with port {port} too, where clients ask"
    elif urls and not _answers(spec, asked):
        fix, allowed = f"write {scheme}://0.0.0.0:{port}", "the addresses where clients ask"
    else:
        return []
    return [Problem("etcd_listen_client_urls", given, None, allowed, fix)]


def _answers(spec: BaseSpec, addresses: Collection[str]) -> bool:
    """Whether an etcd at some addresses answers all who ask it."""
    local = {one for one in addresses if one.startswith("127.") or one == "[::1]"}
    # The one host of the control plane asks its own etcd; flannel asks from each node, too.
    alone = len(spec.control_plane) == 1 and spec.etcd_members == spec.control_plane
    inside, outside = alone or spec.flannel_in_etcd, not alone or spec.flannel_in_etcd
    everywhere = not {"0.0.0.0", "[::]"}.isdisjoint(addresses)
    outer = {*addresses} - local
    return everywhere or bool((local or not inside) and (outer or not outside))


def check_etcd_version(spec: BaseSpec) -> list[Problem]:
    """An etcd without the API in which the release keeps its objects."""
    try:
        release = Release.of(spec.kubernetes_version)
    except InputError:
        return []
    version = spec.etcd_version or release.etcd_version
    if release.api_storage != "etcd3" or covers("3.0-", minor_of(version)):
        return []
    allowed = "3.0 or later, which has the API v3, as releases from 1.6 on need it"
    return [Problem("etcd_version", version, None, allowed)]


def check_certificate_days(spec: BaseSpec) -> list[Problem]:
    """Certificates that would be made anew in every run."""
    if (spec.certificate_renew_days or 0) < spec.certificate_days:
        return []
    allowed = f"less than certificate_days, {spec.certificate_days}"
    return [Problem("certificate_renew_days", spec.certificate_renew_days, None, allowed)]


def check_encryption(spec: BaseSpec) -> list[Problem]:
    """Keys of ours that an apiserver with a file of somebody else would not read."""
    if not (spec.encryption and "encryption-provider-config" in spec.apiserver_flags):
        return []
    allowed = "False, for apiserver_flags names an encryption-provider-config"
    return [Problem("encryption", True, None, allowed, "leave one of the two out")]


def check_ca(spec: BaseSpec) -> list[Problem]:
    """CAs that follow others where they cannot, or that follow themselves."""
    if spec.ca == spec.ca_rotation:
        return [Problem("ca_rotation", spec.ca_rotation, None, "another name than that of ca")]
    given = {key: getattr(spec, key) for key in ("ca", "ca_rotation")}
    changed = {key: name for key, name in given.items() if name not in (None, FIRST_CA)}
    if not changed or covers("1.24-", minor_of(spec.kubernetes_version)):
        return []
    allowed = "nothing: up to 1.23 the cluster keeps its CA"
    return [Problem(key, name, None, allowed, "leave it out") for key, name in changed.items()]


def check_endpoint_known(spec: BaseSpec) -> list[Problem]:
    """An endpoint on a host outside the control plane, as far as the inventory tells."""
    known = {host.name: [host.address] for host in spec.hosts if host.address}
    all_known = all(host.name in known for host in spec.control_plane)
    return check_endpoint(spec, known) if all_known else []


def check_endpoint(spec: BaseSpec, addresses: Mapping[str, Sequence[str]]) -> list[Problem]:
    """
    An endpoint on a host outside the control plane.

    + spec: the cluster
    + addresses: host → every address that it has
    """
    hosts = hosts_with_endpoint(spec, addresses)
    on_control_plane = any("control_plane" in host.roles for host in hosts)
    if not hosts or not spec.control_plane or on_control_plane:
        return []
    own = {host.name: ", ".join(addresses.get(host.name, ())) for host in spec.control_plane}
    theirs = ", ".join(f"{name} ({texts or 'none'})" for name, texts in own.items())
    allowed = f"an address of the control plane: {theirs}; or one that leads there"
    fix = f"{hosts[0].name} has it: is it to be in the control plane?"
    return [Problem("control_plane_endpoint", spec.control_plane_endpoint, None, allowed, fix)]


def hosts_with_endpoint(spec: BaseSpec, addresses: Mapping[str, Sequence[str]]) -> list[HostSpec]:
    """
    Give the hosts that have the endpoint's address, or bear its name.

    + spec: the cluster
    + addresses: host → every address that it has
    """
    host = spec.endpoint_host
    return [
        one
        for one in spec.hosts
        if host in (*addresses.get(one.name, ()), one.name.lower(), one.hostname_override)
    ]


def check_ports(spec: BaseSpec) -> list[Problem]:
    """Two servers of a host on one port."""
    problems = []
    seen: dict[int, str] = {}
    for key in PORTS:
        port = getattr(spec, key)
        if port in seen:
            problems.append(Problem(key, port, None, f"a port apart from {seen[port]}"))
        seen.setdefault(port, key)
    return problems


def check_packet_filter(spec: BaseSpec) -> list[Problem]:
    """nftables with parts of a cluster that need iptables."""
    if spec.packet_filter == "iptables":
        return []
    allowed = "{}, as packet_filter = 'nftables' needs it"
    needs = {
        "kubernetes_version": (
            covers("1.29-", minor_of(spec.kubernetes_version)),
            "1.29 or later, whose kube-proxy has nftables",
        ),
        "proxy_mode": (spec.proxy_mode in (None, "nftables", "none"), "nftables"),
        "network_policies": (not spec.network_policies, "False: kube-router calls iptables"),
    }
    return [
        Problem(key, getattr(spec, key), None, allowed.format(text))
        for key, (fits, text) in needs.items()
        if not fits
    ]


_NEEDS: dict[str, dict[str, str]] = {
    "network_policies": {
        "network": "routes or flannel, for nobody enforces them on none",
        "proxy_mode": "another one: kube-router asks the API's service",
        "dns": "True, for the run tries them with packets to CoreDNS",
    },
    "node_local_dns": {
        "network": "routes or flannel, for a network of your own may lead no pod to its node",
        "proxy_mode": "another one: the cache asks the service of DNS",
        "dns": "True, for the cache asks CoreDNS",
    },
}


def check_needs(spec: BaseSpec) -> list[Problem]:
    """Add-ons without what they need."""
    return [
        Problem(key, value, None, f"{allowed}, as {addon} = True needs it")
        for addon, needs in _NEEDS.items()
        for key, allowed in needs.items()
        if getattr(spec, addon) and (value := getattr(spec, key)) in ("none", False)
    ]


def check_metrics(spec: BaseSpec) -> list[Problem]:
    """A metrics-server that a control plane without kube-proxy does not reach."""
    old = not covers("1.24-", minor_of(spec.kubernetes_version))
    if not (spec.metrics_server and old and spec.network != "routes"):
        return []
    allowed = "routes, by which a control plane that is no node reaches metrics-server"
    return [Problem("network", spec.network, None, allowed)]


def check_policies(spec: BaseSpec) -> list[Problem]:
    """NetworkPolicies that nobody would enforce."""
    problems = []
    if spec.default_deny and not spec.network_policies:
        allowed = "nothing: without network_policies = True nobody enforces it"
        problems.append(Problem("default_deny", [*spec.default_deny], None, allowed))
    if "kube-system" in spec.default_deny:
        allowed = "other namespaces than kube-system, whose pods all others need"
        problems.append(Problem("default_deny", "kube-system", None, allowed, "leave it out"))
    return problems


def check_logs(spec: BaseSpec) -> list[Problem]:
    """A release whose logs nothing of ours sends, or a URL that takes no path at its end."""
    if spec.log_receiver and not covers("1.24-", minor_of(spec.kubernetes_version)):
        allowed = "nothing: what sends logs was tried from 1.24 on"
        return [Problem("log_receiver", spec.log_receiver, None, allowed, "leave it out")]
    url, *rest = re.split("[?#]", spec.log_receiver or "")
    if rest:
        # What stands there may be a token.
        allowed = "a URL without ? and #, for /v1/logs is added"
        return [Problem("log_receiver", f"{url}?…", None, allowed, f'write "{url}"')]
    return []


def check_manifests(spec: BaseSpec) -> list[Problem]:
    """Manifests that the release's kubectl does not apply, or that nothing vouches for."""
    if spec.manifests and not covers("1.24-", minor_of(spec.kubernetes_version)):
        allowed = "nothing: they were tried from 1.24 on"
        return [Problem("manifests", [*spec.manifests], None, allowed, "leave it out")]
    fix = "see what curl -L URL | sha256sum says, and that the file is what you want"
    problems = [
        Problem("manifests_sha256", None, None, f"the digest of {url}", fix)
        for url in spec.manifests
        if "://" in url and url not in spec.manifests_sha256
    ]
    problems += [
        Problem("manifests_sha256", url, None, "a URL of manifests", "leave it out")
        for url in spec.manifests_sha256
        if url not in spec.manifests
    ]
    return problems


_FLANNEL = "https://github.com/flannel-io/flannel/releases/download/v0.28.9/flanneld-amd64"


def check_sources(spec: BaseSpec) -> list[Problem]:
    """Software from a place that is not said, or that does not say which it is."""
    problems = []
    if spec.package_source == "rpm" and not spec.rpm_files:
        allowed = "at least one file, for package_source is rpm"
        problems.append(Problem("rpm_files", [], None, allowed))
    by_plan = spec.network == "flannel" and not spec.flannel_leases
    if by_plan and not spec.flannel_source:
        allowed = "where flanneld comes from, with its flannel_sha256: no distribution brings it"
        problems.append(Problem("flannel_source", None, None, allowed, f"such as {_FLANNEL}"))
    if spec.flannel_source and spec.flannel_in_etcd and not spec.flannel_version:
        allowed = "the version of flannel_source, which tells how it speaks with etcd"
        problems.append(Problem("flannel_version", None, None, allowed))
    elif (
        by_plan
        and spec.flannel_in_etcd
        and minor_of((spec.flannel_version or "0.0").removeprefix("v")) < (0, 18)
    ):
        allowed = "0.18 or later: from 1.24 on etcd has no API v2"
        problems.append(Problem("flannel_version", spec.flannel_version, None, allowed))
    if spec.etcd_source and not covers("1.24-", minor_of(spec.kubernetes_version)):
        allowed = "nothing: up to 1.23 etcd is the package's, or a static pod"
        problems.append(Problem("etcd_source", None, None, allowed, "leave it out"))
    for part in ("etcd", "flannel"):
        source, digest = (getattr(spec, f"{part}_{what}") for what in ("source", "sha256"))
        if digest and not source:
            allowed = f"nothing without {part}_source, for it is the digest of that"
            problems.append(Problem(f"{part}_sha256", digest, None, allowed, "leave it out"))
    brings_containerd = spec.runtime_source and spec.container_runtime != "cri-o"
    if brings_containerd and not spec.containerd_version:
        allowed = "the version of the containerd in runtime_source"
        fix = f"see what {spec.runtime_source}/containerd --version says"
        problems.append(Problem("containerd_version", None, None, allowed, fix))
    return problems


_ETCD_URLS = (
    *("etcd_tls", "etcd_client_port", "etcd_listen_client_urls"),
    *("kubernetes_version", "network", "flannel_store"),
)
_RANGES = ("cluster_cidr", "service_cidr")
_SHARES = (
    "kubernetes_version",
    *("cluster_cidr", "node_cidr_mask_size", "max_pods"),
    *("network", "flannel_store", "flannel_network", "flannel_subnet_len"),
)

_SOURCES = (
    *("kubernetes_version", "network", "package_source", "rpm_files"),
    *("flannel_store", "flannel_source", "flannel_sha256", "flannel_version"),
    *("etcd_source", "etcd_sha256"),
    *("container_runtime", "runtime_source", "containerd_version"),
)

# Each check with the fields that must be right for it to mean anything.
CHECKS: tuple[tuple[tuple[str, ...], Callable[[BaseSpec], list[Problem]]], ...] = (
    (("kubernetes_version",), check_release),
    (("kubernetes_version", "container_runtime"), check_runtime),
    (("container_runtime", "registry_mirrors"), check_mirrors),
    ((), check_names),
    ((), check_etcd_size),
    (_ETCD_URLS, check_etcd_urls),
    (("kubernetes_version", "etcd_version"), check_etcd_version),
    (("certificate_days", "certificate_renew_days"), check_certificate_days),
    (("encryption", "apiserver_flags"), check_encryption),
    (("kubernetes_version", "ca", "ca_rotation"), check_ca),
    ((), check_endpoint_known),
    (("packet_from", "packet_to"), check_packet),
    (PORTS, check_ports),
    (("kubelet_configuration", "kubelet_flags"), check_kubelet_port),
    (
        ("kubernetes_version", "packet_filter", "proxy_mode", "network_policies"),
        check_packet_filter,
    ),
    (_SOURCES, check_sources),
    ((*_NEEDS, "network", "proxy_mode", "dns"), check_needs),
    (("network_policies", "default_deny"), check_policies),
    (("kubernetes_version", "metrics_server", "network"), check_metrics),
    (("kubernetes_version", "log_receiver"), check_logs),
    (("kubernetes_version", "manifests", "manifests_sha256"), check_manifests),
    ((*_RANGES, "allow_public_ranges"), check_ranges),
    (_RANGES, check_overlaps),
    (("service_cidr", "cluster_dns"), check_services),
    (_SHARES, check_node_size),
    (_SHARES, check_node_cidrs),
    (
        ("kubernetes_version", "cluster_cidr", "flannel_network", "flannel_store", "network"),
        check_flannel,
    ),
    (("network", "flannel_backend", "host_mtu", "bridge_mtu", "docker_mtu"), check_mtu),
)
