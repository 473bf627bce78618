"""deploys/verify.py on Fedora over flannel: all is well after the build, and faults are named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import faults
from tests.e2e.faults.fault import CONTROL_PLANE, NODE, Fault
from tests.e2e.paths import Run, Site, succeeded
from tests.lab import Lab, down, held

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.20"


def _stopped(unit: str, host: str = CONTROL_PLANE) -> Fault:
    return Fault(
        "unit.runs", host, f"systemctl stop {unit}", f"systemctl start {unit}", patience=60
    )


FAULTS = {
    # systemd stops docker and kubelet with it.
    "a stopped flanneld": Fault(
        "runtime.subnet",
        NODE,
        "systemctl stop flanneld",
        "systemctl start flanneld docker kubelet",
        patience=60,
    ),
    "a stopped docker": Fault(
        "runtime.runs",
        NODE,
        "systemctl stop docker.socket docker",
        "systemctl start docker kubelet",
        patience=60,
    ),
    "a stopped etcd": _stopped("etcd"),
    "a stopped apiserver": _stopped("kube-apiserver"),
    "a stopped controller manager": _stopped("kube-controller-manager"),
    "an overlay with another MTU": Fault(
        "net.overlay", NODE, "ip link set flannel.1 mtu 1300", "ip link set flannel.1 mtu 1450"
    ),
    "a route of flannel's that is gone": Fault(
        "net.flannel",
        NODE,
        "ip route delete $(ip route show dev flannel.1 | grep ' via ' | cut -d' ' -f1)",
        "systemctl restart flanneld",
    ),
    "another lease in subnet.env": Fault(
        "net.lease",
        NODE,
        "cp --archive /run/flannel/subnet.env /run/kept-subnet.env\n"
        "sed -i 's/^FLANNEL_SUBNET=.*/FLANNEL_SUBNET=10.99.1.1\\/24/' /run/flannel/subnet.env",
        "cp --archive /run/kept-subnet.env /run/flannel/subnet.env",
    ),
    "no overlay": Fault(
        "net.overlay", NODE, "ip link set flannel.1 down", "systemctl restart flanneld"
    ),
}
# What is the same there.
SOME = (
    *("a stopped kubelet", "a kubelet that hangs", "a disabled unit", "no forwarding"),
    *("a wrong name", "a loopback nameserver", "kubelet's port is closed", "a cut cable"),
    *("the address of another host", "a rule of iptables that drops pods' packets"),
    *("packets that are lost", "a wrong neighbour", "no default route"),
)
FAULTS |= {name: faults.FAULTS[name] for name in SOME}


@pytest.fixture(scope="module")
def lab(release: str) -> Iterator[Lab]:
    with held():
        down()
        yield Lab.up(family="fedora", release=release)
        down()


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "cluster", {"network": "flannel"})


@pytest.fixture(scope="module")
def built(site: Site) -> Run:
    return succeeded(site.run("-y", deploy="multinode"))


def test_all_is_well(built: Run, site: Site) -> None:
    faults.until_well(site)
    assert "unknown" not in site.run("-y", deploy="verify").said


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_called_what_it_is(built: Run, lab: Lab, site: Site, name: str) -> None:
    faults.until_well(site, 420)
    faults.see(FAULTS[name], lab, site)
