"""
Who has access to the cluster by a ClusterRoleBinding of ``operations.access``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.cluster.access import DAYS, ENDS, LABEL, person_of
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.kubectl import Status, answer, asking, failed, kubectl_words


@dataclass(frozen=True)
class Binding:
    """
    One ClusterRoleBinding that lets a person in.

    + name: of it, and of the user whom the person's certificate names
    + role: the ClusterRole
    + person: whom it is for
    + annotations: until when, and for how many days it was made
    + subjects: everybody whom it binds, each as ``KIND NAME``
    """

    name: str
    role: str = ""
    person: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    subjects: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BindingStates(Printable):
    """
    What :class:`Bindings` returns.

    + status: ``ok``, ``missing`` where kubectl is not installed, ``down`` where the API server
      does not answer, ``refused`` where one side does not accept the other's credentials
    + reason: what kubectl said
    + bindings: those that let people in, by name
    + others: each other binding that names such users, with those
    """

    status: Status = "missing"
    reason: str = ""
    bindings: dict[str, Binding] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)


class Bindings(FactBase[BindingStates]):
    """
    Returns the bindings that let people in, through kubectl on this host.

    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    .. code:: python

        BindingStates(
            status="ok",
            bindings={
                "pyinfra-kube:alice:4f9c21ab": Binding(
                    name="pyinfra-kube:alice:4f9c21ab", role="view", person="alice",
                    annotations={
                        "pyinfra-kube/days": "30", "pyinfra-kube/ends": "2027-01-02T03:04:05Z",
                    },
                    subjects=["User pyinfra-kube:alice:4f9c21ab"],
                ),
            },
            others={"RoleBinding shop/cooks": ["pyinfra-kube:alice:4f9c21ab"]},
        )
    """

    shared = True

    default = BindingStates

    @override
    def command(self, kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
        words = kubectl_words(kubectl, kubeconfig, server)
        kinds = "clusterrolebindings,rolebindings"
        return asking(kubectl, f"{words} get {kinds} --all-namespaces --output=json")

    @override
    def process(self, output: Iterable[str]) -> BindingStates:
        heard = answer(output)
        if heard.code is None:
            return BindingStates("missing")
        if heard.code:
            return BindingStates(*failed(heard))
        with understanding("kubectl"):
            items = json.loads(heard.text)["items"]
            ours = [_binding(item) for item in items if _is_ours(item)]
            named = {_title(item): _people(item) for item in items if not _is_ours(item)}
        others = {title: users for title, users in named.items() if users}
        return sound(BindingStates("ok", "", {one.name: one for one in ours}, others))


def _is_ours(item: Mapping[str, Any]) -> bool:
    return item["kind"] == "ClusterRoleBinding" and bool(person_of(item["metadata"]["name"]))


def _binding(item: Mapping[str, Any]) -> Binding:
    metadata, role = item["metadata"], item["roleRef"]
    notes = metadata.get("annotations") or {}
    return sound(
        Binding(
            name=metadata["name"],
            role=role["name"],
            person=(metadata.get("labels") or {}).get(LABEL, ""),
            annotations={key: notes[key] for key in (DAYS, ENDS) if key in notes},
            subjects=[f"{one['kind']} {one['name']}" for one in item.get("subjects") or []],
        )
    )


def _people(item: Mapping[str, Any]) -> list[str]:
    users = [one["name"] for one in item.get("subjects") or [] if one["kind"] == "User"]
    return [user for user in users if person_of(user)]


def _title(item: Mapping[str, Any]) -> str:
    metadata = item["metadata"]
    return f"{item['kind']} {'/'.join(filter(None, (metadata.get('namespace'), metadata['name'])))}"
