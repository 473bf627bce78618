"""
firewalld, with its default zone and without a setting, stays on hosts of a cluster: its rules stay,
and the cluster's packets pass.
"""

from __future__ import annotations

import pytest

from tests.e2e.paths import Run, Site, eventually, execute, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

# A rule of the host's owner, which holds only as long as firewalld is not reloaded.
INSTALL = """\
apt-get -qq update; apt-get -qq install firewalld >/dev/null
systemctl enable --now firewalld
firewall-cmd --quiet --add-port=7777/tcp"""
SAYS = (
    "firewall-cmd --state; firewall-cmd --get-default-zone; firewall-cmd --zone=public --list-ports"
)


@pytest.fixture(scope="module")
def dry(lab: Lab, site: Site) -> Run:
    for name in HOSTS:
        execute(lab, name, INSTALL, timeout=300)
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


def test_its_own_rules_stay(web: object, lab: Lab) -> None:
    assert execute(lab, NODES[0], SAYS) == ["running", "public", "7777/tcp"]
    assert execute(lab, CONTROL_PLANE, SAYS) == ["running", "public", "6443/tcp 7777/tcp"]


def test_a_second_run_changes_nothing(web: object, site: Site) -> None:
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_a_reboot_changes_nothing(web: object, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    lab.reboot(NODES[0])
    eventually(lambda: kubectl.ready_nodes() == set(HOSTS), 240)
    # The API tells for a while what was before.
    eventually(lambda: _see_pods(kubectl, kubectl.web(len(NODES))) or True, 240)
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_what_a_reload_drops_comes_back(
    web: object, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    execute(lab, NODES[0], "firewall-cmd --quiet --reload")
    assert {host for _, host in succeeded(site.run("-y", "--json")).changed} == {NODES[0]}
    _see_pods(kubectl, kubectl.web(len(NODES)))


def _trusted(lab: Lab, name: str) -> set[str]:
    (line,) = execute(lab, name, "firewall-cmd --permanent --zone=trusted --list-sources")
    return {*line.split()}


def test_who_leaves_is_trusted_no_more(web: object, lab: Lab, site: Site) -> None:
    execute(
        lab, NODES[0], "firewall-cmd --quiet --permanent --zone=trusted --add-source=198.51.100.7"
    )
    before = _trusted(lab, NODES[0])
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data['remove_nodes'] = [{NODES[1]!r}]\n")
    succeeded(site.run("-y", deploy="remove_node"))
    assert _trusted(lab, NODES[1]) == set()
    assert len(before - _trusted(lab, NODES[0])) == 1


def test_it_is_closed_again(web: object, lab: Lab, site: Site) -> None:
    with site.inventory.open("a") as inventory:
        closed = {"open_firewalld": False, "remove_nodes": [], "verify_timeout": 15}
        inventory.write(f"_data |= {closed!r}\n")
        inventory.write(f"nodes[0][:] = [one for one in nodes[0] if one[0] != {NODES[1]!r}]\n")
    # It runs on, so packets of the cluster stay outside.
    run = site.run("-y")
    assert run.code
    assert "set open_firewalld = True, or stop firewalld where nobody needs it" in run.said
    assert _trusted(lab, NODES[0]) == {"198.51.100.7"}
