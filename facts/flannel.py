"""
Flannel: what flanneld wrote on a host and in etcd.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netaddr import IPNetwork
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.cluster.components.flanneld import PREFIX
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import SHOW, by_word
from pyinfra_kube.facts.etcd import Keys, Status
from pyinfra_kube.facts.systemd import variables

SUBNET_FILE = "/run/flannel/subnet.env"
DOCKER_FILE = "/run/flannel/docker"


@dataclass(frozen=True)
class SubnetEnv:
    """
    What /run/flannel/subnet.env holds.

    + subnet: the first address of the host's subnet with its length: ``18.16.29.1/24``
    + mtu: in bytes
    + ip_masq: whether flannel masquerades
    + network: the range of all hosts; ``None`` before flannel 0.5.3
    """

    subnet: str
    mtu: int
    ip_masq: bool = False
    network: str | None = None


def read_subnet_env(values: Mapping[str, str]) -> SubnetEnv | None:
    """
    Read the variables of subnet.env; ``None`` where they do not name a subnet.

    + values: name → value

    Raises ``ValueError`` for a value that flannel does not write.

    ```
    >>> read_subnet_env({"FLANNEL_SUBNET": "18.16.29.1/24", "FLANNEL_MTU": "1450"})
    SubnetEnv(subnet='18.16.29.1/24', mtu=1450, ip_masq=False, network=None)
    ```
    """

    if not values.get("FLANNEL_SUBNET"):
        return None
    for name, form in _FORMS.items():
        value = values.get(name)
        if value and not re.fullmatch(form, value):
            raise ValueError(f"{name}={value!r} is nothing that flannel writes")
    return SubnetEnv(
        subnet=values["FLANNEL_SUBNET"],
        mtu=int(values.get("FLANNEL_MTU") or 1500),
        ip_masq=values.get("FLANNEL_IPMASQ") == "true",
        network=values.get("FLANNEL_NETWORK") or None,
    )


_OCTET = r"(25[0-5]|2[0-4]\d|1?\d?\d)"
_RANGE = rf"{_OCTET}(\.{_OCTET}){{3}}/(3[0-2]|[12]?\d)"
_FORMS = {"FLANNEL_SUBNET": _RANGE, "FLANNEL_NETWORK": _RANGE, "FLANNEL_MTU": r"\d{1,5}"}


@dataclass(frozen=True)
class FlannelState(Printable):
    """
    What :class:`Flannel` returns.

    + version: of flanneld; ``None`` where it is not installed, empty where it does not tell
    + running: whether it runs
    + subnet: what subnet.env says; ``None`` where flanneld has written none
    """

    version: str | None = None
    running: bool = False
    subnet: SubnetEnv | None = None


class Flannel(FactBase[FlannelState]):
    """
    Returns what flannel did on this host.

    + binary: flanneld's name or path
    + subnet_file: what it writes

    .. code:: python

        FlannelState(
            version="0.5.5",
            running=True,
            subnet=SubnetEnv(subnet="18.16.29.1/24", mtu=1450, network="18.16.0.0/16"),
        )
    """

    default = FlannelState

    @override
    def command(self, binary: str = "flanneld", subnet_file: str = SUBNET_FILE) -> str:
        program, subnet = shlex.quote(binary), shlex.quote(subnet_file)
        return f"""\
if command -v {program} >/dev/null 2>&1; then
echo "version $(timeout 5 {program} --version 2>&1 | head -n 1)"
fi
if [ -e {subnet} ]; then
text=$(cat {subnet}) || exit 1
printf '%s\\n' "$text" | sed 's/^/subnet /'
fi
{SHOW}
show flanneld.service Id
case $shown in *ActiveState=active*|*ActiveState=reloading*) echo running ;; esac"""

    @override
    def process(self, output: Iterable[str]) -> FlannelState:
        lines = by_word(output)
        shown = "".join(lines.get("version", []))
        version = re.search(r"\d+(\.\d+)+[\w.-]*", shown)
        return FlannelState(
            version=(version[0] if version else "") if "version" in lines else None,
            running="running" in lines,
            subnet=_subnet("\n".join(lines.get("subnet", []))),
        )


def _subnet(text: str) -> SubnetEnv | None:
    try:
        return read_subnet_env(variables(text))
    except ValueError as error:
        fix = "restart flanneld, which writes it anew"
        raise FactProcessError(f"{SUBNET_FILE}: {error}; {fix}") from error


@dataclass(frozen=True)
class Lease:
    """
    A host's lease in etcd.

    + subnet: ``18.16.29.0/24`` and the like
    + public_ip: the host's address, where the others send its packets
    + backend: ``vxlan``, ``udp``, ``host-gw`` …
    + vtep_mac: of the host's VXLAN device; empty with other backends
    + vni: ``None`` before flannel 0.14
    + key: in etcd
    """

    subnet: str
    public_ip: str
    backend: str = "udp"
    vtep_mac: str = ""
    vni: int | None = None
    key: str = ""


def parse_leases(keys: Mapping[str, str], prefix: str = PREFIX) -> list[Lease]:
    """
    Read the leases among the keys of etcd, by their subnets.

    + keys: path → value
    + prefix: the key in etcd under which flannel's keys are

    ```
    >>> parse_leases({"/coreos.com/network/subnets/18.16.29.0-24": '{"PublicIP":"192.0.2.7"}'})
    [Lease(subnet='18.16.29.0/24', public_ip='192.0.2.7', …)]
    ```
    """

    start = f"{prefix}/subnets/"
    found = (_lease(key, value, start) for key, value in keys.items() if key.startswith(start))
    return sorted(filter(None, found), key=lambda lease: IPNetwork(lease.subnet))


def _lease(key: str, value: str, start: str) -> Lease | None:
    # A dual-stack lease names its IPv6 subnet after an ampersand.
    match = re.fullmatch(r"([\d.]+)-(\d+)(&.*)?", key[len(start) :])
    try:
        data = json.loads(value)
    except json.JSONDecodeError:
        return None
    if not match or not isinstance(data, dict):
        return None
    backend = data.get("BackendData") or {}
    return Lease(
        subnet=f"{match[1]}/{match[2]}",
        public_ip=data.get("PublicIP", ""),
        backend=data.get("BackendType") or "udp",
        vtep_mac=str(backend.get("VtepMAC", "")).lower(),
        vni=backend.get("VNI"),
        key=key,
    )


@dataclass(frozen=True)
class LeaseStates:
    """
    What flannel has in etcd.

    + status: ``ok``, or why there is no answer
    + config: the value of ``PREFIX/config``; ``None`` where it is not set
    + leases: by their subnets
    + said: what etcd, or curl, said where it is not ok
    """

    status: Status = "down"
    config: str | None = None
    leases: tuple[Lease, ...] = ()
    said: str = ""


def lease_states(keys: Keys, prefix: str = PREFIX) -> LeaseStates:
    """
    Read flannel's keys.

    + keys: what ``EtcdKeys`` returns for the prefix
    + prefix: the key in etcd under which flannel's keys are

    .. code:: python

        found = read(EtcdKeys, endpoints=endpoints, prefix=f"{prefix}/", api="v2")
        lease_states(found, prefix)
    """

    values = {path: state.value for path, state in keys.keys.items()}
    leases = tuple(parse_leases(values, prefix))
    return LeaseStates(keys.status, values.get(f"{prefix}/config"), leases, keys.said)
