"""Who has access, and what granting, revoking and the time make of that."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import State
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.access import (
    ROLES,
    Access,
    Grant,
    access_of,
    grant_of,
    others_that_name,
    pair_of,
    person_of,
)
from pyinfra_kube.cluster.kubeconfigs import kubeconfig
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.access import manage_access
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.deploys.run.people import Kubeconfigs
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.facts.access import Binding, BindingStates
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import TWO_NODES, prepared

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
CA, OTHER_CA = (pki.make_ca("kubernetes-ca", now=NOW) for _ in range(2))


def spec_of(**data: Any) -> ClusterSpec:
    common = {"kubernetes_version": "1.37.2", "control_plane_endpoint": "192.0.2.1"}
    given = {key if key in common else f"access_{key}": value for key, value in data.items()}
    hosts = {name: {**common, **given} for name in "mn"}
    return ClusterSpec.from_inventory({"control_plane": ["m"], "nodes": ["n"]}, hosts)


def granted(
    person: str = "alice", serial: int = 1, group: str = "viewers", days: int = 30, left: float = 30
) -> Grant:
    return Grant(person, f"{serial:08x}", group, days, NOW + timedelta(left))


def held_by(grant: Grant, ca: pki.KeyPair = CA) -> str:
    pair = pki.issue(ca, "client", grant.identity, days=grant.days, now=NOW)
    encoded = (base64.b64encode(text.encode()).decode() for text in (pair.cert, pair.key))
    user = zip(("client-certificate-data", "client-key-data"), encoded, strict=True)
    return kubeconfig("kubernetes", grant.person, (("server", "https://192.0.2.1"),), tuple(user))


ALICE = granted()
HELD = {"alice": held_by(ALICE)}
ASK = {"user": "alice", "group": "viewers"}


def made_of(data: Mapping[str, Any], *found: Grant, held: Mapping[str, str] = HELD) -> Access:
    return access_of(spec_of(**data), {one.identity: one for one in found}, held, CA.cert, NOW)


# What a run makes of it


@pytest.mark.parametrize(
    ("data", "found", "held", "why"),
    [
        (ASK, ALICE, HELD, ""),
        (ASK | {"group": "editors"}, ALICE, HELD, "ends: was of viewers, for 30 days"),
        (ASK | {"days": 7}, ALICE, HELD, "ends: was of viewers, for 30 days"),
        (ASK, granted(left=10.1), HELD, ""),
        (ASK, granted(left=10), HELD, "ends: a third of its life is left"),
        (ASK, granted(left=0), HELD, "expired"),
        (ASK, ALICE, {}, "ends: its kubeconfig is not here"),
        (ASK, ALICE, {"alice": "[]"}, "ends: its kubeconfig is not here"),
        (ASK, ALICE, {"alice": HELD["alice"][:900]}, "ends: its kubeconfig is not here"),
        (ASK, granted(serial=2), HELD, "ends: the kubeconfig here is another"),
        (ASK, ALICE, {"alice": held_by(ALICE, OTHER_CA)}, "ends: the kubeconfig here is another"),
    ],
)
def test_whoever_is_let_in_has_one_grant(
    data: dict[str, Any], found: Grant, held: dict[str, str], why: str
) -> None:
    plan = made_of(data, found, held=held)
    assert plan.ended == ({found.identity: why} if why else {})
    assert (plan.made is None, plan.kept) == (not why, () if why else (found,))
    if plan.made:
        assert plan.made.serial != found.serial
        assert (plan.made.group, plan.made.role) == (data["group"], ROLES[data["group"]])
        assert plan.made.ends == NOW + timedelta(data.get("days", 30))
    assert "alice" in plan.table()


@pytest.mark.parametrize(
    ("data", "left", "ended"),
    [
        ({}, 30, {}),
        ({"revoke": "alice"}, 30, {ALICE.identity: "revoked"}),
        ({"revoke": "alice"}, -1, {ALICE.identity: "revoked"}),
        ({"revoke": "bob"}, 30, {}),
        ({}, -1, {ALICE.identity: "expired"}),
        ({"user": "bob", "group": "admins"}, -1, {ALICE.identity: "expired"}),
    ],
)
def test_whoever_is_revoked_or_late_is_out(
    data: dict[str, Any], left: float, ended: dict[str, str]
) -> None:
    assert made_of(data, granted(left=left)).ended == ended


def test_a_binding_of_unknown_end_goes() -> None:
    found = {ALICE.identity: grant_of(ALICE.identity, "view", {})}
    ended = access_of(spec_of(), found, HELD, CA.cert, NOW).ended
    assert ended == {
        ALICE.identity: "ends: its binding does not say until when, or has another role"
    }


_NAMES = ("alice", "bob", "a.b-c")
_GRANTS = st.lists(
    st.builds(
        granted,
        st.sampled_from(_NAMES),
        st.integers(0, 5),
        st.sampled_from(sorted(ROLES)),
        st.integers(1, 400),
        st.floats(-5, 400),
    ),
    max_size=5,
    unique_by=lambda one: one.identity,
)
_ASKS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"revoke": st.sampled_from(_NAMES)}),
    st.fixed_dictionaries(
        {
            "user": st.sampled_from(_NAMES),
            "group": st.sampled_from(sorted(ROLES)),
            "days": st.integers(1, 400),
        }
    ),
)


@given(_GRANTS, _ASKS)
def test_no_identity_comes_back(found: list[Grant], data: dict[str, Any]) -> None:
    plan = made_of(data, *found)
    before, after = {one.identity for one in found}, {one.identity for one in plan.granted}
    assert before == {one.identity for one in plan.kept} | set(plan.ended)
    assert not after & set(plan.ended)
    assert plan.made is None or plan.made.identity not in before
    assert data.get("revoke") not in plan.people
    assert all(one.ends > NOW for one in plan.granted)
    asked = [one for one in plan.granted if one.person == data.get("user")]
    assert [(one.group, one.days) for one in asked] == (
        [(data["group"], data["days"])] if "user" in data else []
    )
    # Nobody else loses what is not over.
    others = [one for one in found if one.person not in (*data.values(),) and one.ends > NOW]
    assert set(others) <= set(plan.kept)
    # The next run finds it as wanted.
    held = HELD | ({plan.made.person: held_by(plan.made)} if plan.made else {})
    again = made_of(data, *plan.granted, held=held)
    assert (again.made, dict(again.ended), set(again.kept)) == (None, {}, set(plan.granted))


# What a binding says


def test_a_grant_reads_its_binding() -> None:
    for group, role in ROLES.items():
        grant = replace(ALICE, group=group)
        assert grant_of(grant.identity, role, grant.annotations) == grant


@pytest.mark.parametrize(
    ("identity", "role", "notes"),
    [
        ("pyinfra-kube:alice", "view", {}),
        ("pyinfra-kube:alice:0000000g", "view", {}),
        ("alice:00000001", "view", {}),
        (ALICE.identity, "system:node", {}),
        (ALICE.identity, "view", {"pyinfra-kube/ends": "soon"}),
        (ALICE.identity, "view", {"pyinfra-kube/days": "many"}),
    ],
)
def test_what_is_no_grant(identity: str, role: str, notes: dict[str, str]) -> None:
    assert grant_of(identity, role, ALICE.annotations | notes) is None


def test_a_name_fits_into_a_certificate() -> None:
    identity = granted("e" * 40).identity
    assert (len(identity) <= 64, person_of(identity)) == (True, "e" * 40)
    assert not any(map(person_of, ("system:node:n", "pyinfra-kube:cluster-admins", "admin")))


def test_bindings_of_others() -> None:
    named = {"RoleBinding a/b": [ALICE.identity, "pyinfra-kube:bob:00000002"], "RoleBinding c": []}
    assert others_that_name([ALICE.identity], named) == {
        "RoleBinding a/b": ["pyinfra-kube:bob:00000002"]
    }


def test_every_group_can_be_asked_for() -> None:
    hint = ClusterSpec.model_fields["access_group"].annotation
    words = [word for kind in get_args(hint) for word in get_args(kind)]
    assert words == list(ROLES)


# The run

Plan = Callable[..., tuple[State, str]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A run on a cluster whose credentials are kept; its state, and what it says and shows."""
    monkeypatch.setattr("pyinfra.is_cli", True)
    said: list[str] = []
    for kind in ("info", "warning"):
        monkeypatch.setattr(f"pyinfra.logger.{kind}", said.append)
    common = {"kubernetes_version": "1.37.2", "credentials_dir": str(tmp_path / "kept")}
    debian = PackageStates("apt", "debian", "12")

    def plan(states: BindingStates, **data: Any) -> tuple[State, str]:
        given = {f"access_{key}": value for key, value in data.items()}
        more = {"access.Bindings": states}
        state, shown = prepared(manage_access, TWO_NODES, common | given, debian, more=more)
        return state, "\n".join([*said, *shown.values()])

    @phase("Keep")
    def keep() -> None:
        current_cluster().store.save()

    prepared(keep, TWO_NODES, common, debian)
    return plan


