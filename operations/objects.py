"""
Manage objects of the Kubernetes API from their manifests, through kubectl on a host that may.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import run_or_noop
from pyinfra_kube.engine.snapshot import discovering, read
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.facts.objects import (
    HIDDEN,
    AppliedObjects,
    AppliedStates,
    Object,
    Objects,
    ObjectStates,
    SecretObject,
    key,
)
from pyinfra_kube.operations.manifests import (
    Manifest,
    as_list,
    documents,
    is_secret,
    lines,
    masked,
    reference,
    refuse_doubles,
    title,
)
from pyinfra_kube.operations.object_scripts import UNNAMED, Kubeconfig, Steps, held, script
from pyinfra_kube.operations.object_sets import (
    Record,
    changed_by,
    check_owner,
    labelled,
    why_it_stays,
)

__all__ = ["Kubeconfig", "Manifest", "objects", "sets_absent"]

# What the API server keeps of an object by itself.
_OF_SERVER = (
    *("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"),
)


@operation()
def objects(
    manifests: Sequence[Manifest],
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
    wait: int = 60,
    setter: Kubeconfig | None = None,
    owner: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Set objects of the Kubernetes API, as a server-side apply of ``pyinfra-kube`` does.

    The fields that a manifest names become as it says, whoever else has set them; all others stay,
    such as a status, a default, or replicas that an autoscaler sets. A field that a manifest no
    longer names is removed. With an owner the objects are a set: one that no manifest names any
    more is deleted, but not what was there before the set, what somebody else made, a namespace, a
    volume, or the definition of a kind. Without an owner it stays.

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
    + owner: the set's name. Its objects have the label ``pyinfra-kube/set``, and a ConfigMap in
      kube-system records them

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

    wanted = [one for manifest in manifests for one in documents(manifest)]
    refuse_doubles(wanted)
    if owner:
        check_owner(owner)
        wanted = [labelled(one, owner) for one in wanted]
    ask = {"kubectl": kubectl, "kubeconfig": kubeconfig, "server": server}
    words = kubectl_words(**(ask | ({"kubeconfig": UNNAMED} if setter else {})))
    steps = _steps(wanted, owner, ask) if wanted or owner else Steps()
    todo = script(steps, words, wait, held(setter) if setter else "")
    yield from run_or_noop(todo, f"{len(wanted)} objects are as wanted")


@operation()
def sets_absent(
    owners: Sequence[str],
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
    wait: int = 60,
) -> Generator[StringCommand, None, None]:
    """
    Delete whole sets of :func:`objects`, and wait until their objects are gone.

    What stays of a set that has no manifests any more stays here too.

    + owners: the sets' names
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    + wait: seconds to wait until they are gone

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import objects

        objects.sets_absent(
            name="Delete the shop",
            owners=["shop"],
            kubeconfig="/srv/kubernetes/admin.kubeconfig",
        )
    """

    for owner in owners:
        check_owner(owner)
    ask = {"kubectl": kubectl, "kubeconfig": kubeconfig, "server": server}
    todo = script(_absent(owners, ask), kubectl_words(**ask), wait)
    yield from run_or_noop(todo, f"{len(owners)} sets are absent")


# What is done


def _steps(wanted: list[dict[str, Any]], owner: str, ask: Mapping[str, str]) -> Steps:
    """What makes objects, and with an owner their set, as wanted; shows it."""

    records = [Record(owner).manifest()] if owner else []
    found = read(Objects, references=[*map(reference, [*wanted, *records])], **ask)
    if discovering():
        # Where all objects are there, this is asked next.
        _applied(wanted, ask)
    if _unknown(found, wanted):
        if owner and ctx_state.get().is_executing:
            raise OperationError(f"the API server does not tell what there is: {found.reason}")
        return Steps([*wanted])
    differing = _differing(wanted, found, ask)
    if not owner:
        return Steps(differing)
    known = Record.of(owner, found.objects)
    # It names an object before there is one, and until there is none.
    whole = known.with_those(wanted, found.objects)
    last = whole.only(wanted)
    deleted = _deleted([whole], wanted, ask)
    if last != known:
        title_of_record = title(last.manifest())
        rows = (one.manifest()["data"]["objects"].splitlines() for one in (known, last))
        changes.show(changes.text(f"{title_of_record}: changed", *rows))
    if not wanted:
        return Steps([], deleted, [], _there(records, found))
    first = [whole.manifest()] if whole != known else []
    return Steps([*first, *differing], deleted, [last.manifest()] if last != whole else [])


def _absent(owners: Sequence[str], ask: Mapping[str, str]) -> Steps:
    """What takes sets away; shows it."""

    records = [Record(owner).manifest() for owner in owners]
    found = read(Objects, references=[*map(reference, records)], **ask)
    if found.status != "ok":
        if ctx_state.get().is_executing:
            why = found.reason or "kubectl is not installed"
            raise OperationError(f"the API server does not tell which sets there are: {why}")
        return Steps()
    deleted = _deleted([Record.of(owner, found.objects) for owner in owners], [], ask)
    there = _there(records, found)
    for one in there:
        changes.show(f"{title(one)}: present → absent")
    return Steps([], deleted, [], there)


def _there(those: Iterable[dict[str, Any]], found: ObjectStates) -> list[dict[str, Any]]:
    return [one for one in those if _of(found.objects, one)]


def _deleted(
    records: Iterable[Record], wanted: Iterable[Mapping[str, Any]], ask: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The objects of sets that are no longer wanted and may go; shows them, and which stay."""

    keys = {key(one) for one in wanted}
    dropped = [
        (record, one)
        for record in records
        for number, one in record.objects.items()
        if number not in keys
    ]
    if not dropped:
        return []
    found = read(Objects, references=[reference(one) for _, one in dropped], **ask)
    if found.status != "ok":
        raise OperationError(f"the API server does not tell what there is: {found.reason}")
    going = []
    for record, one in dropped:
        if live := _of(found.objects, one):
            if why := why_it_stays(live, record):
                changes.say(f"{title(one)} stays: {why}")
            else:
                changes.show(f"{title(one)}: present → absent")
                going.append(one)
    return going


