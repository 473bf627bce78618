"""flanneld, which has releases of its own: its network in etcd, and what it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

from netaddr import IPNetwork

from pyinfra_kube.cluster.components.common import ADMIN
from pyinfra_kube.cluster.components.rows import User
from pyinfra_kube.cluster.spec.settings import FLANNEL_PORTS

Backend = Literal["vxlan", "udp", "host-gw"]

PREFIX = "/coreos.com/network"

NET_CONFIG = "/etc/kube-flannel/net-conf.json"
KUBECONFIG = "/etc/kube-flannel/kubeconfig"
HEALTH_PORT = 8471
USER = User("flanneld", "flannel")
USERS = {
    "shared": ADMIN,
    "per_component": USER,
    "per_node": USER._replace(name="flanneld-{node}"),
}
"""Who flanneld is to the apiserver that keeps its network, from 1.24 on."""


def api_flags(iface: str) -> list[str]:
    """
    Give the command line of a flanneld that knows nodes and their pod CIDRs from the apiserver.

    + iface: the interface that packets leave by, or its address

    ```
    >>> api_flags("192.0.2.11")[-1]
    '--healthz-port=8471'
    ```
    """

    return [
        "--kube-subnet-mgr",
        f"--kubeconfig-file={KUBECONFIG}",
        f"--net-config-path={NET_CONFIG}",
        f"--iface={iface}",
        # What lets packets of pods pass is there without flanneld.
        "--iptables-forward-rules=false",
        "--healthz-ip=127.0.0.1",
        f"--healthz-port={HEALTH_PORT}",
    ]


def network_config(
    network: str,
    subnet_len: int = 24,
    backend: Backend = "vxlan",
    vni: int = 1,
    port: int | None = None,
    whole: bool = False,
) -> str:
    """
    Give the value of the key ``PREFIX/config``: the network that flannel shares out.

    + network: the range of all nodes' subnets
    + subnet_len: the length of one node's subnet
    + backend: how packets travel between hosts
    + vni: VXLAN's network identifier
    + port: UDP port; left out where it is the backend's own
    + whole: whether the first subnet is one of a node too, which flannel itself leaves out

    ```
    >>> network_config("18.16.0.0/16")
    '{"Network": "18.16.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan", "VNI": 1}}'
    ```
    """

    settings: dict[str, object] = {"Type": backend}
    if backend == "vxlan":
        settings["VNI"] = vni
    if port and backend in FLANNEL_PORTS and port != FLANNEL_PORTS[backend]:
        settings["Port"] = port
    first = {"SubnetMin": str(IPNetwork(network)[0])} if whole else {}
    config = {"Network": network, "SubnetLen": subnet_len, **first, "Backend": settings}
    return json.dumps(config)


def same_range(config: str, other: str) -> bool:
    """
    Tell whether two values of ``PREFIX/config`` share out the same subnets.

    + config, other: the values

    ```
    >>> same_range('{"Network": "10.5.0.0/16"}', '{"Network": "10.5.0.0/16", "SubnetLen": 24}')
    True
    ```
    """

    return _range(config) == _range(other)


def gives(config: str, subnet: str) -> bool:
    """
    Tell whether a subnet is one that flannel gives to a host.

    + config: a value of ``PREFIX/config``
    + subnet: with its prefix length

    ```
    >>> gives('{"Network": "10.5.0.0/16"}', "10.5.7.0/24")
    True
    >>> gives('{"Network": "10.5.0.0/16", "SubnetLen": 26}', "10.5.7.0/24")
    False
    ```
    """

    found = _range(config)
    if isinstance(found, str):
        return False
    network, length = found
    wanted = IPNetwork(subnet)
    return wanted in network and wanted.prefixlen == length


def _range(config: str) -> str | tuple[IPNetwork, int]:
    try:
        value = json.loads(config)
        network = IPNetwork(value["Network"])
        length = value.get("SubnetLen") or (24 if network.prefixlen <= 22 else 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        return config
    return network, length


def etcd_api(version: str) -> Literal["v2", "v3"]:
    """
    Give the interface of etcd that a flannel speaks: v2 through 0.17, v3 alone from 0.18 on.

    + version: of flannel, such as ``0.5.5`` or ``v0.28.9``; what is no version counts as an old one

    ```
    >>> etcd_api("0.17.0"), etcd_api("v0.18.0")
    ('v2', 'v3')
    ```
    """

    match = re.match(r"v?(\d+)\.(\d+)", version)
    return "v3" if match and (int(match[1]), int(match[2])) >= (0, 18) else "v2"


def sysconfig(
    endpoints: Sequence[str],
    prefix: str = PREFIX,
    iface: str | None = None,
    ip_masq: bool = False,
    options: Sequence[str] = (),
) -> dict[str, str]:
    """
    Give the variables of /etc/sysconfig/flanneld, where the endpoints and the prefix have two
    names each: packages of different years read different ones.

    + endpoints: etcd's URLs
    + prefix: the key in etcd under which flannel's keys are
    + iface: the interface that packets leave by, or its address; that of the default route if none
    + ip_masq: whether flannel masquerades what leaves its network; docker does it otherwise
    + options: further flags

    ```
    >>> sysconfig(["http://fed-master:2379"], iface="eth1")["FLANNEL_OPTIONS"]
    '-iface=eth1'
    ```
    """

    urls = ",".join(endpoints)
    words = [f"-iface={iface}"] if iface else []
    words += ["-ip-masq"] if ip_masq else []
    return {
        "FLANNEL_ETCD_ENDPOINTS": urls,
        "FLANNEL_ETCD": urls,
        "FLANNEL_ETCD_PREFIX": prefix,
        "FLANNEL_ETCD_KEY": prefix,
        "FLANNEL_OPTIONS": " ".join([*words, *options]),
    }


def device_of(backend: str, vni: int = 1) -> str | None:
    """
    Give the name of a backend's device on each host; host-gw has none.

    + backend: how packets travel between hosts
    + vni: VXLAN's network identifier

    ```
    >>> device_of("vxlan", 1)
    'flannel.1'
    ```
    """

    return {"vxlan": f"flannel.{vni}", "udp": "flannel0"}.get(backend)
