"""
What a deploy must know of a host before it can plan, read in one round trip.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from netaddr import IPNetwork
from pyinfra.api.exceptions import FactError
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.certificates import CA, ETCD_CA, FRONT_PROXY_CA
from pyinfra_kube.cluster.components import (
    COMPONENTS,
    CONTROL_PLANE_COMPONENTS,
    PODS,
    etcd,
    kube_apiserver,
)
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.kube_apiserver import ENCRYPTION_FILE
from pyinfra_kube.cluster.components.kubelet import CONFIGURATION as KUBELET_CONFIGURATION
from pyinfra_kube.cluster.components.own_ports import kubelet_port
from pyinfra_kube.cluster.components.rendering import ports
from pyinfra_kube.cluster.credential_set import SERVICE_ACCOUNT
from pyinfra_kube.cluster.etcd_move import Scheme, Serves
from pyinfra_kube.cluster.fitness.checks import (
    APPARMOR_PARSER,
    CRIO,
    FILTER_PROGRAMS,
    KUBELET_STATE,
    MODULES,
    OTHER_INSTALLERS,
    PROGRAM_DIR,
    PROGRAMS,
    RESOLVED,
    SELINUX_POLICY,
    SEMANAGE,
    SNAP_DOCKER,
    WRITTEN,
)
from pyinfra_kube.cluster.networks import parse_network
from pyinfra_kube.cluster.packages import NETWORK_TOOLS, packages_for, packages_of, ships
from pyinfra_kube.cluster.releases import Release, covers
from pyinfra_kube.cluster.runtimes import CONTAINERD, DOCKER, RUNTIMES
from pyinfra_kube.cluster.runtimes.docker_spelling import texts
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.engine.snapshot import expect, read
from pyinfra_kube.engine.subject import Subject
from pyinfra_kube.facts.binaries import RunningVersions
from pyinfra_kube.facts.bridge import Link, Links
from pyinfra_kube.facts.certificates import Certificate, Certificates
from pyinfra_kube.facts.cni import Cni
from pyinfra_kube.facts.containerd import LOCAL, PACKAGED, Containerd
from pyinfra_kube.facts.docker import DATA_ROOT, Docker, DockerNetworks, DockerState
from pyinfra_kube.facts.encryption import EncryptionFile
from pyinfra_kube.facts.files import FileContents, Files
from pyinfra_kube.facts.fitness import Fitness, FitnessState
from pyinfra_kube.facts.iptables import Rules
from pyinfra_kube.facts.nodes import Nodes, NodeStates
from pyinfra_kube.facts.packages import Candidates, Packages, PackageStates
from pyinfra_kube.facts.processes import Flags, Listener, Listeners, ProcessState
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.facts.static_pods import StaticPods, StaticPodStates
from pyinfra_kube.facts.sysctl import Modules
from pyinfra_kube.facts.times import Mtimes

KUBELET = "/usr/local/bin/kubelet"
KUBECTL = "/usr/local/bin/kubectl"
ADMIN = f"{CONFIG_DIR}/admin.kubeconfig"
BRIDGE = "cbr0"
DOCKER_BRIDGE = "docker0"
DNS_BRIDGE = "kube-node-dns"

# Links that carry pods and services, not hosts, by kind: flannel's devices, kube-proxy's with
# ipvs, the bridge that flannel's CNI plugin makes, and what Calico, Cilium and kube-router make.
_OF_PODS = {
    "vxlan": r"flannel\.\d+|vxlan\.calico|cilium_vxlan",
    "geneve": r"cilium_geneve",
    "tun": r"flannel\d+",
    "ipip": r"tunl0|tun-.+|cilium_(ipip4|tunl)",
    "wireguard": r"flannel-wg|wireguard\.cali|cilium_wg0",
    "dummy": r"kube-ipvs0|kube-dummy-if|nodelocaldns",
    "bridge": rf"cni0|kube-bridge|{DNS_BRIDGE}",
    "veth": r"cilium_(host|net)|lxc.+|cali.+",
}

# Where each package manager's distribution keeps CNI plugins.
_CNI_FOLDERS = {"apt": "/usr/lib/cni", "dnf": "/usr/libexec/cni", "yum": "/usr/libexec/cni"}

_MODULES = list(dict.fromkeys(module for modules in MODULES.values() for module in modules))

_DOCKER_PROGRAMS = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"]
_DOCKER_PACKAGES = packages_of("docker")
_COMPONENTS = ["kubelet", "kube-apiserver"]
# Of Fedora's etcd.
ETCD_CONF = "/etc/etcd/etcd.conf"
_SWAPS = "/proc/swaps"
_KERNEL = "/proc/sys/kernel/osrelease"
# Only where the one hierarchy of cgroup v2 is mounted.
_CGROUP_V2 = "/sys/fs/cgroup/cgroup.controllers"
_NFT = ["/usr/sbin/nft", "/sbin/nft"]
# What one of our hosts has before etcd runs there.
_OURS = [f"{CONFIG_DIR}/{name}" for name in ("ca.crt", "server.crt", "kubelet-client.crt")]
# What signed by a CA is there beside it, and the key that signs tokens.
_SIGNED = [
    f"{CONFIG_DIR}/{name}.crt"
    for name in (
        *(kube_apiserver.SERVER.name, "kubelet-client", kube_apiserver.FRONT_PROXY.name),
        *(etcd.CLIENT.name, "etcd-server"),
    )
]
_BUNDLES = [f"{CONFIG_DIR}/{name}.crt" for name in (CA, FRONT_PROXY_CA, ETCD_CA)]
_TOKEN_KEY, _TOKEN_KEYS = (f"{CONFIG_DIR}/{SERVICE_ACCOUNT}.{end}" for end in ("key", "pub"))
# Of the shell that reads it.
_STATUS = "/proc/self/status"


@dataclass(frozen=True)
class Fit:
    """
    What tells whether a host can carry its part of the cluster.

    + ours: whether it carries one already
    + state: what it has
    + image_root: the folder of the runtime's images
    + modules: state of each kernel module
    + listeners: what listens on ports of the cluster
    + pods: containers of pods
    + networks: of CNI, in the order of a runtime's choice
    + chains: of iptables, in any table
    """

    ours: bool = False
    state: FitnessState = field(default_factory=FitnessState)
    image_root: str = CONTAINERD.image_root
    modules: dict[str, str] = field(default_factory=dict)
    listeners: dict[str, list[Listener]] = field(default_factory=dict)
    pods: StaticPodStates = field(default_factory=StaticPodStates)
    networks: tuple[str, ...] = ()
    chains: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostFacts:
    """
    + addresses: every IPv4 address of the host, except those of pods
    + address: the one that its default route uses
    + networks: the networks that it is in
    + pod_cidr: of its pods now; empty on a new node
    + ca_fingerprint: of its CA certificate; empty without one, ``DAMAGED`` for one that cannot be
      read
    + certificates: of each file with CAs that it trusts, by path; from 1.24 on
    + signed: its certificates that those signed
    + token_keys: the public keys of service accounts' tokens that its apiserver accepts
    + signing_since: when it got the key that signs tokens
    + system, release: the distribution's name and number, such as ``debian`` and ``12``
    + service_range: the service CIDR of its apiserver now; empty without one
    + kubelet_runtime: the container runtime that its kubelet runs with; empty where none is told
    + docker: whether it is installed
    + foreign_docker: whether it is, but not from the distribution's package
    + other_etcd: the folder with data of an etcd that is not ours; empty for none
    + etcd_data: whether its etcd has data
    + encryption: the providers that its apiserver's file names
    + encryption_sha256: the digest of that file; empty without one
    + encrypts: the file that its apiserver runs with; empty for none, ``None`` without an apiserver
    + apiserver: whether it has an apiserver's manifest, which may not run at the moment
    + etcd_serves: what its etcd's manifest says that clients and members are served; ``None``
      without one
    + etcd_unit_serves: the same of an etcd with data that runs as Fedora's unit
    + etcd_asked: how its apiserver's manifest says that etcd is asked; ``None`` without one
    + settings: what the components' command lines must know of it
    + links: its network devices, by name
    + fit: whether it can carry its part of the cluster
    + versions: of our components on it, as far as they are known; of static pods what their
      manifests say
    + packaged: whether those come from packages of the distribution, and run as units
    + containerd: the version of a packaged one that is there, or that apt would install; empty
      where that is not known, or no package brings it
    + kubelet_sha256: of the kubelet that runs; empty where its file is another one by now
    + nodes: the cluster's nodes, of the host that is asked for the cluster's objects
    """

    addresses: list[str]
    address: str
    networks: list[str]
    pod_cidr: str
    ca_fingerprint: str
    system: str
    release: str
    certificates: Mapping[str, Sequence[Certificate]] = field(default_factory=dict)
    signed: Sequence[Certificate] = ()
    token_keys: str = ""
    signing_since: float | None = None
    service_range: str = ""
    kubelet_runtime: str = ""
    docker: bool = False
    foreign_docker: bool = False
    other_etcd: str = ""
    etcd_data: bool = False
    encryption: tuple[str, ...] = ()
    encryption_sha256: str = ""
    encrypts: str | None = None
    apiserver: bool = False
    etcd_serves: Serves | None = None
    etcd_unit_serves: Serves | None = None
    etcd_asked: Scheme | None = None
    settings: dict[str, object] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    fit: Fit = field(default_factory=Fit)
    versions: dict[str, str] = field(default_factory=dict)
    packaged: bool = False
    containerd: str = ""
    kubelet_sha256: str = ""
    nodes: NodeStates = field(default_factory=NodeStates)

    @property
    def own(self) -> dict[str, str]:
        """The links of its addresses, by address with its length."""

        return {
            address: name
            for name, link in self.links.items()
            for address in link.addresses
            if str(IPNetwork(address).ip) in self.addresses
        }

    def link_of(self, address: str | None) -> Link | None:
        """
        The link that has an address of the host; none for the loopback, which leads nowhere.

        + address: without its length; by default the one that the default route uses
        """

        start = f"{address or self.address}/"
        ways = [link for link in self.links.values() if link.name != "lo"]
        found = (link for link in ways if any(one.startswith(start) for one in link.addresses))
        return next(found, None)


def gather(spec: ClusterSpec, ca_certificate: str) -> HostFacts:
    """
    Gather the facts of the current host.

    + spec: the cluster
    + ca_certificate: path of the CA certificate

    Raises ``FactError``, also when commands do not run as root.
    """

    data = f"{spec.etcd_data_dir}/member"
    paths = [*_DOCKER_PROGRAMS, *_OURS, *_NFT, _CGROUP_V2, RESOLVED, data]
    manifests = {name: f"{spec.manifest_dir}/{name}.yaml" for name in PODS}
    contents = [_SWAPS, _STATUS, _KERNEL, _TOKEN_KEYS, ETCD_CONF, *manifests.values()]
    contents.append(KUBELET_CONFIGURATION)
    on_docker = _runtime(spec) == DOCKER.name
    on_containerd = _runtime(spec) == CONTAINERD.name
    brings_containerd = bool(spec.runtime_source) and on_containerd
    offered = Subject(Candidates, {"names": ["containerd"]})
    asked = ctx_host.get().name == spec.control_plane[0].name
    cluster = {"kubectl": KUBECTL, "kubeconfig": ADMIN, "server": ""}
    subjects = [
        Subject(Links),
        Subject(Routes),
        Subject(DockerNetworks),
        Subject(Certificates, {"paths": [ca_certificate]}),
        *(_of_rotation(spec)),
        Subject(Flags, {"names": _COMPONENTS}),
        Subject(Packages, {"names": _DOCKER_PACKAGES}),
        Subject(Docker),
        Subject(Files, {"paths": paths, "digest": False}),
        Subject(FileContents, {"paths": contents}),
        *_of_fitness(spec),
        Subject(RunningVersions, {"programs": _KUBELETS}),
        *([] if on_docker else [Subject(RunningVersions, {"programs": _PACKAGED})]),
        # As the operation that installs kubelet reads it.
        Subject(Files, {"paths": [KUBELET]}),
        *([Subject(Containerd)] if on_containerd else []),
        *([offered] if on_containerd and not brings_containerd else []),
        *([Subject(Nodes, cluster)] if asked else []),
        Subject(EncryptionFile, {"path": ENCRYPTION_FILE}),
        Subject(Files, {"paths": [ENCRYPTION_FILE]}),
    ]
    expect(subjects)
    kernel = read(FileContents, paths=contents)
    _check_user(kernel.get(_STATUS, b""))
    links = read(Links)
    packages = read(Packages, names=_DOCKER_PACKAGES)
    flags = {name: ProcessState() for name in _COMPONENTS} | read(Flags, names=_COMPONENTS)
    there = read(Files, paths=paths, digest=False)
    providers = read(EncryptionFile, path=ENCRYPTION_FILE)
    encryption = read(Files, paths=[ENCRYPTION_FILE]).get(ENCRYPTION_FILE)
    docker = any(path in there for path in _DOCKER_PROGRAMS)
    v2 = _CGROUP_V2 in there
    # One line is the title.
    swaps = kernel.get(_SWAPS, b"").count(b"\n") > 1 and spec.node_swap != "remove"
    bridges = {BRIDGE, _docker_bridge()}
    docker_settings = _docker_settings(spec, read(Docker)) if on_docker else {}
    image_root = str(docker_settings.get("docker_root", CONTAINERD.image_root))
    fit = _fit(spec, image_root, flags["kubelet"], there)
    kubelet = read(RunningVersions, programs=_KUBELETS).get("kubelet.service")
    own_kubelet = read(Files, paths=[KUBELET])
    file = own_kubelet.get(KUBELET)
    versions = {name: _tag(kernel.get(path, b"")) for name, path in manifests.items()}
    versions["kubelet"] = _version(kubelet.said) if kubelet else ""
    versions["containerd"] = read(Containerd).versions.get(LOCAL, "") if brings_containerd else ""
    brought = {KUBELET, *manifests.values()} & {*own_kubelet, *kernel}
    packaged = any(path in there for path in _OURS) and not (brought or on_docker)
    if packaged:
        units = read(RunningVersions, programs=_PACKAGED)
        versions |= {_component(unit): _version(one.said) for unit, one in units.items()}
    held = _certificates(spec)
    since = read(Mtimes, paths=[_TOKEN_KEY]) if held else {}
    own = [link for link in links.values() if not _is_of_pods(link, bridges)]
    addresses = [a for link in own for a in link.addresses if not IPNetwork(a).ip.is_loopback()]
    return HostFacts(
        addresses=[str(IPNetwork(address).ip) for address in addresses],
        address=_default_address(links),
        networks=[str(IPNetwork(address).cidr) for address in addresses],
        pod_cidr=_pod_cidr(spec, links, flags["kubelet"].configured or {}),
        service_range=_service_range(flags["kube-apiserver"]),
        kubelet_runtime=_kubelet_runtime(
            flags["kubelet"].running or {}, kernel.get(KUBELET_CONFIGURATION, b"")
        ),
        ca_fingerprint=_fingerprint(ca_certificate),
        certificates={path: held[path] for path in _BUNDLES if path in held},
        signed=[one for path in _SIGNED for one in held.get(path, ())],
        token_keys=kernel.get(_TOKEN_KEYS, b"").decode(errors="replace"),
        signing_since=since.get(_TOKEN_KEY),
        containerd=_containerd(offered) if on_containerd and not brings_containerd else "",
        system=packages.system,
        release=packages.release,
        docker=docker,
        foreign_docker=docker and not (packages.versions or packages.partial),
        etcd_data=data in there,
        encryption=tuple(providers),
        encryption_sha256=encryption.sha256 or "" if encryption else "",
        encrypts=_encrypts(flags["kube-apiserver"]),
        apiserver=manifests["kube-apiserver"] in kernel,
        etcd_serves=_serves(kernel.get(manifests["etcd"], b"")),
        etcd_unit_serves=_serves(kernel.get(ETCD_CONF, b""))
        if data in there and on_docker
        else None,
        etcd_asked=_asked(kernel.get(manifests["kube-apiserver"], b"")),
        other_etcd=data if data in there and not any(path in there for path in _OURS) else "",
        settings={
            "cni_bin_dir": _CNI_FOLDERS.get(packages.manager, "/opt/cni/bin"),
            # From 1.8 on kubelet does not start on a host with swap, unless a flag tells it to.
            "fail_swap_on": False if swaps else None,
            "swap_behavior": "LimitedSwap" if swaps and spec.node_swap and v2 else None,
            "fail_cgroup_v1": None if v2 else False,
            # kube-proxy ends where it may not set the limit that it wants.
            "conntrack_per_core": 0 if fit.state.conntrack_fixed else None,
            "resolv_conf": RESOLVED if RESOLVED in there else None,
            "proxy_mode": _proxy_mode(
                spec, packages, kernel.get(_KERNEL, b"").decode(), there, fit.modules
            ),
            **docker_settings,
        },
        links=links,
        versions={name: version for name, version in versions.items() if version},
        packaged=packaged,
        kubelet_sha256=file.sha256 if file and kubelet and kubelet.of_file else "",
        nodes=read(Nodes, **cluster) if asked else NodeStates(),
        fit=fit,
    )


def _containerd(offered: Subject) -> str:
    """The version of the packaged containerd, or of the one that would be installed."""

    there = read(Containerd).versions.get(PACKAGED)
    found = there or read(Candidates, **offered.arguments).get("containerd", "")
    # A package's version has an epoch before upstream's, and a revision after it.
    plain = re.match(r"(?:\d+:)?(\d+\.\d+(?:\.\d+)?)", found)
    return plain[1] if plain else ""


def _runtime(spec: ClusterSpec) -> str:
    return spec.container_runtime or Release.of(spec.kubernetes_version).container_runtime


def _kubelet_runtime(flags: Mapping[str, str], configuration: bytes) -> str:
    told = re.search(rb'^containerRuntimeEndpoint: "?([^"\s]+)', configuration, re.M)
    endpoint = told[1].decode(errors="replace") if told else ""
    endpoint = endpoint or flags.get("container-runtime-endpoint", "")
    named = (one.name for one in RUNTIMES.values() if endpoint and one.endpoint == endpoint)
    return next(named, flags.get("container-runtime", ""))


def _of_rotation(spec: ClusterSpec) -> list[Subject]:
    """What tells which CAs a host has, where others may follow them."""

    if not covers("1.24-", Release.of(spec.kubernetes_version).minor):
        return []
    return [
        Subject(Certificates, {"paths": [*_BUNDLES, *_SIGNED]}),
        Subject(Mtimes, {"paths": [_TOKEN_KEY]}),
    ]


def _certificates(spec: ClusterSpec) -> dict[str, list[Certificate]]:
    try:
        return read(Certificates, paths=[*_BUNDLES, *_SIGNED]) if _of_rotation(spec) else {}
    except FactError:
        # A damaged one is made anew.
        return {}


def _of_fitness(spec: ClusterSpec) -> list[Subject]:
    """What tells whether a host can carry its part of the cluster."""

    signs = [path for paths, _ in OTHER_INSTALLERS.values() for path in paths]
    left = [f"{spec.kubelet_root}/{name}" for name in KUBELET_STATE]
    roots = [one.image_root for one in RUNTIMES.values() if one.image_root]
    data = [spec.kubelet_root, spec.etcd_data_dir, *roots, spec.docker_root or DATA_ROOT]
    plugins = ["/opt/cni/bin", *_CNI_FOLDERS.values()]
    return [
        Subject(
            Fitness,
            {
                "paths": [*signs, *left, CRIO, SELINUX_POLICY, SNAP_DOCKER],
                "programs": [*PROGRAMS, *FILTER_PROGRAMS.values(), SEMANAGE, APPARMOR_PARSER],
                "folders": list(dict.fromkeys([*WRITTEN, PROGRAM_DIR, *data, *plugins])),
            },
        ),
        Subject(Modules, {"modules": _MODULES}),
        Subject(Listeners, _ports(spec)),
        Subject(StaticPods, {"directory": spec.manifest_dir, "runtime": _runtime(spec)}),
        Subject(Cni),
        Subject(Rules),
    ]


def _ports(spec: ClusterSpec) -> dict[str, list[int]]:
    """Every port that a component may have."""

    release = Release.of(spec.kubernetes_version)
    known = {port for component in COMPONENTS for port in ports(component, release).values()}
    known |= {spec.secure_port, spec.insecure_port, spec.etcd_client_port, spec.etcd_peer_port}
    udp = [spec.flannel_port] if spec.network == "flannel" and spec.flannel_port else []
    return {"ports": sorted({*known, kubelet_port(spec)}), "udp": udp}


def _fit(spec: ClusterSpec, image_root: str, kubelet: ProcessState, there: Container[str]) -> Fit:
    """What the host told of it; what it did not tell makes no host unfit."""

    told: list[Any] = []
    for subject in _of_fitness(spec):
        try:
            told.append(read(subject.fact, **subject.arguments))
        except FactError:
            told.append(subject.fact().default())
    state, modules, listeners, pods, networks, rules = told
    flags = [kubelet.running or {}, kubelet.configured or {}]
    accepted = any(known.get("fail-swap-on") == "false" for known in flags)
    return Fit(
        # A kubelet that runs may be anybody's.
        ours=any(path in there for path in _OURS),
        state=replace(state, swap_accepted=state.swap_accepted or accepted),
        image_root=image_root,
        modules=modules,
        listeners=listeners,
        pods=pods,
        networks=networks.configurations,
        chains=tuple(
            chain for table in (rules.chains if rules else {}).values() for chain in table
        ),
    )


# By the full names of their units.
_KUBELETS = {"kubelet.service": KUBELET}
_PACKAGED = {
    f"{name}.service": f"/usr/bin/{name}" for name in (*CONTROL_PLANE_COMPONENTS, "kubelet")
}


def _component(unit: str) -> str:
    return unit.partition(".")[0]


def _version(said: str) -> str:
    """The version in what a program says of itself; empty for a build that does not know it."""

    found = re.search(r"\bv([1-9]\d*\.\d+\.\d+(-[0-9A-Za-z.]+)?)", said)
    return found[1] if found else ""


def _tag(manifest: bytes) -> str:
    """The version that the image in a manifest of ours has."""

    found = re.search(rb"^ *(- )?image: *\S+:v?(\d+\.\d+\.\d+[^\s@\"']*)", manifest, re.M)
    return found[2].decode() if found else ""


def _proxy_mode(
    spec: ClusterSpec,
    packages: PackageStates,
    kernel: str,
    there: Container[str],
    modules: Mapping[str, str],
) -> str:
    """The mode of kube-proxy that was asked for, or else the best that host and release carry."""

    if spec.proxy_mode:
        return spec.proxy_mode
    if spec.packet_filter == "nftables":
        return "nftables"
    best = str(Release.of(spec.kubernetes_version).fact("best_proxy_mode"))
    if best != "nftables":
        return best
    version = re.match(r"(\d+)\.(\d+)", kernel)
    new = version and (int(version[1]), int(version[2])) >= _NFTABLES_KERNEL
    there_soon = any(path in there for path in _NFT) or "nftables" in _coming(spec, packages)
    lacking = any(modules.get(module) == "missing" for module in MODULES["nftables"])
    return best if new and there_soon and not lacking else "iptables"


def _coming(spec: ClusterSpec, packages: PackageStates) -> list[str]:
    """The packages of tools that the run installs."""

    part, here = NETWORK_TOOLS[spec.packet_filter], (packages.system, packages.release)
    # What is not there is refused later, for all hosts at once.
    if not (spec.install_packages and ships(part, *here)):
        return []
    return packages_for([part], *here, spec.kubernetes_version, spec.rpm_files)


# What kube-proxy itself asks for.
_NFTABLES_KERNEL = (5, 13)
DAMAGED = "damaged"


def _fingerprint(path: str) -> str:
    try:
        certificates = read(Certificates, paths=[path]).get(path, [])
    except FactError:
        # It is written again if the credentials folder knows the cluster.
        return DAMAGED
    return certificates[0].sha256 if certificates else ""


def _check_user(status: bytes) -> None:
    user = re.search(rb"^Uid:\s+\d+\s+(\d+)", status, re.M)
    if user and user[1] != b"0":
        fix = 'set _sudo = True for the host, or ssh_user = "root"'
        raise FactError(f"commands are run there as user {user[1].decode()}, not as root; {fix}")


def _docker_settings(spec: ClusterSpec, docker: DockerState) -> dict[str, object]:
    """What kubelet must know of a docker that the host's owner configured."""

    asked = spec.docker_options.get("exec-opts")
    words = texts(asked) if asked else docker.said("exec-opt")
    drivers = [word.partition("=")[2] for word in words if word.startswith(_DRIVER)]
    driver = {"cgroup_driver": drivers[-1]} if drivers else {}
    return {"docker_root": docker.data_root, **driver}


