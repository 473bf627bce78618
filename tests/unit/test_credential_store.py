"""The store of credentials: what it makes, what it keeps, and when it makes something anew."""

from __future__ import annotations

import base64
import csv
import json
import multiprocessing
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyinfra_kube.cluster import credential_set, credential_store, pki
from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.components.rows import User
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.credential_store import CredentialStore, compare_with_hosts
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.identities import users
from pyinfra_kube.cluster.spec import ClusterSpec

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


def files_of(credentials: Credentials, host: str = "m1") -> dict[str, str]:
    return credentials.host_files(credentials.spec.host(host))


def held(credentials: Credentials, name: str) -> str:
    """A file of a control-plane host."""
    return files_of(credentials)[f"/srv/kubernetes/{name}"]


def spec_of(nodes: tuple[str, ...] = ("n1", "n2"), **data: Any) -> ClusterSpec:
    data = {"kubernetes_version": "1.18.2", "control_plane_endpoint": "192.0.2.10", **data}
    addresses = {
        "m1": data["control_plane_endpoint"],
        **{n: f"192.0.2.{i}" for i, n in enumerate(nodes, 20)},
    }
    hosts = {name: {**data, "address": address} for name, address in addresses.items()}
    return ClusterSpec.from_inventory({"control_plane": ["m1"], "nodes": list(nodes)}, hosts)


def plan_of(store: CredentialStore, spec: ClusterSpec, **options: Any) -> Credentials:
    options.setdefault("now", NOW)
    return store.plan(spec, make_plan(spec), **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "store"
    store = CredentialStore(folder)
    plan_of(store, spec_of())
    store.save()
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "store"))


def tree(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# What is made


def test_a_plan_writes_nothing_and_a_second_one_gives_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = CredentialStore(folder)
    first, second = plan_of(store, spec_of()), plan_of(store, spec_of())
    assert not folder.exists()
    assert first.new
    assert first.ca_cert == second.ca_cert
    assert first.known_tokens_csv == second.known_tokens_csv
    assert first.changes == second.changes
    assert [line.split(":")[0] for line in first.changes] == [
        "ca.crt",
        "front-proxy-ca.crt",
        "etcd-ca.crt",
        "server.crt",
        "kubelet-client.crt",
        "front-proxy-client.crt",
        "etcd-client.crt",
        "etcd/m1.crt",
        "kubelets/n1.crt",
        "kubelets/n2.crt",
        "service-account.key",
        "service-account.pub",
        "tokens.json",
    ]


def test_what_is_saved_is_what_was_planned(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path / "store")
    planned = plan_of(store, spec_of(basic_auth=True))
    store.save()
    again = plan_of(CredentialStore(tmp_path / "store"), spec_of(basic_auth=True))
    assert again.changes == ()
    assert not again.new
    assert files_of(again) == files_of(planned)
    for name in ("ca_cert", "known_tokens_csv", "basic_auth_csv", "ca_fingerprints"):
        assert getattr(again, name) == getattr(planned, name)
    assert files_of(again) == files_of(planned)
    assert store.save() == []


def test_the_server_certificate(tmp_path: Path) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of())
    assert pki.read(held(found, "server.crt")).names == {
        "192.0.2.10",
        "10.0.0.1",
        "127.0.0.1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "m1",
    }
    client = pki.read(held(found, "kubelet-client.crt"))
    assert client.common_name == "kube-apiserver-kubelet-client"
    assert client.organizations == ("system:masters",)
    for cert in (held(found, "server.crt"), held(found, "kubelet-client.crt")):
        assert pki.issued_by(cert, found.ca_cert)
    assert pki.fits(held(found, "server.crt"), held(found, "server.key"))
    assert pki.fits(held(found, "kubelet-client.crt"), held(found, "kubelet-client.key"))
    key, public = held(found, "service-account.key"), held(found, "service-account.pub")
    assert pki.public_key(key) == public


