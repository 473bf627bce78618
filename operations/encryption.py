"""
Move a cluster's Secrets from one key to another, in steps between which every apiserver reads them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.failing import failure
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.encryption import StoredSecrets, StoredStates, stored_command
from pyinfra_kube.facts.kubectl import kubectl_words
from pyinfra_kube.operations.files import File, plan_files
from pyinfra_kube.operations.static_pods import StaticPod, plan_static_pods

__all__ = ["providers", "secrets_rewritten"]


@operation()
def providers(
    file: File,
    pod: StaticPod,
    directory: str,
    runtime: str = "docker",
    missing: Callable[[], str] = str,
    needed_alone: str = "",
    etcd: Mapping[str, Any] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Give an apiserver other providers of encryption, and restart it once.

    It is a step of several: the file is set by an operation before, with other providers. Where
    the step must not be made yet, the operation fails and nothing has changed.

    + file: the EncryptionConfiguration; ``absent`` for none
    + pod: the apiserver's static pod
    + directory: kubelet's manifest directory
    + runtime: name of the container runtime
    + missing: returns why the step before is not made everywhere, and is called just before
    + needed_alone: the only provider that a Secret in etcd may need; by default any
    + etcd: ``endpoints`` and the files ``ca``, ``cert`` and ``key`` to ask etcd with

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import encryption

        encryption.providers(
            name="Forget the old key",
            file=files.File(path, text, mode="600", secret=True),
            pod=static_pods.StaticPod("kube-apiserver", manifest=manifest),
            directory="/etc/kubernetes/manifests",
            needed_alone="2026-bae85bd1",
            etcd={"endpoints": ["http://127.0.0.1:2379"]},
        )
    """

    if ctx_state.get().is_executing:
        why = missing() or (_still_needed(needed_alone, etcd or {}) if needed_alone else "")
        if why:
            yield failure(OperationError(why))
            return
    files = plan_files([file], step=True)
    # A restart that a killed run leaves out is made by the next one, for the file is younger.
    again = replace(pod, config=(), restart=bool(files))
    script = join([files, plan_static_pods([again], directory, runtime=runtime)])
    yield from run_or_noop(script, "the apiserver has these providers")


def _still_needed(alone: str, etcd: Mapping[str, Any]) -> str:
    """Why no key can go; empty where Secrets need one alone."""

    stored = read(StoredSecrets, **etcd)
    if stored.status != "ok":
        return f"etcd does not tell which keys Secrets need: {stored.said or stored.status}"
    others = _others(stored, alone)
    return f"{others}; run again, and these are rewritten" if others else ""


@operation()
def secrets_rewritten(
    wanted: str,
    etcd: Mapping[str, Any],
    kubectl: str = "kubectl",
    kubeconfig: str = "",
    wait: int = 300,
    missing: Callable[[], str] = str,
) -> Generator[StringCommand, None, None]:
    """
    Have the API server write every Secret again, until all in etcd need one provider alone.

    Secrets go from one kubectl to another through a pipe: no file and no list of processes has
    any. One that changes meanwhile is written by whoever changes it.

    + wanted: the name of a key, or ``identity``
    + etcd: ``endpoints`` and the files ``ca``, ``cert`` and ``key`` to ask etcd with
    + kubectl: the program
    + kubeconfig: path on the host
    + wait: seconds that it may take
    + missing: returns why the step before is not made everywhere, and is called just before

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import encryption

        encryption.secrets_rewritten(
            name="Rewrite Secrets",
            wanted="2026-bae85bd1",
            etcd={"endpoints": ["http://127.0.0.1:2379"]},
            kubeconfig="/srv/kubernetes/admin.kubeconfig",
        )
    """

    if ctx_state.get().is_executing and (why := missing()):
        yield failure(OperationError(why))
        return
    stored = read(StoredSecrets, **etcd)
    others = _others(stored, wanted)
    if stored.status == "ok" and not others:
        ctx_host.get().noop(f"all Secrets need {wanted} alone")
        return
    changes.show(others or "Secrets are rewritten where they need another key")
    yield _rewriting(wanted, etcd, kubectl_words(kubectl, kubeconfig), wait)


def _others(stored: StoredStates, wanted: str) -> str:
    """How many Secrets need other providers, for people."""

    others = {name: number for name, number in stored.secrets.items() if name != wanted}
    return ", ".join(f"{number} Secrets need {name}" for name, number in others.items())


# What kubectl says may name Secrets, and never what is in them. Somebody else may change or delete
# one meanwhile, and the API server may have just started. Where all is rewritten in vain, a later
# run has turned to another key.
_REWRITE = """\
others() { stored | awk -v wanted="$1" '
  BEGIN { key = "k8s:enc:secretbox:v1:" wanted ":" }
  $1 == "stored" { told = 1 }
  $1 == "secrets" && $3 != wanted && $3 != key { print $2, "need", $3 }
  END { if (!told) print "etcd does not answer" }'
}
rewrite() {
  KUBECTL get secrets --all-namespaces --output=json | KUBECTL replace --filename=- >/dev/null
}
rewritten() {
  end=$(($(date +%s) + $2))
  vain=0
  while others=$(others "$1"); [ -n "$others" ]; do
    said=$(rewrite 2>&1) || :
    [ -n "$said" ] || vain=$((vain + 1))
    if [ "$(date +%s)" -ge "$end" ] || [ "$vain" -gt 3 ]; then
      echo "Secrets: $others; kubectl said: $(printf '%s\\n' "$said" | tail -n 3)" >&2
      exit 1
    fi
    [ -z "$said" ] || sleep 1
  done
}
"""


def _rewriting(wanted: str, etcd: Mapping[str, Any], kubectl: str, wait: int) -> Script:
    text = stored_command(**etcd) + _REWRITE.replace("KUBECTL", kubectl)
    return Script(f"{text}rewritten {shlex.quote(wanted)} {wait}", "rewrite Secrets")
