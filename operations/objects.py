"""
Manage objects of the Kubernetes API from their manifests, through kubectl on a host that may.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pyinfra.api import OperationError, OperationValueError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.facts.objects import (
    APPLY,
    HIDDEN,
    REJECTIONS,
    AppliedObjects,
    AppliedStates,
    Object,
    Objects,
    ObjectStates,
    SecretObject,
)

__all__ = ["Kubeconfig", "Manifest", "objects"]

# The API server may have just started, and a kind or a namespace may be a moment old.
_FUNCTIONS = f"""\
applied() {{
  manifest=$(base64 -d)
  end=$(($(date +%s) + $1))
  until said=$(printf '%s\\n' "$manifest" | timeout 30 "$words" 2>&1); do
    if printf '%s\\n' "$said" | grep -qE {shlex.quote(REJECTIONS)}; then
      echo "the API server does not take the objects: $said" >&2
      exit 1
    fi
    if [ "$(date +%s)" -ge "$end" ]; then
      echo "the API server did not take the objects within $1 s: $said" >&2
      exit 1
    fi
    sleep 1
  done
}}
""".replace('"$words"', "{words}")

# Of whoever opens it: each time it is read from its beginning.
_UNNAMED = "/proc/self/fd/9"


def _held(kubeconfig: Kubeconfig) -> str:
    """Shell text that holds a kubeconfig in memory, in a file without a name when it is filled."""

    text = base64.encodebytes(kubeconfig.text.encode()).decode()
    return f"""\
unnamed=$(mktemp -p /dev/shm)
exec 9<>"$unnamed"
rm -f "$unnamed"
base64 -d >&9 <<'.'
{text}.
"""


# What the API server keeps of an object by itself.
_OF_SERVER = (
    *("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"),
)


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


@dataclass(frozen=True)
class Kubeconfig:
    """
    A kubeconfig that no host has.

    + text: all of it
    """

    text: str = field(repr=False)


@operation()
def objects(
    manifests: Sequence[Manifest],
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
    wait: int = 60,
    setter: Kubeconfig | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Set objects of the Kubernetes API, as a server-side apply of ``pyinfra-kube`` does.

    The fields that a manifest names become as it says, whoever else has set them; all others stay,
    such as a status, a default, or replicas that an autoscaler sets. A field that a manifest no
    longer names is removed, but an object that no manifest names stays.

    The API server is asked what an apply would change, and only those objects are applied. It must
    know server-side apply, which Kubernetes has since 1.22, and as a beta since 1.18. A plan for a
    host whose API server does not answer yet shows every object.

    An object that cannot become as wanted is refused, such as a Deployment with another selector.
    A value that is no longer in a Secret's manifest stays in that Secret until something else of it
    changes.

    + manifests: list of ``Manifest``
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    + wait: seconds to wait for the API server, or for a kind or namespace that another object makes
    + setter: the kubeconfig that objects are set with, where that of the host may not yet. It goes
      through an unnamed file in the host's memory

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import objects

        objects.objects(
            name="Make the namespace of the shop",
            manifests=[
                objects.Manifest(
                    "shop",
                    "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}",
                ),
            ],
            kubeconfig="/srv/kubernetes/admin.kubeconfig",
        )
    """

    wanted = [one for manifest in manifests for one in _documents(manifest)]
    _refuse_doubles(wanted)
    ask = {"kubectl": kubectl, "kubeconfig": kubeconfig, "server": server}
    differing = _differing(wanted, ask) if wanted else []
    script = None
    if differing:
        text = base64.encodebytes(_list(differing).encode()).decode()
        given = ask | ({"kubeconfig": _UNNAMED} if setter else {})
        words = f"{kubectl_words(**given)} {APPLY}"
        held = _held(setter) if setter else ""
        lines = f"{held}{_FUNCTIONS.replace('{words}', words)}applied {wait} <<'.'\n{text}.\n"
        script = Script(lines, f"apply {', '.join(map(_title, differing))}")
    yield from run_or_noop(script, f"{len(wanted)} objects are as wanted")


def _differing(wanted: Sequence[dict[str, Any]], ask: Mapping[str, str]) -> list[dict[str, Any]]:
    """The objects that an apply would change, or, where none can be asked for, all; shows them."""

    found = read(Objects, references=[_reference(one) for one in wanted], **ask)
    if _unknown(found, wanted):
        return [*wanted]
    live = {_key(one): _of(found.objects, one) for one in wanted}
    applied = _applied([one for one in wanted if live[_key(one)]], ask)
    if not ctx_state.get().is_executing:
        # What else keeps a new object out, as its namespace, may come before it.
        _applied([one for one in wanted if not live[_key(one)]], ask)
    if applied and _unknown(applied, wanted):
        return [*wanted]
    return [one for one in wanted if _shown(one, live[_key(one)], applied)]