POLICIES = {
    "shared": ["admin,admin,system:masters"],
    "per_component": [
        "admin,admin,system:masters",
        "system:kube-controller-manager,kube-controller-manager",
        "system:kube-scheduler,kube-scheduler",
        "kubelet,kubelet,system:masters",
        "system:kube-proxy,kube-proxy",
    ],
    "per_node": [
        "admin,admin,system:masters",
        "system:kube-controller-manager,kube-controller-manager",
        "system:kube-scheduler,kube-scheduler",
        "system:node:n1,kubelet-n1,system:nodes",
        "system:kube-proxy,kube-proxy-n1",
        "system:node:n2,kubelet-n2,system:nodes",
        "system:kube-proxy,kube-proxy-n2",
    ],
}


@pytest.mark.parametrize("policy", POLICIES)
def test_tokens(tmp_path: Path, policy: str) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of(credential_policy=policy)).known_tokens_csv
    rows = list(csv.reader((found or "").splitlines()))
    assert [",".join(row[1:]) for row in rows] == POLICIES[policy]
    tokens = [row[0] for row in rows]
    assert len(set(tokens)) == len(tokens)
    assert all(len(token) == 32 and token.isalnum() and token.isascii() for token in tokens)
    uids = [row[2] for row in rows]
    assert len(set(uids)) == len(uids)


def test_several_groups_share_one_column() -> None:
    users = [User("i", "u", ("a", "b")), User("i", "u")]
    assert credential_set._csv({"i": "t"}, users) == 't,u,i,"a,b"\nt,u,i\n'


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["token", "certificate"])
def test_kubeconfigs_let_everybody_in(tmp_path: Path, policy: str, kind: str) -> None:
    spec = spec_of(credential_policy=policy, credential_kind=kind)
    found = plan_of(CredentialStore(tmp_path), spec)
    rows = {row[0]: row[1] for row in csv.reader((found.known_tokens_csv or "").splitlines())}
    assert (found.known_tokens_csv is None) == (kind == "certificate")
    for component, host in (
        ("admin", None),
        ("kube-scheduler", "m1"),
        ("kube-controller-manager", "m1"),
        ("kubelet", "n1"),
        ("kube-proxy", "n2"),
    ):
        config = yaml.safe_load(found.kubeconfig(component, host))
        (user,), (cluster,) = config["users"], config["clusters"]
        ca = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        assert ca == found.ca_cert
        if kind == "token":
            assert rows[user["user"]["token"]] == user["name"]
        else:
            cert = base64.b64decode(user["user"]["client-certificate-data"]).decode()
            key = base64.b64decode(user["user"]["client-key-data"]).decode()
            assert pki.read(cert).common_name == user["name"]
            assert pki.issued_by(cert, ca)
            assert pki.fits(cert, key)


def test_a_kubeconfig_in_full(tmp_path: Path) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of())
    token = next(
        t
        for t, n, *_ in csv.reader((found.known_tokens_csv or "").splitlines())
        if n == "system:node:n1"
    )
    ca = base64.b64encode(found.ca_cert.encode()).decode()
    assert found.kubeconfig("kubelet", "n1") == (
        "apiVersion: v1\n"
        "kind: Config\n"
        "clusters:\n"
        "- name: kubernetes\n"
        "  cluster:\n"
        "    server: https://192.0.2.10:6443\n"
        f"    certificate-authority-data: {ca}\n"
        "users:\n"
        "- name: system:node:n1\n"
        "  user:\n"
        f"    token: {token}\n"
        "contexts:\n"
        "- name: kubernetes\n"
        "  context:\n"
        "    cluster: kubernetes\n"
        "    user: system:node:n1\n"
        "current-context: kubernetes\n"
    )


def test_who_runs_on_the_control_plane_asks_the_apiserver_there(tmp_path: Path) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of(secure_port=443))
    servers = {
        component: yaml.safe_load(found.kubeconfig(component, host))["clusters"][0]["cluster"][
            "server"
        ]
        for component, host in (("admin", None), ("kube-scheduler", None), ("kube-proxy", "n1"))
    }
    assert servers == {
        "admin": "https://192.0.2.10:443",
        "kube-scheduler": "https://127.0.0.1:443",
        "kube-proxy": "https://192.0.2.10:443",
    }


