"""
Where binaries and images come from: the release's own site, a mirror, or a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.errors import InputError, Problem, refuse
from pyinfra_kube.cluster.images import OTHERS, image_of
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.runtimes import CONTAINERD, Runtime, runtime_named
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.engine.digest import published_sha256, sha256_of

RELEASE_SITE = "https://dl.k8s.io"

CRICTL_SITE = "https://github.com/kubernetes-sigs/cri-tools/releases/download"

# Where a folder may have its files: at its top, or as in a release's own archive.
_PLACES = ("", "server/bin", "kubernetes/server/bin")
_RUNTIME_PLACES = ("", "bin", "cni", "cni/bin", "cni-plugins")

CRICTL = "crictl"
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")


@dataclass(frozen=True)
class Artifacts:
    """
    The files of a release.

    + source: a folder, or the URL of one
    + images: a folder of image archives; empty when images are pulled
    + digests: file name → SHA-256, from the inventory
    + runtime: the container runtime's programs; ``None`` where packages bring them
    """

    source: str
    images: str
    digests: Mapping[str, str]
    runtime: RuntimeArtifacts | None = None

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
        runtime = None
        if spec.runtime_source:
            named = runtime_named(spec.container_runtime or release.container_runtime)
            runtime = RuntimeArtifacts.of(spec, named)
        return cls(source, images, {**listed, **spec.kubernetes_sha256}, runtime)

    def binary(self, name: str) -> tuple[str, str]:
        """
        Return where a binary is, and its SHA-256.

        + name: such as ``kubelet``

        Raises ``InputError`` when it does not exist, or has another digest.
        """

        if "://" in self.source:
            url = f"{self.source}/{name}"
            return url, self.digests.get(name) or _published(f"kubernetes_sha256.{name}", url)
        path = _find(self.source, name)
        if not path:
            allowed = f"a folder with {name} in it"
            raise InputError([Problem("kubernetes_source", self.source, None, allowed)])
        return str(path), _vouched(f"kubernetes_sha256.{name}", path, self.digests.get(name))

    def image(self, component: str) -> str:
        """
        Return the path of an image's archive, or nothing when the image is to be pulled.

        + component: such as ``kube-apiserver``, ``etcd`` or ``pause``
        """

        path = _find(self.images, f"{component}.tar") if self.images else None
        return str(path) if path else ""


@dataclass(frozen=True)
class RuntimeArtifacts:
    """
    The container runtime's programs and CNI plugins.

    + source: a folder, or the URL of one
    + digests: file name → SHA-256, from the inventory
    + runtime: whose programs they are
    """

    source: str
    digests: Mapping[str, str]
    runtime: Runtime = CONTAINERD

    @classmethod
    def of(cls, spec: ClusterSpec, runtime: Runtime) -> RuntimeArtifacts:
        """
        Return those of a spec. Raises ``InputError`` for a folder that lacks one.

        + spec: the cluster, with a ``runtime_source``
        + runtime: its container runtime
        """

        source = str(spec.runtime_source).rstrip("/")
        if "://" in source:
            return cls(source, spec.runtime_sha256, runtime)
        if not Path(source).expanduser().is_dir():
            allowed = "a URL, or a folder that is there"
            raise InputError([Problem("runtime_source", source, None, allowed)])
        wanted = (*runtime.programs, CRICTL, *CNI_PLUGINS)
        if lacking := [name for name in wanted if not _find(source, name, _RUNTIME_PLACES)]:
            allowed = f"a folder with {', '.join(lacking)} in it too, at its top, in bin or in cni"
            raise InputError([Problem("runtime_source", source, None, allowed)])
        return cls(source, {**_listed(source), **spec.runtime_sha256}, runtime)

    def program(self, name: str) -> tuple[str, str]:
        """
        Return where a program or a CNI plugin is, and its SHA-256.

        + name: such as ``containerd``, or ``bridge``

        Raises ``InputError`` when it does not exist, or has another digest.
        """

        if "://" in self.source:
            url = f"{self.source}/{f'cni/{name}' if name in CNI_PLUGINS else name}"
            return url, self.digests.get(name) or _published(f"runtime_sha256.{name}", url)
        path = _find(self.source, name, _RUNTIME_PLACES)
        if not path:
            allowed = f"a folder with {name} in it"
            raise InputError([Problem("runtime_source", self.source, None, allowed)])
        return str(path), _vouched(f"runtime_sha256.{name}", path, self.digests.get(name))

    @cached_property
    def helpers(self) -> list[str]:
        """Those of the runtime's helpers that are there too."""

        return [name for name in self.runtime.helpers if self._has(name)]

    def _has(self, name: str) -> bool:
        """Whether a program is there. At a URL it is where its digest is."""

        if "://" not in self.source:
            return bool(_find(self.source, name, _RUNTIME_PLACES))
        try:
            return bool(self.digests.get(name) or published_sha256(f"{self.source}/{name}"))
        except ValueError:
            return False


