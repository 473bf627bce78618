"""Sets of objects on an API that is a few lines of Python: what goes, and what never does."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import OperationValueError

from pyinfra_kube.engine.script import Script
from pyinfra_kube.facts.objects import (
    FIELD_MANAGER,
    AppliedObjects,
    AppliedStates,
    Key,
    Object,
    Objects,
    ObjectStates,
    key,
)
from pyinfra_kube.operations import objects
from pyinfra_kube.operations.manifests import title
from pyinfra_kube.operations.object_sets import LABEL, Record, changed_by
from tests.unit import harness


class Api:
    """Objects by what tells them apart. It applies and deletes what scripts say, in their order."""

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.down = False

    def make(self, one: dict[str, Any], manager: str = "kubectl") -> None:
        """What somebody else does."""

        labels = {f"f:{name}": {} for name in one["metadata"].get("labels", {})}
        entry = {
            "manager": manager,
            "operation": "Apply" if manager == FIELD_MANAGER else "Update",
            "fieldsV1": {"f:metadata": {"f:labels": labels}},
        }
        there = self.objects.get(key(one), {"metadata": {}})["metadata"].get("managedFields", [])
        others = [other for other in there if other["manager"] != manager]
        metadata = {**one["metadata"], "managedFields": [*others, entry]}
        self.objects[key(one)] = {**one, "metadata": metadata}

    def answer(self, fact: Any, **arguments: Any) -> Any:
        if self.down:
            return ObjectStates("down", "no answer") if fact is Objects else AppliedStates("down")
        if fact is Objects:
            asked = [_bare(one) for one in arguments["references"]]
            return ObjectStates("ok", "", [*self._there(asked)])
        assert fact is AppliedObjects
        wanted = json.loads(arguments["manifest"])["items"]
        return AppliedStates("ok", "", [*self._there(wanted)], [_object(one) for one in wanted])

    def _there(self, asked: list[dict[str, Any]]) -> list[Object]:
        return [_object(self.objects[key(one)]) for one in asked if key(one) in self.objects]

    def run(self, script: Script, steps: int = 99) -> None:
        """Do the first steps of a script."""

        calls = re.findall(r"^(applied|deleted) \d+ <<'.'\n(.*?)^\.$", script.text, re.M | re.S)
        assert calls
        for call, text in calls[:steps]:
            for one in json.loads(base64.b64decode(text))["items"]:
                if call == "applied":
                    self.make(one, FIELD_MANAGER)
                else:
                    del self.objects[key(one)]


def _bare(reference: dict[str, str]) -> dict[str, Any]:
    metadata = {name: reference[name] for name in ("name", "namespace") if name in reference}
    return {"apiVersion": reference["apiVersion"], "kind": reference["kind"], "metadata": metadata}


def _object(one: dict[str, Any]) -> Object:
    metadata = one["metadata"]
    return Object(one["kind"], metadata["name"], metadata.get("namespace", ""), one)


def call(api: Api, operation: Any, steps: int = 99, **arguments: Any) -> list[str]:
    """Call an operation, do the first steps of what it says; return what it shows."""

    with harness.fake_host({}) as (host, noops, shown):
        harness.answers(host, api.answer)
        scripts = [*operation._inner(**arguments)]
    for script in scripts:
        api.run(script, steps)
    assert bool(scripts) != bool(noops)
    return shown if scripts else []


def config(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def cluster_wide(kind: str, name: str, version: str = "v1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def set_of(api: Api, owner: str, *wanted: dict[str, Any], steps: int = 99) -> list[str]:
    text = yaml.safe_dump_all(wanted)
    manifests = [objects.Manifest("m", text)]
    return call(api, objects.objects, steps, manifests=manifests, owner=owner)


def names(api: Api) -> set[str]:
    return {title(one) for one in api.objects.values() if "set-" not in one["metadata"]["name"]}


def test_what_a_set_lacks_goes() -> None:
    api = Api()
    set_of(api, "shop", config("a"), config("b"), cluster_wide("Node", "n"))
    assert names(api) == {"ConfigMap default/a", "ConfigMap default/b", "Node n"}
    shown = set_of(api, "shop", config("b"))
    assert {"ConfigMap default/a: present → absent", "Node n: present → absent"} <= {*shown}
    assert names(api) == {"ConfigMap default/b"}
    assert set_of(api, "shop", config("b")) == []


def test_a_set_without_manifests_goes_whole() -> None:
    api = Api()
    set_of(api, "shop", config("a"), config("b"))
    assert set_of(api, "shop")
    assert api.objects == {}
    assert set_of(api, "shop") == []


def test_sets_are_taken_away_together() -> None:
    api = Api()
    for owner in ("shop", "tools", "others"):
        set_of(api, owner, config(owner))
    shown = call(api, objects.sets_absent, owners=["shop", "tools", "none"])
    assert "ConfigMap kube-system/pyinfra-kube-set-shop: present → absent" in shown
    assert names(api) == {"ConfigMap default/others"}
    assert call(api, objects.sets_absent, owners=["shop", "tools", "none"]) == []


def test_another_version_is_the_same_object() -> None:
    api = Api()
    set_of(api, "shop", cluster_wide("Role", "r", "rbac/v1beta1"))
    set_of(api, "shop", cluster_wide("Role", "r", "rbac/v1"))
    assert names(api) == {"Role r"}


@pytest.mark.parametrize(
    "kind", ["Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"]
)
def test_what_others_may_have_put_into_stays(kind: str) -> None:
    api = Api()
    set_of(api, "shop", config("a"), cluster_wide(kind, "x"))
    shown = set_of(api, "shop")
    assert f"{kind} x stays: what others have in it would go with it" in shown
    assert names(api) == {f"{kind} x"}
    assert set_of(api, "shop") == []


def test_what_was_there_before_stays() -> None:
    api = Api()
    api.make(config("a"))
    set_of(api, "shop", config("a"), config("b"))
    assert set_of(api, "shop", config("a"), config("b")) == []
    assert "ConfigMap default/a stays: it was there before" in set_of(api, "shop")
    assert names(api) == {"ConfigMap default/a"}


def test_what_somebody_made_anew_stays() -> None:
    api = Api()
    set_of(api, "shop", config("a"))
    made = config("a")
    made["metadata"]["labels"] = {LABEL: "shop"}
    del api.objects[key(made)]
    api.make(made)
    assert [line for line in set_of(api, "shop") if "ConfigMap default/a stays" in line]
    assert names(api) == {"ConfigMap default/a"}


def test_what_another_set_took_stays() -> None:
    api = Api()
    set_of(api, "shop", config("a"))
    set_of(api, "tools", config("a"))
    set_of(api, "shop")
    assert names(api) == {"ConfigMap default/a"}


def test_nothing_is_asked_of_an_api_that_is_down() -> None:
    api = Api()
    api.down = True
    assert call(api, objects.sets_absent, owners=["shop"]) == []


@pytest.mark.parametrize("owner", ["", "Shop", "a b", "-a", "a" * 41])
def test_names_that_no_set_has(owner: str) -> None:
    with pytest.raises(OperationValueError, match="is not a name of at most 40"):
        call(Api(), objects.sets_absent, owners=[owner])


def test_a_record_is_read_as_it_is_written() -> None:
    record = Record("shop").with_those([config("a"), cluster_wide("Node", "n")], [])
    assert Record.of("shop", [_object(record.manifest())]) == record
    assert record.manifest()["data"]["objects"] == "v1 ConfigMap default/a\nv1 Node n\n"


_SETS = st.dictionaries(
    st.sampled_from(["shop", "tools"]), st.sets(st.sampled_from("abcdef")), min_size=1
)


@given(
    foreign=st.sets(st.sampled_from("abcdef")),
    turns=st.lists(st.tuples(_SETS, st.integers(min_value=0, max_value=4)), max_size=4),
    last=_SETS,
)
def test_nothing_of_others_goes_and_nothing_of_ours_is_left(
    foreign: set[str], turns: list[tuple[dict[str, set[str]], int]], last: dict[str, set[str]]
) -> None:
    """Runs that end anywhere; sets that share nothing, beside what somebody else has."""

    api = Api()
    for name in foreign:
        api.make(config(name, "shop"))
    for wanted, steps in turns:
        for owner, some in wanted.items():
            set_of(api, owner, *(config(name, owner) for name in sorted(some)), steps=steps)
    for owner in ("shop", "tools"):
        some = sorted(last.get(owner, ()))
        set_of(api, owner, *(config(name, owner) for name in some))
        assert set_of(api, owner, *(config(name, owner) for name in some)) == []
    wanted = {f"ConfigMap {owner}/{name}" for owner, some in last.items() for name in some}
    assert names(api) == wanted | {f"ConfigMap shop/{name}" for name in foreign}


# Who changed what

_IMAGE = {"f:spec": {"f:containers": {'k:{"name":"dns"}': {"f:image": {}, ".": {}}}}}
_LABEL = {"f:metadata": {"f:labels": {"f:a.b/c": {}}}}


def _changed(manager: str, fields: Any, before: Any, after: Any) -> dict[str, list[str]]:
    entry = {"manager": manager, "operation": "Update", "fieldsV1": fields}
    return changed_by({"metadata": {"managedFields": [entry]}}, before, after)


@pytest.mark.parametrize(
    ("fields", "before", "after", "paths"),
    [
        ({"f:spec": {"f:replicas": {}}}, {"spec": {"replicas": 3}}, {"spec": {"replicas": 2}}, 1),
        (
            {"f:spec": {"f:replicas": {}}},
            {"spec": {"replicas": 2, "a": 1}},
            {"spec": {"replicas": 2}},
            0,
        ),
        (_LABEL, {"metadata": {"labels": {"a.b/c": "1"}}}, {"metadata": {}}, 1),
        (
            _IMAGE,
            {"spec": {"containers": [{"name": "dns", "image": "a"}]}},
            {"spec": {"containers": [{"name": "dns", "image": "b"}]}},
            1,
        ),
        (
            {"f:metadata": {"f:finalizers": {'v:"x"': {}}}},
            {"metadata": {"finalizers": ["x"]}},
            {"metadata": {}},
            1,
        ),
    ],
)
def test_who_set_what(fields: Any, before: Any, after: Any, paths: int) -> None:
    found = _changed("kubectl-edit", fields, before, after)
    assert len(found.get("kubectl-edit", [])) == paths
    assert _changed(FIELD_MANAGER, fields, before, after) == {}


def test_how_fields_are_written() -> None:
    before = {"spec": {"containers": [{"name": "dns", "image": "a"}]}}
    after = {"spec": {"containers": [{"name": "dns", "image": "b"}]}}
    assert _changed("x", _IMAGE, before, after) == {"x": ["spec.containers[dns].image"]}