def test_plain_http_needs_no_user(tmp_path: Path) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of(apiserver_approach="http"))
    config = yaml.safe_load(found.kubeconfig("admin"))
    assert config["clusters"][0]["cluster"] == {"server": "http://192.0.2.10:8080"}
    assert config["users"] == []
    assert config["contexts"][0]["context"] == {"cluster": "kubernetes"}
    assert "/srv/kubernetes/known_tokens.csv" not in files_of(found)
    assert "/srv/kubernetes/service-account.key" in files_of(found)


def test_basic_auth_only_when_asked_for(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    assert plan_of(store, spec_of()).basic_auth_csv is None
    password, user, uid, group = (
        (plan_of(store, spec_of(basic_auth=True)).basic_auth_csv or "").strip().split(",")
    )
    assert (len(password), user, uid, group) == (32, "admin", "admin", "system:masters")


def test_a_node_name_too_long_for_a_certificate(tmp_path: Path) -> None:
    spec = spec_of(("n" * 60,), credential_kind="certificate")
    with pytest.raises(InputError, match="hostname_override"):
        plan_of(CredentialStore(tmp_path), spec)
    assert plan_of(CredentialStore(tmp_path), spec_of(("n" * 60,))).known_tokens_csv


def test_a_long_cluster_name(tmp_path: Path) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of(cluster_name="c" * 63))
    assert pki.read(found.ca_cert).common_name == "c" * 61 + "-ca"


@pytest.mark.parametrize("kind", ["token", "certificate"])
def test_secrets_are_listed_and_not_shown(tmp_path: Path, kind: str) -> None:
    found = plan_of(CredentialStore(tmp_path), spec_of(credential_kind=kind, basic_auth=True))
    listed = found.secrets()
    assert all(listed)
    shown = "\n".join(
        [repr(found), str(found), *found.changes, found.ca_cert, held(found, "server.crt")]
    )
    assert not [secret for secret in listed if secret in shown]
    secret_files = [t for name, t in files_of(found).items() if name.endswith((".key", ".csv"))]
    for text in [*secret_files, found.kubeconfig("admin"), found.kubeconfig("kubelet", "n1")]:
        assert any(secret in text for secret in listed)


def test_users_are_listed_once() -> None:
    assert [who.name for who in users(spec_of(credential_policy="shared"))] == ["admin"]


# What is kept, and what is made anew


def test_a_saved_store_changes_nothing(folder: Path) -> None:
    before = tree(folder)
    store = CredentialStore(folder)
    assert plan_of(store, spec_of()).changes == ()
    assert store.save() == []
    assert tree(folder) == before


def changes(folder: Path, spec: ClusterSpec, **options: Any) -> list[str]:
    return list(plan_of(CredentialStore(folder), spec, **options).changes)


def test_a_new_address_is_the_only_reason_for_certificates_of_servers(folder: Path) -> None:
    before = tree(folder)
    why = "re-issued, 192.0.2.30 is a new name, 192.0.2.10 is no name of it any more"
    assert changes(folder, spec_of(control_plane_endpoint="192.0.2.30")) == [
        f"server.crt: {why}",
        f"etcd/m1.crt: {why}",
    ]
    store = CredentialStore(folder)
    plan_of(store, spec_of(control_plane_endpoint="192.0.2.30"))
    assert sorted(store.save()) == ["etcd/m1.crt", "etcd/m1.key", "server.crt", "server.key"]
    after = tree(folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        *("server.crt", "server.key"),
        *("etcd/m1.crt", "etcd/m1.key"),
    }


def test_an_added_node_is_a_token_and_a_certificate_and_nothing_else(folder: Path) -> None:
    old = plan_of(CredentialStore(folder), spec_of())
    spec = spec_of(("n1", "n2", "n3"))
    assert changes(folder, spec) == [
        "kubelets/n3.crt: made, the store has none",
        "tokens.json: new for kubelet-n3, kube-proxy-n3",
    ]
    new = plan_of(CredentialStore(folder), spec)
    assert (new.known_tokens_csv or "").startswith(old.known_tokens_csv or "?")
    assert new.kubeconfig("kubelet", "n1") == old.kubeconfig("kubelet", "n1")