def _differing(
    wanted: Sequence[dict[str, Any]], found: ObjectStates, ask: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The objects that an apply would change, or, where that cannot be asked, all; shows them."""

    live = {key(one): _of(found.objects, one) for one in wanted}
    applied = _applied([one for one in wanted if live[key(one)]], ask)
    if not ctx_state.get().is_executing:
        # What else keeps a new object out, as its namespace, may come before it.
        _applied([one for one in wanted if not live[key(one)]], ask)
    if applied and _unknown(applied, wanted):
        return [*wanted]
    return [one for one in wanted if _shown(one, live[key(one)], applied)]


def _applied(those: Iterable[dict[str, Any]], ask: Mapping[str, str]) -> AppliedStates | None:
    """
    What the API server would make of objects; ``None`` for none. Secrets are left out: the host's
    list of processes shows what it is asked.
    """

    if not (asked := [one for one in those if not is_secret(one)]):
        return None
    applied = read(AppliedObjects, manifest=as_list(asked), **ask)
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
        changes.show(changes.text(f"{title(one)}: {where}", [], lines(masked(one))))
    return True


def _shown(one: dict[str, Any], live: Object | None, applied: AppliedStates | None) -> bool:
    """Whether an apply would change an object; if so, shows how."""

    if live is None:
        changes.show(changes.text(f"{title(one)}: absent → made", [], lines(masked(one))))
        return True
    if isinstance(live, SecretObject):
        after, hidden = one, masked(one)
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
    shown = (lines(text, sort=True) for text in texts)
    changes.show(changes.text(f"{title(one)}: changed", *shown))
    for manager, paths in changed_by(live.content, before, after).items():
        changes.show(f"  {', '.join(paths)}: set by {manager}")
    return True


def _of(those: Iterable[Object], one: Mapping[str, Any]) -> Object | None:
    """That one among those that the API server knows."""

    return next((that for that in those if key(that.content) == key(one)), None)


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
