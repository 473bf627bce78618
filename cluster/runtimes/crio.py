"""
CRI-O: its commands, and how its answers are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, TypeAdapter

from pyinfra_kube.cluster.runtimes.containerd import full_name
from pyinfra_kube.cluster.runtimes.crictl import Crictl, read_containers, read_images, read_pods
from pyinfra_kube.cluster.runtimes.runtime import Runtime

SOCKET = "/run/crio/crio.sock"
ENDPOINT = f"unix://{SOCKET}"

_STORE = "/var/lib/containers/storage"
_CRICTL = Crictl(ENDPOINT)
_COPY = "skopeo --insecure-policy copy --quiet"

# CRI-O itself loads no archive. skopeo puts images where CRI-O has its own.
_LOAD = f"""\
names=$(tar -xOf {{file}} manifest.json | tr -d ' \\n' | grep -o '"RepoTags":\\[[^]]*' |
    cut -d '[' -f 2 | tr -d '"' | tr ',' '\\n') || names=
  [ -n "$names" ] || {{{{ echo 'the images of the archive have no names' >&2; exit 1; }}}}
  for one in $names; do
    {_COPY} "docker-archive:"{{file}}":$one" "containers-storage:$one"
  done"""


class _Kept(BaseModel):
    id: str
    names: list[str] | None = None


_KEPT = TypeAdapter(list[_Kept])


def _read_images(lines: Sequence[str]) -> dict[str, str]:
    return {name: _digest(id_) for name, id_ in read_images(lines).items()}


def _read_kept_images(content: bytes) -> dict[str, str]:
    kept = _KEPT.validate_json(content)
    found = {name: _digest(one.id) for one in kept for name in one.names or []}
    return {name: id_ for name, id_ in found.items() if "@" not in name}


def _digest(id_: str) -> str:
    return f"sha256:{id_.removeprefix('sha256:')}"


CRIO = Runtime(
    name="cri-o",
    unit="crio.service",
    socket=SOCKET,
    endpoint=ENDPOINT,
    client="crictl",
    packages="cri-o",
    programs=("crio", "pinns"),
    helpers=("conmon", "runc"),
    image_root="/var/lib/containers",
    cgroup_driver="systemd",
    container_logs="",
    images=f"timeout 30 {_CRICTL.program} images --output json",
    read_images=_read_images,
    kept_images=f"{_STORE}/overlay-images/images.json",
    read_kept_images=_read_kept_images,
    full_name=full_name,
    load_image=_LOAD,
    tag_image=f"{_COPY} containers-storage:{{image}} containers-storage:{{name}}",
    has_image=f"{_CRICTL.program} inspecti {{name}} >/dev/null",
    pull_image=f"{_CRICTL.program} pull {{name}} >/dev/null",
    pods=f"timeout 20 {_CRICTL.program} pods --quiet",
    read_pods=read_pods,
    remove_pods=f"{_CRICTL.program} rmp --force {{ids}} >/dev/null",
    containers=_CRICTL.containers,
    containers_more=_CRICTL.exit_codes,
    read_containers=read_containers,
    pod_functions=_CRICTL.pod_functions,
    find_container=f"{_CRICTL.program} ps --all --quiet --label "
    "io.kubernetes.container.name={container}",
    uses_systemd=f"curl --silent --max-time 5 --unix-socket {SOCKET} http://crio/info | "
    'grep -q \'"cgroup_driver": *"systemd"\'',
    logs=_CRICTL.logs,
    list_containers="crictl ps --all",
    configuration=(
        *("/etc/crio/crio.conf", "/etc/crio/crio.conf.d/*", "/etc/crio/policy.json"),
        *("/etc/containers/registries.conf", "/etc/containers/registries.conf.d/*"),
        "/etc/sysconfig/crio",
    ),
)