def lone_program(spec: ClusterSpec, part: str, name: str) -> tuple[str, str]:
    """
    Return where a program is that comes alone, and its SHA-256.

    + spec: the cluster, with the program's source: a URL, a file, or the file's folder
    + part: whose settings these are: ``etcd`` or ``flannel``
    + name: of the program, such as ``flanneld``

    Raises ``InputError`` when it does not exist, or has another digest.
    """

    source, digest = str(getattr(spec, f"{part}_source")), getattr(spec, f"{part}_sha256")
    if source.startswith(("http://", "https://")):
        return source, digest or _published(f"{part}_sha256", source)
    path = Path(source).expanduser()
    path = path / name if path.is_dir() else path
    if not path.is_file():
        allowed = f"a URL, a file of this machine, or a folder with {name} in it"
        raise InputError([Problem(f"{part}_source", source, None, allowed)])
    return str(path), _vouched(f"{part}_sha256", path, digest)


def crictl_archive(release: Release, digests: Mapping[str, str]) -> tuple[str, str]:
    """
    Return the URL of the archive with a release's crictl, and its SHA-256: the given one, or that
    which is published beside it.

    + release: of Kubernetes
    + digests: file name → SHA-256, from the inventory

    Raises ``InputError`` when its digest is neither given nor within reach.
    """

    version = f"v{release.fact('crictl')}"
    name = f"crictl-{version}-linux-amd64.tar.gz"
    url = f"{CRICTL_SITE}/{version}/{name}"
    return url, digests.get(name) or _published(f"runtime_sha256.{name}", url)


def unknown_images(spec: ClusterSpec) -> list[Problem]:
    """
    Give the digests of images that no host of the cluster has.

    + spec: the cluster
    """

    release = Release.of(spec.kubernetes_version)
    others = [part for part, fact in OTHERS.items() if release.fact(fact)]
    parts = ("etcd", *CONTROL_PLANE_COMPONENTS, *others)
    known = sorted({image_of(part, spec).name for part in parts})
    return [
        Problem(f"image_sha256.{name}", digest, None, f"one of {', '.join(known)}")
        for name, digest in spec.image_sha256.items()
        if name not in known
    ]


def _find(folder: str, name: str, places: Sequence[str] = _PLACES) -> Path | None:
    paths = (Path(folder).expanduser() / place / name for place in places)
    return next((path for path in paths if path.is_file()), None)


def _vouched(key: str, path: Path, vouched: str | None) -> str:
    """The digest of a file of this machine, if nobody gave another one."""

    digest = sha256_of(str(path))
    if vouched and vouched != digest:
        allowed = f"the digest of {path}, {digest}"
        fix = "take that file anew from where the digest is from"
        raise InputError([Problem(key, vouched, None, allowed, fix)])
    return digest


def _listed(folder: str) -> dict[str, str]:
    """The digests that a folder's SHA256SUMS lists."""

    sums = _find(folder, "SHA256SUMS")
    found = re.findall(r"^([0-9a-f]{64})[ *]+(\S+)$", sums.read_text() if sums else "", re.M)
    return {Path(name).name: digest for digest, name in found}


def _published(key: str, url: str) -> str:
    try:
        return published_sha256(url)
    except ValueError as error:
        allowed = f"a SHA-256 digest; {error}"
        fix = f"give the digest, or a {key.partition('_')[0]}_source that is within reach"
        raise InputError([Problem(key, None, None, allowed, fix)]) from None
