"""Steps of a running etcd from HTTP to TLS: no member is ever out of reach, wherever a run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.etcd_move import (
    BOTH,
    TLS,
    EtcdState,
    Scheme,
    Serves,
    Step,
    next_step,
    plan_move,
    steps_from,
)
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.etcd import move_of_run
from pyinfra_kube.deploys.run.host_facts import HostFacts
from pyinfra_kube.facts.etcd import Member, Members

HTTP: frozenset[Scheme] = frozenset({"http"})
_TO_CLIENTS: Mapping[Serves, frozenset[Scheme]] = {"http": HTTP, "both": BOTH, "tls": TLS}
_TO_MEMBERS: Mapping[Serves, Scheme] = {"http": "http", "both": "http", "tls": "https"}


def _names(number: int) -> list[str]:
    return [f"m{one}" for one in range(number)]


def _all_http(members: int, clients: int) -> EtcdState:
    names = _names(members)
    return EtcdState(
        dict.fromkeys(names, "http"),
        dict.fromkeys(names, HTTP),
        dict.fromkeys(_names(clients), "http"),
    )


def _reaches(state: EtcdState, one: str, other: str) -> bool:
    """Whether a member can dial another: it knows a URL that works, and has a certificate."""
    scheme = _TO_MEMBERS[state.members[other]]
    return scheme in state.registered[other] and (scheme == "http" or state.members[one] != "http")


def _is_whole(state: EtcdState) -> bool:
    reach = all(_reaches(state, a, b) for a in state.members for b in state.members if a != b)
    served = all(
        scheme in _TO_CLIENTS[serves]
        for scheme in state.clients.values()
        for serves in state.members.values()
    )
    return reach and served


def _is_done(state: EtcdState) -> bool:
    return (
        {*state.members.values()} == {"tls"}
        and {*state.registered.values()} == {TLS}
        and {*state.clients.values()} <= {"https"}
    )


sizes = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3))


@given(sizes)
def test_no_member_and_no_apiserver_is_ever_cut_off(size: tuple[int, int]) -> None:
    state = _all_http(*size)
    assert _is_whole(state)
    for step in steps_from(state):
        # A step takes one member at most away for a while: the others are a majority.
        assert (
            len({h for h in state.members if state.after(step).members[h] != state.members[h]}) < 2
        )
        state = state.after(step)
        assert _is_whole(state), step
    assert _is_done(state)


@given(sizes, st.lists(st.integers(0, 30), max_size=6))
def test_a_run_goes_on_where_the_last_one_was_killed(
    size: tuple[int, int], kills: list[int]
) -> None:
    state = _all_http(*size)
    whole = steps_from(state)
    taken: list[Step] = []
    for kill in [*kills, len(whole)]:
        plan = plan_move(state.members, state.registered, state.clients)
        assert plan.first == state
        for step in plan.steps[:kill]:
            state = state.after(step)
            taken.append(step)
    assert tuple(taken) == whole
    assert _is_done(state)


states = st.integers(1, 3).flatmap(
    lambda number: st.builds(
        EtcdState,
        st.fixed_dictionaries({n: st.sampled_from(get_args(Serves)) for n in _names(number)}),
        st.fixed_dictionaries({n: st.sampled_from([HTTP, BOTH, TLS]) for n in _names(number)}),
        st.fixed_dictionaries({n: st.sampled_from(get_args(Scheme)) for n in _names(number)}),
    )
)


@given(states)
def test_every_state_ends_at_tls(state: EtcdState) -> None:
    """Even one that somebody made by hand."""
    was_whole = _is_whole(state)
    for step in steps_from(state):
        state = state.after(step)
        assert _is_whole(state) or not was_whole, step
    assert _is_done(state)
    assert next_step(state) is None


@pytest.mark.parametrize(
    ("members", "registered", "first"),
    [
        # Blank hosts have TLS at once.
        ({"a": None, "b": None, "c": None}, {}, ["tls", "tls", "tls"]),
        # A manifest is lost on the way: what its others can reach.
        ({"a": "both", "b": None, "c": "http"}, {}, ["both", "both", "http"]),
        ({"a": "tls", "b": None, "c": "both"}, {"b": TLS, "a": BOTH, "c": BOTH}, None),
        # And at the end.
        ({"a": "tls", "b": None, "c": "tls"}, {}, ["tls", "tls", "tls"]),
    ],
)
def test_where_a_run_begins(
    members: Mapping[str, Any], registered: Mapping[str, Any], first: list[str] | None
) -> None:
    found = plan_move(members, registered, dict.fromkeys(members))
    assert [*found.first.members.values()] == (first or ["tls", "tls", "both"])


def test_the_only_manifest_is_lost_on_the_way() -> None:
    for asked, serves in (("http", "both"), ("https", "tls")):
        found = plan_move({"m": None}, {}, {"m": asked})  # type: ignore[dict-item]
        assert _is_whole(found.first)
        assert found.first.members == {"m": serves}


def test_nothing_moves_without_all_hosts() -> None:
    state = _all_http(3, 3)
    found = plan_move(state.members, state.registered, state.clients, ("m2",))
    assert (found.steps, found.waits_for, found.first) == ((), ("m2",), state)


# What hosts tell


def _spec(**settings: Any) -> ClusterSpec:
    names = _names(3)
    given = {"kubernetes_version": "1.20.15", **settings}
    data = {n: {**given, "address": f"192.0.2.{i}"} for i, n in enumerate(names, 11)}
    return ClusterSpec.from_inventory({"control_plane": names, "nodes": names}, data)


def _host(serves: Serves | None, asked: Scheme | None) -> HostFacts:
    return HostFacts([], "", [], "", "", "debian", "12", etcd_serves=serves, etcd_asked=asked)


def _members(scheme: str) -> Members:
    found = {n: Member("1", n, (f"{scheme}://{n}:2380",), ()) for n in _names(3)}
    return Members("ok", found)


def test_etcd_is_asked_only_on_the_way() -> None:
    asked: list[str] = []

    def ask(host: str, scheme: str) -> Members:
        asked.append(f"{scheme} {host}")
        return _members("http")

    settled = dict.fromkeys(_names(3), _host("tls", "https"))
    assert move_of_run(_spec(), settled, ask).steps == ()
    blank = dict.fromkeys(_names(3), _host(None, None))
    assert move_of_run(_spec(), blank, ask).steps == ()
    assert not asked
    plain = dict.fromkeys(_names(3), _host("http", "http"))
    assert len(move_of_run(_spec(), plain, ask).steps) == 15
    assert asked == ["http m0"]


@pytest.mark.parametrize(
    ("settings", "serves", "says"),
    [
        ({"etcd_tls": False}, "both", "etcd_tls = False; allowed: True"),
        ({"etcd_tls": False}, "tls", "etcd_tls = False; allowed: True"),
        ({"kubernetes_version": "1.5.8"}, "http", "cannot serve HTTP and TLS at once"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], serves: Serves, says: str) -> None:
    facts = dict.fromkeys(_names(3), _host(serves, "http"))
    with pytest.raises(InputError, match=says):
        move_of_run(_spec(**settings), facts, lambda host, scheme: _members("http"))


def test_http_stays_where_it_is_wanted() -> None:
    facts = dict.fromkeys(_names(3), _host("http", "http"))
    found = move_of_run(_spec(etcd_tls=False), facts, lambda host, scheme: Members())
    assert (found.steps, {*found.first.members.values()}) == ((), {"http"})
