"""Which distribution ships what."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.packages import _data, find, packages_for


@pytest.mark.parametrize(
    ("parts", "release", "version", "names"),
    [
        (["control-plane", "etcd"], "24", "1.2.0", "kubernetes-master kubernetes-client etcd"),
        (["node", "flannel", "docker"], "24", "1.2.0", "kubernetes-node flannel docker"),
        (["node", "flannel", "docker"], "34", "1.20.2", "kubernetes-node flannel moby-engine"),
        (["node"], "40", "1.29.4", "kubernetes kubernetes-systemd"),
        (
            ["control-plane", "node", "containerd"],
            "42",
            "1.33.6",
            "kubernetes1.33-systemd kubernetes1.33-client kubernetes1.33 containerd",
        ),
    ],
)
def test_fedora(parts: list[str], release: str, version: str, names: str) -> None:
    assert packages_for(parts, "fedora", release, version) == names.split()


@pytest.mark.parametrize(
    ("release", "names"), [("12", "docker.io"), ("13", "docker.io docker-cli")]
)
def test_docker_is_more_than_its_daemon(release: str, names: str) -> None:
    assert packages_for(["docker"], "debian", release, "1.20.2") == names.split()


def test_every_missing_part_is_said_with_the_choices_left() -> None:
    with pytest.raises(InputError) as error:
        packages_for(["flannel", "etcd", "control-plane"], "fedora", "42", "1.33.6")
    (problem,) = error.value.problems
    assert problem.key == "flannel_source"
    assert "fedora 42 ships no package of it; the last that did is 34" in str(problem)
    with pytest.raises(InputError) as error:
        packages_for(["cri-o", "node"], "debian", "13", "1.33.6")
    assert len(error.value.problems) == 2
    with pytest.raises(InputError, match=r"^install_packages = True; .*: what packages arch has"):
        packages_for(["docker", "node"], "arch", "", "1.33.6")
    with pytest.raises(InputError) as error:
        packages_for(["control-plane", "node"], "fedora", "42", "1.20.2")
    (problem,) = error.value.problems
    assert str(problem).startswith("kubernetes_version = '1.20.2'; allowed: 1.29 or later: what f")
    with pytest.raises(InputError, match=r"rpm_files = \['a.rpm'\].*fix: use the scratch path"):
        packages_for(["node"], "debian", "12", "1.33.6", ["a.rpm"])


def test_what_files_bring_is_not_asked_for() -> None:
    files = ["https://rpms.example.com/flannel-0.9.0-8.fc33.x86_64.rpm?raw=1", "other.txt"]
    assert packages_for(["flannel", "etcd"], "fedora", "42", "1.20.2", files) == ["etcd"]
    files = ["rpms/kubernetes-node-1.20.2-1.fc34.x86_64.rpm"]
    assert packages_for(["node", "etcd"], "fedora", "42", "1.20.2", files) == ["etcd"]
    with pytest.raises(InputError):
        packages_for(["control-plane"], "fedora", "42", "1.20.2", files)


@given(st.sampled_from(sorted(_data())), st.integers(1, 99).map(str), st.data())
def test_every_answer_is_names_of_packages(system: str, release: str, data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(sorted(_data()[system])), unique=True))
    shipped = [part for part in parts if find(_data()[system][part], release)]
    names = packages_for(shipped, system, release, "1.33.6")
    assert len(names) == len(set(names))
    assert bool(names) == bool(shipped)
    assert not any("{" in name for name in names)


@pytest.mark.parametrize(
    ("system", "release", "parts", "names"),
    [
        ("ubuntu", "22.04", ["containerd", "cni"], "containerd containernetworking-plugins"),
        ("ubuntu", "26.04", ["network-tools-nft"], "nftables conntrack socat curl ethtool"),
        (
            "rocky",
            "9.6",
            ["runc", "selinux"],
            "runc container-selinux policycoreutils-python-utils",
        ),
        ("rhel", "8.10", ["network-tools"], "iptables nftables conntrack-tools socat ethtool"),
        ("almalinux", "10.0", ["network-tools-nft"], "nftables conntrack-tools socat ethtool"),
        ("centos", "9", ["ipset"], "ipset"),
    ],
)
def test_other_systems(system: str, release: str, parts: list[str], names: str) -> None:
    assert packages_for(parts, system, release, "1.37.2") == names.split()


@pytest.mark.parametrize(
    ("system", "release", "part", "said"),
    [
        (
            "rocky",
            "9.6",
            "containerd",
            "runtime_source is not set; allowed: where containerd comes from",
        ),
        ("rhel", "10.1", "runc", "the last that did is 9; fix: give a folder or URL with"),
        (
            "almalinux",
            "10.0",
            "network-tools",
            'packet_filter is not set; .*; fix: set it to "nftab',
        ),
        ("ubuntu", "24.04", "node", "rpm_files is not set; allowed: where node comes from"),
    ],
)
def test_what_other_systems_lack(system: str, release: str, part: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        packages_for([part], system, release, "1.37.2")
    assert re.search(said, str(error.value.problems[0]))
