"""flannel: its configuration, its leases, and who agrees with whom."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netaddr import IPNetwork
from pyinfra.api.exceptions import FactProcessError

from pyinfra_kube.cluster.components import flanneld as daemon
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.flannel import (
    Flannel,
    Lease,
    LeaseStates,
    SubnetEnv,
    parse_leases,
    read_subnet_env,
)
from pyinfra_kube.facts.systemd import variables
from pyinfra_kube.operations.flannel import _require, flanneld, stale_leases
from pyinfra_kube.operations.flannel_agreement import (
    Finding,
    HostNetwork,
    check_iface,
    compare,
    table,
)
from tests.unit.harness import fake_host

GUIDE = '{"Network": "18.16.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan", "VNI": 1}}'
PREFIX = "/coreos.com/network/subnets"

# As the guide shows them.
SUBNETS = {
    "18.16.29.0-24": ("192.168.122.77", "46:f1:d0:18:d0:65"),
    "18.16.83.0-24": ("192.168.122.36", "ca:38:78:fc:72:29"),
    "18.16.90.0-24": ("192.168.122.127", "92:e2:80:ba:2d:4d"),
}


def lease_value(address: str, mac: str) -> str:
    data = {"PublicIP": address, "BackendType": "vxlan", "BackendData": {"VtepMAC": mac}}
    return json.dumps(data)


LEASES = parse_leases(
    {f"{PREFIX}/{name}": lease_value(*values) for name, values in SUBNETS.items()}
)


def link(
    name: str, *addresses: str, mac: str = "", mtu: int = 1450, master: str | None = None
) -> Link:
    return Link(name, "", mtu, mac, addresses, True, master)


def host(name: str, lease: Lease, *, device: str = "/32", docker_mtu: int = 1450) -> HostNetwork:
    base = lease.subnet.partition("/")[0]
    first = f"{IPNetwork(lease.subnet)[1]}/24"
    links = [
        link("eth0", f"{lease.public_ip}/24", mtu=1500),
        link("flannel.1", base + device, mac=lease.vtep_mac.upper()),
        link("docker0", first, mtu=docker_mtu),
    ]
    return HostNetwork(
        name, {one.name: one for one in links}, SubnetEnv(first, 1450, False, "18.16.0.0/16")
    )


HOSTS = [host(f"fed-node-{number}", lease) for number, lease in enumerate(LEASES)]


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.host, finding.what) for finding in findings if finding.agrees is False]


def test_the_guides_network() -> None:
    assert daemon.network_config("18.16.0.0/16") == GUIDE
    assert json.loads(daemon.network_config("10.5.0.0/16", backend="udp"))["Backend"] == {
        "Type": "udp"
    }
    assert json.loads(daemon.network_config("10.5.0.0/16", port=8472)) == json.loads(
        daemon.network_config("10.5.0.0/16")
    )


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ('{"Network": "18.16.0.0/16"}', True),
        ('{"Network": "18.16.0.0/16", "Backend": {"Type": "udp"}}', True),
        ('{"Network": "18.16.0.0/16", "SubnetLen": 25}', False),
        ('{"Network": "18.17.0.0/16"}', False),
        ("no JSON", False),
        ("[]", False),
    ],
)
def test_ranges(other: str, same: bool) -> None:
    assert daemon.same_range(GUIDE, other) is same


@pytest.mark.parametrize(
    ("version", "api"),
    [("0.5.5", "v2"), ("v0.17.0", "v2"), ("0.18.0", "v3"), ("v0.28.9", "v3"), ("1.0", "v3")],
)
def test_which_etcd(version: str, api: str) -> None:
    assert daemon.etcd_api(version) == api
    assert daemon.etcd_api("0.0.standin") == "v2"


def test_options_stand_under_both_names() -> None:
    values = daemon.sysconfig(["http://fed-master:2379"], iface="192.0.2.9", ip_masq=True)
    assert values["FLANNEL_ETCD"] == values["FLANNEL_ETCD_ENDPOINTS"] == "http://fed-master:2379"
    assert values["FLANNEL_ETCD_KEY"] == values["FLANNEL_ETCD_PREFIX"] == "/coreos.com/network"
    assert values["FLANNEL_OPTIONS"] == "-iface=192.0.2.9 -ip-masq"


def test_leases_of_every_flannel() -> None:
    values = {
        f"{PREFIX}/10.5.1.0-24": '{"PublicIP":"192.0.2.1"}',
        f"{PREFIX}/10.5.2.0-24&fc00::-64": json.dumps(
            {
                "PublicIP": "192.0.2.2",
                "PublicIPv6": None,
                "BackendType": "vxlan",
                "BackendData": {"VNI": 1, "VtepMAC": "46:F1:d0:18:d0:65"},
            }
        ),
        f"{PREFIX}/10.5.3.0-24": '{"PublicIP":"192.0.2.3","BackendType":"host-gw"}',
        f"{PREFIX}/10.5.4.0-24": "torn",
        "/coreos.com/network/config": GUIDE,
    }
    udp, vxlan, gateway = parse_leases(values)
    assert (udp.backend, udp.public_ip) == ("udp", "192.0.2.1")
    assert (vxlan.subnet, vxlan.vni, vxlan.vtep_mac) == ("10.5.2.0/24", 1, "46:f1:d0:18:d0:65")
    assert (gateway.backend, gateway.vtep_mac) == ("host-gw", "")
    assert stale_leases([udp, vxlan], "10.5.2.0/23") == [udp]


@given(
    st.ip_addresses(v=4).map(lambda ip: f"{ip}/24"),
    st.integers(576, 65535),
    st.booleans(),
    st.one_of(st.none(), st.just("10.0.0.0/8")),
)
def test_subnet_env_is_read_back(subnet: str, mtu: int, masq: bool, network: str | None) -> None:
    lines = [f"FLANNEL_NETWORK={network}"] if network else []
    lines += [f"FLANNEL_SUBNET={subnet}", f"FLANNEL_MTU={mtu}", f"FLANNEL_IPMASQ={masq}".lower()]
    text = "\n".join(lines).replace("flannel_ipmasq", "FLANNEL_IPMASQ")
    assert read_subnet_env(variables(text)) == SubnetEnv(subnet, mtu, masq, network)
    assert read_subnet_env(variables(text.splitlines()[0][:8])) is None


@pytest.mark.parametrize(
    ("text", "mtu"),
    [
        ('FLANNEL_SUBNET=18.16.29.1/24\nFLANNEL_MTU="1450', 1450),
        ("FLANNEL_SUBNET=18.16.29.1/24\nFLANNEL_MTU='1450' \n", 1450),
        ('FLANNEL_SUBNET=18.16.29.1/24\nFLANNEL_MTU="1450\nFLANNEL_IPMASQ=true\n', None),
        ("FLANNEL_SUBNET=18.16.29\nFLANNEL_MTU=1450\n", None),
        ("FLANNEL_SUBNET=18.16.29.1/24\nFLANNEL_MTU=1450x\n", None),
        ("FLANNEL_SUBNET=18.16.29.1/24\nFLANNEL_NETWORK=x\n", None),
    ],
)
def test_a_subnet_env_that_flannel_did_not_write_is_reported_with_its_path(
    text: str, mtu: int | None
) -> None:
    output = [f"subnet {line}" for line in text.splitlines()]
    if mtu:
        subnet = Flannel().process(output).subnet
        assert subnet
        assert subnet.mtu == mtu
    else:
        with pytest.raises(
            FactProcessError, match=r"^/run/flannel/subnet.env: .* restart flanneld"
        ):
            Flannel().process(output)


def test_all_agree() -> None:
    assert not wrong(compare(LEASES, HOSTS, "18.16.0.0/16"))
    # Up to flannel 0.8 the device has the whole network's length; a bridge without members has
    # the MTU that it was made with.
    old = [host("old", LEASES[0], device="/16", docker_mtu=1500), *HOSTS[1:]]
    assert not wrong(compare(LEASES, old, "18.16.0.0/16"))


def test_containers_that_live_on_may_have_another_mtu() -> None:
    bridge = link("docker0", "18.16.29.1/24", mtu=1450)
    members = {"docker0": bridge, "veth1": link("veth1", mtu=1400, master="docker0")}
    first = replace(HOSTS[0], links={**HOSTS[0].links, **members})
    hosts = [first, *HOSTS[1:]]
    assert wrong(compare(LEASES, hosts, "18.16.0.0/16")) == [(first.host, "MTU of docker0")]
    assert not wrong(compare(LEASES, hosts, "18.16.0.0/16", lasting=True))


def test_every_disagreement_is_named() -> None:
    first = HOSTS[0]
    assert first.subnet is not None
    other = replace(first, subnet=replace(first.subnet, subnet="18.16.31.1/24"))
    assert wrong(compare(LEASES, [other, *HOSTS[1:]], "18.16.0.0/16")) == [
        (first.host, "lease and subnet.env"),
        (first.host, "flannel.1 and subnet.env"),
        (first.host, "docker0 and subnet.env"),
    ]
    links = {
        **first.links,
        "flannel.1": link("flannel.1", "18.16.29.0/32", mac="00:00:00:00:00:01", mtu=1400),
        "veth1": link("veth1", mtu=1500, master="docker0"),
    }
    assert wrong(compare(LEASES[:1], [replace(first, links=links)], "18.16.0.0/16")) == [
        (first.host, "MTU of flannel.1"),
        (first.host, "MAC of flannel.1 and lease"),
        (first.host, "MTU of docker0"),
    ]


def test_leases_and_hosts_without_each_other() -> None:
    findings = compare(LEASES, HOSTS[:2], "18.16.0.0/16")
    assert wrong(findings) == []
    (last,) = (line for line in table(findings).splitlines() if line.startswith("-"))
    assert last.split()[4:] == [
        "?",
        *["18.16.90.0/24", "of", "192.168.122.127:", "no", "such", "host"],
    ]
    assert wrong(compare(LEASES[:2], HOSTS, "18.16.0.0/16")) == [(HOSTS[2].host, "lease and host")]
    bare = replace(HOSTS[0], subnet=None)
    assert (HOSTS[0].host, "subnet.env") in wrong(compare(LEASES, [bare], "18.16.0.0/16"))


@given(st.permutations(LEASES), st.permutations(HOSTS))
def test_order_does_not_matter(leases: list[Lease], hosts: list[HostNetwork]) -> None:
    assert not wrong(compare(leases, hosts, "18.16.0.0/16"))


def test_an_interface_that_no_host_has() -> None:
    links = HOSTS[0].links
    assert not check_iface("fed-node-0", None, links)
    assert not check_iface("fed-node-0", "eth0", links)
    assert not check_iface("fed-node-0", "192.168.122.77", links)
    (problem,) = check_iface("fed-node-0", "eth7", links)
    assert "fed-node-0: flannel_iface = 'eth7'" in str(problem)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (LeaseStates("down"), "does not answer this host"),
        (LeaseStates("unsupported"), "no v2 interface"),
        (LeaseStates("ok"), "has no /coreos.com/network/config"),
    ],
)
def test_an_etcd_that_cannot_be_used_is_said(found: LeaseStates, word: str) -> None:
    with pytest.raises(Exception, match=word):
        _require(found, ["http://fed-master:2379"], "/coreos.com/network", "v2")


def test_flanneld_on_a_blank_host() -> None:
    with fake_host({}) as (_, _, shown):
        (script,) = flanneld._inner(
            endpoints=["http://fed-master:2379"], binary="/opt/flannel/flanneld"
        )
    assert script.summary == (
        "set /etc/sysconfig/flanneld; set /etc/systemd/system/flanneld.service.d/kubernetes.conf, "
        "/etc/systemd/system/flanneld.service"
    )
    text = "\n".join(shown)
    assert '  + FLANNEL_ETCD="http://fed-master:2379"' in text
    assert "ExecStart=/opt/flannel/flanneld -etcd-endpoints=" in text
