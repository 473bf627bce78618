"""
crictl: the containers of pods, which every runtime that speaks CRI tells of alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyinfra_kube.cluster.runtimes.runtime import PodContainer, Started

CONTAINERS = "timeout 20 crictl ps --all --output json"
POD_FUNCTIONS = """\
containers() {
  pod=$1 container=$2
  shift 2
  crictl ps --quiet --no-trunc --label "io.kubernetes.pod.name=$pod" \\
    --label "io.kubernetes.container.name=$container" "$@"
}
end() { crictl stop --timeout "$@" >/dev/null; }
forget() { containers "$1" "$2" --all --state Exited | xargs -r crictl rm >/dev/null || :; }
"""
LOGS = "crictl logs --tail {lines} {id}"

_LABEL = "io.kubernetes."


def read_containers(lines: Sequence[str], _: Started) -> list[PodContainer]:
    """
    Read what ``CONTAINERS`` prints.

    + lines: of it
    """

    shown: dict[str, Any] = json.loads("\n".join(lines))
    # crictl writes no key at all, or null, where there is none.
    return [_container(item) for item in shown.get("containers") or []]


def _container(item: dict[str, Any]) -> PodContainer:
    return PodContainer(
        id=item["id"],
        pod=item["labels"].get(f"{_LABEL}pod.name", ""),
        namespace=item["labels"].get(f"{_LABEL}pod.namespace", ""),
        container=item["metadata"]["name"],
        image=item["image"]["image"],
        running=item["state"] == "CONTAINER_RUNNING",
        started=round(int(item["createdAt"]) / 1e9, 3),
        restarts=int(item["metadata"].get("attempt") or 0),
    )
