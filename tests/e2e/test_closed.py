"""
Secrets in etcd, the audit log and the administrator, on a cluster of today: keys that are rotated
under a writer, runs that are killed in between, drift, a lost key.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

import re
import shutil
import time

import pytest

from tests.e2e.closed import (
    FILE,
    Writer,
    killed,
    make_secret,
    providers,
    see_value_nowhere,
    stored,
    value_of,
)
from tests.e2e.paths import Run, Site, execute, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE = HOSTS[0]
RELEASE = "1.37"

CREDENTIALS = "Credentials | Give the control plane its credentials"
PODS = "Control plane | Run the control plane as static pods"
POLICY = "Control plane | Set what the control plane reads, and its folders"
KEPT = "Credentials | Keep the credentials on the control machine"
REWRITE = "Encryption | Rewrite Secrets"
FORGET = "Encryption | Forget the old key"
BINDING = "Access | Let administrators in"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "cluster", {"encryption": False, "audit": False})


@pytest.fixture(scope="module")
def plain(lab: Lab, site: Site, kubectl: Kubectl) -> str:
    """A cluster without encryption; the value of its Secret `first`."""
    succeeded(site.run("-y", "--json"))
    return make_secret(kubectl, "first")


@pytest.fixture(scope="module")
def encrypted(plain: str, lab: Lab, site: Site) -> Run:
    assert stored(lab, CONTROL_PLANE) == {"identity"}
    with site.inventory.open("a") as inventory:
        inventory.write("del _data['encryption'], _data['audit']\n")
    return succeeded(site.run("-y", "--json"))


def _rotate(site: Site, key: str) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write(f"_data['encryption_key'] = {key!r}\n")


def _kept(site: Site) -> dict[str, tuple[int, str]]:
    """The store: when each file changed, and what is in it."""
    files = [path for path in site.store.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_text()) for path in files}


def _as_wanted(lab: Lab, site: Site, key: str) -> None:
    [name] = providers(lab, CONTROL_PLANE)
    assert name.startswith(f"{key}-")
    assert stored(lab, CONTROL_PLANE) == {name}
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())


def test_a_cluster_without_encryption_gets_it(
    encrypted: Run, plain: str, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    done = {name for name, _ in encrypted.changed}
    assert {KEPT, CREDENTIALS, POLICY, PODS, REWRITE, FORGET} == done
    assert value_of(kubectl, "first") == plain
    _as_wanted(lab, site, "1")
    see_value_nowhere(lab, CONTROL_PLANE, make_secret(kubectl, "second"))


def test_a_key_is_rotated_under_a_writer(
    encrypted: Run, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    _rotate(site, "2026-11-26")
    with Writer(kubectl, "rotation") as writer:
        dry = succeeded(site.run("--dry", "--json"))
        run = succeeded(site.run("-y", "--json"))
    assert run.changed == dry.planned
    assert {name for name, _ in run.changed} == {KEPT, CREDENTIALS, PODS, REWRITE, FORGET}
    print(f"{len(writer.made)} Secrets were made, {writer.failed} could not be")
    assert {name: value_of(kubectl, name) for name in writer.made} == writer.made
    _as_wanted(lab, site, "2026-11-26")


def test_a_run_that_is_killed_between_two_keys_loses_nothing(
    encrypted: Run, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    value = make_secret(kubectl, "killed")
    for number, mark in enumerate((CREDENTIALS, PODS, REWRITE, FORGET)):
        _rotate(site, f"killed-{number}")
        killed(site, mark)
    succeeded(site.run("-y", "--json"))
    assert value_of(kubectl, "killed") == value
    _as_wanted(lab, site, "killed-3")


@pytest.mark.parametrize(
    ("drift", "mended"),
    [
        (f"rm {FILE}", {CREDENTIALS, PODS}),
        (f"echo '# mine' >>{FILE}", {CREDENTIALS, PODS}),
        (f"chmod 644 {FILE}", {CREDENTIALS}),
        ("echo '# mine' >>/srv/kubernetes/audit-policy.yaml", {POLICY, PODS}),
        ("rm /srv/kubernetes/authentication.yaml", {POLICY, PODS}),
        ("chmod 755 /var/log/kube-apiserver", {POLICY}),
        ("kubectl delete clusterrolebinding pyinfra-kube:cluster-admins", {BINDING}),
    ],
)
def test_drift_is_mended(
    encrypted: Run, lab: Lab, site: Site, drift: str, mended: set[str]
) -> None:
    execute(lab, CONTROL_PLANE, drift)
    if BINDING in mended:
        # An apiserver learns of it in a moment.
        time.sleep(2)
    assert {name for name, _ in succeeded(site.run("-y", "--json")).changed} == mended
    before = {name: starts(lab, name) for name in HOSTS}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


def test_a_lost_key_is_refused_before_anything_changes(
    encrypted: Run, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    [name] = providers(lab, CONTROL_PLANE)
    keys, away = site.store / "encryption.json", site.folder / "away.json"
    shutil.move(keys, away)
    before = _kept(site), starts(lab, CONTROL_PLANE)
    for options in (["--dry"], ["-y"]):
        run = site.run(*options)
        assert run.code != 0
        assert re.search(rf"no key {name}.*encryption\.json.*restore", run.said, re.S)
    assert (_kept(site), starts(lab, CONTROL_PLANE)) == before
    shutil.move(away, keys)
    _as_wanted(lab, site, name.rpartition("-")[0])


def test_encryption_can_be_turned_off(
    encrypted: Run, plain: str, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    with site.inventory.open("a") as inventory:
        inventory.write("_data['encryption'] = False\n")
    succeeded(site.run("-y", "--json"))
    assert providers(lab, CONTROL_PLANE) == []
    assert stored(lab, CONTROL_PLANE) == {"identity"}
    assert value_of(kubectl, "first") == plain
    dry = succeeded(site.run("--dry", "--json"))
    assert (dry.planned, dry.conditional) == (set(), set())
