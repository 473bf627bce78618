"""
Manifests as text, and the objects of the Kubernetes API that they describe.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pyinfra.api import OperationValueError

from pyinfra_kube.facts.objects import HIDDEN, key


@dataclass(frozen=True)
class Manifest:
    """
    Objects as text.

    + name: what it is called in an error, for example its file's name
    + text: one or more YAML documents. The values of its secrets are never shown
    """

    name: str
    # pyinfra labels an operation without a name with the repr of its arguments.
    text: str = field(repr=False)


class _Loader(yaml.SafeLoader):
    """Reads YAML as Kubernetes does: neither dates nor numbers to the base of 60."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        letter: [
            (tag, re.compile(rf"(?!\S*:)(?:{regexp.pattern})", regexp.flags))
            for tag, regexp in resolvers
            if not tag.endswith(":timestamp")
        ]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """Writes YAML as people do: long texts in blocks, and everything as often as it occurs."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def documents(manifest: Manifest) -> list[dict[str, Any]]:
    """
    Return the objects of a manifest, those of its lists among them.

    + manifest: it

    Raises ``OperationValueError``.
    """

    try:
        # ruff takes any loader of one's own for an unsafe one.
        documents = [*yaml.load_all(manifest.text, _Loader)]
    except yaml.YAMLError as error:
        # What the error quotes may be a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise OperationValueError(f"manifest {manifest.name}: it is no YAML{where}") from None
    found = []
    for document in filter(lambda one: one is not None, documents):
        items = document.get("items") if _is_list(document) else [document]
        found += [_object(manifest.name, item) for item in items or []]
    return found


def _is_list(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "List"


def _object(manifest: str, item: Any) -> dict[str, Any]:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    words = [
        *(item.get(name) if isinstance(item, dict) else None for name in ("apiVersion", "kind")),
        metadata.get("name") if isinstance(metadata, dict) else None,
    ]
    for name, word in zip(("apiVersion", "kind", "metadata.name"), words, strict=True):
        if not (word and isinstance(word, str)):
            raise OperationValueError(f"manifest {manifest}: an object in it has no {name}")
    kept = {key: value for key, value in item.items() if key != "status"}
    return _secret(manifest, kept) if is_secret(kept) else kept


def is_secret(one: Mapping[str, Any]) -> bool:
    """
    Return whether an object is a Secret.

    + one: the object
    """

    return (one["apiVersion"], one["kind"]) == ("v1", "Secret")


def _secret(manifest: str, item: dict[str, Any]) -> dict[str, Any]:
    """A secret with all values in ``data``, as the API server answers."""

    given = dict(item)
    data = {}
    for name, value in (given.pop("data", None) or {}).items():
        try:
            data[name] = _encoded(base64.b64decode(value, validate=True))
        except (TypeError, ValueError, binascii.Error):
            raise OperationValueError(
                f"manifest {manifest}: data.{name} of {title(item)} is not base64"
            ) from None
    for name, value in (given.pop("stringData", None) or {}).items():
        if not isinstance(value, str):
            raise OperationValueError(
                f"manifest {manifest}: stringData.{name} of {title(item)} is not text"
            )
        data[name] = _encoded(value.encode())
    return {**given, "data": data}


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def refuse_doubles(wanted: Sequence[dict[str, Any]]) -> None:
    """
    Refuse objects that are there more than once.

    + wanted: the objects
    """

    times = Counter(map(key, wanted))
    for one in wanted:
        if times[key(one)] > 1:
            raise OperationValueError(f"manifests: {title(one)} is in them more than once")


def reference(one: Mapping[str, Any]) -> dict[str, str]:
    """
    Return what the fact ``Objects`` asks for an object by.

    + one: the object
    """

    metadata = one["metadata"]
    words = {"apiVersion": one["apiVersion"], "kind": one["kind"], "name": metadata["name"]}
    return words | ({"namespace": metadata["namespace"]} if metadata.get("namespace") else {})


def title(one: Mapping[str, Any]) -> str:
    """
    Return what an object is called for people.

    + one: the object
    """

    metadata = one["metadata"]
    return f"{one['kind']} {'/'.join(filter(None, (metadata.get('namespace'), metadata['name'])))}"


def as_list(items: Iterable[Mapping[str, Any]]) -> str:
    """
    Return objects as one text for kubectl.

    + items: the objects
    """

    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items]})


def masked(one: dict[str, Any]) -> dict[str, Any]:
    """
    Return an object without the values of a Secret.

    + one: the object
    """

    return {**one, "data": dict.fromkeys(one["data"], HIDDEN)} if is_secret(one) else one


def lines(one: Mapping[str, Any], sort: bool = False) -> list[str]:
    """
    Return an object as lines of YAML.

    + one: the object
    + sort: whether its keys are in the order of the alphabet
    """

    text = yaml.dump(one, Dumper=_Dumper, sort_keys=sort, allow_unicode=True, width=1000)
    return text.splitlines()
