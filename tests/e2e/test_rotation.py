"""
Certificates over time, on clusters of today: every one renewed, while nothing restarts where
components have tokens, and CAs that follow others while the API is used, with a run that is killed
in each step.

One cluster for all tests of a way: each goes on where the one before left it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.e2e.closed import killed
from tests.e2e.paths import Run, Site, eventually, execute, started, starts, succeeded
from tests.e2e.pods import Kubectl
from tests.e2e.writer import Writer
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE = HOSTS[0]
RELEASE = "1.37"
NEW = "2026-11-26"

KEPT = "Credentials | Keep the credentials on the control machine"
CREDENTIALS = "Credentials | Give the control plane its credentials"
SERVING = "kubelet | Set what kubelet reads, and its folders"
PODS = "Control plane | Run the control plane as static pods"


class Way(NamedTuple):
    """
    A cluster.

    + control_plane: its hosts, with a member of etcd each
    + nodes: its nodes
    + settings: others than the defaults
    """

    control_plane: list[str]
    nodes: list[str]
    settings: Mapping[str, Any] = {}

    @property
    def groups(self) -> Mapping[str, list[str]]:
        parts = self.control_plane
        return {"control_plane": parts, "etcd": parts, "nodes": self.nodes}


WAYS = {
    "one": Way([*HOSTS[:1]], [*HOSTS[1:]]),
    "three, with certificates": Way([*HOSTS], [*HOSTS], {"credential_kind": "certificate"}),
}


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest, way: Way) -> str:
    """Each way has a lab of its own."""
    return str(request.config.getoption("--release") or RELEASE)


@pytest.fixture(scope="module")
def site(lab: Lab, way: Way, tmp_path_factory: pytest.TempPathFactory) -> Site:
    pauses.clear()
    return Site(tmp_path_factory.mktemp("site") / "cluster", way.settings, groups=way.groups)


@pytest.fixture(scope="module")
def built(lab: Lab, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


def _set(site: Site, **settings: object) -> None:
    with site.inventory.open("a") as inventory:
        inventory.writelines(f"_data[{key!r}] = {value!r}\n" for key, value in settings.items())


def _nothing_is_left(lab: Lab, site: Site, kubectl: Kubectl) -> None:
    # Pods of CoreDNS that others have replaced answer for some seconds more.
    eventually(lambda: not kubectl.ending())
    before = {name: starts(lab, name) for name in HOSTS}
    run = succeeded(site.run("-y", "--json"))
    assert (run.changed, run.conditional) == (set(), set())
    assert started(lab, before) == set()


def _served(lab: Lab, way: Way, site: Site) -> Iterator[tuple[str, str, str]]:
    """Of each server: which it is, the certificate that it shows, and that in the store."""
    servers = [("server", name, 6443) for name in way.control_plane]
    servers += [(f"etcd/{name}", name, 2379) for name in way.control_plane]
    servers += [(f"kubelets/{name}", name, 10250) for name in HOSTS]
    for name, host, port in servers:
        # One member of etcd listens on the loopback alone.
        ask = f"curl -sk -o /dev/null -w '%{{certs}}' https://127.0.0.1:{port}/ || :"
        shown = "\n".join(execute(lab, host, ask))
        begin = shown.find("-----BEGIN")
        yield name, shown[begin:].strip(), (site.store / f"{name}.crt").read_text().strip()


def _see_servers_with_their_certificates(lab: Lab, way: Way, site: Site) -> bool:
    for name, shown, stored in _served(lab, way, site):
        assert shown == stored, name
    return True


def _see_that_kubelets_answer(kubectl: Kubectl) -> None:
    for name in HOSTS:
        ask = f"get --raw /api/v1/nodes/{name}/proxy/healthz"
        # The apiserver closes a connection with a certificate that it shows no longer.
        assert eventually(lambda ask=ask: kubectl(ask)) == "ok"


def _cas(lab: Lab, way: Way, path: str) -> set[int]:
    """How many a file of the control plane has."""
    return {
        int(count)
        for name in way.control_plane
        for count in execute(lab, name, f"grep -c BEGIN {path}")
    }


def test_each_plan_says_how_long_certificates_last(built: Run, site: Site) -> None:
    said = succeeded(site.run("--dry")).said
    assert "days left of certificates: CAs 3649, control plane 364, etcd 364, kubelets 364" in said


def test_every_certificate_is_renewed(
    built: Run, lab: Lab, way: Way, site: Site, kubectl: Kubectl
) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    old = {path: path.read_text() for path in site.store.rglob("*.crt") if "ca" not in path.stem}
    # So all that there are end too soon, and those that are made do not.
    _set(site, certificate_days=400, certificate_renew_days=399)
    run = succeeded(site.run("-y", "--json"))
    expected = {(KEPT, CONTROL_PLANE), *((CREDENTIALS, name) for name in way.control_plane)}
    expected |= {(SERVING, name) for name in HOSTS}
    assert run.changed >= expected
    assert not [path for path, text in old.items() if path.read_text() == text]
    if "credential_kind" not in way.settings:
        # A kubeconfig with a certificate is read at a start.
        assert run.changed == expected
        assert started(lab, before) == set()
    # A file is looked at once a minute where nobody tells of it.
    eventually(lambda: _see_servers_with_their_certificates(lab, way, site), patience=90)
    _see_that_kubelets_answer(kubectl)
    _nothing_is_left(lab, site, kubectl)


def test_a_step_cannot_be_left_out(built: Run, site: Site) -> None:
    text = site.inventory.read_text()
    stored = {path: path.read_bytes() for path in site.store.rglob("*.*")}
    for settings, said in (
        ({"ca": NEW}, f'set ca = "1" and ca_rotation = "{NEW}"'),
        ({"ca": NEW, "ca_rotation": "1"}, f'set ca = "1" and ca_rotation = "{NEW}"'),
        ({"ca_rotation": "1"}, "another name than that of ca"),
    ):
        _set(site, **settings)
        run = site.run("-y")
        site.inventory.write_text(text)
        assert run.code != 0
        assert said in run.said
    assert {path: path.read_bytes() for path in site.store.rglob("*.*")} == stored


def _restart_pause(lab: Lab, way: Way, site: Site, kubectl: Kubectl) -> float:
    """How long a restart of an apiserver keeps a writer waiting that asks it."""
    with Writer(lab, way.control_plane, site.folder, name="restart") as writer:
        time.sleep(3)
        execute(lab, CONTROL_PLANE, "crictl stop $(crictl ps --quiet --name '^kube-apiserver$')")
        eventually(lambda: kubectl("get --raw /readyz") == "ok")
        time.sleep(3)
    return writer.longest_pause


def _step(lab: Lab, way: Way, site: Site, kubectl: Kubectl, number: int, mark: str) -> None:
    """A run of a step while somebody writes, after one that is killed."""
    with Writer(lab, way.control_plane, site.folder, name=f"step-{number}") as writer:
        killed(site, mark)
        succeeded(site.run("-y", "--json", timeout=900))
    print(f"step {number}: {writer}")
    assert len(writer.acknowledged) > 100
    _see_servers_with_their_certificates(lab, way, site)
    _see_that_kubelets_answer(kubectl)
    log = kubectl("logs --namespace=kube-system --selector=k8s-app=kube-dns --tail=200")
    assert "x509" not in log
    assert "Unauthorized" not in log
    _nothing_is_left(lab, site, kubectl)
    # With what an administrator has now.
    reader = Writer(lab, way.control_plane, site.folder)
    written = {*reader.names()}
    assert {*writer.acknowledged} <= written
    pauses[number] = writer.longest_pause


pauses: dict[int, float] = {}
BUNDLES = [f"/srv/kubernetes/{name}ca.crt" for name in ("", "etcd-", "front-proxy-")]


def test_others_come(built: Run, lab: Lab, way: Way, site: Site, kubectl: Kubectl) -> None:
    shutil.copytree(site.store, site.folder / "home/old")
    pauses[0] = _restart_pause(lab, way, site, kubectl)
    _set(site, ca_rotation=NEW)
    _step(lab, way, site, kubectl, 1, CREDENTIALS)
    assert [_cas(lab, way, path) for path in BUNDLES] == [{2}, {2}, {2}]
    assert _cas(lab, way, "/srv/kubernetes/service-account.pub") == {2}


def test_they_sign(built: Run, lab: Lab, way: Way, site: Site, kubectl: Kubectl) -> None:
    _set(site, ca=NEW, ca_rotation="1")
    _step(lab, way, site, kubectl, 2, PODS)
    assert [_cas(lab, way, path) for path in BUNDLES] == [{2}, {2}, {2}]


def test_those_that_were_go(built: Run, lab: Lab, way: Way, site: Site, kubectl: Kubectl) -> None:
    _set(site, ca_rotation=None)
    run = site.run("-y")
    assert run.code != 0
    assert "run again in" in run.said
    for name in way.control_plane:
        execute(lab, name, "touch -d '2 hours ago' /srv/kubernetes/service-account.key")
    _step(lab, way, site, kubectl, 3, CREDENTIALS)
    assert [_cas(lab, way, path) for path in BUNDLES] == [{1}, {1}, {1}]
    assert _cas(lab, way, "/srv/kubernetes/service-account.pub") == {1}
    # Whoever holds a certificate of the CA that was is nobody.
    old = site.folder / "home/old/clients/emergency"
    for end in ("crt", "key"):
        lab.exec(
            CONTROL_PLANE, f"cat >/root/old.{end} <<'E'\n{old.with_suffix('.' + end).read_text()}E"
        )
    ask = "curl -sk -m 5 -o /dev/null -w '%{http_code}' --cert /root/old.crt --key /root/old.key"
    for name in way.control_plane:
        url = f"https://{lab.hosts[name].ip}:6443/api/v1/nodes"
        assert execute(lab, CONTROL_PLANE, f"{ask} {url}") == ["401"]


def test_nobody_waited_longer_than_for_a_restart(built: Run, way: Way) -> None:
    assert set(pauses) == {0, 1, 2, 3}
    print({number: f"{pause:.1f} s" for number, pause in pauses.items()})
    # A busy machine starts one sooner than another.
    assert max(pauses.values()) <= 2 * pauses[0] + 5
