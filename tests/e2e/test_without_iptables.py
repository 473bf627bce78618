"""
The scratch path on hosts that have no iptables: nftables alone, beside a table of somebody else.
"""

from __future__ import annotations

import pytest

from tests.e2e.paths import Run, Site, eventually, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

PURGE = "dpkg --purge --force-depends iptables ebtables; ! ls /usr/sbin/*tables* /sbin/*tables*"
NFT = "apt-get -qq update; apt-get -qq install nftables"
OTHERS = """nft 'add table inet others
add chain inet others input { type filter hook input priority 0; policy accept; }
add rule inet others input tcp dport 9 drop'"""
TABLES = "nft list tables | sort"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "cluster", {"packet_filter": "nftables"})


@pytest.fixture(scope="module")
def others(lab: Lab) -> dict[str, list[str]]:
    """What somebody else has in nftables on each host."""
    for name in HOSTS:
        execute(lab, name, f"{PURGE} && {NFT} && {OTHERS}")
    return {name: execute(lab, name, "nft list table inet others") for name in HOSTS}


@pytest.fixture(scope="module")
def dry(others: object, site: Site) -> Run:
    return succeeded(site.run("--dry", "--diff", "--json"))


@pytest.fixture(scope="module")
def built(dry: Run, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def web(built: Run, kubectl: Kubectl) -> dict[str, str]:
    """A web server on each node: pod → address."""
    return kubectl.run_web(NODES)


def _see_pods(kubectl: Kubectl, pods: dict[str, str]) -> None:
    kubectl.see_pods_reach_pods(pods)
    kubectl.see_a_service_lead_to_pods(pods)
    kubectl.see_pods_leave_as_their_nodes()


def test_the_plan_is_the_run(dry: Run, built: Run) -> None:
    assert (dry.planned, dry.conditional) == (built.changed, set())


def test_pods_and_services(web: dict[str, str], kubectl: Kubectl) -> None:
    _see_pods(kubectl, web)


def test_tables_of_others_stay(web: object, lab: Lab, others: dict[str, list[str]]) -> None:
    for name in HOSTS:
        assert execute(lab, name, "nft list table inet others") == others[name]
        assert execute(lab, name, "ls /usr/sbin/*tables* /sbin/*tables* 2>/dev/null || true") == []
    tables = execute(lab, NODES[0], TABLES)
    assert {"table ip kube-masquerade", "table ip kube-proxy"} <= set(tables)


def test_a_second_run_changes_and_restarts_nothing(web: object, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


def test_a_table_that_goes_comes_back(web: object, lab: Lab, site: Site) -> None:
    execute(lab, NODES[0], "nft delete table ip kube-masquerade")
    dry, run = (succeeded(site.run(how, "--json")) for how in ("--dry", "-y"))
    operation = "Pod network | Masquerade packets that leave the cluster"
    assert dry.planned == run.changed == {(operation, NODES[0])}


def test_a_reboot_changes_nothing(web: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    lab.reboot(NODES[0])
    eventually(lambda: kubectl.ready_nodes() == set(HOSTS), 240)
    # The API tells for a while what was before.
    eventually(lambda: _see_pods(kubectl, kubectl.web(len(NODES))) or True, 240)
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_a_node_is_removed(web: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data['remove_nodes'] = [{NODES[1]!r}]\n")
    succeeded(site.run("-y", deploy="remove_node"))
    assert execute(lab, NODES[1], TABLES) == ["table inet others"]
