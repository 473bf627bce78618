"""
Static pods: the manifests that kubelet reads, and what runs of them.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast, get_args

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import sound, understanding
from pyinfra_kube.facts.docker import RUNS
from pyinfra_kube.facts.times import NOW, Clock

_INSPECT = (
    "{{.Id}} {{.Name}} {{.State.Running}} {{.State.Pid}} {{.State.StartedAt}} "
    "{{.State.ExitCode}} {{.Config.Image}} {{json .Config.Labels}}"
)
_LABEL = "io.kubernetes."

_Runtime = Literal["docker", "cri", "missing", "down"]


@dataclass(frozen=True)
class PodContainer:
    """
    One container of a pod, running or ended.

    + pod: the pod's name, for a static pod with the node's name at its end
    + started: seconds since the epoch
    + restarts: how often kubelet had started it before
    + exit_code: how it ended, ``None`` while it runs
    """

    id: str
    pod: str
    namespace: str
    container: str
    image: str
    running: bool
    started: float
    restarts: int
    exit_code: int | None = None


@dataclass(frozen=True)
class StaticPodStates(Printable):
    """
    What :class:`StaticPods` returns.

    + runtime: ``docker`` or ``cri``, ``missing`` where its client is not installed, ``down``
      where the runtime does not answer
    + now: the host's time, seconds since the epoch
    + manifests: SHA-256 by path
    + containers: of all pods on the host
    """

    runtime: _Runtime = "missing"
    now: float = 0.0
    manifests: dict[str, str] = field(default_factory=dict)
    containers: list[PodContainer] = field(default_factory=list)

    def of(self, pod: str, namespace: str = "kube-system") -> list[PodContainer]:
        """Return the containers of one static pod, newest first (A1 to A4)."""

        found = [
            item
            for item in self.containers
            if item.namespace == namespace and item.pod.startswith(f"{pod}-")
        ]
        return sorted(found, key=lambda item: item.started, reverse=True)


class StaticPods(FactBase[StaticPodStates]):
    """
    Returns the manifests in kubelet's directory and the containers of the host's pods.

    + directory: kubelet's manifest directory
    + runtime: ``docker``, or ``cri`` for crictl

    .. code:: python

        StaticPodStates(
            runtime="docker",
            now=1700000100.0,
            manifests={"/etc/kubernetes/manifests/etcd.yaml": "9f86d0…"},
            containers=[
                PodContainer(
                    id="3e8a…", pod="etcd-master1", namespace="kube-system", container="etcd",
                    image="k8s.gcr.io/etcd:3.4.13-0", running=True, started=1700000000.25,
                    restarts=0,
                ),
            ],
        )
    """

    @staticmethod
    @override
    def default() -> StaticPodStates:
        return StaticPodStates()

    @override
    def command(
        self,
        directory: str = "/etc/kubernetes/manifests",
        runtime: Literal["docker", "cri"] = "docker",
    ) -> str:
        # kubelet reads every file of its directory but those whose name begins with a dot.
        manifests = (
            f"find -L {shlex.quote(directory)} -maxdepth 1 -type f ! -name '.*' "
            "-exec sha256sum {} + 2>/dev/null"
        )
        containers = _DOCKER if runtime == "docker" else _CRI
        return f"{manifests}\n{containers}\n{NOW}"

    @override
    def process(self, output: Iterable[str]) -> StaticPodStates:
        manifests: dict[str, str] = {}
        lines: dict[str, list[str]] = {}
        for line in output:
            word, _, rest = line.partition(" ")
            if re.fullmatch(r"[0-9a-f]{64}", word) and rest.startswith(" /"):
                manifests[rest.strip()] = word
            else:
                lines.setdefault(word, []).append(rest)
        runtime = "".join(lines.get("runtime", []))
        if runtime not in get_args(_Runtime) or "now" not in lines:
            raise FactProcessError("the host does not tell what runs its pods")
        with understanding("docker" if runtime == "docker" else "crictl"):
            clock = Clock.parse(f"now {lines['now'][-1]}")
            stats = {rest.split()[0]: rest for rest in lines.get("stat", []) if ")" in rest}
            inspected = lines.get("container", [])
            if len(inspected) < int("".join(lines.get("count", [])) or 0):
                raise FactProcessError("docker does not tell of all containers what they are")
            containers = [_docker_container(line, stats, clock) for line in inspected]
            if runtime == "cri":
                containers = _cri_containers("\n".join(lines.get("crictl", [])))
        return StaticPodStates(
            cast(_Runtime, runtime),
            clock.now,
            manifests,
            [item for item in containers if item.container != "POD"],
        )


# The title of the table tells that docker answers, also where it has nothing to show.
_DOCKER = f"""\
{RUNS}
if ! command -v docker >/dev/null 2>&1; then echo 'runtime missing'
elif ! docker_runs || ! shown=$(timeout 20 docker ps --all --no-trunc \
--filter label=io.kubernetes.pod.name 2>/dev/null); then echo 'runtime down'
else
case $shown in 'CONTAINER ID '*) ;; *)
echo "docker does not tell its containers: it prints no table" >&2
exit 1 ;; esac
echo 'runtime docker'
ids=$(printf '%s\\n' "$shown" | sed '1d; s/ .*//')
shown=$([ -z "$ids" ] || timeout 20 docker inspect --format 'container {_INSPECT}' $ids 2>&1)
# One that went meanwhile is none any more.
gone=$(printf '%s\\n' "$shown" | grep -ci 'no such object')
echo "count $(($(printf '%s\\n' "$ids" | grep -c .) - gone))"
printf '%s\\n' "$shown" | grep '^container '
for pid in $(printf '%s\\n' "$shown" | sed -n 's/^container //p' | cut -d ' ' -f 4); do
[ "$pid" = 0 ] || echo "stat $(cat "/proc/$pid/stat" 2>/dev/null)"
done
fi"""

_CRI = """\
if ! command -v crictl >/dev/null 2>&1; then echo 'runtime missing'
elif ! shown=$(timeout 20 crictl ps --all --output json 2>/dev/null); then echo 'runtime down'
else
echo 'runtime cri'
printf '%s\\n' "$shown" | sed 's/^/crictl /'
fi"""


def _docker_container(line: str, stats: dict[str, str], clock: Clock) -> PodContainer:
    id_, name, running, pid, started, exit_code, image, labels = line.split(" ", 7)
    label: dict[str, str] = json.loads(labels) or {}
    found = [value for value in label.values() if not isinstance(value, str)]
    if found:
        raise ValueError(f"a label has the value {found[0]!r}")
    restarts = (
        label.get(f"annotation.{_LABEL}container.restartCount")
        or label.get(f"{_LABEL}container.restartCount")
        or name.rpartition("_")[2]
    )
    return PodContainer(
        id=id_,
        pod=label[f"{_LABEL}pod.name"],
        namespace=label.get(f"{_LABEL}pod.namespace", ""),
        container=label.get(f"{_LABEL}container.name", ""),
        image=image,
        running=running == "true",
        started=clock.started(stats[pid]) if pid in stats else _timestamp(started),
        restarts=int(restarts) if restarts.isdigit() else 0,
        exit_code=None if running == "true" else int(exit_code),
    )


def _cri_containers(text: str) -> list[PodContainer]:
    shown: dict[str, Any] = json.loads(text)
    containers = [
        PodContainer(
            id=item["id"],
            pod=item["labels"].get(f"{_LABEL}pod.name", ""),
            namespace=item["labels"].get(f"{_LABEL}pod.namespace", ""),
            container=item["metadata"]["name"],
            image=item["image"]["image"],
            running=item["state"] == "CONTAINER_RUNNING",
            started=round(int(item["createdAt"]) / 1e9, 3),
            restarts=int(item["metadata"].get("attempt") or 0),
        )
        # crictl writes no key at all, or null, where there is none.
        for item in shown.get("containers") or []
    ]
    return [sound(container) for container in containers]


def _timestamp(text: str) -> float:
    """Seconds since the epoch of ``2024-01-02T03:04:05.678901234Z``."""

    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not match or text.startswith("0001-"):
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    return round(datetime.fromisoformat(match[1] + zone).timestamp() + float(match[2] or 0), 3)
