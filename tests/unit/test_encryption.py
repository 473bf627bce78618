"""Steps from one key of Secrets to another: no apiserver meets a Secret that it cannot read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.encryption import (
    IDENTITY,
    EncryptionPlan,
    Providers,
    in_order,
    key_name,
    plan_encryption,
)
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.encryption import encryption_text, plan_of_run
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.facts.encryption import StoredSecrets, StoredStates

KEYS = {key_name(name, f"{name}{name}=="): f"{name}{name}==" for name in "abc"}
A, B, C = KEYS
FILE = "/srv/kubernetes/encryption.yaml"

# The steps of a run


@pytest.mark.parametrize(
    ("found", "stored", "plan"),
    [
        # A blank cluster, and one that is as wanted.
        ({"m": ()}, {}, EncryptionPlan(B, {"m": (B,)})),
        ({"m": (B,)}, {B}, EncryptionPlan(B, {"m": (B,)})),
        # One that encrypts nothing, though it has no Secret yet.
        ({"m": (IDENTITY,)}, {}, EncryptionPlan(B, {"m": (B, IDENTITY)}, last=(B,))),
        ({"m": (A,)}, {A}, EncryptionPlan(B, {"m": (B, A)}, last=(B,))),
        # The file was damaged by hand, and Secrets tell what they need.
        ({"m": None}, {B}, EncryptionPlan(B, {"m": (B,)})),
        ({"m": None}, {A, B}, EncryptionPlan(B, {"m": (B, A)}, last=(B,))),
        # Killed before the old key went; etcd is down.
        ({"m": (B, A)}, None, EncryptionPlan(B, {"m": (B, A)}, last=(B,))),
        (
            {"m": (A,), "n": (A,)},
            {A},
            EncryptionPlan(B, {"m": (A, B), "n": (A, B)}, (B, A), (B,)),
        ),
        # Killed while one apiserver after the other was turned.
        (
            {"m": (B, A), "n": (A, B)},
            {A, B},
            EncryptionPlan(B, {"m": (B, A), "n": (A, B)}, (B, A), (B,)),
        ),
        # Killed while one after the other forgot the old key.
        ({"m": (B,), "n": (B, A)}, {B}, EncryptionPlan(B, {"m": (B,), "n": (B, A)}, (B, A), (B,))),
        # A new host comes in the middle.
        ({"m": (A,), "n": ()}, {A}, EncryptionPlan(B, {"m": (A, B), "n": (A, B)}, (B, A), (B,))),
    ],
)
def test_steps(found: Mapping[str, Providers | None], stored: Any, plan: EncryptionPlan) -> None:
    assert plan_encryption(B, found, stored) == plan


def test_nothing_goes_while_a_host_does_not_answer() -> None:
    plan = plan_encryption(B, {"m": (A,)}, {A}, ["n"])
    assert plan == EncryptionPlan(B, {"m": (A, B)}, waits_for=("n",))


class World:
    """Apiservers that write Secrets all the time, and what is in etcd."""

    def __init__(self, hosts: int, providers: Providers) -> None:
        self.files = {f"m{number}": providers for number in range(hosts)}
        self.running = dict(self.files)
        self.stored: set[str] = set()
        self.write()

    def write(self) -> None:
        self.stored |= {providers[0] for providers in self.running.values() if providers}
        for host, providers in self.running.items():
            assert not providers or self.stored <= {*providers}, (host, self.stored, providers)

    def run(self, wanted: str) -> Iterator[None]:
        """One run, which may be killed where it yields."""
        plan = plan_encryption(wanted, dict(self.files), {*self.stored})
        yield
        for host, providers in plan.first.items():
            self.files[host] = providers
            yield
        for host in self.files:
            self.restart(host)
            yield
        for step in (plan.turned, plan.last):
            if step == plan.last and step:
                self.write()
                if self.stored - {wanted}:
                    self.stored = {wanted}
                yield
                assert self.stored == {wanted}
            for host in self.files if step else ():
                self.files[host] = step or ()
                yield
                self.restart(host)
                yield

    def restart(self, host: str) -> None:
        self.running[host] = self.files[host]
        self.write()


@given(
    hosts=st.sampled_from([1, 2, 3]),
    begin=st.sampled_from([(IDENTITY,), (A,), (A, IDENTITY)]),
    runs=st.lists(st.tuples(st.sampled_from([A, B, C, IDENTITY]), st.integers(0, 14)), max_size=5),
    wanted=st.sampled_from([A, B, C, IDENTITY]),
)
def test_every_apiserver_reads_every_secret_wherever_runs_are_killed(
    hosts: int, begin: Providers, runs: list[tuple[str, int]], wanted: str
) -> None:
    world = World(hosts, begin)
    for key, steps in runs:
        for _, _ in zip(range(steps), world.run(key), strict=False):
            world.write()
    for _ in world.run(wanted):
        world.write()
    assert set(world.files.values()) == set(world.running.values()) == {(wanted,)}
    assert world.stored == {wanted}
    plan = plan_encryption(wanted, world.files, world.stored)
    assert (plan.turned, plan.last, {*plan.first.values()}) == (None, None, {(wanted,)})


# The file


@given(st.permutations([A, B, IDENTITY]))
def test_the_file_says_the_providers(names: list[str]) -> None:
    ordered = in_order(names)
    content = yaml.safe_load(encryption_text(ordered, KEYS))
    [rule] = content["resources"]
    assert rule["resources"] == ["secrets"]
    said: list[str] = []
    for provider in rule["providers"]:
        [(kind, details)] = provider.items()
        if kind == IDENTITY:
            said.append(IDENTITY)
            continue
        assert {one["name"]: one["secret"] for one in details["keys"]}.items() <= KEYS.items()
        said += [one["name"] for one in details["keys"]]
    assert tuple(said) == ordered
    assert ordered[0] == names[0]


# What etcd has

_FIRST = base64.b64encode(b"/registry/secrets/").decode()


def _page(values: list[bytes], space: str, begin: int, more: bool) -> str:
    """As etcd's gateway answers; some builds of it put spaces after commas and colons."""
    rows = [
        {
            "key": base64.b64encode(f"/registry/secrets/n/{begin + number}".encode()).decode(),
            "mod_revision": "7",
            "value": base64.b64encode(value).decode(),
        }
        for number, value in enumerate(values)
    ]
    page = {"header": {"revision": "9"}, "kvs": rows, **({"more": True} if more else {})}
    return json.dumps(page, separators=(f",{space}", f":{space}"))


