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

    + part: such as "kube-apiserver"; "etcd" and "pause" too
    + spec: the cluster
    """
    release = Release.of(spec.kubernetes_version)
    return image(part, release, hyperkube=spec.hyperkube, etcd_version=spec.etcd_version)


def image(
    part: str, release: Release, *, hyperkube: bool = False, etcd_version: str | None = None
) -> Image:
    """
    Give the image of a part of a release.

    + part: such as "kube-apiserver"; "etcd" and "pause" too
    + release: the release
    + hyperkube: use the all-in-one image, where the release has one and the part is in it
    + etcd_version: by default the one that the release names

    ```
    >>> image("kube-apiserver", Release.of("1.3.10"), hyperkube=True)
    Image('gcr.io/…/hyperkube:v1.3.10', archive='hyperkube', command=['/hyperkube', 'apiserver'])
    ```
    """
    # Only what Kubernetes itself brings is in it.
    all_in_one = release.fact("hyperkube") if hyperkube and part.startswith("kube") else None
    if all_in_one:
        tag = f"{all_in_one}:v{release.version}"
        command = ["/hyperkube", part.removeprefix(release.fact("hyperkube_strips"))]
    else:
        etcd = f"etcd:{etcd_version or release.etcd_version}"
        others = {"etcd": etcd, "pause": release.fact("pause")}
        tag = others.get(part, f"{part}:v{release.version}")
        command = [f"/usr/local/bin/{part}"]
    return Image(f"{release.fact('registry')}/{tag}", all_in_one or part, command)
