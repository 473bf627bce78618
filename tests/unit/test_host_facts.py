"""What a deploy sees of a host before it plans."""

from __future__ import annotations

import base64
import json
from itertools import product
from typing import Any

import pytest
from pyinfra.api.exceptions import FactError

from pyinfra_kube.cluster.fitness.checks import MODULES
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.host_facts import DAMAGED, HostFacts, gather
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.routes import Route
from tests.unit import harness

DATA = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.0.2.10"}
SPEC = ClusterSpec.from_inventory(
    {"control_plane": ["m1"], "nodes": ["n1"]}, {"m1": DATA, "n1": DATA}
)
TITLE = b"Filename Type Size Used Priority\n"


def seen(facts: dict[str, Any], spec: ClusterSpec = SPEC) -> HostFacts:
    with harness.fake_host(facts):
        return gather(spec, "/srv/kubernetes/ca.crt")


def test_a_blank_host() -> None:
    found = seen({})
    assert (found.addresses, found.pod_cidr, found.ca_fingerprint) == ([], "", "")
    assert found.settings == {
        "cni_bin_dir": "/opt/cni/bin",
        "conntrack_per_core": None,
        "docker_root": "/var/lib/docker",
        "fail_cgroup_v1": False,
        "fail_swap_on": None,
        "proxy_mode": "iptables",
        "resolv_conf": None,
        "swap_behavior": None,
    }


def test_a_damaged_ca_is_no_other_one() -> None:
    text = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB").decode()
    lines = ["file /srv/kubernetes/ca.crt", text]
    assert seen({"certificates.Certificates": lines}).ca_fingerprint == DAMAGED


def test_kubelet_follows_a_docker_that_somebody_configured() -> None:
    text = '{"data-root": "/data/docker", "exec-opts": ["native.cgroupdriver=systemd"]}'
    lines = [f"file {base64.b64encode(text.encode()).decode()} /etc/docker/daemon.json"]
    settings = seen({"docker.Docker": lines}).settings
    assert (settings["docker_root"], settings["cgroup_driver"]) == ("/data/docker", "systemd")
    later = SPEC.model_copy(update={"kubernetes_version": "1.37.2"})
    assert "cgroup_driver" not in seen({"docker.Docker": lines}, later).settings
    running = [
        *lines,
        "running",
        "info Server Version: 20.10.24",
        "info Docker Root Dir: /data/docker/1000.1000",
    ]
    assert seen({"docker.Docker": running}).settings["docker_root"] == "/data/docker/1000.1000"


@pytest.mark.parametrize(("more", "flag"), [(b"", None), (b"/dev/sda2 partition 9 0 -2\n", False)])
def test_swap(more: bytes, flag: bool | None) -> None:
    found = seen({"files.FileContents": {"/proc/swaps": TITLE + more}})
    assert found.settings["fail_swap_on"] is flag


@pytest.mark.parametrize(("lines", "limit"), [([], None), (["conntrack-fixed"], 0)])
def test_a_limit_of_connections_that_only_the_machine_sets(
    lines: list[str], limit: int | None
) -> None:
    found = seen({"fitness.Fitness": [*lines, "end"]})
    assert found.settings["conntrack_per_core"] == limit


V2 = FileState("file", "444", "root", "root", 0, 0.0)


@pytest.mark.parametrize(("wanted", "v2", "used"), list(product([False, True], repeat=3)))
def test_swap_of_pods(wanted: bool, v2: bool, used: bool) -> None:
    swaps = TITLE + (b"/dev/sda2 partition 9 0 -2\n" if used else b"")
    there = {"/sys/fs/cgroup/cgroup.controllers": V2} if v2 else {}
    facts = {"files.FileContents": {"/proc/swaps": swaps}, "files.Files": there}
    found = seen(facts, SPEC.model_copy(update={"node_swap": wanted}))
    assert found.settings["swap_behavior"] == ("LimitedSwap" if wanted and v2 and used else None)