_DRIVER = "native.cgroupdriver="


def _is_of_pods(link: Link, bridges: set[str]) -> bool:
    """Whether a link is one of pods, by its kind: a host's own bridge may have any name."""

    if link.name in bridges or (link.kind == "veth" and link.master):
        return True
    return bool(re.fullmatch(_OF_PODS.get(link.kind, ""), link.name))


def _docker_bridge() -> str:
    """The bridge of docker's own network; its owner may have chosen another one."""

    try:
        found = read(DockerNetworks)
    except FactError:
        # docker is checked when it is set up; until then it may be broken.
        found = ()
    bridges = [one.bridge for one in found or () if one.name == "bridge" and one.bridge]
    return bridges[0] if bridges else DOCKER_BRIDGE


def _default_address(links: dict[str, Link]) -> str:
    """The first address of the link of the best default route."""

    routes = [one for one in read(Routes) or () if one.destination == "0.0.0.0/0" and one.dev]
    best = min(routes, key=lambda route: route.metric, default=None)
    found = _addresses(links, best.dev or "") if best else []
    return str(IPNetwork(found[0]).ip) if found else ""


def _pod_cidr(spec: ClusterSpec, links: dict[str, Link], kubelet: dict[str, str]) -> str:
    """The pod CIDR that the node has now, from the bridge or else from kubelet's own flag."""

    pods = IPNetwork(spec.flannel_network if spec.flannel_leases else spec.cluster_cidr)
    current = [*_addresses(links, BRIDGE), kubelet.get("pod-cidr", "")]
    # Before there is a cluster, docker0 has docker's own network, not that of pods.
    current += [a for a in _addresses(links, DOCKER_BRIDGE) if IPNetwork(a).cidr in pods]
    return next((str(IPNetwork(cidr).cidr) for cidr in current if cidr), "")


