"""A running cluster goes from iptables to nftables and back; a rule of somebody else stays."""

from __future__ import annotations

import pytest

from tests.e2e.paths import Run, Site, execute, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

OTHERS = "iptables -A FORWARD -s 192.0.2.0/24 -m comment --comment others -j ACCEPT"
OURS = "iptables-save | grep -oE 'kube-(masquerade|forward)' | sort -u; true"
TABLE = "nft list tables | grep -o 'ip kube-masquerade$'; true"


@pytest.fixture(scope="module")
def web(lab: Lab, site: Site, kubectl: Kubectl) -> dict[str, str]:
    """A web server on each node of a cluster with iptables: pod → address."""
    succeeded(site.run("-y"))
    for name in HOSTS:
        execute(lab, name, OTHERS)
    return kubectl.run_web(NODES)


def _go_to(site: Site, packet_filter: str) -> Run:
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data['packet_filter'] = {packet_filter!r}\n")
    dry, run = (succeeded(site.run(how, "--json")) for how in ("--dry", "-y"))
    assert (dry.planned, dry.conditional) == (run.changed, set())
    assert succeeded(site.run("-y", "--json")).changed == set()
    return run


@pytest.mark.parametrize("packet_filter", ["nftables", "iptables"])
def test_it_goes_to_another(
    web: dict[str, str], lab: Lab, site: Site, kubectl: Kubectl, packet_filter: str
) -> None:
    assert _go_to(site, packet_filter).changed
    for name in NODES:
        on_iptables = packet_filter == "iptables"
        assert execute(lab, name, OURS) == (["kube-forward", "kube-masquerade"] * on_iptables)
        assert execute(lab, name, TABLE) == (["ip kube-masquerade"] * (not on_iptables))
        assert execute(lab, name, "iptables-save | grep -c others") == ["1"]
    kubectl.see_pods_reach_pods(web)
    kubectl.see_a_service_lead_to_pods(web)
    kubectl.see_pods_leave_as_their_nodes()


def test_verification_finds_nothing_wrong(web: object, site: Site) -> None:
    succeeded(site.run("-y", deploy="verify"))
