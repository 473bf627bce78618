"""The user's own manifests: what is read, and what is refused before any host is touched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.deploys.run.manifests import read_manifests

CONFIG = "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {}}}}}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {key: !hunter2 [}\n"


def _read(*places: str | Path, **digests: str) -> list[str]:
    spec: Any = SimpleNamespace(manifests=[*map(str, places)], manifests_sha256=digests)
    return [one.name for one in read_manifests(spec)]


def _refused(*places: str | Path, digests: dict[str, str] | None = None) -> str:
    with pytest.raises(InputError) as failure:
        _read(*places, **(digests or {}))
    return str(failure.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.yaml", "a.yml", "inner/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CONFIG.format(Path(name).stem))
    for name in (".git/d.yaml", ".e.yaml", "f.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{")
    return tmp_path


def test_a_folder_is_read_in_order(folder: Path) -> None:
    assert _read(folder) == [str(folder / name) for name in ("a.yml", "b.yaml", "inner/c.json")]


def test_files_are_read_in_their_order(folder: Path) -> None:
    files = [folder / "b.yaml", folder / "a.yml"]
    assert _read(*files) == [*map(str, files)]


def test_a_url_is_read_if_its_digest_is_right(folder: Path) -> None:
    url = (folder / "b.yaml").as_uri()
    digest = hashlib.sha256((folder / "b.yaml").read_bytes()).hexdigest()
    assert _read(url, **{url: digest}) == [url]
    said = _refused(url, digests={url: "0" * 64})
    assert f"manifests_sha256.{url} = '{'0' * 64}'; allowed: the digest of what is there" in said
    assert digest in said


def test_what_is_not_there(folder: Path) -> None:
    (folder / "empty").mkdir()
    for place in (folder / "none", folder / "empty"):
        said = f"manifests = '{place}'; allowed: a file, a folder with .yaml, .yml or .json files"
        assert said in _refused(place)
    url = (folder / "none").as_uri()
    assert f"manifests = '{url}'; allowed: a URL within reach" in _refused(url)


def test_what_is_no_manifest(folder: Path) -> None:
    (folder / "b.yaml").write_text(SECRET)
    (folder / "a.yml").write_text("kind: ConfigMap\n")
    said = _refused(folder)
    assert f"manifest {folder / 'b.yaml'}: it is no YAML near line 4" in said
    assert f"manifest {folder / 'a.yml'}: an object in it has no apiVersion" in said
    assert "hunter2" not in said
    (folder / "inner/c.json").write_bytes(b"\xff")
    assert "allowed: text in UTF-8" in _refused(folder)


def test_an_object_is_there_once(folder: Path) -> None:
    (folder / "b.yaml").write_text(CONFIG.format("a"))
    assert "ConfigMap a is in them more than once" in _refused(folder)
