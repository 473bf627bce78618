"""
Manage which people may use the cluster, by ClusterRoleBindings, through kubectl on a host that may.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Generator, Mapping, Sequence

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.failing import failure
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.access import Binding, Bindings, BindingStates
from pyinfra_kube.facts.kubectl import kubectl_words

__all__ = ["Binding", "bindings"]

_FUNCTIONS = "created() { base64 -d | kubectl_ create --filename=-; }\n"


@operation()
def bindings(
    present: Sequence[Binding] = (),
    absent: Sequence[str] = (),
    unnamed: Sequence[str] = (),
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    server: str = "",
) -> Generator[StringCommand, None, None]:
    """
    Make the bindings that let people in, and delete others. One that differs is made anew, for no
    binding can get another role.

    + present: list of ``Binding``
    + absent: names of bindings
    + unnamed: users whom no other binding may name
    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server

    Fails, when all else is done, where a binding of somebody else names one of ``unnamed``.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import access

        access.bindings(
            name="Let alice in",
            present=[
                access.Binding(
                    "pyinfra-kube:alice:4f9c21ab",
                    role="view",
                    person="alice",
                    annotations={
                        "pyinfra-kube/days": "30",
                        "pyinfra-kube/ends": "2027-01-02T03:04:05Z",
                    },
                    subjects=["User pyinfra-kube:alice:4f9c21ab"],
                ),
            ],
            absent=["pyinfra-kube:bob:0b5d7e10"],
            kubeconfig="/srv/kubernetes/admin.kubeconfig",
        )
    """

    states = _required(read(Bindings, kubectl=kubectl, kubeconfig=kubeconfig, server=server))
    found = states.bindings
    lines = [_delete(name) for name in absent if name in found]
    for one in present:
        if found.get(one.name) != one:
            lines += [_delete(one.name)] if one.name in found else []
            lines.append(_create(one))
    words = kubectl_words(kubectl, kubeconfig, server)
    head = f'kubectl_() {{ {words} "$@"; }}\n{_FUNCTIONS}'
    script = Script(head + "\n".join(lines), "set who has access") if lines else None
    yield from run_or_noop(script, f"{len([*present, *absent])} bindings are as wanted")
    if ctx_state.get().is_executing and (why := _named_by(states.others, unnamed)):
        yield failure(OperationError(why))


def _required(states: BindingStates) -> BindingStates:
    if states.status != "ok":
        why = states.reason or "kubectl is not installed"
        raise OperationError(f"it cannot be read who has access: {why}")
    return states


def _delete(name: str) -> str:
    changes.show(f"ClusterRoleBinding {name}: present → absent")
    return shlex.join(["kubectl_", "delete", "clusterrolebinding", "--ignore-not-found", name])


def _create(one: Binding) -> str:
    until = ", ".join(f"{key} {value}" for key, value in sorted(one.annotations.items()))
    changes.show(f"ClusterRoleBinding {one.name}: absent → {one.role}, {until}")
    text = base64.encodebytes(render("addons/person.yaml.j2", binding=one).encode()).decode()
    return f"created <<'.'\n{text}."


def _named_by(others: Mapping[str, Sequence[str]], unnamed: Sequence[str]) -> str:
    """Why somebody without access may still do something; empty where nobody may."""

    named = [(title, user) for title, users in others.items() for user in users if user in unnamed]
    fix = "delete it there, or whoever has its certificate may do what that allows"
    return "; ".join(f"{title} names {user}: {fix}" for title, user in named)
