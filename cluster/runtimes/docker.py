"""
docker: its commands, and how its answers are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter

from pyinfra_kube.cluster.runtimes.runtime import IncompleteAnswer, PodContainer, Runtime, Started

_LABEL = "io.kubernetes."
_INSPECT = (
    "{{.Id}} {{.Name}} {{.State.Running}} {{.State.Pid}} {{.State.StartedAt}} "
    "{{.State.ExitCode}} {{.Config.Image}} {{json .Config.Labels}}"
)
_PODS = "timeout 20 docker ps --all --no-trunc --filter label=io.kubernetes.pod.name"
_FIND = "docker ps --all --quiet --filter label=io.kubernetes.container.name={container}"
_NO_TABLE = "docker does not tell its containers: it prints no table"

# The title of the table tells that docker answers, also where it has nothing to show. A container
# that went meanwhile is no longer counted.
_CONTAINERS_MORE = f"""\
case $shown in 'CONTAINER ID '*) ;; *)
echo "{_NO_TABLE}" >&2
exit 1 ;; esac
ids=$(printf '%s\\n' "$shown" | sed '1d; s/ .*//')
shown=$([ -z "$ids" ] || timeout 20 docker inspect --format 'container {_INSPECT}' $ids 2>&1)
gone=$(printf '%s\\n' "$shown" | grep -ci 'no such object')
echo "count $(($(printf '%s\\n' "$ids" | grep -c .) - gone))"
printf '%s\\n' "$shown" | grep '^container '
for pid in $(printf '%s\\n' "$shown" | sed -n 's/^container //p' | cut -d ' ' -f 4); do
[ "$pid" = 0 ] || echo "stat $(cat "/proc/$pid/stat" 2>/dev/null)"
done"""

_POD_FUNCTIONS = """\
containers() {
  pod=$1 container=$2
  shift 2
  docker ps --quiet --no-trunc --filter "label=io.kubernetes.pod.name=$pod" \\
    --filter "label=io.kubernetes.container.name=$container" "$@"
}
uid() { docker inspect --format '{{index .Config.Labels "io.kubernetes.pod.uid"}}' "$1"; }
end() { docker stop -t "$@" >/dev/null; }
forget() { containers "$1" "$2" --all --filter status=exited | xargs -r docker rm >/dev/null || :; }
"""


def _read_images(lines: Sequence[str]) -> dict[str, str]:
    if not lines or lines[0].split()[:2] != ["REPOSITORY", "TAG"]:
        raise IncompleteAnswer("docker does not tell its images: it prints no table of them")
    rows = [line.split() for line in lines[1:] if line.strip()]
    if any(len(row) < 3 for row in rows):
        raise IncompleteAnswer("docker does not tell its images: the table is cut off")
    return {f"{name}:{tag}": id_ for name, tag, id_, *_ in rows if "<none>" not in (name, tag)}


_REPOSITORIES = TypeAdapter(dict[Literal["Repositories"], dict[str, dict[str, str]]])


def _read_kept_images(content: bytes) -> dict[str, str]:
    repositories = _REPOSITORIES.validate_json(content)["Repositories"]
    found = {name: id_ for names in repositories.values() for name, id_ in names.items()}
    return {name: id_ for name, id_ in found.items() if "@" not in name}


def _read_pods(lines: Sequence[str]) -> list[str]:
    rows = [line.split() for line in lines if line.strip()]
    if not rows or rows[0][:2] != ["CONTAINER", "ID"]:
        raise IncompleteAnswer(_NO_TABLE)
    return [words[0] for words in rows[1:]]


def _read_containers(lines: Sequence[str], started: Started) -> list[PodContainer]:
    found: dict[str, list[str]] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest)
    inspected = found.get("container", [])
    if len(inspected) < int("".join(found.get("count", [])) or 0):
        raise IncompleteAnswer("docker does not tell of all containers what they are")
    stats = {rest.split()[0]: rest for rest in found.get("stat", []) if ")" in rest}
    return [_container(line, stats, started) for line in inspected]


def _container(line: str, stats: dict[str, str], started_at: Started) -> PodContainer:
    id_, name, running, pid, started, exit_code, image, labels = line.split(" ", 7)
    label: dict[str, str] = json.loads(labels) or {}
    wrong = [value for value in label.values() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"a label has the value {wrong[0]!r}")
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
        started=started_at(stats[pid]) if pid in stats else _timestamp(started),
        restarts=int(restarts) if restarts.isdigit() else 0,
        exit_code=None if running == "true" else int(exit_code),
    )


def _timestamp(text: str) -> float:
    """Seconds since the epoch of ``2024-01-02T03:04:05.678901234Z``."""

    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not match or text.startswith("0001-"):
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    return round(datetime.fromisoformat(match[1] + zone).timestamp() + float(match[2] or 0), 3)


DOCKER = Runtime(
    name="docker",
    unit="docker.service",
    socket="/var/run/docker.sock",
    endpoint="",
    client="docker",
    packages="docker",
    cgroup_driver="cgroupfs",
    container_logs="{root}/containers/*/*-json.log",
    images="timeout 30 docker images --no-trunc",
    read_images=_read_images,
    # Whichever way it stores layers.
    kept_images="/var/lib/docker/image/*/repositories.json",
    read_kept_images=_read_kept_images,
    load_image="docker load --input {file} >/dev/null",
    # The option was obligatory once, and was removed later.
    tag_image="docker tag {image} {name} 2>/dev/null || docker tag -f {image} {name}",
    has_image="docker inspect --type=image --format '{{{{.Id}}}}' {name} >/dev/null",
    pull_image="docker pull {name} >/dev/null",
    pods=_PODS,
    read_pods=_read_pods,
    remove_pods="docker rm --force {ids} >/dev/null",
    containers=_PODS,
    containers_more=_CONTAINERS_MORE,
    read_containers=_read_containers,
    pod_functions=_POD_FUNCTIONS,
    find_container=_FIND,
    logs="docker logs --tail {lines} {id}",
    list_containers="docker ps --all",
    configuration=("/etc/docker/daemon.json", "/etc/default/docker", "/etc/sysconfig/docker*"),
)
