"""A registry of images, the one that distribution makes, run on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from tests.lab import go_build
from tests.lab.cache import sha256
from tests.lab.images import Image
from tests.lab.machine import LabError

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@contextmanager
def serving(
    storage: Path, address: str = "127.0.0.1:5017", *, read_only: bool = False
) -> Iterator[str]:
    """
    A registry that answers meanwhile; yields its URL.

    + storage: the folder of its images
    + address: where it listens
    + read_only: take no images
    """
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "registry.json")
        # JSON is YAML, too.
        configuration.write_text(json.dumps(_configuration(storage, address, read_only)))
        program = go_build.built("registry") / "registry"
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "serve", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait(f"http://{address}", process, Path(folder, "log"))
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()


def _configuration(storage: Path, address: str, read_only: bool) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "maintenance": {
                "uploadpurging": {"enabled": False},
                "readonly": {"enabled": read_only},
            },
        },
        "http": {"addr": address},
    }


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            _ask(f"{url}/v2/")
            break
        except (LabError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-1000:]
                raise LabError(f"The registry at {url} does not answer: {said}") from error
            time.sleep(0.1)
    # Another than ours may have answered.
    if process.poll() is not None:
        raise LabError(f"Something else listens at {url}: {log.read_text(errors='replace')}")


def push(url: str, image: Image) -> None:
    """
    Put an image into a registry, under all its names.

    + url: of the registry
    + image: with names of one repository
    """
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "layer.tar")
        image.write_layer(own)
        layers = {sha256(path): path for path in (*image.base, own)}
        _push(url, image.names, image.configuration(list(layers)), layers.values())


def push_archive(url: str, archive: Path) -> dict[str, str]:
    """
    Put the images of an archive into a registry, and return the digest of each by its name.

    + url: of the registry
    + archive: as `docker save` makes it
    """
    digests: dict[str, str] = {}
    with tarfile.open(archive) as tar, tempfile.TemporaryDirectory() as folder:
        tar.extractall(folder, filter="data")
        for image in json.loads(Path(folder, "manifest.json").read_text()):
            configuration = Path(folder, image["Config"]).read_bytes()
            layers = [Path(folder, layer) for layer in image["Layers"]]
            digest = _push(url, image["RepoTags"], configuration, layers)
            digests |= dict.fromkeys(image["RepoTags"], digest)
    return digests


def _push(url: str, names: Sequence[str], configuration: bytes, layers: Iterable[Path]) -> str:
    """Put an image into its repository, and return the digest of its manifest."""
    repository = names[0].partition("/")[2].rpartition(":")[0]
    with tempfile.NamedTemporaryFile() as file:
        file.write(configuration)
        file.flush()
        described = [_blob(url, repository, Path(file.name), _CONFIGURATION)]
    described += [_blob(url, repository, layer, _LAYER) for layer in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": described[0],
            "layers": described[1:],
        }
    ).encode()
    for name in names:
        place = f"{url}/v2/{repository}/manifests/{name.rpartition(':')[2]}"
        _ask(place, "PUT", manifest, {"Content-Type": _MANIFEST})
    return hashlib.sha256(manifest).hexdigest()


def _blob(url: str, repository: str, path: Path, kind: str) -> dict[str, object]:
    """Put a blob into a repository, and return how a manifest describes it."""
    size, digest = path.stat().st_size, f"sha256:{sha256(path)}"
    started = _ask(f"{url}/v2/{repository}/blobs/uploads/", "POST")
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    with path.open("rb") as content:
        _ask(f"{started}&{urlencode({'digest': digest})}", "PUT", content, headers)
    return {"mediaType": kind, "size": size, "digest": digest}


def _ask(
    url: str, method: str = "GET", data: object = None, headers: dict[str, str] | None = None
) -> str:
    """Ask the registry, and return the place that its answer names."""
    request = urllib.request.Request(url, data, headers or {}, method=method)  # type: ignore[arg-type]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return str(answer.headers.get("Location", ""))
    except urllib.error.HTTPError as error:
        raise LabError(f"The registry answers {method} {url}: {error} {error.read()!r}") from error