def _changes(state: State) -> list[str]:
    return [
        next(iter(state.op_meta[key].names))
        for key in state.get_op_order()
        for host in state.inventory
        if key in state.ops[host] and state.ops[host][key].operation_meta.will_change
    ]


def test_a_plan_writes_nothing_and_prints_no_secret(plan: Plan, tmp_path: Path) -> None:
    state, said = plan(BindingStates("ok"), **ASK)
    assert _changes(state) == [
        "People | Keep people's kubeconfigs on the control machine",
        "People | Give access",
    ]
    path = tmp_path / "kept/users/alice.kubeconfig"
    assert not path.exists()
    assert f"{path}: written, content hidden" in said
    assert "ClusterRoleBinding pyinfra-kube:alice:" in said
    assert "client-key-data" not in said


def test_who_is_revoked_is_named(plan: Plan, tmp_path: Path) -> None:
    Kubeconfigs(tmp_path / "kept").write({"alice": HELD["alice"]})
    binding = Binding(
        ALICE.identity, "view", "alice", ALICE.annotations, [f"User {ALICE.identity}"]
    )
    others = {"RoleBinding shop/cooks": [ALICE.identity]}
    state, said = plan(BindingStates("ok", "", {binding.name: binding}, others), revoke="alice")
    assert _changes(state) == [
        "People | Take access away",
        "People | Keep people's kubeconfigs on the control machine",
    ]
    assert f"RoleBinding shop/cooks lets {ALICE.identity} in" in said
    assert "alice.kubeconfig: removed" in said


