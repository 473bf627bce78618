"""
Objects of the Kubernetes API, and what applying a manifest would make of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import understanding
from pyinfra_kube.facts.kubectl import Answer, Status, answer, asking, failed
from pyinfra_kube.facts.kubectl import kubectl_words as words_of

FIELD_MANAGER = "pyinfra-kube"
"""Who owns what the operations set, to the API server."""

APPLY = f"apply --server-side --force-conflicts --field-manager={FIELD_MANAGER} --filename=-"
"""What follows kubectl to apply a manifest from standard input."""

REJECTIONS = (
    "is invalid|unknown field|strict decoding|ValidationError|cannot be handled as"
    "|typed patch|denied the request|does not support dry run|must specify|immutable"
)
"""What the API server says of an object that it will not take, however long one waits: a regular
expression, for grep -E too."""

HIDDEN = "(hidden)"
"""What is shown in place of a secret's value."""

# Seconds that a dry run of many objects may take.
_DRY_RUN_PATIENCE = 35

_NO_SUCH_KIND = re.compile(r"no matches for kind|ensure CRDs are installed first")


@dataclass(frozen=True)
class Object:
    """
    One object.

    + kind: for example ``Deployment``
    + name: of the object
    + namespace: empty where it is in none
    + content: all of it, but no value of a secret
    """

    kind: str
    name: str
    namespace: str = ""
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return str(self.content["apiVersion"]).rpartition("/")[0]


@dataclass(frozen=True)
class SecretObject(Object):
    """
    One object of the kind ``Secret``.

    + data: its values as the API has them, which are never printed
    """

    data: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ObjectStates(Printable):
    """
    What :class:`Objects` returns.

    + status: ``ok``, ``missing`` where kubectl is not installed, ``down`` where the API server
      does not answer, ``refused`` where one side does not accept the other's credentials
    + reason: what kubectl said
    + objects: those that exist
    """

    status: Status = "missing"
    reason: str = ""
    objects: list[Object] = field(default_factory=list)


@dataclass(frozen=True)
class AppliedStates(Printable):
    """
    What :class:`AppliedObjects` returns.

    + status: as of ``ObjectStates``; ``rejected`` where the API server does not take the manifest
    + reason: what kubectl said
    + before: the objects that exist
    + after: all objects of the manifest, as they would be
    """

    status: Status | Literal["rejected"] = "missing"
    reason: str = ""
    before: list[Object] = field(default_factory=list)
    after: list[Object] = field(default_factory=list)


