"""Facts that are asked as one answer what they answer alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import FactBase

from pyinfra_kube.engine.joining import Joined, alone, join
from pyinfra_kube.engine.round_trip import RoundTrip
from pyinfra_kube.engine.subject import Failure, Subject
from pyinfra_kube.facts.docker import DockerNetworks
from pyinfra_kube.facts.files import FileContents, Files, LinkSteps, Obstacles
from pyinfra_kube.facts.objects import (
    AppliedObjects,
    AppliedStates,
    Object,
    Objects,
    ObjectStates,
)
from pyinfra_kube.facts.services import Units, UnitState, UnitStates

NAMES = ["file", "other", "link", "broken", "loop", "folder", "to-folder", "full", "none", "a b"]


def _asked(subjects: list[Subject]) -> dict[str, Any]:
    trip = RoundTrip(subjects)
    ran = subprocess.run(["sh", "-c", trip.command], capture_output=True, text=True, check=True)
    return trip.process(ran.stdout.split("\n"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    (root / "file").write_text("text")
    (root / "other").write_text("x" * 2_000_000)
    (root / "a b").write_text("")
    (root / "folder").mkdir()
    (root / "full").mkdir()
    (root / "full" / "file").touch()
    for link, target in [("link", "file"), ("broken", "no/file"), ("loop", "loop")]:
        (root / link).symlink_to(target)
    (root / "to-folder").symlink_to("folder")
    for path in root.iterdir():
        if not path.is_symlink():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    return root


@st.composite
def _questions(draw: st.DrawFn) -> list[tuple[type[FactBase[Any]], dict[str, Any]]]:
    asked: list[tuple[type[FactBase[Any]], dict[str, Any]]] = []
    paths = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
    for _ in range(draw(st.integers(2, 6))):
        fact = draw(st.sampled_from([Files, Obstacles, FileContents, LinkSteps]))
        arguments: dict[str, Any] = {"paths": draw(paths)}
        if fact is Files:
            arguments |= draw(st.sampled_from([{}, {"digest": False}, {"digest": True}]))
        if fact is Obstacles:
            wanted = st.lists(st.sampled_from(arguments["paths"]), unique=True)
            arguments["folders"] = draw(wanted)
        asked.append((fact, arguments))
    return asked


@given(_questions())
def test_each_path_is_told_as_alone(
    tree: Path, asked: list[tuple[type[FactBase[Any]], dict[str, Any]]]
) -> None:
    def here(names: list[str]) -> list[str]:
        return [str(tree / name) for name in names]

    subjects = [
        Subject(fact, {k: here(v) if isinstance(v, list) else v for k, v in arguments.items()})
        for fact, arguments in asked
    ]
    joined = join(subjects)
    facts = {one.fact for one in subjects}
    assert len(joined) >= len(facts)
    expected, values = _asked(subjects), _asked([one.subject for one in joined])
    for one in joined:
        answers = one.answers(values[one.subject.key])
        assert answers == {part.key: expected[part.key] for part in one.parts}


def test_what_two_want_differently_is_asked_twice() -> None:
    one = Subject(Obstacles, {"paths": ["/srv/a", "/srv/b"], "folders": ["/srv/a"]})
    other = Subject(Obstacles, {"paths": ["/srv/a"], "folders": []})
    third = Subject(Obstacles, {"paths": ["/srv/c"], "folders": ["/srv/c"]})
    assert [len(group.parts) for group in join([one, other, third])] == [2, 1]


def test_no_joined_question_fills_a_round_trip() -> None:
    subjects = [Subject(Files, {"paths": [f"/srv/{'x' * 200}/{i}"]}) for i in range(500)]
    joined = join(subjects)
    assert 2 <= len(joined) <= 20
    assert all(len(one.subject.command(Files())) < 50_000 for one in joined)
    assert [part for one in joined for part in one.parts] == subjects


def test_other_facts_and_other_askers_stay_apart() -> None:
    here, there = {"kubeconfig": "/a"}, {"kubeconfig": "/b"}
    subjects = [
        Subject(Objects, {"references": [_reference("one")], **here}),
        Subject(Objects, {"references": [_reference("two")], **there}),
        Subject(AppliedObjects, {"manifest": _manifest("one"), **here}),
        Subject(AppliedObjects, {"manifest": _manifest("one"), **here}),
        Subject(AppliedObjects, {"manifest": "kind: Namespace", **here}),
    ]
    assert join(subjects) == alone(subjects)


def _in_order(one: Joined, answer: Any) -> list[Any]:
    answers = one.answers(answer)
    return [answers[part.key] for part in one.parts]


def _reference(name: str) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "namespace": "shop"}


def _object(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def _manifest(*names: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*map(_object, names)]})


def _found(*names: str) -> list[Object]:
    return [Object("ConfigMap", name, "shop", _object(name)) for name in names]


def test_each_set_of_objects_gets_its_own() -> None:
    (one,) = join(
        [
            Subject(Objects, {"references": [_reference("a"), _reference("b")]}),
            Subject(Objects, {"references": [_reference("b"), _reference("c")]}),
        ]
    )
    assert [r["name"] for r in one.subject.arguments["references"]] == ["a", "b", "c"]
    ok = ObjectStates("ok", "", _found("b", "c"))
    assert _in_order(one, ok) == [
        ObjectStates("ok", "", _found("b")),
        ObjectStates("ok", "", _found("b", "c")),
    ]
    assert _in_order(one, ObjectStates("missing")) == [ObjectStates("missing")] * 2


def test_each_manifest_gets_its_own() -> None:
    (one,) = join(
        [
            Subject(AppliedObjects, {"manifest": _manifest("a", "b")}),
            Subject(AppliedObjects, {"manifest": _manifest("c")}),
        ]
    )
    assert one.subject.arguments["manifest"] == _manifest("a", "b", "c")
    ok = AppliedStates("ok", "", _found("a"), _found("a", "b", "c"))
    assert _in_order(one, ok) == [
        AppliedStates("ok", "", _found("a"), _found("a", "b")),
        AppliedStates("ok", "", [], _found("c")),
    ]


def test_each_unit_is_told_apart() -> None:
    subjects = [
        Subject(Units, {"units": ["a.service"], "config": ["/etc/a"]}),
        Subject(Units, {"units": ["b.service", "a.service"]}),
    ]
    (one,) = join(subjects)
    assert one.subject.arguments == {"units": ["a.service", "b.service"], "config": ["/etc/a"]}
    a, b = UnitState(pid=1), UnitState(pid=2)
    answer = UnitStates("systemd", 5.0, {"a.service": a, "b.service": b}, {"/etc/a": 1.0})
    first, second = _in_order(one, answer)
    assert first == UnitStates("systemd", 5.0, {"a.service": a}, {"/etc/a": 1.0})
    assert second.units == {"b.service": b, "a.service": a}
    assert _in_order(one, UnitStates("missing")) == [UnitStates("missing")] * 2


@pytest.mark.parametrize(
    ("subjects", "answer"),
    [
        (
            lambda: [Subject(Objects, {"references": [_reference(n)]}) for n in "ab"],
            ObjectStates("refused", "forbidden"),
        ),
        (
            lambda: [Subject(AppliedObjects, {"manifest": _manifest(n)}) for n in "ab"],
            AppliedStates("rejected", "b is invalid"),
        ),
        (lambda: [Subject(Units, {"units": [n]}) for n in "ab"], UnitStates("down")),
        (lambda: [Subject(Files, {"paths": [f"/{n}"]}) for n in "ab"], Failure("/b: unreadable")),
    ],
    ids=["objects", "manifests", "units", "files"],
)
def test_a_failure_is_not_taken_for_that_of_another(
    subjects: Callable[[], list[Subject]], answer: Any
) -> None:
    (one,) = join(subjects())
    assert one.answers(answer) == {}
    (single, _) = alone(subjects())
    assert single.answers(answer) == {single.subject.key: answer}


def test_no_value_is_an_answer() -> None:
    subject = Subject(DockerNetworks)
    assert join([subject]) == alone([subject])
    assert alone([subject])[0].answers(None) == {subject.key: None}