@given(
    plain=st.lists(st.binary(min_size=1, max_size=300), max_size=4),
    keys=st.lists(st.sampled_from([A, B, "2026-11-26-1.5-0a1b2c3d"]), max_size=6),
    tail=st.binary(min_size=60, max_size=90),
    space=st.sampled_from(["", " "]),
)
def test_what_stands_before_secrets_is_counted(
    plain: list[bytes], keys: list[str], tail: bytes, space: str
) -> None:
    plain = [b"k8s\x00\n" + value for value in plain]
    values = [*plain, *(f"k8s:enc:secretbox:v1:{key}:".encode() + tail for key in keys)]
    half = len(values) // 2
    pages = (
        [(values[:half], 0, True), (values[half:], half, False)] if half else [(values, 0, False)]
    )
    last = base64.b64encode(f"/registry/secrets/n/{half - 1}".encode() + b"\0").decode()
    with TemporaryDirectory() as folder:
        for number, (some, begin, more) in enumerate(pages):
            (Path(folder) / str(number)).write_text(_page(some, space, begin, more))
        text = StoredSecrets().command(["http://127.0.0.1:1"])
        # In place of curl: the page of the key that is asked for.
        ask = f"case $2 in *{last}*) cat {folder}/1 ;; *{_FIRST}*) cat {folder}/0 ;; esac"
        text = re.sub(r"(?m)^ask\(\) .*$", lambda _: f"ask() {{ {ask}; }}", text)
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, timeout=60)
    found = StoredSecrets().process(done.stdout.splitlines())
    wanted = Counter(keys) + Counter({IDENTITY: len(plain)})
    assert (found.status, found.secrets) == ("ok", {k: n for k, n in wanted.items() if n})