class Objects(FactBase[ObjectStates]):
    """
    Returns those of some objects that exist, through kubectl on this host.

    + references: the objects, each a mapping with ``apiVersion``, ``kind``, ``name`` and, where it
      is in one, ``namespace``
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    .. code:: python

        ObjectStates(
            status="ok",
            objects=[Object(kind="Service", name="kube-dns", namespace="kube-system", content={…})],
        )
    """

    # Others change objects too, and some objects are secrets.
    shared = True
    secret = True

    default = ObjectStates

    @staticmethod
    def join(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
        references = [*one["references"]]
        references += [two for two in other["references"] if two not in references]
        both = {**one, "references": references}
        return both if both == {**other, "references": references} else None

    @staticmethod
    def part(answer: ObjectStates, arguments: dict[str, Any]) -> ObjectStates | None:
        if answer.status == "ok":
            wanted = {key(_bare(one)) for one in arguments["references"]}
            return replace(answer, objects=_those(answer.objects, wanted))
        return answer if answer.status == "missing" else None

    @override
    def command(
        self,
        references: Sequence[Mapping[str, str]],
        kubectl: str = "kubectl",
        kubeconfig: str = "",
        server: str = "",
    ) -> str:
        words = words_of(kubectl, kubeconfig, server)
        # kubectl says nothing of objects that are absent. That it works is seen by another answer.
        return _both(
            asking(kubectl, f"{words} get --raw=/version"),
            asking(kubectl, f"{words} {_GET}", _list(map(_bare, references))),
        )

    @override
    def process(self, output: Iterable[str]) -> ObjectStates:
        version, found = _answers(output)
        if version.code is None or found.code is None:
            return ObjectStates("missing")
        if version.code:
            return ObjectStates(*failed(version))
        if found.code and not _lacks_kinds(found):
            return ObjectStates(*failed(found))
        with understanding("kubectl"):
            json.loads(version.text)["gitVersion"]
        return ObjectStates("ok", "", _objects(found.text))


class AppliedObjects(FactBase[AppliedStates]):
    """
    Returns what applying a manifest would make of its objects, through kubectl on this host. The
    API server is asked for a dry run of a server-side apply: nothing changes.

    + manifest: JSON or YAML, without secrets, for the host lists what it is asked
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    .. code:: python

        AppliedStates(
            status="ok",
            before=[Object(kind="Service", name="kube-dns", namespace="kube-system", content={…})],
            after=[Object(kind="Service", name="kube-dns", namespace="kube-system", content={…})],
        )
    """

    shared = True

    default = AppliedStates

    @staticmethod
    def join(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
        asked = [_items(one["manifest"]), _items(other["manifest"])]
        items = [item for some in asked for item in some]
        both = {**one, "manifest": _list(items)}
        clear = all(asked) and len({*map(key, items)}) == len(items)
        return both if clear and both == {**other, "manifest": both["manifest"]} else None

    @staticmethod
    def part(answer: AppliedStates, arguments: dict[str, Any]) -> AppliedStates | None:
        # What the API server says of one object it may not say of another.
        if answer.status == "ok":
            wanted = {*map(key, _items(arguments["manifest"]))}
            before, after = (_those(some, wanted) for some in (answer.before, answer.after))
            return replace(answer, before=before, after=after)
        return answer if answer.status == "missing" else None

    @override
    def command(
        self, manifest: str, kubectl: str = "kubectl", kubeconfig: str = "", server: str = ""
    ) -> str:
        words = words_of(kubectl, kubeconfig, server)
        dry_run = f"{words} {APPLY} --dry-run=server --output=json"
        # One after the other, so that little happens between the two.
        return _both(
            asking(kubectl, dry_run, manifest, _DRY_RUN_PATIENCE),
            asking(kubectl, f"{words} {_GET}", manifest),
        )

    @override
    def process(self, output: Iterable[str]) -> AppliedStates:
        applied, found = _answers(output)
        if applied.code is None or found.code is None:
            return AppliedStates("missing")
        if applied.code:
            if re.search(REJECTIONS, applied.said):
                return AppliedStates("rejected", applied.said)
            return AppliedStates(*failed(applied, _DRY_RUN_PATIENCE))
        if found.code:
            return AppliedStates(*failed(found))
        if not applied.text.strip():
            raise FactProcessError("kubectl does not work: it says nothing of what it would do")
        return AppliedStates("ok", "", _objects(found.text), _objects(applied.text))


Key = tuple[str, str, str, str]
"""What tells an object from others: group, kind, namespace and name."""


def key(one: Mapping[str, Any]) -> Key:
    """
    Return what tells an object from others, whatever version of its group it is written in.

    + one: the object
    """

    metadata = one["metadata"]
    # kubectl looks there for what is in a namespace and does not say in which.
    namespace = metadata.get("namespace") or "default"
    return one["apiVersion"].rpartition("/")[0], one["kind"], namespace, metadata["name"]


def _those(objects: Iterable[Object], wanted: Collection[Key]) -> list[Object]:
    return [one for one in objects if key(one.content) in wanted]


# With who set which field, which kubectl leaves out of its JSON since 1.21.
_GET = "get --ignore-not-found --output=jsonpath={@} --filename=-"
_NEXT = "pyinfra-kube next"


def _both(first: str, second: str) -> str:
    return f"{first}\necho '{_NEXT}'\n{second}"


def _answers(output: Iterable[str]) -> tuple[Answer, Answer]:
    """The two answers to ``_both``."""

    lines = list(output)
    if _NEXT not in lines:
        raise FactProcessError("kubectl does not work: its answer was cut off")
    cut = lines.index(_NEXT)
    return answer(lines[:cut]), answer(lines[cut + 1 :])


def _list(items: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def _items(manifest: str) -> list[dict[str, Any]]:
    """The objects of a list in JSON; none of any other manifest."""

    try:
        items = json.loads(manifest)["items"]
        return items if all(map(key, items)) else []
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _bare(reference: Mapping[str, str]) -> dict[str, Any]:
    """An object with nothing but what tells which it is."""

    metadata = {"name": reference["name"]}
    if namespace := reference.get("namespace"):
        metadata["namespace"] = namespace
    return {
        "apiVersion": reference["apiVersion"],
        "kind": reference["kind"],
        "metadata": metadata,
    }


def _lacks_kinds(heard: Answer) -> bool:
    """Whether all that failed is that the API server lacks kinds: their objects are absent."""

    said = [line for line in heard.said.splitlines() if line.strip()]
    return heard.code == 1 and bool(said) and all(map(_NO_SUCH_KIND.search, said))


def _objects(text: str) -> list[Object]:
    if not text.strip():
        return []
    with understanding("kubectl"):
        shown = json.loads(text)
        items = shown["items"] if shown["kind"].endswith("List") else [shown]
        return [_object(item) for item in items]


def _object(item: dict[str, Any]) -> Object:
    metadata = item["metadata"]
    words = (item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace", ""))
    if not all(isinstance(word, str) for word in words):
        raise ValueError("an object's version, kind, name or namespace is no text")
    if words[:2] != ("v1", "Secret"):
        return Object(*words[1:], item)
    # kubectl's own apply notes the values there too.
    annotations = metadata.get("annotations") or {}
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    data = item.get("data") or {}
    if not all(isinstance(value, str) for value in data.values()):
        raise ValueError("a value of a secret is no text")
    shown = {**item, "data": dict.fromkeys(data, HIDDEN)}
    return SecretObject(*words[1:], shown, data)