def test_nothing_changes_while_the_cluster_does_not_tell(plan: Plan) -> None:
    with pytest.raises(DeployError, match="it cannot be read who has access: no route"):
        plan(BindingStates("down", "no route"), **ASK)


# The folder


def test_the_folder_is_closed_and_holds_what_is_wanted(tmp_path: Path) -> None:
    folder = Kubeconfigs(tmp_path / "store")
    assert folder.read() == {}
    folder.write({"alice": "a", "bob": "b"})
    assert [path.stat().st_mode & 0o777 for path in (folder.folder, folder.path("bob"))] == [
        0o700,
        0o600,
    ]
    assert folder.pending({"alice": "a", "bob": "c"}) == [
        f"{folder.path('bob')}: written, content hidden"
    ]
    assert folder.pending({"alice": "a"}) == [f"{folder.path('bob')}: removed"]
    folder.write({"alice": "a"})
    assert (folder.read(), folder.pending({"alice": "a"})) == ({"alice": "a"}, [])


@pytest.mark.parametrize("text", ["", "[]", "users: []", "\t", "users: [{user: {}}]"])
def test_a_file_that_is_no_kubeconfig(text: str) -> None:
    assert pair_of(text) is None


def test_a_kubeconfig_gives_its_pair() -> None:
    pair = pair_of(HELD["alice"])
    assert pair
    assert pki.fits(pair.cert, pair.key)
    assert yaml.safe_load(HELD["alice"])["current-context"] == "kubernetes"