def test_a_removed_node_loses_its_token(folder: Path) -> None:
    assert changes(folder, spec_of(("n1",))) == [
        "tokens.json: none any more for kubelet-n2, kube-proxy-n2"
    ]


def test_an_added_node_with_certificates(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    plan_of(store, spec_of(("n1",), credential_kind="certificate"))
    store.save()
    assert changes(tmp_path, spec_of(("n1", "n2"), credential_kind="certificate")) == [
        "kubelets/n2.crt: made, the store has none",
        "clients/kubelet-n2.crt: made, the store has none",
        "clients/kube-proxy-n2.crt: made, the store has none",
    ]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (243, []),
        (244, ["server.crt: re-issued, it ends on 2031-01-01, in 121 days"]),
        (366, ["server.crt: re-issued, it ends on 2031-01-01, which is past"]),
    ],
)
def test_near_the_end(folder: Path, days: int, expected: list[str]) -> None:
    found = changes(folder, spec_of(), now=NOW + timedelta(days=days))
    assert [line for line in found if line.startswith("server")] == expected
    leaves = ("server", "kubelet-client", "front-proxy-client", "kubelets/", "etcd-client", "etcd/")
    assert all(line.startswith(leaves) for line in found)


def test_how_near_is_near_is_a_setting(folder: Path) -> None:
    late = NOW + timedelta(days=300)
    assert changes(folder, spec_of(certificate_renew_days=30), now=late) == []
    assert len(changes(folder, spec_of(certificate_renew_days=100), now=late)) == 7


def test_a_life_of_one_day_is_renewed_in_hours_and_not_in_every_run(tmp_path: Path) -> None:
    spec = spec_of(certificate_days=1)
    store = CredentialStore(tmp_path)
    plan_of(store, spec, now=NOW)
    store.save()
    assert changes(tmp_path, spec, now=NOW + timedelta(hours=15)) == []
    late = NOW + timedelta(hours=16)
    assert "server.crt: re-issued, it ends on 2030-01-02, in 8 hours" in changes(
        tmp_path, spec, now=late
    )
    store = CredentialStore(tmp_path)
    plan_of(store, spec, now=late)
    store.save()
    assert changes(tmp_path, spec, now=late) == []


def test_the_days_that_are_left_are_said(tmp_path: Path) -> None:
    store, spec = CredentialStore(tmp_path), spec_of(credential_kind="certificate")
    left = "days left of certificates"
    whole = "CAs 3650, control plane 365, etcd 365, kubelets 365, clients 365"
    assert plan_of(store, spec, now=NOW).days_left == f"{left}: {whole}"
    store.save()
    more = spec_of(("n1", "n2", "n3"), credential_kind="certificate")
    later = NOW + timedelta(days=100, hours=1)
    now = "CAs 3549, control plane 264, etcd 264, kubelets 264 (n1), clients 264 (admin)"
    assert plan_of(CredentialStore(tmp_path), more, now=later).days_left == f"{left}: {now}"


def test_a_ca_near_its_end_is_said_and_never_makes_every_run_a_change(folder: Path) -> None:
    late = NOW + timedelta(days=pki.CA_DAYS - 20)
    store = CredentialStore(folder)
    warnings = plan_of(store, spec_of(), now=late).warnings
    assert [line.partition(";")[0] for line in warnings] == [
        "ca.crt ends on 2039-12-30",
        "front-proxy-ca.crt ends on 2039-12-30",
        "etcd-ca.crt ends on 2039-12-30",
    ]
    store.save()
    assert changes(folder, spec_of(), now=late + timedelta(days=1)) == []


