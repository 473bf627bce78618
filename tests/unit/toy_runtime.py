"""A second container runtime: what asks or changes containers must do with its table alone."""

from __future__ import annotations

from pyinfra_kube.cluster.runtimes import RUNTIMES, Runtime, crictl

TOY = Runtime(
    name="crio",
    unit="crio.service",
    socket="/run/crio/crio.sock",
    endpoint="unix:///run/crio/crio.sock",
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
    containers=crictl.CONTAINERS,
    read_containers=crictl.read_containers,
    pod_functions=crictl.POD_FUNCTIONS,
    find_container="toy find {container}",
    logs=crictl.LOGS,
    list_containers="toy list",
)

RUNTIMES[TOY.name] = TOY
