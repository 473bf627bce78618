"""Which of a host's addresses is its own, on hosts that have several."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.paths import Site, execute
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = pytest.mark.lab

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.20"

# Where a host has its address: on a bridge of any name, on the loopback, beside one that all have.
VAGRANTS = "ip link add eth9 type veth peer name eth9p; ip address add 10.0.2.15/24 dev eth9"
PLACES = {
    CONTROL_PLANE: VAGRANTS,
    NODES[0]: f"""{VAGRANTS}; ip link add br-mgmt type bridge; ip link set br-mgmt up
        address=$(ip -o -4 address show dev eth0 | awk '{{print $4}}')
        ip address flush dev eth0; ip link set eth0 master br-mgmt
        ip address add $address dev br-mgmt""",
    NODES[1]: f"""{VAGRANTS}
        address=$(ip -o -4 address show dev eth0 | awk '{{print $4}}'); own=${{address%/*}}
        network=$(ip route show dev eth0 proto kernel | awk '{{print $1}}')
        ip address del $address dev eth0; ip address add $own/32 dev lo
        ip route add $network dev eth0 src $own""",
}


def test_a_host_s_own_address_wherever_it_has_it(lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("".join(f"Host {n}\n  HostName {lab.hosts[n].ip}\n" for n in HOSTS))
    ssh = {"ssh_config_file": str(config)}
    site = Site(tmp_path / "cluster", own={n: {**ssh, "ssh_hostname": n} for n in HOSTS})
    for name, command in PLACES.items():
        execute(lab, name, command)
    said = site.run("--dry").said
    for name in HOSTS:
        assert re.search(rf"{name} +{lab.hosts[name].ip} ", said), said
