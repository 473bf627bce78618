"""CAs that follow others: no two sides meet of which one does not trust what the other shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.rotation import TOKEN_LIFE, Held, rotation_problems
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.rotation import problems_of_run
from pyinfra_kube.facts.certificates import parse

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


def held(trusted: str, signed: str = "", signing_for: float | None = None) -> Held:
    return Held(frozenset(trusted), frozenset(signed), signing_for)


@pytest.mark.parametrize(
    ("ca", "beside", "found", "silent", "said"),
    [
        # Nothing is there yet, and all is as wanted.
        ("1", None, {}, [], []),
        ("1", None, {"m": held("1", "1", 1.0), "n": held("1")}, [], []),
        # The steps.
        ("1", "2", {"m": held("1", "1", 1.0), "n": held("1")}, [], []),
        ("2", "1", {"m": held("12", "1", 1.0), "n": held("12")}, [], []),
        ("2", None, {"m": held("12", "2", TOKEN_LIFE), "n": held("12")}, [], []),
        # Back from the second one.
        ("1", "2", {"m": held("12", "2", 1.0), "n": held("12")}, [], []),
        # Steps that a killed run left half.
        ("1", "2", {"m": held("12", "1", 1.0), "n": held("1")}, [], []),
        ("2", "1", {"m": held("12", "12", 1.0), "n": held("12")}, [], []),
        ("2", None, {"m": held("2", "2", TOKEN_LIFE), "n": held("12")}, [], []),
        # Steps that are left out.
        ("2", None, {"m": held("1", "1")}, [], ['set ca = "1" and ca_rotation = "2"']),
        ("2", "1", {"m": held("12", "1"), "n": held("1")}, [], ["n do not trust"]),
        ("2", None, {"m": held("12", "12", TOKEN_LIFE)}, [], ['ca_rotation = "1"']),
        ("1", None, {"m": held("2", "2")}, [], ['set ca = "2" and ca_rotation = "1"']),
        # Tokens of the old key.
        ("2", None, {"m": held("12", "2", 60.0)}, [], ["run again in 60 minutes"]),
        # A host that is not there.
        ("1", None, {"m": held("1", "1")}, ["o"], []),
        ("2", "1", {"m": held("12", "1")}, ["o"], ["o, which a change must reach"]),
        ("2", None, {"m": held("12", "2", TOKEN_LIFE)}, ["o"], ["o, which a change must reach"]),
        # A node that comes back late is mended.
        ("2", None, {"m": held("2", "2", TOKEN_LIFE), "n": held("1")}, [], []),
    ],
)
def test_steps(
    ca: str, beside: str | None, found: Mapping[str, Held], silent: list[str], said: list[str]
) -> None:
    problems = [str(problem) for problem in rotation_problems(ca, beside, found, silent)]
    assert len(problems) == len(said), problems
    assert all(part in problem for part, problem in zip(said, problems, strict=True))


class World:
    """Hosts that show certificates to each other all the time, and pods with tokens."""

    def __init__(self, hosts: int) -> None:
        self.trusted = {f"m{number}": {"1"} for number in range(hosts)}
        self.signed = dict.fromkeys(self.trusted, "1")
        self.now, self.since, self.token = 0.0, 0.0, "1"
        self.meet()

    def meet(self) -> None:
        for host, trusted in self.trusted.items():
            assert {*self.signed.values()} <= trusted, (host, self.signed, trusted)
            assert self.token in trusted

    def later(self, seconds: float) -> None:
        self.now += seconds
        if self.now - self.since >= TOKEN_LIFE:
            self.token = self.signed["m0"]

    def run(self, ca: str, beside: str | None) -> Iterator[None]:
        """One run, which may be killed where it yields; a step that is refused does nothing."""
        found = {
            host: held("".join(trusted), self.signed[host], self.now - self.since)
            for host, trusted in self.trusted.items()
        }
        if rotation_problems(ca, beside, found):
            return
        for host in self.trusted:
            # A script of files: what is trusted is set before what is shown, or after it.
            self.trusted[host] = {ca, *([beside] if beside else [])}
            yield
            if self.signed[host] != ca:
                self.signed[host], self.since = ca, self.now
            yield


@given(
    hosts=st.sampled_from([1, 3]),
    runs=st.lists(
        st.tuples(
            st.sampled_from("123"),
            st.sampled_from(["1", "2", "3", None]),
            st.integers(0, 7),
            st.sampled_from([1.0, TOKEN_LIFE]),
        ).filter(lambda one: one[0] != one[1]),
        max_size=12,
    ),
)
def test_each_side_trusts_what_the_other_shows_wherever_runs_are_killed(
    hosts: int, runs: list[tuple[str, str | None, int, float]]
) -> None:
    world = World(hosts)
    for ca, beside, steps, wait in runs:
        for _, _ in zip(range(steps), world.run(ca, beside), strict=False):
            world.meet()
        world.later(wait)
        world.meet()


@given(hosts=st.sampled_from([1, 3]), kills=st.lists(st.integers(0, 7), min_size=3, max_size=3))
def test_three_steps_lead_to_others(hosts: int, kills: list[int]) -> None:
    world = World(hosts)
    for (ca, beside), kill in zip((("1", "2"), ("2", "1"), ("2", None)), kills, strict=True):
        for steps in (kill, 100):
            for _, _ in zip(range(steps), world.run(ca, beside), strict=False):
                world.meet()
        world.later(TOKEN_LIFE)
    assert [*world.trusted.values()] == [{"2"}] * hosts
    assert {*world.signed.values()} == {world.token} == {"2"}


# The store, and what hosts have of it


def spec_of(**data: Any) -> ClusterSpec:
    data = {"kubernetes_version": "1.37.2", "containerd_version": "2.4.2", **data}
    hosts = {name: {**data, "address": f"192.0.2.{n}"} for n, name in enumerate("mn", 1)}
    return ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n"]}, hosts)


STEPS: list[dict[str, Any]] = [
    {},
    {"ca_rotation": "new"},
    {"ca": "new", "ca_rotation": "1"},
    {"ca": "new"},
]


def taken(folder: Path, step: int, **more: Any) -> Credentials:
    store, spec = CredentialStore(folder), spec_of(**STEPS[step], **more)
    found = store.plan(spec, make_plan(spec))
    store.save()
    return found


def facts_of(credentials: Credentials, host: str, since: float = 0.0) -> Any:
    files = credentials.host_files(credentials.spec.host(host))
    bundles = {
        path: [parse(f"{part}-----END CERTIFICATE-----") for part in _parts(text)]
        for path, text in files.items()
        if path.endswith("ca.crt")
    }
    others = [text for path, text in files.items() if path.endswith(".crt") and path not in bundles]
    return SimpleNamespace(
        certificates=bundles,
        signed=[parse(text) for text in others],
        token_keys=files.get("/srv/kubernetes/service-account.pub", ""),
        signing_since=since,
    )


def _parts(text: str) -> list[str]:
    return text.split("-----END CERTIFICATE-----\n")[:-1]


def test_each_step_follows_the_one_before_and_no_other(tmp_path: Path) -> None:
    for step in range(4):
        credentials = taken(tmp_path, step)
        facts: Any = {name: facts_of(credentials, name) for name in "mn"}
        for wanted in range(4):
            spec = spec_of(**STEPS[wanted])
            planned = CredentialStore(tmp_path).plan(spec, make_plan(spec))
            found = problems_of_run(spec, planned, facts)
            # Back or forth by one step, or to stay; from one end to the other it is all three.
            assert (not found) == (abs(step - wanted) <= 1), (step, wanted, found)


def test_what_is_signed_and_what_is_trusted(tmp_path: Path) -> None:
    stores = [taken(tmp_path, step, certificate_signing=True) for step in range(4)]
    files = [one.host_files(one.spec.host("m")) for one in stores]
    people = [one.issue_client("somebody", 1, NOW) for one in stores]
    base = "/srv/kubernetes"
    old, new = ((tmp_path / name).read_text() for name in ("ca.crt", "authorities/ca-new.crt"))
    assert [one[f"{base}/ca.crt"] for one in files] == [old, old + new, new + old, new]
    signers = [old, old, new, new]
    assert [one[f"{base}/signing-ca.crt"] for one in files] == signers
    for one, person, signer in zip(files, people, signers, strict=True):
        assert pki.issued_by(person.cert, signer)
        assert pki.issued_by(one[f"{base}/server.crt"], signer)
        assert pki.fits(signer, one[f"{base}/ca.key"])
        public = pki.public_key(one[f"{base}/service-account.key"])
        assert one[f"{base}/service-account.pub"].startswith(public)
    assert [one[f"{base}/service-account.pub"].count("BEGIN") for one in files] == [1, 2, 2, 1]
    assert [one[f"{base}/etcd-ca.crt"].count("BEGIN") for one in files] == [1, 2, 2, 1]


def test_a_store_keeps_the_cas_that_were(tmp_path: Path) -> None:
    first = taken(tmp_path, 0)
    for step in (1, 2):
        taken(tmp_path, step)
    last = taken(tmp_path, 3)
    assert taken(tmp_path, 3).changes == ()
    assert first.ca_fingerprints < last.ca_fingerprints
    assert last.known_cas == ("1", "new")
    config = yaml.safe_load(last.kubeconfig("kubelet", "n"))
    assert config["clusters"][0]["cluster"]["certificate-authority-data"]
    names = [
        pki.read((tmp_path / f"authorities/{n}-new.crt").read_text()).common_name
        for n in ("ca", "etcd-ca")
    ]
    assert names == ["kubernetes-ca-new", "kubernetes-etcd-ca-new"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"ca": "a", "ca_rotation": "a"}, "another name than that of ca"),
        ({"ca_rotation": "Ä"}, "at most 16 lower-case"),
        (
            {"ca_rotation": "a", "kubernetes_version": "1.23.1", "containerd_version": None},
            "up to 1.23 the cluster keeps its CA",
        ),
    ],
)
def test_wrong_names(data: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        spec_of(**data)
