"""
containerd: its commands, and how its answers are read.
"""

from __future__ import annotations

import gzip
import re

from pyinfra_kube.cluster.runtimes import bolt
from pyinfra_kube.cluster.runtimes.crictl import Crictl, read_containers, read_images, read_pods
from pyinfra_kube.cluster.runtimes.runtime import Runtime

SOCKET = "/run/containerd/containerd.sock"
ENDPOINT = f"unix://{SOCKET}"

# Where the images of pods are.
NAMESPACE = "k8s.io"

_CRICTL = Crictl(ENDPOINT)
_CTR = f"ctr --address {SOCKET} --namespace {NAMESPACE} images"


def full_name(name: str) -> str:
    """
    Return the name by which containerd knows an image.

    + name: as docker's commands take it

    ```
    >>> full_name("busybox:1.36")
    'docker.io/library/busybox:1.36'
    ```
    """

    first, slash, _ = name.partition("/")
    if slash and (re.search(r"[.:]", first) or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def _read_kept_images(content: bytes) -> dict[str, str]:
    # It keeps the id of an image elsewhere.
    names = bolt.buckets(gzip.decompress(content), ["v1", NAMESPACE, "images"])
    return {name: "" for name in names if "@" not in name and not name.startswith("sha256:")}


CONTAINERD = Runtime(
    name="containerd",
    unit="containerd.service",
    socket=SOCKET,
    endpoint=ENDPOINT,
    client="crictl",
    packages="containerd",
    programs=("containerd", "containerd-shim-runc-v2", "ctr"),
    helpers=("runc",),
    image_root="/var/lib/containerd",
    cgroup_driver="systemd",
    container_logs="",
    images=f"timeout 30 {_CRICTL.program} images --output json",
    read_images=read_images,
    kept_images="/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
    kept_filter="gzip -c",
    read_kept_images=_read_kept_images,
    full_name=full_name,
    load_image=f"{_CTR} import {{file}} >/dev/null",
    tag_image=f"{_CTR} tag --force {{image}} {{name}} >/dev/null",
    has_image=f"{_CRICTL.program} inspecti {{name}} >/dev/null",
    # kubelet removes images when a disk is full. A host that loads them may not be able to pull.
    keep_image=f"{_CTR} label {{name}} io.cri-containerd.pinned=pinned >/dev/null",
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
    uses_systemd=_CRICTL.uses_systemd,
    logs=_CRICTL.logs,
    list_containers="crictl ps --all",
    configuration=(
        *("/etc/containerd/config.toml", "/etc/containerd/conf.d/*.toml"),
        "/etc/containerd/certs.d/*/hosts.toml",
    ),
)
