"""
What a deploy must know of a host before it can plan, read in one round trip.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netaddr import IPNetwork

from pyinfra_kube.cluster.addressing import parse_network
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.facts.bridge import Link, Links
from pyinfra_kube.facts.certificates import Certificates
from pyinfra_kube.facts.docker import Docker, DockerState, texts
from pyinfra_kube.facts.files import FileContents, Files
from pyinfra_kube.facts.packages import Packages
from pyinfra_kube.facts.processes import Flags, ProcessState
from pyinfra_kube.facts.snapshot import Subject, expect, read

BRIDGE = "cbr0"
DOCKER_BRIDGE = "docker0"

# Links that carry pods, not hosts.
_OURS = (BRIDGE, "docker", "flannel", "veth", "cni", "br-")

# Where each package manager's distribution keeps CNI plugins.
_CNI_FOLDERS = {"apt": "/usr/lib/cni", "dnf": "/usr/libexec/cni", "yum": "/usr/libexec/cni"}

_DOCKER_PROGRAMS = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"]
_DOCKER_PACKAGES = ["docker.io", "moby-engine", "docker"]
_COMPONENTS = ["kubelet", "kube-apiserver"]
_SWAPS = "/proc/swaps"


@dataclass(frozen=True)
class Observation:
    """
    + addresses: every IPv4 address that the host has
    + address: the one to reach it at
    + networks: the networks that it is on
    + pod_cidr: of its pods now; empty on a new node
    + ca_fingerprint: of the CA certificate that it holds; empty without one
    + system, release: the distribution's name and number, as ``debian`` and ``12``
    + service_range: that its apiserver gives to services now; empty without one
    + docker: whether it is there
    + foreign_docker: whether it is, and not from the distribution's package
    + settings: what components' command lines must know of it
    + links: its network devices, by name
    """

    addresses: list[str]
    address: str
    networks: list[str]
    pod_cidr: str
    ca_fingerprint: str
    system: str
    release: str
    service_range: str = ""
    docker: bool = False
    foreign_docker: bool = False
    settings: dict[str, object] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    def link_of(self, address: str | None) -> Link | None:
        """
        The link that an address of the host is on.

        + address: without its length; by default the one to reach the host at
        """

        start = f"{address or self.address}/"
        found = (
            link for link in self.links.values() for a in link.addresses if a.startswith(start)
        )
        return next(found, None)


def observe(spec: ClusterSpec, ca_certificate: str) -> Observation:
    """
    Ask the current host.

    + spec: the cluster
    + ca_certificate: path of the CA certificate
    """

    subjects = [
        Subject(Links),
        Subject(Certificates, {"paths": [ca_certificate]}),
        Subject(Flags, {"names": _COMPONENTS}),
        Subject(Packages, {"names": _DOCKER_PACKAGES}),
        Subject(Docker),
        Subject(Files, {"paths": _DOCKER_PROGRAMS, "digest": False}),
        Subject(FileContents, {"paths": [_SWAPS]}),
    ]
    expect(subjects)
    links = read(Links)
    certificates = read(Certificates, paths=[ca_certificate]).get(ca_certificate, [])
    packages = read(Packages, names=_DOCKER_PACKAGES)
    flags = {name: ProcessState() for name in _COMPONENTS} | read(Flags, names=_COMPONENTS)
    programs = read(Files, paths=_DOCKER_PROGRAMS, digest=False)
    docker = any(path in programs for path in _DOCKER_PROGRAMS)
    # One line is the title.
    swaps = read(FileContents, paths=[_SWAPS]).get(_SWAPS, b"").count(b"\n") > 1
    own = {name: link for name, link in links.items() if _is_own(name)}
    addresses = [str(IPNetwork(a).ip) for link in own.values() for a in link.addresses]
    return Observation(
        addresses=addresses,
        address=addresses[0] if addresses else "",
        networks=[str(IPNetwork(a).cidr) for link in own.values() for a in link.addresses],
        pod_cidr=_pod_cidr(spec, links, flags["kubelet"].configured or {}),
        service_range=_service_range(flags["kube-apiserver"]),
        ca_fingerprint=certificates[0].sha256 if certificates else "",
        system=packages.system,
        release=packages.release,
        docker=docker,
        foreign_docker=docker and not (packages.versions or packages.partial),
        settings={
            "cni_bin_dir": _CNI_FOLDERS.get(packages.manager, "/opt/cni/bin"),
            # From 1.8 on no kubelet starts on a host that swaps, unless it is told to.
            "fail_swap_on": False if swaps else None,
            **_docker_settings(spec, read(Docker)),
        },
        links=links,
    )


def _docker_settings(spec: ClusterSpec, docker: DockerState) -> dict[str, object]:
    """What kubelet must know of a docker that the host's owner has configured."""

    asked = spec.docker_options.get("exec-opts")
    words = texts(asked) if asked else docker.said("exec-opt")
    drivers = [word.partition("=")[2] for word in words if word.startswith(_DRIVER)]
    driver = {"cgroup_driver": drivers[-1]} if drivers else {}
    return {"docker_root": docker.data_root, **driver}


_DRIVER = "native.cgroupdriver="


def _is_own(name: str) -> bool:
    return name != "lo" and not name.startswith(_OURS)


def _pod_cidr(spec: ClusterSpec, links: dict[str, Link], kubelet: dict[str, str]) -> str:
    """What the node's pods have now: the bridge says, or else kubelet's own flag."""

    pods = IPNetwork(spec.flannel_network if spec.network == "flannel" else spec.cluster_subnet)
    carried = [*_addresses(links, BRIDGE), kubelet.get("pod-cidr", "")]
    # Before a cluster docker0 has docker's own network, which says nothing of pods.
    carried += [a for a in _addresses(links, DOCKER_BRIDGE) if IPNetwork(a).cidr in pods]
    return next((str(IPNetwork(cidr).cidr) for cidr in carried if cidr), "")


def _service_range(apiserver: ProcessState) -> str:
    """What the apiserver runs with: a package's own settings say nothing. Empty for two ranges."""

    try:
        return str(parse_network((apiserver.running or {}).get("service-cluster-ip-range", "")))
    except ValueError:
        return ""


def _addresses(links: dict[str, Link], name: str) -> list[str]:
    return list(links[name].addresses) if name in links else []
