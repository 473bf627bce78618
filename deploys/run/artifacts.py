"""
Where binaries and images come from: the release's own site, a mirror, or a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.engine.digest import published_sha256, sha256_of

RELEASE_SITE = "https://dl.k8s.io"

# Where a folder may have its files: at its top, or as in a release's own archive.
_PLACES = ("", "server/bin", "kubernetes/server/bin")


@dataclass(frozen=True)
class Artifacts:
    """
    The files of a release.

    + source: a folder, or the URL of one
    + images: a folder of image archives; empty when images are pulled
    + digests: file name → SHA-256, from the inventory
    """

    source: str
    images: str
    digests: Mapping[str, str]

    @classmethod
    def of(cls, spec: ClusterSpec, release: Release) -> Artifacts:
        """
        Return the artifacts of a spec. Raises ``InputError`` for a folder that does not exist.

        + spec: the cluster
        + release: its release
        """

        source = spec.kubernetes_source or RELEASE_SITE
        remote = "://" in source
        folders = (
            ("kubernetes_source", None if remote else source, "a URL, or a folder that is there"),
            ("image_source", spec.image_source, "a folder that is there"),
        )
        refuse(
            Problem(key, folder, None, allowed)
            for key, folder, allowed in folders
            if folder and not Path(folder).expanduser().is_dir()
        )
        if remote:
            source = f"{source.rstrip('/')}/v{release.version}/bin/linux/amd64"
        images = spec.image_source or ("" if remote else source)
        listed = {} if remote else _listed(source)
        return cls(source, images, {**listed, **spec.kubernetes_sha256})

    def binary(self, name: str) -> tuple[str, str]:
        """
        Return where a binary is, and its SHA-256.

        + name: such as ``kubelet``

        Raises ``InputError`` when it does not exist, or has another digest.
        """

        if "://" in self.source:
            url = f"{self.source}/{name}"
            return url, self.digests.get(name) or _published(name, url)
        path = _find(self.source, name)
        if not path:
            allowed = f"a folder with {name} in it"
            raise InputError([Problem("kubernetes_source", self.source, None, allowed)])
        digest = sha256_of(str(path))
        vouched = self.digests.get(name, digest)
        if vouched != digest:
            allowed = f"the digest of {path}, {digest}"
            fix = "take that file anew from where the digest is from"
            raise InputError([Problem(f"kubernetes_sha256.{name}", vouched, None, allowed, fix)])
        return str(path), digest

    def image(self, component: str) -> str:
        """
        Return the path of an image's archive, or nothing when the image is to be pulled.

        + component: such as ``kube-apiserver``, ``etcd`` or ``pause``
        """

        path = _find(self.images, f"{component}.tar") if self.images else None
        return str(path) if path else ""


def _find(folder: str, name: str) -> Path | None:
    paths = (Path(folder).expanduser() / place / name for place in _PLACES)
    return next((path for path in paths if path.is_file()), None)


def _listed(folder: str) -> dict[str, str]:
    """The digests that a folder's SHA256SUMS lists."""

    sums = _find(folder, "SHA256SUMS")
    found = re.findall(r"^([0-9a-f]{64})[ *]+(\S+)$", sums.read_text() if sums else "", re.M)
    return {Path(name).name: digest for digest, name in found}


def _published(name: str, url: str) -> str:
    try:
        return published_sha256(url)
    except ValueError as error:
        allowed = f"a SHA-256 digest; {error}"
        fix = "give the digest, or a kubernetes_source that is within reach"
        raise InputError([Problem(f"kubernetes_sha256.{name}", None, None, allowed, fix)]) from None
