"""
crictl: what every runtime that speaks CRI is asked with, and how its answers are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra_kube.cluster.runtimes.runtime import PodContainer, Started

_LABEL = "io.kubernetes."

# crictl gives up after 2 s by itself; a pod that ends on a busy host takes longer. It is kubelet's
# own runtimeRequestTimeout.
_TIMEOUT = "2m"

_EXIT = "exit "
_EXIT_CODES = """\
printf '%s\\n' "$shown"
for id in $({crictl} ps --all --state Exited --quiet 2>/dev/null); do
{crictl} inspect --output go-template --template '{status}' "$id" 2>/dev/null
done
:"""
_STATUS = _EXIT + "{{.status.id}} {{.status.exitCode}}"

_POD_FUNCTIONS = """\
containers() {{
  pod=$1 container=$2
  shift 2
  {crictl} ps --quiet --no-trunc --label "io.kubernetes.pod.name=$pod" \\
    --label "io.kubernetes.container.name=$container" "$@"
}}
uid() {{
  {crictl} inspect --output go-template \
    --template '{{{{index .status.labels "io.kubernetes.pod.uid"}}}}' "$1"
}}
end() {{ {crictl} stop --timeout "$@" >/dev/null; }}
forget() {{
  containers "$1" "$2" --all --state Exited | xargs -r {crictl} rm >/dev/null || :
}}
"""


@dataclass(frozen=True)
class Crictl:
    """
    The commands for one runtime. They read no configuration file.

    + endpoint: of CRI
    """

    endpoint: str

    @property
    def program(self) -> str:
        """The program, with where the runtime answers."""
        endpoint = f"--runtime-endpoint {self.endpoint}"
        return f"crictl --config /dev/null --timeout {_TIMEOUT} {endpoint}"

    @property
    def containers(self) -> str:
        return f"timeout 20 {self.program} ps --all --output json"

    @property
    def exit_codes(self) -> str:
        """Shell that adds how each container ended to what ``containers`` printed."""
        return _EXIT_CODES.format(crictl=self.program, status=_STATUS)

    @property
    def pod_functions(self) -> str:
        return _POD_FUNCTIONS.format(crictl=self.program)

    @property
    def uses_systemd(self) -> str:
        """Shell that succeeds if the runtime leaves control groups to systemd."""
        return f"{self.program} info | grep -q '\"SystemdCgroup\": *true'"

    @property
    def logs(self) -> str:
        return f"{self.program} logs --tail {{lines}} {{id}}"


def read_containers(lines: Sequence[str], _: Started) -> list[PodContainer]:
    """
    Read what ``Crictl.containers`` prints, with or without exit codes behind it.

    + lines: of it
    """

    ended = [line.split()[1:] for line in lines if line.startswith(_EXIT)]
    codes = {id_: int(code) for id_, code in ended}
    shown: dict[str, Any] = json.loads("\n".join(one for one in lines if one[:5] != _EXIT))
    # crictl writes no key at all, or null, where there is none.
    return [_container(item, codes.get(item["id"])) for item in shown.get("containers") or []]


def _container(item: dict[str, Any], exit_code: int | None) -> PodContainer:
    labels = item.get("labels") or {}
    running = item["state"] == "CONTAINER_RUNNING"
    return PodContainer(
        id=item["id"],
        pod=labels.get(f"{_LABEL}pod.name", ""),
        namespace=labels.get(f"{_LABEL}pod.namespace", ""),
        container=item["metadata"]["name"],
        # kubelet starts containers by the id of their image.
        image=item["image"].get("userSpecifiedImage") or item["image"]["image"],
        running=running,
        started=round(int(item["createdAt"]) / 1e9, 3),
        restarts=int(item["metadata"].get("attempt") or 0),
        exit_code=None if running else exit_code,
    )


def read_images(lines: Sequence[str]) -> dict[str, str]:
    """
    Read what ``crictl images --output json`` prints: ids by name with tag.

    + lines: of it
    """

    shown: dict[str, Any] = json.loads("\n".join(lines))
    return {
        name: image["id"] for image in shown.get("images") or [] for name in image["repoTags"] or []
    }


def read_pods(lines: Sequence[str]) -> list[str]:
    """
    Read what ``crictl pods --quiet`` prints.

    + lines: of it
    """

    return [line.strip() for line in lines if line.strip()]
