"""
The doors of a cluster: every port on which a part of it listens, why, and what it tells whoever
shows no credential.

`docs/ports.md` is made from this table, and hosts are compared with it in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.components.common import HTTP, HTTPS
from pyinfra_kube.cluster.components.etcd import METRICS_PORT, OWN_HEALTH
from pyinfra_kube.cluster.components.flanneld import HEALTH_PORT
from pyinfra_kube.cluster.components.kubelet import NODE, STANDALONE
from pyinfra_kube.cluster.components.rendering import ports
from pyinfra_kube.cluster.components.rows import ALWAYS
from pyinfra_kube.cluster.releases import Release, covers

Where = Literal["loopback", "node", "hosts", "pods"]
Answers = Literal["nothing", "health", "names", "all"]


class Door(NamedTuple):
    """
    A port on which a part of the cluster listens.

    + program: that listens
    + role: of the hosts where it does; ``host`` for all, ``dns`` for the pods of CoreDNS,
      ``metrics`` for that of metrics-server
    + port: with a setting in it, or a port of the component; empty where the kernel chooses
      one
    + where: from where it is reached: its own host, that host and its pods, all hosts and pods, or
      as a pod
    + answers: what it tells without a credential: ``nothing``, ``health`` and version, ``names``
      of DNS, or ``all``
    + reason: why it is open
    + releases: where it is
    + when: settings that have these values
    + closes: what closes it, where it tells too much
    + protocol: ``tcp`` or ``udp``
    """

    program: str
    role: Literal["host", "etcd", "control_plane", "node", "dns", "metrics"]
    port: str
    where: Where
    answers: Answers
    reason: str
    releases: str = "1.2-"
    when: Mapping[str, object] = ALWAYS
    closes: str = ""
    protocol: Literal["tcp", "udp"] = "tcp"


_ALONE, _SHARED = {"etcd_alone": True}, {"etcd_alone": False}
_TLS, _PLAIN = {"etcd_tls": True}, {"etcd_tls": False}
_TO_TLS = "`etcd_tls`, the default"
_ASKED_BESIDE = "the apiserver of the same host asks for what it stores"
_ASKED = (
    "apiservers of other hosts ask for what they store, and flanneld up to 1.23 for its network"
)
_MEMBER = "members of etcd agree there"
_PROBED = "probes of its own host"
_METRICS = "metrics for whoever is on the host; the port comes with the health of the program"

DOORS: tuple[Door, ...] = (
    Door("etcd", "etcd", "{etcd_client_port}", "loopback", "nothing", _ASKED_BESIDE, when=_TLS),
    Door(
        *("etcd", "etcd", "{etcd_client_port}", "loopback", "all", _ASKED_BESIDE),
        when=_PLAIN,
        closes=_TO_TLS,
    ),
    Door(
        *("etcd", "etcd", "{etcd_client_port}", "hosts", "nothing", _ASKED),
        when={**_SHARED, **_TLS},
    ),
    Door(
        *("etcd", "etcd", "{etcd_client_port}", "hosts", "all", _ASKED),
        when={**_SHARED, **_PLAIN},
        closes=_TO_TLS,
    ),
    Door("etcd", "etcd", "{etcd_peer_port}", "loopback", "nothing", _MEMBER, when=_ALONE | _TLS),
    Door("etcd", "etcd", "{etcd_peer_port}", "loopback", "all", _MEMBER, when=_ALONE | _PLAIN),
    Door("etcd", "etcd", "{etcd_peer_port}", "hosts", "nothing", _MEMBER, when=_SHARED | _TLS),
    Door(
        *("etcd", "etcd", "{etcd_peer_port}", "hosts", "all", _MEMBER),
        when=_SHARED | _PLAIN,
        closes=_TO_TLS,
    ),
    Door("etcd", "etcd", str(METRICS_PORT), "loopback", "all", _PROBED, when=OWN_HEALTH),
    Door(
        *("kube-apiserver", "control_plane", "{secure_port}", "hosts", "health"),
        "the API, for everybody with a credential",
        "1.14-",
    ),
    Door(
        *("kube-apiserver", "control_plane", "{secure_port}", "hosts", "health"),
        "the API, for everybody with a credential; anybody else may see which APIs there are",
        "1.2-1.13",
        closes="1.14",
    ),
    Door(
        *("kube-apiserver", "control_plane", "{insecure_port}", "loopback", "all"),
        "the scheduler and the controller manager of the same host",
        "1.2-1.19",
        HTTPS,
        "1.20",
    ),
    Door(
        *("kube-apiserver", "control_plane", "{insecure_port}", "hosts", "all"),
        'the API, as `apiserver_approach = "http"` asks for',
        "1.2-1.19",
        HTTP,
        '`apiserver_approach = "https"`, the default',
    ),
    Door(
        *("kube-controller-manager", "control_plane", "{port}", "loopback", "all"),
        _PROBED,
        "1.2-1.19",
        closes="1.20",
    ),
    Door(
        *("kube-controller-manager", "control_plane", "{port}", "loopback", "health"),
        _PROBED,
        "1.20-",
    ),
    Door(
        *("kube-scheduler", "control_plane", "{port}", "loopback", "all"),
        _PROBED,
        "1.2-1.19",
        closes="1.20",
    ),
    Door("kube-scheduler", "control_plane", "{port}", "loopback", "health", _PROBED, "1.20-"),
    Door(
        *("kubelet", "node", "{port}", "hosts", "nothing"),
        "the apiserver asks for logs, commands in containers and metrics",
        "1.5-",
        NODE,
    ),
    Door(
        *("kubelet", "node", "{port}", "hosts", "all"),
        "the apiserver asks for logs, commands in containers and metrics",
        "1.2-1.4",
        NODE,
        "1.5",
    ),
    Door(
        *("kubelet", "host", "{port}", "loopback", "nothing"),
        "a kubelet that is no node answers its own host",
        "1.5-",
        STANDALONE,
    ),
    Door(
        *("kubelet", "host", "{port}", "loopback", "all"),
        "a kubelet that is no node answers its own host",
        "1.2-1.4",
        STANDALONE,
        "1.5",
    ),
    Door(
        *("kubelet", "node", "{read_only_port}", "hosts", "all"),
        "Heapster, in releases where it has no credential",
        "1.2-1.19",
        NODE,
        "1.20",
    ),
    Door(
        *("kubelet", "host", "{read_only_port}", "loopback", "all"),
        "a kubelet that is no node answers its own host",
        "1.2-1.19",
        STANDALONE,
        "1.20",
    ),
    Door(
        *("kubelet", "host", "{cadvisor_port}", "hosts", "all"),
        "cAdvisor, in releases where Heapster asks it",
        "1.2-1.10",
        closes="1.11",
    ),
    Door("kubelet", "host", "{healthz_port}", "loopback", "health", _PROBED),
    Door(
        *("kubelet", "host", "", "loopback", "nothing"),
        "streams of commands in docker's containers; their URLs hold a secret",
        "1.5-1.23",
    ),
    Door("kube-proxy", "node", "{healthz_port}", "loopback", "health", _PROBED, "1.2-1.6"),
    Door("kube-proxy", "node", "{metrics_port}", "loopback", "all", _METRICS, "1.7-"),
    Door(
        *("kube-proxy", "node", "{healthz_port}", "hosts", "health"),
        "load balancers ask whether the node is well",
        "1.7-1.23",
    ),
    Door("kube-proxy", "node", "{healthz_port}", "loopback", "health", _PROBED, "1.24-"),
    Door(
        *("containerd", "host", "", "loopback", "nothing"),
        "streams of commands in containers, to kubelet; their URLs hold a secret",
    ),
    Door(
        *("crio", "host", "", "loopback", "nothing"),
        "streams of commands in containers, to kubelet; their URLs hold a secret",
        "1.24-",
    ),
    Door(
        *("flanneld", "node", str(HEALTH_PORT), "loopback", "health", _PROBED, "1.24-"),
        when={"network": "flannel"},
    ),
    Door(
        *("flanneld", "node", "{flannel_port}", "hosts", "all"),
        "packets between pods of different hosts, of which flannel cannot tell who sent them",
        when={"network": "flannel"},
        closes='`flannel_backend = "host-gw"`, which wraps no packets',
        protocol="udp",
    ),
    Door(
        *("coredns", "dns", "53", "pods", "names"),
        "pods ask for names",
        "1.19-",
        {"dns": True},
    ),
    Door(
        *("coredns", "dns", "53", "pods", "names"),
        "pods ask for names",
        "1.19-",
        {"dns": True},
        protocol="udp",
    ),
    Door("coredns", "dns", "8080", "pods", "health", _PROBED, "1.19-", {"dns": True}),
    Door("coredns", "dns", "8181", "pods", "health", _PROBED, "1.19-", {"dns": True}),
    Door(
        *("coredns", "dns", "9153", "pods", "all"),
        "metrics, as `dns_metrics` asks for",
        "1.19-",
        {"dns": True, "dns_metrics": True},
        "`dns_metrics = False`, the default",
    ),
    Door(
        *("coredns", "node", "53", "node", "names"),
        "pods ask the DNS cache of their node",
        "1.24-",
        {"node_local_dns": True},
    ),
    Door(
        *("coredns", "node", "53", "node", "names"),
        "pods ask the DNS cache of their node",
        "1.24-",
        {"node_local_dns": True},
        protocol="udp",
    ),
    Door("coredns", "node", "8080", "node", "health", _PROBED, "1.24-", {"node_local_dns": True}),
    Door(
        *("metrics-server", "metrics", "4443", "pods", "health"),
        "the apiserver asks what nodes and pods use",
        "1.25-",
        {"metrics_server": True},
    ),
)


def doors(roles: Iterable[str], release: Release, context: Mapping[str, object]) -> Iterator[Door]:
    """
    Give the doors of a host, with their ports filled in.

    + roles: of the host, and ``host``; or ``dns`` or ``metrics`` alone, for pods
    + release: the Kubernetes release
    + context: as `row_settings.settings` gives it

    ```
    >>> [door.port for door in doors({"dns"}, Release.of("1.37.2"), context)]
    ['53', '53', '8080', '8181']
    ```
    """
    roles = set(roles)
    for door in DOORS:
        if (
            door.role in roles
            and covers(door.releases, release.minor)
            and all(context[key] == value for key, value in door.when.items())
        ):
            own = ports(door.program, release) if door.program in COMPONENTS else {}
            named = {name: value for name, value in {**context, **own}.items() if value is not None}
            # host-gw of flannel has no port.
            if not door.port.startswith("{") or door.port[1:-1] in named:
                yield door._replace(port=door.port.format_map(named))
