"""NetworkManager takes routes away that it did not set: those of pods come back at once."""

from __future__ import annotations

import pytest

from tests.e2e.paths import Run, Site, eventually, execute, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

# As Fedora and RHEL have it: nothing else looks after the link.
INSTALL = """\
set -e
apt-get -qq update; apt-get -qq install network-manager >/dev/null
address=$(ip -4 -o address show eth0 | awk '{ print $4 }')
gateway=$(ip route show default | awk '{ print $3 }')
rm /etc/network/interfaces.d/*
printf '[main]\\nplugins=keyfile\\n' > /etc/NetworkManager/NetworkManager.conf
rm -f /usr/lib/NetworkManager/conf.d/10-globally-managed-devices.conf
file=/etc/NetworkManager/system-connections/eth0.nmconnection
(umask 077; cat > $file) <<END
[connection]
id=eth0
type=ethernet
interface-name=eth0
[ipv4]
method=manual
address1=$address,$gateway
[ipv6]
method=ignore
END
systemctl restart NetworkManager
nm-online --quiet --timeout=30
nmcli connection up eth0"""


@pytest.fixture(scope="module")
def built(lab: Lab, site: Site) -> Run:
    for name in HOSTS:
        execute(lab, name, INSTALL, timeout=300)
    return succeeded(site.run("-y", "--json"))


def _routes(lab: Lab, host: str) -> list[str]:
    return sorted(execute(lab, host, "ip route show proto 76"))


def test_routes_come_back(built: Run, lab: Lab, kubectl: Kubectl) -> None:
    web = kubectl.run_web(NODES)
    before = _routes(lab, NODES[0])
    assert len(before) == len(HOSTS) - 1
    # Without the script, they stay away.
    script = "/etc/NetworkManager/dispatcher.d/50-pyinfra-kube"
    execute(lab, NODES[0], f"chmod 644 {script}; nmcli connection up eth0; sleep 3")
    assert _routes(lab, NODES[0]) == []
    execute(lab, NODES[0], f"chmod 755 {script}; nmcli connection up eth0")
    eventually(lambda: _routes(lab, NODES[0]) == before, 30)
    kubectl.see_pods_reach_pods(web)


def test_a_second_run_changes_nothing(built: Run, site: Site) -> None:
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_a_reboot_changes_nothing(built: Run, lab: Lab, site: Site, kubectl: Kubectl) -> None:
    lab.reboot(NODES[0])
    eventually(lambda: kubectl.ready_nodes() == set(HOSTS), 240)
    eventually(lambda: len(_routes(lab, NODES[0])) == len(HOSTS) - 1, 60)
    assert succeeded(site.run("-y", "--json")).changed == set()
