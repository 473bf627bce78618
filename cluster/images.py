"""Which image a part of the cluster runs from: the one place where the name of an image is made."""

from __future__ import annotations

from typing import NamedTuple

from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec


class Image(NamedTuple):
    """
    An image.

    + name: with registry and tag
    + archive: what its archive is called in a folder of images, without ``.tar``
    + command: how the part is started in it
    """

    name: str
    archive: str
    command: list[str]


def image_of(part: str, spec: ClusterSpec) -> Image:
    """
    Give the image of a part of a cluster.

    + part: such as "kube-apiserver"; "etcd", "pause" and add-ons such as "coredns" too
    + spec: the cluster
    """
    release = Release.of(spec.kubernetes_version)
    return image(part, release, hyperkube=spec.hyperkube, etcd_version=spec.etcd_version)


def image(
    part: str, release: Release, *, hyperkube: bool = False, etcd_version: str | None = None
) -> Image:
    """
    Give the image of a part of a release.

    + part: such as "kube-apiserver"; "etcd", "pause" and add-ons such as "coredns" too
    + release: the release
    + hyperkube: use the all-in-one image, where the release has one and the part is in it
    + etcd_version: by default the one that the release names

    ```
    >>> image("kube-apiserver", Release.of("1.3.10"), hyperkube=True)
    Image('gcr.io/…/hyperkube:v1.3.10', archive='hyperkube', command=['/hyperkube', 'apiserver'])
    ```
    """
    archive, command = part, [f"/usr/local/bin/{part}"]
    # Only what Kubernetes itself brings is in it.
    if hyperkube and part.startswith("kube") and True in release.fact("hyperkube"):
        archive = "hyperkube"
        command = ["/hyperkube", part.removeprefix(release.fact("hyperkube_strips"))]
    etcd = f"etcd:{etcd_version or release.etcd_version}"
    others = {"etcd": etcd, **{name: release.fact(fact) for name, fact in OTHERS.items()}}
    tag = others.get(archive, f"{archive}:v{release.version}")
    # Some are not in Kubernetes' own registry.
    host, slash, _ = str(tag).partition("/")
    elsewhere = slash and "." in host
    return Image(tag if elsewhere else f"{release.fact('registry')}/{tag}", archive, command)


OTHERS = {
    "pause": "pause",
    "coredns": "coredns",
    "metrics-server": "metrics_server_image",
    "kube-router": "kube_router_image",
    "otelcol": "otelcol_image",
}
"""What has versions of its own: part → what the release calls it."""
