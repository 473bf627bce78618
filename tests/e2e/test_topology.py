"""
The way of a packet on real hosts: what the deploy says of it is what becomes of the packet.

One cluster for all, with each kind of network and kube-proxy in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.paths import Site, eventually, execute, state, succeeded
from tests.e2e.pods import PORT, Kubectl
from tests.lab import Lab, go_build
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"
CONTROL_PLANE, NODE, OTHER = HOSTS

_SERVICES = [
    {"metadata": {"name": "none"}, "spec": {"selector": {"app": "none"}}},
    {"metadata": {"name": "door"}, "spec": {"type": "NodePort", "selector": {"app": "web"}}},
]


@pytest.fixture(scope="module")
def web(lab: Lab, site: Site, kubectl: Kubectl) -> dict[str, str]:
    """Pod → address, of one on each node; node's pod first."""
    succeeded(site.run("-y"))
    pods = kubectl.run_web([NODE, OTHER])
    for service in _SERVICES:
        port = {"port": 80, "targetPort": PORT}
        port |= {"nodePort": 30080} if "type" in service["spec"] else {}
        whole = {"apiVersion": "v1", "kind": "Service", **service}
        whole["spec"] = {**service["spec"], "ports": [port]}
        kubectl("apply --filename=-", json.dumps(whole))
    return dict(sorted(pods.items(), key=lambda pod: OTHER in pod[0]))


def said(site: Site, start: str, to: str) -> str:
    """What the deploy says of a packet."""
    run = succeeded(
        site.run(
            *("--dry", "--data", f"packet_from=default/{start}", "--data", f"packet_to={to}"),
            deploy="topology",
        )
    )
    assert " → " in run.said
    return run.said[run.said.index(f"default/{start} ") :]


def arrives(kubectl: Kubectl, pod: str, url: str) -> bool:
    try:
        return bool(kubectl.fetch(pod, url))
    except AssertionError:
        return False


def see_all_arrive(site: Site, kubectl: Kubectl, web: dict[str, str], lab: Lab) -> str:
    """Packets to a pod, a service and a node port arrive, as is said; return what is said."""
    pod, other = web
    service = kubectl.get("service web")["spec"]["clusterIP"]
    node = lab.hosts[OTHER].ip
    urls = {
        f"default/{other}": f"{web[other]}:{PORT}",
        "default/web": service,
        f"{node}:30080": f"{node}:30080",
    }
    texts = ""
    for to, url in urls.items():
        eventually(lambda url=url: arrives(kubectl, pod, f"http://{url}/"))
        # kube-proxy and flannel hear of pods by themselves.
        texts += eventually(lambda to=to: _whole(said(site, pod, to)))
    return texts


def _whole(text: str) -> str:
    return "" if "MISSING" in text else text


# What is broken on which host: how, how it is mended, what is said of a packet to the other pod.
FAULTS = {
    "a route": (NODE, "ip route del {other}.0/24", "", "no route to the pods of"),
    "a route back": (OTHER, "ip route del {own}.0/24", "", "back: no route to the pods of"),
    "a rule": (
        OTHER,
        "iptables -I FORWARD -s {own}.0/24 -j DROP",
        "iptables -D FORWARD -s {own}.0/24 -j DROP",
        "dropped by FORWARD, table filter",
    ),
    "a rule of nftables": (
        NODE,
        "nft 'add table inet foreign; add chain inet foreign f "
        "{{ type filter hook forward priority 0; policy drop; }}'",
        "nft delete table inet foreign",
        "dropped by f, table inet foreign",
    ),
    "forwarding": (
        OTHER,
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.ip_forward=1",
        "net.ipv4.ip_forward is 0",
    ),
}


@contextmanager
def broken(lab: Lab, fault: str, own: str, other: str) -> Iterator[None]:
    host, breaks, mends, _ = FAULTS[fault]
    names = {"own": own.rpartition(".")[0], "other": other.rpartition(".")[0]}
    before = execute(lab, host, "ip -4 route show root 10.10.0.0/16")
    execute(lab, host, breaks.format(**names))
    try:
        yield
    finally:
        execute(lab, host, mends.format(**names) or "true")
        for route in before:
            execute(lab, host, f"ip route replace {route}")


def _settled(lab: Lab) -> set[tuple[str, str]]:
    """The state of hosts, without the folders that a running cluster writes in."""
    return {
        (name, line)
        for name, lines in state(lab).items()
        for line in lines
        if not line.startswith("file /var/lib/")
    }


def test_it_changes_no_host(site: Site, lab: Lab, web: dict[str, str]) -> None:
    before = _settled(lab)
    run = succeeded(site.run("-y", "--json", deploy="topology"))
    assert run.changed == {("Draw the picture on the control machine", CONTROL_PLANE)}
    assert "MISSING" not in run.said
    assert succeeded(site.run("-y", "--json", deploy="topology")).changed == set()
    assert _settled(lab) == before
    assert all(name in next(site.folder.glob("*-topology.svg")).read_text() for name in HOSTS)


def test_packets_arrive(site: Site, kubectl: Kubectl, web: dict[str, str], lab: Lab) -> None:
    text = see_all_arrive(site, kubectl, web, lab)
    assert f"kube-proxy leads it to {web[list(web)[1]]}:{PORT}, one of 2" in text
    assert ". tcp . 80 : goto service-" in text


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(
    site: Site, kubectl: Kubectl, web: dict[str, str], lab: Lab, fault: str
) -> None:
    pod, other = web
    url = f"http://{web[other]}:{PORT}/"
    with broken(lab, fault, web[pod], web[other]):
        text = said(site, pod, f"default/{other}:{PORT}")
        assert f"{FAULTS[fault][0]}  MISSING: {FAULTS[fault][3]}" in text
        assert not arrives(kubectl, pod, url)
    assert "MISSING" not in said(site, pod, f"default/{other}:{PORT}")
    assert arrives(kubectl, pod, url)


def test_a_service_without_endpoints(site: Site, web: dict[str, str]) -> None:
    text = said(site, next(iter(web)), "default/none")
    assert "MISSING: no endpoint: no pod is ready" in text
    assert 'comment "default/none" : goto reject-chain' in text


def test_what_is_not_there_is_refused(site: Site, web: dict[str, str]) -> None:
    start = f"packet_from=default/{next(iter(web))}"
    run = site.run("-y", "--data", start, "--data", "packet_to=default/nobody", deploy="topology")
    assert run.code
    assert "packet_to = 'default/nobody'" in run.said


def test_iptables(site: Site, kubectl: Kubectl, web: dict[str, str], lab: Lab) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write("_data['proxy_mode'] = 'iptables'\n")
    succeeded(site.run("-y"))
    assert "-A KUBE-SERVICES -d " in see_all_arrive(site, kubectl, web, lab)
    assert "-A KUBE-SERVICES -d " in said(site, next(iter(web)), "default/none")


@pytest.mark.parametrize("backend", ["vxlan", "host-gw"])
def test_flannel(site: Site, kubectl: Kubectl, web: dict[str, str], lab: Lab, backend: str) -> None:
    chosen = {"network": "flannel", "flannel_source": str(go_build.built("flannel"))}
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data.update({chosen!r}, flannel_backend={backend!r})\n")
    succeeded(site.run("-y"))
    dev = "flannel.1" if backend == "vxlan" else "eth0"
    assert f"goes to {OTHER} by {dev}" in see_all_arrive(site, kubectl, web, lab)