def test_kube_proxy_gets_a_mode_that_the_kernel_carries() -> None:
    modules = {name: "builtin" for names in MODULES.values() for name in names}
    facts = {
        "files.FileContents": {"/proc/sys/kernel/osrelease": b"6.1.0-9-amd64\n"},
        "files.Files": {"/usr/sbin/nft": V2},
        "sysctl.Modules": modules,
    }
    spec = SPEC.model_copy(update={"kubernetes_version": "1.37.2"})
    assert seen(facts, spec).settings["proxy_mode"] == "nftables"
    facts["sysctl.Modules"] = modules | {"nft_numgen": "missing"}
    assert seen(facts, spec).settings["proxy_mode"] == "iptables"


def test_a_host_whose_system_has_no_iptables_tells_what_it_is() -> None:
    facts = {"packages.Packages": ["system\trocky\t10.1", "manager\tdnf"]}
    assert seen(facts, SPEC.model_copy(update={"kubernetes_version": "1.37.2"})).system == "rocky"


LINKS = [
    ("lo", "", None, ["127.0.0.1/8", "198.51.100.9/32"]),
    ("br-mgmt", "bridge", None, ["192.0.2.11/24"]),
    ("eth0", "", "br-mgmt", []),
    ("eth1", "veth", None, ["192.0.2.12/24"]),
    ("bond0", "bond", None, ["192.0.2.13/24"]),
    ("docker-mgmt", "vlan", None, ["192.0.2.14/24"]),
    ("veth-up", "macvlan", None, ["192.0.2.15/24"]),
    ("cni0", "wireguard", None, ["192.0.2.16/24"]),
    ("flannel.lan", "team", None, ["192.0.2.17/24"]),
    ("cbr0", "bridge", None, ["10.10.1.1/24"]),
    ("d9", "bridge", None, ["172.17.0.1/16"]),
    ("flannel.1", "vxlan", None, ["10.10.1.0/32"]),
    ("flannel0", "tun", None, ["10.10.2.0/16"]),
    ("veth1a", "veth", "cbr0", ["10.10.1.9/32"]),
    ("kube-ipvs0", "dummy", None, ["10.0.0.1/32"]),
    ("cilium_host", "veth", None, ["10.10.3.1/32"]),
    ("lxc1a2b", "veth", None, ["10.10.3.2/32"]),
    ("cali1a2b", "veth", None, ["10.10.3.3/32"]),
    ("vxlan.calico", "vxlan", None, ["10.10.3.4/32"]),
    ("tunl0", "ipip", None, ["10.10.3.5/32"]),
    ("wireguard.cali", "wireguard", None, ["10.10.3.6/32"]),
    ("kube-bridge", "bridge", None, ["10.10.3.7/24"]),
]


def test_links_are_told_apart_by_what_they_are() -> None:
    links = {
        name: Link(name, kind, 1500, "", tuple(addresses), True, master)
        for name, kind, master, addresses in LINKS
    }
    networks = [
        {
            "Name": "bridge",
            "Driver": "bridge",
            "Options": {"com.docker.network.bridge.name": "d9"},
            "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]},
        }
    ]
    routes = [
        Route("0.0.0.0/0", via="192.0.2.1", dev=dev, metric=m)
        for dev, m in (("eth1", 100), ("bond0", 20))
    ]
    found = seen(
        {
            "bridge.Links": links,
            "docker.DockerNetworks": [json.dumps(networks)],
            "routes.Routes": routes,
        }
    )
    assert found.addresses == ["198.51.100.9", *(f"192.0.2.{n}" for n in range(11, 18))]
    assert found.own["198.51.100.9/32"] == "lo"
    assert found.address == "192.0.2.13"


@pytest.mark.parametrize(("uid", "root"), [(b"1000", False), (b"0", True)])
def test_who_is_not_root_is_told_so(uid: bytes, root: bool) -> None:
    status = b"Name:\tsh\nUid:\t" + b"\t".join([uid] * 4) + b"\nGid:\t0\t0\t0\t0\n"
    facts = {"files.FileContents": {"/proc/self/status": status}}
    if root:
        seen(facts)
    else:
        with pytest.raises(FactError, match="as user 1000, not as root; set _sudo = True"):
            seen(facts)
