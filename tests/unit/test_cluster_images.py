"""The name of each image, and how a part is started in it."""

from __future__ import annotations

import pytest

from pyinfra_kube.cluster.images import Image, image, image_of
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec

OLD, NEW = "gcr.io/google_containers", "k8s.gcr.io"
NEWEST = "registry.k8s.io"


@pytest.mark.parametrize(
    ("version", "part", "hyperkube", "expected"),
    [
        ("v1.3.10", "kube-apiserver", False, (f"{OLD}/kube-apiserver:v1.3.10", "kube-apiserver")),
        ("1.3.10", "kube-apiserver", True, (f"{OLD}/hyperkube:v1.3.10", "hyperkube")),
        ("1.3.10", "etcd", True, (f"{OLD}/etcd:2.2.5", "etcd")),
        ("1.3.10", "pause", True, (f"{OLD}/pause-amd64:3.0", "pause")),
        ("1.20.2", "kube-apiserver", False, (f"{NEW}/kube-apiserver:v1.20.2", "kube-apiserver")),
        ("1.20.2", "kube-apiserver", True, (f"{NEW}/kube-apiserver:v1.20.2", "kube-apiserver")),
        ("1.20.2", "etcd", False, (f"{NEW}/etcd:3.4.13-0", "etcd")),
        ("1.20.2", "pause", False, (f"{NEW}/pause:3.2", "pause")),
        ("1.37.2", "coredns", False, (f"{NEWEST}/coredns/coredns:v1.14.6", "coredns")),
    ],
)
def test_names(version: str, part: str, hyperkube: bool, expected: tuple[str, str]) -> None:
    assert image(part, Release.of(version), hyperkube=hyperkube)[:2] == expected


@pytest.mark.parametrize(
    ("version", "part", "hyperkube", "command"),
    [
        ("1.3.10", "kube-apiserver", True, ["/hyperkube", "apiserver"]),
        ("1.3.10", "kubelet", True, ["/hyperkube", "kubelet"]),
        ("1.10.0", "kube-apiserver", True, ["/hyperkube", "kube-apiserver"]),
        ("1.3.10", "etcd", True, ["/usr/local/bin/etcd"]),
        ("1.20.2", "kube-apiserver", True, ["/usr/local/bin/kube-apiserver"]),
        ("1.20.2", "kube-apiserver", False, ["/usr/local/bin/kube-apiserver"]),
    ],
)
def test_commands(version: str, part: str, hyperkube: bool, command: list[str]) -> None:
    assert image(part, Release.of(version), hyperkube=hyperkube).command == command


def test_what_the_inventory_chooses() -> None:
    data = {
        "kubernetes_version": "1.3.10",
        "control_plane_endpoint": "192.0.2.10",
        "hyperkube": True,
        "etcd_version": "3.4.23",
    }
    spec = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["m"]}, {"m": data})
    assert image_of("etcd", spec).name == f"{OLD}/etcd:3.4.23"
    assert image_of("kube-proxy", spec) == Image(
        f"{OLD}/hyperkube:v1.3.10", "hyperkube", ["/hyperkube", "proxy"]
    )
