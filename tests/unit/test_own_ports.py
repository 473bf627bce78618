"""Which ports the components of a host take, and two that take the same."""

from __future__ import annotations

from typing import Any

import pytest

from pyinfra_kube.cluster.components.own_ports import own_ports, shared_ports
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.spec import ClusterSpec

RELEASES = [f"1.{minor}.0" for minor in range(2, 38)]


def spec(version: str, **data: Any) -> ClusterSpec:
    data |= {"kubernetes_version": version}
    groups = {"control_plane": ["kube-master"], "nodes": ["kube-master", "kube-node-1"]}
    return ClusterSpec.from_inventory(groups, dict.fromkeys(groups["nodes"], data))


@pytest.mark.parametrize("version", RELEASES)
def test_no_two_components_take_one_port_by_default(version: str) -> None:
    assert [*shared_ports(spec(version))] == []
    assert 6443 in own_ports(spec(version), "kube-apiserver")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"secure_port": 10259}, "secure_port = 10259; allowed: a port that kube-apiserver or"),
        ({"etcd_client_port": 10250}, "etcd_client_port = 10250; allowed: a port that etcd or kub"),
        ({"kubelet_configuration": {"port": 10257}}, "kubelet_configuration.port = 10257; allowed"),
        ({"kubelet_flags": {"port": 10256}}, "kubelet_flags.port = 10256; allowed: a port that"),
    ],
)
def test_a_port_that_two_share(data: dict[str, Any], said: str) -> None:
    (problem,) = shared_ports(spec("1.37.2", **data))
    assert said in str(problem)
    assert problem.host == "kube-master"


@pytest.mark.parametrize("port", ["abc", True, 0, 65536, "10 250"])
def test_a_port_of_kubelet_that_is_none(port: object) -> None:
    with pytest.raises(InputError, match=r"kubelet_flags.port = .*; allowed: a port from 1 to"):
        spec("1.20.2", kubelet_flags={"port": port})
