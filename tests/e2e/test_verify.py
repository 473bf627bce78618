"""
deploys/verify.py on a cluster of today: all is well after the build; then each fault, one at a
time, is called what it is.

``tests/e2e/test_today.py`` tries a few of them by default.
"""

from __future__ import annotations

import time

import pytest

from tests.e2e import faults
from tests.e2e.paths import Run, Site, state, succeeded
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"


@pytest.fixture(scope="module")
def built(lab: Lab, site: Site) -> Run:
    return succeeded(site.run("-y"))


def test_hosts_of_nobody_and_of_others_are_said_so(lab: Lab, site: Site) -> None:
    assert {(check, host) for check, host, *_ in faults.named(site)} == {
        ("host.built", host) for host in HOSTS
    }
    lab.exec(HOSTS[0], "mkdir -p /etc/kubernetes && touch /etc/kubernetes/admin.conf")
    try:
        said = site.run("-y", deploy="verify").said
        assert "/etc/kubernetes/admin.conf, of kubeadm" in said
    finally:
        lab.exec(HOSTS[0], "rm -r /etc/kubernetes")


def test_all_is_well_and_stays_as_it_is(built: Run, lab: Lab, site: Site) -> None:
    faults.until_well(site)
    before, files = state(lab), site.contents()
    began = time.monotonic()
    said = succeeded(site.run("-y", deploy="verify")).said
    assert time.monotonic() - began < 30
    assert "all is well" in said
    assert "unknown" not in said
    assert site.contents() == files
    assert state(lab) == before


def test_no_credentials_are_needed(built: Run, lab: Lab, site: Site) -> None:
    store = site.store
    away = store.rename(store.with_name("away"))
    try:
        assert faults.named(site) == []
        assert not store.exists()
    finally:
        away.rename(store)


@pytest.mark.parametrize("limit", HOSTS)
def test_what_takes_no_part_is_no_failure(built: Run, site: Site, limit: str) -> None:
    assert faults.named(site, "--limit", limit) == []


@pytest.mark.parametrize("name", faults.FAULTS)
def test_a_fault_is_called_what_it_is(built: Run, lab: Lab, site: Site, name: str) -> None:
    faults.until_well(site, 420)
    faults.see(faults.FAULTS[name], lab, site)
