"""
A host's containers, whichever runtime has them: asked of docker or of containerd, in words that are
not the package's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

# What the words below mean on a host. docker brings a containerd of its own, which is none of ours.
#   running         every container, for `read`
#   ids NAME        of the running containers of that name in pods
#   started ID      when a container was started
#   image_id NAME   and whether it is kept; fails for none
#   load_image      of an archive that comes by standard input
#   kill_containers ID …, remove_images NAME …
#   keep_own IMAGE  a container of somebody's own, which `own` tells of
SHELL = r"""
if command -v docker >/dev/null; then
  running() { docker ps --no-trunc --format 'container {{.Names}} {{.ID}}'; }
  ids() { docker ps --quiet --no-trunc --filter "label=io.kubernetes.container.name=$1"; }
  started() { docker inspect --format '{{.State.StartedAt}}' "$1"; }
  image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null; }
  load_image() { docker load >/dev/null; }
  kill_containers() { docker kill "$@" >/dev/null; }
  remove_images() { docker rmi --force "$@" >/dev/null; }
  keep_own() { docker run --detach --name own --restart always --network none "$1" >/dev/null; }
  own() { docker inspect --format 'container {{.Id}} {{.State.Running}}' own 2>/dev/null; }
elif command -v crictl >/dev/null; then
  socket=unix:///run/containerd/containerd.sock
  [ ! -S /run/crio/crio.sock ] || socket=unix:///run/crio/crio.sock
  cri() { crictl --config /dev/null --runtime-endpoint "$socket" "$@"; }
  shown() { cri "$1" --output go-template --template "$2" "$3" 2>/dev/null; }
  running() { echo "crictl $(cri ps --output json | tr -d '\n')"; }
  ids() { cri ps --quiet --no-trunc --label "io.kubernetes.container.name=$1"; }
  started() { shown inspect '{{.status.startedAt}}' "$1"; }
  image_id() { shown inspecti '{{.status.id}} pinned {{.status.pinned}}' "$1"; }
  load_image() {
    if [ -S /run/crio/crio.sock ]; then
      cat >/root/image.tar
      for name in $(tar -xOf /root/image.tar manifest.json | grep -o '"[a-z./]*:[0-9][^"]*"'); do
        name=${name%\"} name=${name#\"}
        skopeo --insecure-policy copy "docker-archive:/root/image.tar:$name" \
          "containers-storage:$name" >/dev/null
      done
      rm /root/image.tar
    else
      ctr --namespace k8s.io images import - >/dev/null 2>&1
    fi
  }
  kill_containers() { cri stop --timeout 0 "$@" >/dev/null; }
  # CRI-O keeps what a container uses.
  remove_images() { cri rmi "$@" >/dev/null || [ -S /run/crio/crio.sock ]; }
  keep_own() {
    if [ -S /run/crio/crio.sock ]; then
      skopeo copy "containers-storage:$1" containers-storage:own.example.com/own:1 >/dev/null
      return
    fi
    # Now and then ctr exports less than it should.
    for _ in 1 2 3 4 5; do
      ctr --namespace k8s.io images export /root/own.tar "$1"
      if ctr --namespace own images import /root/own.tar >/dev/null; then break; fi
    done
    rm /root/own.tar
    ctr --namespace own run --detach "$1" own
  } 2>/dev/null
  own() {
    cri images --quiet own.example.com/own 2>/dev/null | sed 's/^/image of own /'
    ctr --namespace own containers list --quiet 2>/dev/null | sed 's/^/container /'
    ctr --namespace own images list --quiet 2>/dev/null | sed 's/^/image of own /'
  }
else
  running() { :; }
  keep_own() { :; }
  own() { :; }
fi
"""


@dataclass(frozen=True)
class Container:
    """
    A container that runs.

    + name: as docker names it: `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`
    """

    name: str
    id: str

    @property
    def in_pod(self) -> tuple[str, str, str] | None:
        """Its own name, the pod's and the namespace; none for one of no pod."""
        words = self.name.split("_")
        return (words[1], words[2], words[3]) if words[0] == "k8s" else None


def read(lines: Iterable[str]) -> list[Container]:
    """The containers that ``running`` told of, without those that only hold a pod's network."""
    found = []
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "container":
            found.append(Container(*rest.split()))
        elif kind == "crictl":
            found += [_of_cri(one) for one in json.loads(rest)["containers"]]
    return [one for one in found if not one.name.startswith("k8s_POD_")]


def _of_cri(one: dict[str, dict[str, str]]) -> Container:
    label = {key.removeprefix("io.kubernetes."): value for key, value in one["labels"].items()}
    words = [label[key] for key in ("container.name", "pod.name", "pod.namespace", "pod.uid")]
    name = "_".join(["k8s", *words, str(one["metadata"].get("attempt", 0))])
    return Container(name, str(one["id"]))