def test_other_settings_never_re_issue(folder: Path) -> None:
    spec = spec_of(certificate_days=700, log_level=5, kubernetes_version="1.20.2", max_pods=9)
    assert changes(folder, spec) == []


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        ({"server.key": None}, "server.crt: re-issued, its key is missing"),
        ({"server.crt": None}, "server.crt: made, the store has none"),
        ({"server.crt": "rubbish"}, "server.crt: re-issued, its key does not belong to it"),
        ({"service-account.pub": None}, "service-account.pub: made from service-account.key"),
        ({"ca.crt": None}, "ca.crt: made again from ca.key, it was missing"),
        ({"tokens.json": "{}"}, "tokens.json: new for admin"),
    ],
)
def test_what_is_damaged_is_mended(
    folder: Path, harm: dict[str, str | None], expected: str
) -> None:
    for name, text in harm.items():
        (folder / name).unlink() if text is None else (folder / name).write_text(text)
    (line,) = changes(folder, spec_of())
    assert line.startswith(expected)


def test_another_ca(folder: Path) -> None:
    ca = pki.make_ca("another", now=NOW)
    (folder / "ca.crt").write_text(ca.cert)
    (folder / "ca.key").write_text(ca.key)
    assert changes(folder, spec_of()) == [
        "server.crt: re-issued, another CA signed it",
        "kubelet-client.crt: re-issued, another CA signed it",
        "kubelets/n1.crt: re-issued, another CA signed it",
        "kubelets/n2.crt: re-issued, another CA signed it",
    ]


def test_a_ca_without_its_key_serves_until_something_is_to_be_issued(folder: Path) -> None:
    (folder / "ca.key").unlink()
    assert changes(folder, spec_of()) == []
    with pytest.raises(InputError, match=r"no ca\.key.*restore ca\.key"):
        changes(folder, spec_of(control_plane_endpoint="192.0.2.30"))


def test_a_key_that_is_not_the_cas(folder: Path) -> None:
    (folder / "ca.key").write_text(pki.make_key())
    with pytest.raises(InputError, match=r"ca\.key"):
        changes(folder, spec_of())


@pytest.mark.parametrize("damaged", ["ca.key", "service-account.key"])
def test_a_key_that_cannot_be_read(folder: Path, damaged: str) -> None:
    (folder / damaged).write_text("rubbish")
    if damaged == "ca.key":
        (folder / "ca.crt").unlink()
    with pytest.raises(InputError, match=rf"{damaged}.*whole.*restore it"):
        changes(folder, spec_of())


@pytest.mark.parametrize("text", ["not json", "[1]", "3"])
def test_tokens_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "tokens.json").write_text(text)
    with pytest.raises(InputError, match=r"tokens\.json.*delete it"):
        changes(folder, spec_of())


# The folder


def modes(folder: Path) -> set[tuple[str, int]]:
    paths = [folder, *folder.rglob("*")]
    return {("d" if p.is_dir() else "f", stat.S_IMODE(p.stat().st_mode)) for p in paths}


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    os.umask(old := os.umask(0))
    os.umask(0)
    try:
        store = CredentialStore(tmp_path / "store")
        plan_of(store, spec_of(credential_kind="certificate"))
        store.save()
    finally:
        os.umask(old)
    assert modes(tmp_path / "store") == {("d", 0o700), ("f", 0o600)}
    assert (tmp_path / "store" / ".gitignore").read_text() == "*\n"