# What a run learns


def spec_of(control_plane: Sequence[str] = ("m",), **data: Any) -> ClusterSpec:
    data = {"kubernetes_version": "1.37.2", "containerd_version": "2.4.2", **data}
    hosts = {name: {**data, "address": f"192.0.2.{n}"} for n, name in enumerate("mno", 1)}
    groups = {"control_plane": [*control_plane], "nodes": ["n", "o"]}
    return ClusterSpec.from_inventory(groups, hosts)


def facts_of(text: str = "", **more: Any) -> HostFacts:
    names = [
        line.split()[-1].strip('"') if "name" in line else IDENTITY
        for line in text.splitlines()
        if "- name" in line or "- identity" in line
    ]
    digest = hashlib.sha256(text.encode()).hexdigest() if text else ""
    file: dict[str, Any] = {"encryption": tuple(names), "encryption_sha256": digest}
    return HostFacts([], "", [], "", "", "debian", "12", **file, **more)


@pytest.fixture
def credentials(tmp_path: Any) -> Credentials:
    spec = spec_of()
    return CredentialStore(tmp_path).plan(spec, make_plan(spec))


def asked(credentials: Credentials, one: HostFacts, stored: StoredStates) -> EncryptionPlan:
    return plan_of_run(credentials.spec, credentials, {"m": one}, lambda _: stored)


def test_a_store_has_one_key_of_each_name_and_keeps_those_that_were(tmp_path: Any) -> None:
    store = CredentialStore(tmp_path)
    first = store.plan(spec_of(), make_plan(spec_of()))
    [name] = first.encryption_keys
    assert first.encryption_provider == name == key_name("1", first.encryption_keys[name])
    assert first.encryption_keys[name] in first.secrets()
    assert f"encryption.json: {name} is new" in first.changes
    store.save()
    spec = spec_of(encryption_key="2026-11-26")
    store = CredentialStore(tmp_path)
    second = store.plan(spec, make_plan(spec))
    assert list(second.encryption_keys) == [name, second.encryption_provider]
    assert second.encryption_provider.startswith("2026-11-26-")
    off = CredentialStore(tmp_path).plan(spec_of(encryption=False), make_plan(spec_of()))
    assert (off.encryption_provider, off.changes) == (IDENTITY, ())


def test_what_is_as_wanted_asks_etcd_nothing(credentials: Credentials) -> None:
    wanted, keys = credentials.encryption_provider, credentials.encryption_keys

    def never(_: str) -> StoredStates:
        raise AssertionError

    own = facts_of(encryption_text((wanted,), keys), etcd_data=True, encrypts=FILE)
    for one in (own, facts_of()):
        plan = plan_of_run(credentials.spec, credentials, {"m": one}, never)
        assert plan == EncryptionPlan(wanted, {"m": (wanted,)})


def test_a_cluster_without_encryption_gets_it(credentials: Credentials) -> None:
    wanted = credentials.encryption_provider
    first = {"m": (wanted, IDENTITY)}
    for stored in (StoredStates("ok"), StoredStates("ok", "", {IDENTITY: 3}), StoredStates()):
        # One that does not run at the moment may have written Secrets as they are.
        for runs in ("", None):
            one = facts_of(etcd_data=True, encrypts=runs, apiserver=True)
            assert asked(credentials, one, stored) == EncryptionPlan(wanted, first, last=(wanted,))


