"""Things made once and kept, each under the digest of the recipe that made it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.machine import folders, say
from tests.lab.places import CACHE, LOGS, all_states


def digest(*parts: str | Path | Iterable[str]) -> str:
    """A short name for a recipe: its words, and the content of its files and folders."""
    summary = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in sorted(part.rglob("*")) if part.is_dir() else [part]:
                summary.update(f"{path.relative_to(part)} {path.lstat().st_mode:o}\n".encode())
                if path.is_symlink():
                    summary.update(str(path.readlink()).encode())
                elif path.is_file():
                    summary.update(path.read_bytes())
        else:
            words = [part] if isinstance(part, str) else list(part)
            summary.update(("\n".join(words) + "\n").encode())
    return summary.hexdigest()[:12]


def kept(kind: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The folder of this recipe; made now if there is none, and older ones of its kind removed."""
    folder = _folder(kind, recipe)
    if folder.is_dir():
        return folder
    with alone(kind):
        # Another run may have made it meanwhile.
        if not folder.is_dir():
            _make(kind, folder, make)
    return folder


def is_kept(kind: str, recipe: str) -> bool:
    """Whether it was made already."""
    return _folder(kind, recipe).is_dir()


def _folder(kind: str, recipe: str) -> Path:
    return CACHE / f"{kind}.{recipe}"


def _make(kind: str, folder: Path, make: Callable[[Path], None]) -> None:
    for older in folders(CACHE, f"{kind}.*"):
        # Hosts that run now may stand on an older one.
        if older.suffix == ".part" or not all_states():
            shutil.rmtree(older)
    half_made = folder.with_name(f"{folder.name}.part")
    half_made.mkdir()
    make(half_made)
    half_made.rename(folder)


@contextmanager
def alone(kind: str) -> Iterator[None]:
    """What several labs share, only one of them at a time makes."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{kind}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that makes {kind}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sha256(path: Path) -> str:
    """The digest of a large file."""
    summary = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            summary.update(block)
    return summary.hexdigest()


def write_sums(folder: Path) -> None:
    """Write the digest of every file below a folder into its `SHA256SUMS`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums))