def _service_range(apiserver: ProcessState) -> str:
    """The range that the apiserver runs with; a package's own settings do not count. Empty for two
    ranges."""

    try:
        return str(parse_network((apiserver.running or {}).get("service-cluster-ip-range", "")))
    except ValueError:
        return ""


def _encrypts(apiserver: ProcessState) -> str | None:
    running = apiserver.running
    return None if running is None else running.get("encryption-provider-config", "")


def _serves(text: bytes) -> Serves | None:
    """By etcd's manifest, or its environment file."""

    clients, peers = (_urls(text, f"listen-{who}-urls") for who in ("client", "peer"))
    if not (clients and peers):
        return None
    if b"http://" not in clients + peers:
        return "tls"
    return "both" if b"https://" in clients + peers else "http"


def _asked(manifest: bytes) -> Scheme | None:
    urls = _urls(manifest, "etcd-servers")
    return ("http" if b"http://" in urls else "https") if urls else None


def _urls(text: bytes, flag: str) -> bytes:
    variable = f"ETCD_{flag.upper().replace('-', '_')}"
    found = re.search(rb"(?:--%s|^%s)=(\S+)" % (flag.encode(), variable.encode()), text, re.M)
    return found[1] if found else b""


def _addresses(links: dict[str, Link], name: str) -> list[str]:
    return list(links[name].addresses) if name in links else []
