"""What must hold on a host before the packets of pods are sent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases import verification
from pyinfra_kube.deploys.phases.verification import way_checks

HOSTS = {"m": "192.0.2.1", "n": "192.0.2.11", "o": "192.0.2.12"}
TODAY = {"kubernetes_version": "1.37.2", "flannel_source": "/flanneld"}


def _cluster(**data: Any) -> Any:
    hosts = {name: {**TODAY, **data, "ssh_hostname": HOSTS[name]} for name in HOSTS}
    spec = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n", "o"]}, hosts)
    roles = spec.host("n").roles
    return SimpleNamespace(
        spec=spec,
        plan=make_plan(spec),
        host_spec=spec.host("n"),
        active=set(HOSTS),
        is_a=lambda role: role in roles,
        units=["kubelet", *(["kube-proxy"] if spec.proxy_mode != "none" else [])],
    )


def _names(**data: Any) -> list[str]:
    return [check.name for check in way_checks(_cluster(**data))]


def test_what_is_waited_for() -> None:
    service = "the API's service answers at 10.0.0.1:443"
    assert _names() == [service]
    assert _names(proxy_mode="none") == []
    assert _names(network="flannel") == [
        service,
        "flanneld answers at http://127.0.0.1:8471/healthz",
        "flannel has a route to the pods of m at 10.10.0.0/24",
        "flannel has a route to the pods of o at 10.10.2.0/24",
    ]


VXLAN = "10.10.2.0/24 via 10.10.2.0 dev flannel.1 onlink"
HOST_GW = "10.10.2.0/24 via 192.0.2.12 dev eth0"


@pytest.mark.parametrize(
    ("backend", "route", "holds"),
    [
        ("vxlan", VXLAN, True),
        ("vxlan", VXLAN.replace("flannel.1", "flannel.11"), False),
        ("vxlan", HOST_GW, False),
        ("vxlan", "", False),
        ("host-gw", HOST_GW, True),
        ("host-gw", HOST_GW.replace("192.0.2.12", "192.0.2.120"), False),
        ("host-gw", VXLAN, False),
    ],
)
def test_a_route_of_flannels(backend: str, route: str, holds: bool, tmp_path: Path) -> None:
    (tmp_path / "ip").write_text(f"#!/bin/sh\necho '{route}'\n")
    (tmp_path / "ip").chmod(0o755)
    check = way_checks(_cluster(network="flannel", flannel_backend=backend))[-1]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", check.command], env={"PATH": path}, check=False)
    assert (done.returncode == 0) is holds
    assert check.hint == "on o: systemctl restart flanneld.service"


def test_what_the_owner_has_to_bring() -> None:
    lines = verification._missing(_cluster(network="none", proxy_mode="none"))
    assert [line.partition(":")[0] for line in lines] == [
        "network = 'none'",
        "proxy_mode = 'none'",
    ]
    assert verification._missing(_cluster()) == []
