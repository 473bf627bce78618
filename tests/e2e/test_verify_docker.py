"""deploys/verify.py on docker: all is well after the build, and faults are named."""

from __future__ import annotations

import pytest

from tests.e2e import faults
from tests.e2e.faults.fault import CLUSTER, CONTROL_PLANE, Fault
from tests.e2e.paths import Run, Site, succeeded
from tests.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.20"
# What docker has, too.
_SOME = (
    *("a stopped kubelet", "a foreign drop-in", "a kube-proxy that hangs", "a changed manifest"),
    *("a kubeconfig that leads elsewhere", "a key that others can read", "a copy of a manifest"),
    *("another key for tokens", "an alarm of etcd", "an apiserver that hangs"),
    *("a bridge with another MTU", "a route that is missing", "no forwarding", "masquerade twice"),
    *("a rule of iptables that drops pods' packets", "kubelet's port is closed"),
    *(
        "the address of another host",
        "pods that are routed elsewhere",
        "kube-proxy's rules are gone",
    ),
    *("a wrong name", "a loopback nameserver", "pods that a quota refuses", "DNS gone"),
    *("packets that are lost", "a wrong neighbour", "no default route", "a node that was deleted"),
    *("addresses of services on a link", "kube-proxy without its rights"),
)
FAULTS = {name: faults.FAULTS[name] for name in _SOME}
# What was asked is told until the apiserver ends.
FAULTS["a use of an API that goes"] = Fault(
    "api.deprecated",
    CLUSTER,
    "kubectl get --raw=/apis/scheduling.k8s.io/v1beta1/priorityclasses",
    "docker kill $(docker ps --quiet --filter name=k8s_kube-apiserver)",
    CONTROL_PLANE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "cluster", {"dns": True})


@pytest.fixture(scope="module")
def built(lab: Lab, site: Site) -> Run:
    return succeeded(site.run("-y"))


def test_all_is_well(built: Run, site: Site) -> None:
    faults.until_well(site)
    assert "unknown" not in site.run("-y", deploy="verify").said


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_called_what_it_is(built: Run, lab: Lab, site: Site, name: str) -> None:
    faults.until_well(site, 420)
    faults.see(FAULTS[name], lab, site)
