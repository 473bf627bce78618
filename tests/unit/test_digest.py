"""A file's digest is that of its content, however it was learnt."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyinfra.context import ctx_state

from pyinfra_kube.engine import digest
from pyinfra_kube.engine.digest import sha256_of

LARGE = 2 << 20


@pytest.fixture
def new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Begin a run that knows what earlier ones kept; return the list of files that it reads."""

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Files that were made just now count as old.
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10**10)
    computed = digest._computed

    def begin(executing: bool = True) -> list[str]:
        ctx_state.set(SimpleNamespace(is_executing=executing))  # type: ignore[arg-type]
        digest._unkept.clear()
        digest._sha256.cache_clear()
        digest._digests.cache_clear()
        reads: list[str] = []

        def count(path: str) -> str:
            reads.append(path)
            return computed(path)

        monkeypatch.setattr(digest, "_computed", count)
        return reads

    with ctx_state.use(None):  # type: ignore[arg-type]
        yield begin
    digest._unkept.clear()


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_large_file_is_read_once(tmp_path: Path, new_run: Callable[..., list[str]]) -> None:
    expected = _file(tmp_path / "ä kubelet", b"a" * LARGE)
    for reads in ([str(tmp_path / "ä kubelet")], []):
        seen = new_run()
        assert sha256_of(str(tmp_path / "ä kubelet")) == expected
        assert sha256_of(str(tmp_path / "ä kubelet")) == expected
        assert seen == reads


def test_a_plan_keeps_nothing(tmp_path: Path, new_run: Callable[..., list[str]]) -> None:
    path = tmp_path / "kubelet"
    expected = _file(path, b"a" * LARGE)
    new_run(executing=False)
    assert sha256_of(str(path)) == expected
    assert not (tmp_path / "cache").exists()
    ctx_state.get().is_executing = True
    assert sha256_of(str(path)) == expected
    assert (tmp_path / "cache" / "pyinfra-kube" / "digests.json").exists()


@pytest.mark.parametrize("same", ["nothing", "size", "size and time"])
def test_a_change_is_seen(tmp_path: Path, new_run: Callable[..., list[str]], same: str) -> None:
    path = tmp_path / "kubelet"
    first = _file(path, b"a" * LARGE)
    new_run()
    assert sha256_of(str(path)) == first
    state = path.stat()
    second = _file(path, b"b" * (LARGE + (same == "nothing")))
    if same == "size and time":
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert sha256_of(str(path)) == second
    new_run()
    assert sha256_of(str(path)) == second


def test_another_file_in_its_place_is_seen(
    tmp_path: Path, new_run: Callable[..., list[str]]
) -> None:
    path, other, link = tmp_path / "kubelet", tmp_path / "other", tmp_path / "link"
    first, second = _file(path, b"a" * LARGE), _file(other, b"b" * LARGE)
    link.symlink_to(path)
    new_run()
    assert (sha256_of(str(link)), sha256_of(str(other))) == (first, second)
    link.unlink()
    link.symlink_to(other)
    new_run()
    assert sha256_of(str(link)) == second
    other.rename(path)
    new_run()
    assert sha256_of(str(path)) == second


def test_what_is_fresh_or_small_is_not_kept(
    tmp_path: Path, new_run: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "config"
    _file(small, b"a")
    new_run()
    sha256_of(str(small))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fresh = tmp_path / "kubelet"
    expected = _file(fresh, b"a" * LARGE)
    assert sha256_of(str(fresh)) == expected
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"KEY": ["x"]}', b"\xff\xfe", b'{"KEY": [[1, 2, 3, 4, 5], "../x"]}'],
)
def test_a_damaged_store_is_made_anew(
    tmp_path: Path, new_run: Callable[..., list[str]], damage: bytes
) -> None:
    path, store = tmp_path / "kubelet", tmp_path / "cache" / "pyinfra-kube" / "digests.json"
    expected = _file(path, b"a" * LARGE)
    store.parent.mkdir(parents=True)
    store.write_bytes(damage.replace(b"KEY", str(path).encode()))
    new_run()
    assert sha256_of(str(path)) == expected
    assert [entry[1] for entry in json.loads(store.read_text()).values()] == [expected]


def test_no_place_to_keep_is_no_error(tmp_path: Path, new_run: Callable[..., list[str]]) -> None:
    path = tmp_path / "kubelet"
    expected = _file(path, b"a" * LARGE)
    (tmp_path / "cache").write_text("a file")
    new_run()
    assert sha256_of(str(path)) == expected


def test_files_that_are_gone_are_forgotten(
    tmp_path: Path, new_run: Callable[..., list[str]]
) -> None:
    for name in ("old", "new"):
        _file(tmp_path / name, b"a" * LARGE)
        new_run()
        sha256_of(str(tmp_path / name))
        (tmp_path / "old").unlink(missing_ok=True)
    store = tmp_path / "cache" / "pyinfra-kube" / "digests.json"
    assert [*json.loads(store.read_text())] == [str(tmp_path / "new")]
