"""Container images in the form that `docker load` takes, written without docker."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tests.lab.cache import sha256

_USERS = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"


@dataclass(frozen=True)
class Image:
    """
    What an image holds: files by their place in it, and links by theirs.

    + base: the layers below, archives of tar
    + modes: of files that are no ordinary programs, by their place
    + user: who runs its process
    """

    names: Sequence[str]
    files: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    base: Sequence[Path] = ()
    modes: Mapping[str, int] = field(default_factory=dict)
    user: str = ""

    def write(self, archive: Path) -> None:
        """Write it; the same content gives the same bytes, so the same image."""
        own = archive.with_suffix(".layer")
        self.write_layer(own)
        layers = {sha256(layer): layer for layer in (*self.base, own)}
        configuration = self.configuration(list(layers))
        name = f"{hashlib.sha256(configuration).hexdigest()}.json"
        places = {f"{digest}/layer.tar": layer for digest, layer in layers.items()}
        manifest = [{"Config": name, "RepoTags": list(self.names), "Layers": list(places)}]
        with tarfile.open(archive, "w") as tar:
            _add_bytes(tar, name, configuration)
            for place, layer in places.items():
                _add_file(tar, place, layer, mode=0o644)
            _add_bytes(tar, "manifest.json", json.dumps(manifest).encode())
        own.unlink()

    def configuration(self, digests: Sequence[str]) -> bytes:
        """
        What a runtime must know of it, as JSON.

        + digests: of its layers
        """
        told: dict[str, Any] = {
            "Entrypoint": list(self.entrypoint) or None,
            "Cmd": list(self.command) or None,
        }
        if self.user:
            told["User"] = self.user
        history = {"created": "1970-01-01T00:00:00Z", "created_by": "pyinfra-kube lab"}
        return json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "1970-01-01T00:00:00Z",
                "config": {"Env": [_PATH], **told},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{it}" for it in digests]},
                "history": [history] * len(digests),
            },
            sort_keys=True,
        ).encode()

    def write_layer(self, path: Path) -> None:
        """Write what it has itself, on top of its base."""
        with tarfile.open(path, "w") as tar:
            self._fill(tar)

    def _fill(self, tar: tarfile.TarFile) -> None:
        inside = [*self.files, *self.links]
        # A base has its own folders, whose modes stay.
        if not self.base:
            for folder in _folders([*inside, "/etc/passwd", "/tmp/any", "/var/log/any"]):
                entry = tarfile.TarInfo(folder)
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o1777 if folder == "tmp" else 0o755
                tar.addfile(entry)
            _add_bytes(tar, "etc/passwd", _USERS)
        for place, source in self.files.items():
            _add_file(tar, place.lstrip("/"), source, mode=self.modes.get(place, 0o755))
        for place, target in self.links.items():
            entry = tarfile.TarInfo(place.lstrip("/"))
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            tar.addfile(entry)


def _folders(places: Sequence[str]) -> list[str]:
    """Every folder above these places, outer ones first."""
    found = {str(folder).lstrip("/") for place in places for folder in PurePosixPath(place).parents}
    return sorted(found - {""})


def _add_file(tar: tarfile.TarFile, place: str, source: Path, *, mode: int) -> None:
    entry = tarfile.TarInfo(place)
    entry.size = source.stat().st_size
    entry.mode = mode
    with source.open("rb") as content:
        tar.addfile(entry, content)


def _add_bytes(tar: tarfile.TarFile, place: str, content: bytes) -> None:
    entry = tarfile.TarInfo(place)
    entry.size = len(content)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(content))
