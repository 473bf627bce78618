"""
Sets of objects: what of the API's objects belongs to which set, and may go when its set lacks it.

An object of a set has a label with the set's name. A ConfigMap records which objects the set has,
so that one that no manifest names any more is found, of whatever kind it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import OperationValueError

from pyinfra_kube.facts.objects import FIELD_MANAGER, Key, Object, key
from pyinfra_kube.operations.manifests import reference

LABEL = "pyinfra-kube/set"
"""The label that names an object's set."""

NAMESPACE = "kube-system"
"""Where the records of sets are."""

KEPT = ("Namespace", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim")
"""Kinds whose objects stay, for what others have in them would go with them."""

_FOUND = "found"


def check_owner(owner: str) -> None:
    """
    Refuse a name that no set may have.

    + owner: the name

    Raises ``OperationValueError``.
    """

    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", owner):
        raise OperationValueError(
            f"owner: {owner!r} is not a name of at most 40 lower-case letters, digits and dashes"
        )


def labelled(one: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """
    Return an object with the label of its set, if it goes with that.

    + one: the object
    + owner: the set's name
    """

    if one["kind"] in KEPT:
        return dict(one)
    metadata = one["metadata"]
    labels = {**(metadata.get("labels") or {}), LABEL: owner}
    return {**one, "metadata": {**metadata, "labels": labels}}


@dataclass(frozen=True)
class Record:
    """
    Which objects a set has.

    + owner: the set's name
    + objects: each without its content
    + found: those that were there before the set had them
    """

    owner: str
    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    found: frozenset[Key] = frozenset()

    @staticmethod
    def of(owner: str, live: Iterable[Object]) -> Record:
        """
        Return what is recorded of a set.

        + owner: the set's name
        + live: objects, its record among them if there is one
        """

        wanted = key(Record(owner).manifest())
        content = next((one.content for one in live if key(one.content) == wanted), {})
        rows = [
            line.split() for line in (content.get("data") or {}).get("objects", "").splitlines()
        ]
        objects = {key(one): one for one in (_bare(*row[:3]) for row in rows if len(row) >= 3)}
        found = {key(_bare(*row[:3])) for row in rows if row[3:] == [_FOUND]}
        return Record(owner, objects, frozenset(found))

    def with_those(self, wanted: Sequence[Mapping[str, Any]], live: Iterable[Object]) -> Record:
        """
        Return the record with more objects.

        + wanted: the objects
        + live: those that are there
        """

        there = {key(one.content) for one in live}
        known = {key(one): _without_content(one) for one in wanted}
        found = {one for one in known if one in there and one not in self.objects}
        return Record(self.owner, {**self.objects, **known}, self.found | found)

    def only(self, wanted: Sequence[Mapping[str, Any]]) -> Record:
        """
        Return the record without other objects.

        + wanted: those that it is to have
        """

        keys = [key(one) for one in wanted]
        objects = {one: self.objects[one] for one in keys}
        return Record(self.owner, objects, self.found & frozenset(keys))

    def manifest(self) -> dict[str, Any]:
        """Return the ConfigMap that holds it."""

        rows = [_row(one, number in self.found) for number, one in self.objects.items()]
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"pyinfra-kube-set-{self.owner}", "namespace": NAMESPACE},
            "data": {"objects": "".join(f"{row}\n" for row in sorted(rows))},
        }


def _row(one: Mapping[str, Any], found: bool) -> str:
    metadata = one["metadata"]
    name = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
    return " ".join([one["apiVersion"], one["kind"], name, *([_FOUND] if found else [])])


def _bare(version: str, kind: str, name: str) -> dict[str, Any]:
    namespace, _, own = name.rpartition("/")
    metadata = {"name": own} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _without_content(one: Mapping[str, Any]) -> dict[str, Any]:
    words = reference(one)
    name = "/".join(filter(None, (words.get("namespace"), words["name"])))
    return _bare(words["apiVersion"], words["kind"], name)


def why_it_stays(one: Object, record: Record) -> str:
    """
    Return why an object stays that its set lacks; empty where it may go.

    + one: the object as it is
    + record: its set's
    """

    if one.kind in KEPT:
        return "what others have in it would go with it"
    if key(one.content) in record.found:
        return "it was there before"
    if _set_of(one.content) != record.owner:
        return f"it does not have the label {LABEL}={record.owner} of {FIELD_MANAGER}"
    return ""


def _set_of(content: Mapping[str, Any]) -> str:
    """The set of an object, if the label is ours: a copy of an object has it from somebody else."""

    metadata = content["metadata"]
    label = f"f:{LABEL}"
    for entry in metadata.get("managedFields") or []:
        labels = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels") or {}
        if (entry.get("manager"), entry.get("operation")) == (FIELD_MANAGER, "Apply"):
            return str((metadata.get("labels") or {}).get(LABEL, "")) if label in labels else ""
    return ""


# Who changed what


def changed_by(content: Mapping[str, Any], before: Any, after: Any) -> dict[str, list[str]]:
    """
    Return the fields that will change and that others have set: manager → fields.

    + content: the object with what the API server notes of managers
    + before, after: the object without that
    """

    found: dict[str, list[str]] = {}
    for entry in content["metadata"].get("managedFields") or []:
        if entry.get("manager") != FIELD_MANAGER and entry.get("subresource") != "status":
            paths = [*_changed(entry.get("fieldsV1") or {}, before, after, "")]
            found.setdefault(str(entry.get("manager")), []).extend(paths)
    return {manager: sorted({*paths}) for manager, paths in found.items() if paths}


def _changed(fields: Mapping[str, Any], before: Any, after: Any, path: str) -> Iterator[str]:
    """The leaves of a manager's fields that differ."""

    if before == after:
        return
    below = {name: value for name, value in fields.items() if name != "."}
    if not below:
        yield path or "."
    for name, value in below.items():
        step, inside = _step(name)
        yield from _changed(value, inside(before), inside(after), f"{path}{step}".lstrip("."))


def _step(name: str) -> tuple[str, Any]:
    """How a part of a field's path is written, and the function that takes it."""

    kind, _, rest = name.partition(":")
    if kind == "f":
        return f".{rest}", lambda one: one.get(rest) if isinstance(one, dict) else None
    given = json.loads(rest)
    if kind == "k":
        words = ",".join(str(value) for value in given.values())
        return f"[{words}]", lambda one: next(
            (item for item in _items(one) if _has(item, given)), None
        )
    return f"[{given}]", lambda one: given in _items(one)


def _items(one: Any) -> Sequence[Any]:
    return one if isinstance(one, list) else ()


def _has(item: Any, given: Mapping[str, Any]) -> bool:
    return isinstance(item, dict) and all(item.get(name) == value for name, value in given.items())