def test_each_file_is_closed_from_its_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def watch(source: str, target: Path) -> None:
        seen.append((stat.S_IMODE(os.stat(source).st_mode), Path(source).parent == target.parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    store = CredentialStore(tmp_path / "store")
    plan_of(store, spec_of())
    store.save()
    assert len(seen) == 24
    assert set(seen) == {(0o600, True)}


@pytest.mark.parametrize("nodes", [("n1", "n2"), ("n1", "n2", "n3")])
def test_an_open_folder_is_closed(folder: Path, nodes: tuple[str, ...]) -> None:
    folder.chmod(0o755)
    (folder / "ca.key").chmod(0o644)
    store = CredentialStore(folder)
    plan_of(store, spec_of(nodes))
    store.save()
    assert modes(folder) == {("d", 0o700), ("f", 0o600)}


def save_and_be_killed(folder: Path) -> None:
    store = CredentialStore(folder)
    plan_of(store, spec_of(("n1", "n2", "n3")))
    os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
    store.save()


def test_what_a_killed_run_left_is_cleared_away(folder: Path) -> None:
    before = tree(folder)
    run = multiprocessing.get_context("fork").Process(target=save_and_be_killed, args=(folder,))
    run.start()
    run.join()
    assert run.exitcode == 9
    (left,) = tree(folder).keys() - before.keys()
    store = CredentialStore(folder)
    plan_of(store, spec_of(("n1", "n2", "n3")))
    assert store.save() == ["kubelets/n3.crt", "kubelets/n3.key", "tokens.json"]
    assert left not in tree(folder)


def test_a_save_that_dies_anywhere_leaves_a_store_that_mends_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace
    for deadly in range(1, 11):
        folder = tmp_path / str(deadly)
        left = iter(range(deadly - 1))

        def dies(source: str, target: Path, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            replace(source, target)

        store = CredentialStore(folder)
        plan_of(store, spec_of())
        monkeypatch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            store.save()
        monkeypatch.setattr(os, "replace", replace)
        (folder / f"{credential_store.UNFINISHED}rest").write_text("secret")
        store = CredentialStore(folder)
        plan_of(store, spec_of())
        store.save()
        found = plan_of(CredentialStore(folder), spec_of())
        assert found.changes == ()
        assert pki.issued_by(held(found, "server.crt"), found.ca_cert)
        assert not list(folder.glob(f"{credential_store.UNFINISHED}*"))


def test_of_two_runs_at_once_only_one_makes_a_ca(tmp_path: Path) -> None:
    one, two = CredentialStore(tmp_path), CredentialStore(tmp_path)
    first = plan_of(one, spec_of())
    plan_of(two, spec_of())
    one.save()
    with pytest.raises(InputError, match="run again"):
        two.save()
    two = CredentialStore(tmp_path)
    assert plan_of(two, spec_of()).ca_cert == first.ca_cert


def save_in_a_process(folder: Path, results: Any) -> None:
    store = CredentialStore(folder)
    plan_of(store, spec_of())
    try:
        results.put(bool(store.save()))
    except InputError:
        results.put(False)


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    runs = [
        context.Process(target=save_in_a_process, args=(tmp_path / "store", results))
        for _ in range(3)
    ]
    for run in runs:
        run.start()
    outcomes = [results.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    assert outcomes.count(True) >= 1
    assert changes(tmp_path / "store", spec_of()) == []


def test_a_folder_that_cannot_be_read(folder: Path) -> None:
    (folder / "ca.crt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="credentials_dir"):
        CredentialStore(folder)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(InputError, match="credentials_dir"):
        CredentialStore(tmp_path / "store")


# Lost stores


def test_hosts_that_hold_this_ca_are_no_problem(folder: Path) -> None:
    found = plan_of(CredentialStore(folder), spec_of())
    [own] = found.ca_fingerprints
    colons = ":".join(own[i : i + 2] for i in range(0, 64, 2)).upper()
    assert compare_with_hosts(found, folder, {"m1": own, "n1": colons}) == []
    assert compare_with_hosts(found, folder, {}) == []


def test_a_lost_store_is_noticed_and_said(tmp_path: Path, folder: Path) -> None:
    [old] = plan_of(CredentialStore(folder), spec_of()).ca_fingerprints
    found = plan_of(CredentialStore(tmp_path / "new"), spec_of())
    (problem,) = compare_with_hosts(found, tmp_path / "new", {"m1": old, "n1": old})
    assert problem.host == "m1, n1"
    assert old[:16] in str(problem)
    assert "restore that folder" in str(problem)
    assert "replace_credentials = True" in str(problem)


def test_tokens_are_json_that_a_person_can_edit(folder: Path) -> None:
    text = (folder / "tokens.json").read_text()
    assert list(json.loads(text)) == [who.name for who in users(spec_of())]
    assert text.count("\n") == 9
