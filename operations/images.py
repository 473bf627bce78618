"""
Manage container images: load them from archives, or pull them.
"""

from __future__ import annotations

import functools
import json
import shlex
import tarfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra.api import OperationValueError
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.runtimes import Runtime, runtime_named
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.digest import DIGEST, sha256_of
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.sending import Upload, send_ahead
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.images import STAGE, Images

_FUNCTIONS = """\
load() {{
  [ "$(digest "$1")" = "$2" ] || {{ echo "$1 arrived damaged" >&2; exit 1; }}
  {load}
  rm -f "$1"
}}
name() {{
  [ "$1" = "$2" ] || {tag}
  # What kubelet asks hears of an image a moment later.
  tries=0
  until {has} 2>/dev/null || [ "$tries" -ge 20 ]; do
    sleep 0.5
    tries=$((tries + 1))
  done
  {has}{keep}
}}"""


@operation()
def images(
    files: Mapping[str, str | None],
    runtime: str = "docker",
    digests: Mapping[str, str] | None = None,
) -> Generator[Any, None, None]:
    """
    Load or pull images, so that the container runtime has them under these names.

    An archive is uploaded if the host has no image of that name, or another one. It is checked by
    digest before it is loaded, and removed afterwards. An image whose name in the archive differs
    gets the wanted name too.

    + files: by name with tag, the path on this machine of an archive (from ``docker save``, or a
      release's ``.tar``), or ``None`` to pull the image
    + runtime: name of the container runtime
    + digests: name → SHA-256 by which an image is pulled, as its registry tells it

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import images

        images.images(
            name="Load the images of the control plane",
            files={
                "k8s.gcr.io/kube-apiserver:v1.20.2": "images/kube-apiserver.tar",
                "k8s.gcr.io/pause:3.2": None,
            },
        )
    """

    use = runtime_named(runtime)
    state = read(Images, runtime=runtime)
    archives = {name: archive(path) for name, path in files.items() if path}
    ids = {name: state.ids.get(use.full_name(name)) for name in files}
    missing = [name for name in files if ids[name] is None]
    # A runtime that does not answer may not tell which image a name means.
    found = {name: _bare(id_) for name, id_ in ids.items() if id_}
    differing = [
        name
        for name, one in archives.items()
        if name in found and one.ids and found[name] not in one.ids
    ]
    for name in missing:
        changes.show(f"image {name}: absent → {'loaded' if files[name] else 'pulled'}")
    for name in differing:
        changes.show(f"image {name}: {found[name][:12]} → another, loaded")

    loading = [name for name in archives if name in missing or name in differing]
    pulling = [name for name in missing if not files[name]]
    if loading:
        send_ahead({sha256_of(archives[name].path): archives[name].path for name in loading})
        yield from _load(use, {name: archives[name] for name in loading})
    elif state.staged:
        changes.show("images that an earlier run left half-way: removed")
        yield Script(f"rm -rf {STAGE}", "remove half-uploaded images")
    if pulling:
        lines = [line for name in pulling for line in _pull(use, name, (digests or {}).get(name))]
        yield Script("\n".join(lines), f"pull {', '.join(pulling)}")
    if not (loading or pulling or state.staged):
        ctx_host.get().noop(f"{len(files)} images are there")


def _pull(runtime: Runtime, name: str, digest: str | None) -> list[str]:
    if not digest:
        return [runtime.pull_image.format(name=shlex.quote(name))]
    origin = shlex.quote(runtime.full_name(f"{name.rpartition(':')[0]}@sha256:{digest}"))
    known = shlex.quote(runtime.full_name(name))
    tag = runtime.tag_image.format(name=known, image=origin)
    return [runtime.pull_image.format(name=origin), tag]


@dataclass(frozen=True)
class Archive:
    """
    An image archive on this machine.

    + path: of the archive
    + names: the names of its images
    + ids: those that the image may have on a host, depending on how the runtime stores it; empty
      if the archive does not tell
    """

    path: str
    names: list[str]
    ids: set[str]

    def origin(self, name: str) -> str:
        """
        Return the image's name right after it was loaded.

        + name: that it must get
        """

        if name in self.names or not (self.names or self.ids):
            return name
        return self.names[0] if self.names else f"sha256:{min(self.ids)}"


def archive(path: str) -> Archive:
    """
    Read which images an archive holds.

    + path: of the archive, on this machine

    Raises ``OperationValueError`` if it holds none.
    """

    file = Path(path)
    if not file.is_file():
        raise OperationValueError(f"image archive {path}: there is no such file on this machine")
    try:
        return _archive(path, file.stat().st_mtime_ns)
    except (tarfile.TarError, KeyError, ValueError, EOFError) as error:
        raise OperationValueError(
            f"image archive {path}: not an image archive ({error})"
        ) from error


@functools.cache
def _archive(path: str, _mtime: int) -> Archive:
    names: list[str] = []
    ids: set[str] = set()
    with tarfile.open(path) as tar:
        members = set(tar.getnames())
        if "manifest.json" in members:
            for image in _json(tar, "manifest.json"):
                names += image.get("RepoTags") or []
                ids.add(Path(image["Config"]).name.removesuffix(".json"))
        elif "repositories" in members:
            for repository, tags in _json(tar, "repositories").items():
                names += [f"{repository}:{tag}" for tag in tags]
        else:
            raise ValueError("it has neither manifest.json nor repositories")
        if "index.json" in members:
            # A docker that stores images with containerd knows them by the manifest's digest.
            ids |= {_bare(item["digest"]) for item in _json(tar, "index.json")["manifests"]}
    return Archive(path, names, ids)


def _json(tar: tarfile.TarFile, name: str) -> Any:
    content = tar.extractfile(name)
    if content is None:
        raise ValueError(f"{name} is not a file")
    return json.load(content)


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _load(runtime: Runtime, archives: Mapping[str, Archive]) -> Generator[Any, None, None]:
    keep = runtime.keep_image.format(name='"$1"')
    functions = DIGEST + _FUNCTIONS.format(
        load=runtime.load_image.format(file='"$1"'),
        tag=runtime.tag_image.format(name='"$1"', image='"$2"'),
        has=runtime.has_image.format(name='"$1"'),
        keep=f"\n  {keep}" if keep else "",
    )
    yield Script(f"rm -rf {STAGE}\nmkdir -m 700 {STAGE}", "prepare to upload images")
    lines = [functions, f"trap 'rm -rf {STAGE}' EXIT", "loading= failed="]
    for path in dict.fromkeys(found.path for found in archives.values()):
        digest = sha256_of(path)
        staged = f"{STAGE}/{digest[:16]}.tar"
        yield Upload(path, staged, digest)
        lines += [f'{shlex.join(["load", staged, digest])} & loading="$loading $!"']
    # Side by side: each keeps one processor busy.
    lines += ['for one in $loading; do wait "$one" || failed=1; done', '[ ! "$failed" ]']
    lines += [
        shlex.join(["name", runtime.full_name(name), runtime.full_name(found.origin(name))])
        for name, found in archives.items()
    ]
    yield Script("\n".join(lines), f"load {', '.join(archives)}")