def _applied(those: Iterable[dict[str, Any]], ask: Mapping[str, str]) -> AppliedStates | None:
    """
    What the API server would make of objects; ``None`` for none. Secrets are left out: the host's
    list of processes shows what it is asked.
    """

    if not (asked := [one for one in those if not _is_secret(one)]):
        return None
    applied = read(AppliedObjects, manifest=_list(asked), **ask)
    if applied.status == "rejected":
        reason = "; ".join(applied.reason.splitlines())
        raise OperationError(
            f"the API server does not take the objects: {reason}; change the manifest, or "
            "delete the object, and the next run makes it anew"
        )
    return applied


def _unknown(states: ObjectStates | AppliedStates, wanted: Iterable[dict[str, Any]]) -> bool:
    """Whether it cannot be known what differs; if so, shows all that is wanted."""

    if states.status == "ok":
        return False
    if states.status == "missing" and ctx_state.get().is_executing:
        raise OperationError("kubectl is not installed; install it before its first use")
    where = "absent → made"
    if states.status != "missing":
        changes.show(f"the API server cannot be asked what differs: {states.reason}")
        where = "set as soon as it answers"
    for one in wanted:
        changes.show(changes.text(f"{_title(one)}: {where}", [], _lines(_masked(one))))
    return True


def _shown(one: dict[str, Any], live: Object | None, applied: AppliedStates | None) -> bool:
    """Whether an apply would change an object; if so, shows how."""

    if live is None:
        changes.show(changes.text(f"{_title(one)}: absent → made", [], _lines(_masked(one))))
        return True
    if isinstance(live, SecretObject):
        after, hidden = one, _masked(one)
        before = _same_fields(live.content | {"data": live.data}, one)
        for name in one.get("data", {}):
            if before.get("data", {}).get(name) != one["data"][name]:
                hidden["data"][name] = f"{HIDDEN[:-1]}, another)"
        texts = _same_fields(live.content, one), hidden
    else:
        found = applied.before if applied else []
        made = applied.after if applied else []
        before, after = (_of_us(_of(those, one)) for those in (found, made))
        texts = before, after
    if before == after:
        return False
    lines = (_lines(text, sort=True) for text in texts)
    changes.show(changes.text(f"{_title(one)}: changed", *lines))
    return True


# Manifests


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


def _documents(manifest: Manifest) -> list[dict[str, Any]]:
    """The objects of a manifest, those of its lists among them."""

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
    return _secret(manifest, kept) if _is_secret(kept) else kept


def _is_secret(one: Mapping[str, Any]) -> bool:
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
                f"manifest {manifest}: data.{name} of {_title(item)} is not base64"
            ) from None
    for name, value in (given.pop("stringData", None) or {}).items():
        if not isinstance(value, str):
            raise OperationValueError(
                f"manifest {manifest}: stringData.{name} of {_title(item)} is not text"
            )
        data[name] = _encoded(value.encode())
    return {**given, "data": data}


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _refuse_doubles(wanted: Sequence[dict[str, Any]]) -> None:
    keys = [_key(one) for one in wanted]
    for one in wanted:
        if keys.count(_key(one)) > 1:
            raise OperationValueError(f"manifests: {_title(one)} is in them more than once")


# Objects


def _key(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    metadata = one["metadata"]
    # kubectl looks there for what is in a namespace and does not say in which.
    namespace = metadata.get("namespace") or "default"
    return one["apiVersion"].rpartition("/")[0], one["kind"], namespace, metadata["name"]


def _of(those: Iterable[Object], one: Mapping[str, Any]) -> Object | None:
    """That one among those that the API server knows."""

    return next((that for that in those if _key(that.content) == _key(one)), None)


def _reference(one: Mapping[str, Any]) -> dict[str, str]:
    metadata = one["metadata"]
    words = {"apiVersion": one["apiVersion"], "kind": one["kind"], "name": metadata["name"]}
    return words | ({"namespace": metadata["namespace"]} if metadata.get("namespace") else {})


def _title(one: Mapping[str, Any]) -> str:
    metadata = one["metadata"]
    return f"{one['kind']} {'/'.join(filter(None, (metadata.get('namespace'), metadata['name'])))}"


def _list(items: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items]})


def _of_us(one: Object | None) -> dict[str, Any]:
    """What is not the API server's own of an object."""

    if one is None:
        return {}
    content = {key: value for key, value in one.content.items() if key != "status"}
    metadata = {k: v for k, v in content["metadata"].items() if k not in _OF_SERVER}
    return {**content, "metadata": metadata}


def _same_fields(live: Any, wanted: Any) -> Any:
    """What an object has of the fields that are wanted."""

    if not (isinstance(live, dict) and isinstance(wanted, dict)):
        return live
    return {key: _same_fields(live[key], value) for key, value in wanted.items() if key in live}


def _masked(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "data": dict.fromkeys(one["data"], HIDDEN)} if _is_secret(one) else one


def _lines(one: Mapping[str, Any], sort: bool = False) -> list[str]:
    text = yaml.dump(one, Dumper=_Dumper, sort_keys=sort, allow_unicode=True, width=1000)
    return text.splitlines()
