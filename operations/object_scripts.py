"""
The script that sets and deletes objects of the Kubernetes API through kubectl.
"""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass, field
from typing import Any

from pyinfra_kube.engine.script import Script
from pyinfra_kube.facts.objects import APPLY, REJECTIONS
from pyinfra_kube.operations.manifests import as_list, title

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

# What has gone has been waited for, with all that belonged to it.
_DELETED = """\
deleted() {
  base64 -d | {words} delete --ignore-not-found --cascade=foreground --timeout="$1s" \\
    --filename=- >/dev/null
}
"""

UNNAMED = "/proc/self/fd/9"
"""Where ``held`` holds it, of whoever opens it: each time it is read from its beginning."""


@dataclass(frozen=True)
class Kubeconfig:
    """
    A kubeconfig that no host has.

    + text: all of it
    """

    text: str = field(repr=False)


def held(kubeconfig: Kubeconfig) -> str:
    """
    Return shell text that holds a kubeconfig in memory, in a file without a name when it is filled.

    + kubeconfig: it
    """

    text = base64.encodebytes(kubeconfig.text.encode()).decode()
    return f"""\
unnamed=$(mktemp -p /dev/shm)
exec 9<>"$unnamed"
rm -f "$unnamed"
base64 -d >&9 <<'.'
{text}.
"""


@dataclass(frozen=True)
class Steps:
    """Objects that are applied, those deleted then, and what records that: set or deleted last."""

    applied: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[dict[str, Any]] = field(default_factory=list)
    noted: list[dict[str, Any]] = field(default_factory=list)
    forgotten: list[dict[str, Any]] = field(default_factory=list)


def script(steps: Steps, words: str, wait: int, before: str = "") -> Script | None:
    """
    Return the script that makes the steps; ``None`` for none.

    + steps: what to do
    + words: how kubectl is called
    + wait: seconds to wait for the API server, and until what is deleted is gone
    + before: shell text that goes first
    """

    # Namespaces and kinds come first in manifests.
    calls = [("applied", steps.applied), ("deleted", steps.deleted[::-1])]
    calls += [("applied", steps.noted), ("deleted", steps.forgotten)]
    calls = [(function, those) for function, those in calls if those]
    if not calls:
        return None
    text = before + _FUNCTIONS.replace("{words}", f"{words} {APPLY}")
    if steps.deleted or steps.forgotten:
        text += _DELETED.replace("{words}", words)
    for function, those in calls:
        given = base64.encodebytes(as_list(those).encode()).decode()
        text += f"{function} {wait} <<'.'\n{given}.\n"
    said = [
        f"{verb} {', '.join(map(title, those))}"
        for verb, those in (("apply", steps.applied), ("delete", steps.deleted))
        if those
    ]
    return Script(text, "; ".join(said) or "record what sets have")