def test_a_new_host_of_the_control_plane_has_the_key_at_once(credentials: Credentials) -> None:
    wanted, keys = credentials.encryption_provider, credentials.encryption_keys
    own = facts_of(encryption_text((wanted,), keys), etcd_data=True, encrypts=FILE)
    hosts = {"m": own, "n": facts_of()}
    spec = spec_of(("m", "n", "o"))
    for stored in (StoredStates("ok", "", {wanted: 2}), StoredStates()):
        plan = plan_of_run(spec, credentials, {**hosts, "o": own}, lambda _, one=stored: one)  # type: ignore[misc]
        assert plan == EncryptionPlan(wanted, dict.fromkeys("mno", (wanted,)))


def test_data_of_an_etcd_that_does_not_answer_may_be_as_it_is(credentials: Credentials) -> None:
    wanted = credentials.encryption_provider
    plan = asked(credentials, facts_of(etcd_data=True), StoredStates())
    assert plan == EncryptionPlan(wanted, {"m": (wanted, IDENTITY)}, last=(wanted,))


def test_a_damaged_file_is_mended_at_once(credentials: Credentials) -> None:
    wanted, keys = credentials.encryption_provider, credentials.encryption_keys
    text = encryption_text((wanted,), keys)
    for damaged in (text + "# mine\n", "", "rubbish", text.replace(keys[wanted], "AAAA")):
        one = facts_of(damaged, etcd_data=True, encrypts=FILE)
        stored = StoredStates("ok", "", {wanted: 2})
        assert asked(credentials, one, stored) == EncryptionPlan(wanted, {"m": (wanted,)})
        if damaged:
            with pytest.raises(InputError, match="start etcd"):
                asked(credentials, one, StoredStates(said="curl: (7)"))


def test_a_file_that_is_gone_comes_back_with_every_key(tmp_path: Any) -> None:
    store = CredentialStore(tmp_path)
    old = store.plan(spec_of(), make_plan(spec_of())).encryption_provider
    store.save()
    spec = spec_of(encryption_key="2")
    credentials = CredentialStore(tmp_path).plan(spec, make_plan(spec))
    wanted = credentials.encryption_provider
    one = facts_of(etcd_data=True, encrypts=FILE, apiserver=True)
    plan = asked(credentials, one, StoredStates(said="curl: (58)"))
    assert plan == EncryptionPlan(wanted, {"m": (wanted, old, IDENTITY)}, last=(wanted,))


def test_where_packages_bring_the_apiserver_it_comes_back_with_the_one_key(
    credentials: Credentials,
) -> None:
    wanted = credentials.encryption_provider
    one = facts_of(etcd_data=True, encrypts=FILE, packaged=True)
    plan = asked(credentials, one, StoredStates(said="curl: (58)"))
    assert plan == EncryptionPlan(wanted, {"m": (wanted,)})


def test_a_lost_key_is_refused_by_its_name(credentials: Credentials) -> None:
    one = facts_of(encryption_text((A,), KEYS), etcd_data=True, encrypts=FILE)
    with pytest.raises(InputError, match=f"no key {A}.*encryption.json.*5 need it.*restore"):
        asked(credentials, one, StoredStates("ok", "", {A: 5}))
    with pytest.raises(InputError, match="aescbc"):
        asked(credentials, one, StoredStates("ok", "", {"k8s:enc:aescbc:v1:mine:": 1}))


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({}, True),
        ({"kubernetes_version": "1.20.2", "containerd_version": None}, False),
        ({"apiserver_flags": {"encryption-provider-config": "/etc/mine.yaml"}}, False),
    ],
)
def test_default(data: dict[str, Any], wanted: bool) -> None:
    data = {k: v for k, v in {"containerd_version": "2.4.2", **data}.items() if v}
    hosts = {"m": {"kubernetes_version": "1.37.2", "address": "192.0.2.1", **data}}
    spec = ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["m"]}, hosts)
    assert spec.encryption is wanted
