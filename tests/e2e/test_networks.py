"""
The scratch path's networks on today's release: flannel, another backend of it, routes in its place,
none, and kube-proxy's modes; a node that leaves and comes back.

One cluster for all: each test is a step of its life, made from the one before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.paths import Run, Site, each, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, go_build
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"
CONTROL_PLANE, *NODES = HOSTS
GONE = NODES[-1]


@pytest.fixture(scope="module")
def flannel() -> dict[str, Any]:
    return {"network": "flannel", "flannel_source": str(go_build.built("flannel"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the cluster's credentials, whose inventory changes."""
    return tmp_path_factory.mktemp("credentials")


def site(tmp_path: Path, folder: Path, **settings: Any) -> Site:
    return Site(tmp_path / "site", {"credentials_dir": str(folder), **settings})


def converge(site: Site, lab: Lab) -> Run:
    """A run does what its plan says, and the next one nothing."""
    dry = succeeded(site.run("--dry", "--json"))
    run = succeeded(site.run("-y", "--json"))
    assert (run.changed, dry.conditional) == (dry.planned, set())
    before = {name: starts(lab, name) for name in lab.hosts}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in lab.hosts} == before
    return run


def routes(lab: Lab, host: str) -> list[str]:
    return execute(lab, host, "ip -4 route show root 10.10.0.0/16")


def test_flannel_from_blank(
    lab: Lab, kubectl: Kubectl, flannel: dict[str, Any], tmp_path: Path, folder: Path
) -> None:
    converge(site(tmp_path, folder, **flannel), lab)
    assert kubectl.ready_nodes() == set(HOSTS)
    pods = kubectl.run_web(NODES)
    kubectl.see_pods_reach_pods(pods)
    kubectl.see_a_service_lead_to_pods(pods)
    kubectl.see_pods_leave_as_their_nodes()
    assert sum("dev flannel.1" in line for line in routes(lab, NODES[0])) == 2
    # Nothing of a pod is longer than what the overlay carries.
    (pod, _) = next(iter(pods.items()))
    assert "mtu 1450" in kubectl(f"exec {pod} -- ip link show eth0")


def test_another_backend(
    lab: Lab, kubectl: Kubectl, flannel: dict[str, Any], tmp_path: Path, folder: Path
) -> None:
    run = converge(site(tmp_path, folder, **flannel, flannel_backend="host-gw"), lab)
    assert {("flannel | Run flanneld", name) for name in HOSTS} <= run.changed
    kubectl.see_pods_reach_pods(kubectl.web(len(NODES)))
    for name in HOSTS:
        assert execute(lab, name, "ip -o link | grep flannel || true") == []


def test_a_node_leaves_and_comes_back(
    lab: Lab, kubectl: Kubectl, flannel: dict[str, Any], tmp_path: Path, folder: Path
) -> None:
    leaving = site(tmp_path, folder, **flannel, flannel_backend="host-gw", remove_nodes=[GONE])
    dry = succeeded(leaving.run("--dry", "--json", deploy="remove_node"))
    run = succeeded(leaving.run("-y", "--json", deploy="remove_node"))
    assert (run.changed, dry.conditional) == (dry.planned, set())
    assert succeeded(leaving.run("-y", "--json", deploy="remove_node")).changed == set()
    assert kubectl.ready_nodes() == set(HOSTS) - {GONE}
    left = execute(
        lab,
        GONE,
        "crictl pods -q; ls /etc/cni/net.d /etc/kube-flannel /var/lib/kube-proxy /run/flannel; "
        "ip -o link | grep -E 'cbr0|flannel'; iptables-save | grep -E 'FLANNEL|KUBE-(SVC|SERV)'; "
        "nft list tables | grep kube-proxy; ls /var/lib/kubelet/pki /usr/local/bin/flanneld; "
        "ip route show root 10.10.0.0/16; true",
    )
    assert [line for line in left if line and not line.endswith(":")] == []
    (containerd,) = execute(lab, GONE, "systemctl is-active containerd")
    assert containerd == "active"
    # The others' flanneld forget it.
    eventually(lambda: len(routes(lab, NODES[0])) == 2)

    converge(site(tmp_path / "back", folder, **flannel, flannel_backend="host-gw"), lab)
    kubectl.see_pods_reach_pods(kubectl.web(len(NODES)))


def test_kube_proxy_with_iptables(
    lab: Lab, kubectl: Kubectl, flannel: dict[str, Any], tmp_path: Path, folder: Path
) -> None:
    settings = {**flannel, "flannel_backend": "host-gw"}
    converge(site(tmp_path, folder, **settings, proxy_mode="iptables"), lab)
    rules = "iptables-save | grep -c KUBE-SVC || true"
    assert execute(lab, NODES[0], rules) != ["0"]
    kubectl.see_a_service_lead_to_pods(kubectl.web(len(NODES)))

    run = converge(site(tmp_path / "nftables", folder, **settings), lab)
    assert {operation for operation, _ in run.changed} == {
        "kube-proxy | Set what kube-proxy reads",
        "kube-proxy | Run kube-proxy",
    }
    assert execute(lab, NODES[0], rules) == ["0"]
    kubectl.see_a_service_lead_to_pods(kubectl.web(len(NODES)))


def test_routes_in_flannels_place(lab: Lab, kubectl: Kubectl, tmp_path: Path, folder: Path) -> None:
    converge(site(tmp_path, folder), lab)
    assert all("proto 76" in line or "cbr0" in line for line in routes(lab, NODES[0]))
    assert execute(lab, NODES[0], "ls -A /etc/kube-flannel /run/flannel | grep -v :; true") == [""]
    kubectl.see_pods_reach_pods(kubectl.web(len(NODES)))


_OWN = {
    "type": "bridge",
    "bridge": "mine0",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.20.0.0/24"}]]},
}


def test_no_network_and_no_kube_proxy(
    lab: Lab, kubectl: Kubectl, tmp_path: Path, folder: Path
) -> None:
    own = site(tmp_path, folder, network="none", proxy_mode="none")
    run = converge(own, lab)
    for setting in ("network", "proxy_mode"):
        assert f"{setting} = 'none': install " in run.said
    assert kubectl.ready_nodes() == set()
    units = "kube-bridge-cbr0 kube-forward kube-masquerade kube-routes kube-proxy flanneld"
    for name in HOSTS:
        left = "ls /etc/cni/net.d; ip -o link show cbr0; nft list tables | grep kube-proxy"
        files = f"for one in {units}; do ls /etc/systemd/system/$one.service; done"
        assert execute(lab, name, f"{left}; {files}; true") == []

    text = json.dumps({"cniVersion": "1.0.0", "name": "own", "plugins": [_OWN]})
    device = "ip link add cilium_host address 02:00:00:00:00:01 type veth peer name cilium_net"
    each(
        lambda name: execute(
            lab,
            name,
            f"printf %s '{text}' >/etc/cni/net.d/20-own.conflist; {device}; "
            "ip address add 10.20.0.9/32 dev cilium_host; ip link set cilium_host up",
        ),
        HOSTS,
    )
    eventually(lambda: kubectl.ready_nodes() == set(HOSTS))
    assert succeeded(own.run("-y", "--json")).changed == set()
