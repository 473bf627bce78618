"""A second container runtime: what asks or changes containers must do with its table alone."""

from __future__ import annotations

from pyinfra_kube.cluster.runtimes import RUNTIMES, Runtime, crictl

_CRICTL = crictl.Crictl("unix:///run/crio/crio.sock")

TOY = Runtime(
    name="crio",
    unit="crio.service",
    socket="/run/crio/crio.sock",
    endpoint=_CRICTL.endpoint,
    client="crictl",
    packages="crio",
    cgroup_driver="systemd",
    container_logs="",
    images="toy images",
    read_images=lambda lines: dict(line.split() for line in lines),  # type: ignore[arg-type]
    load_image="toy load {file}",
    tag_image="toy tag {image} {name}",
    has_image="toy has {name}",
    pull_image="toy pull {name}",
    pods="toy pods",
    read_pods=list,
    remove_pods="toy remove {ids}",
    containers=_CRICTL.containers,
    read_containers=crictl.read_containers,
    pod_functions=_CRICTL.pod_functions,
    find_container="toy find {container}",
    logs=_CRICTL.logs,
    list_containers="toy list",
)

RUNTIMES[TOY.name] = TOY
