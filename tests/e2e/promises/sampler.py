"""
What could be seen of a run from outside, on the control machine and on the hosts: command lines
and environments of processes, modes and texts of files from their creation on.

The hosts are containers of this machine, so its own /proc shows all of them.
"""

from __future__ import annotations

import ctypes
import os
import select
import stat
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.promises.trial import Trial

_PAUSE = 0.05
_TEMPORARY = ("/tmp", "/var/tmp")
# What is longer is a program or an image.
_LONGEST = 2**18


@dataclass
class Noted:
    """
    What a file was.

    + modes: that it had
    + texts: that it held, without those that only grew
    """

    modes: set[int] = field(default_factory=set)
    texts: list[bytes] = field(default_factory=lambda: [b""])

    def hold(self, text: bytes) -> None:
        if text.startswith(self.texts[-1]):
            self.texts.pop()
        self.texts.append(text)


@dataclass
class Seen:
    """
    + texts: command lines and environments
    + processes: how many processes they are of
    + files: host, none for the control machine → path → what was noted
    """

    texts: set[str] = field(default_factory=set)
    processes: int = 0
    files: dict[str, dict[Path, Noted]] = field(default_factory=dict)


class Sampler:
    """
    Watches while it is entered: processes, temporary files and the control folder.

    + trial: whose hosts and control folder are watched
    + folders: host → more folders that are watched, whether they are there yet or not
    """

    def __init__(self, trial: Trial, folders: Mapping[str, Iterable[Path]] | None = None) -> None:
        self.seen = Seen()
        self._stop = threading.Event()
        here = [trial.folder, *(path for path in trial.folder.rglob("*") if path.is_dir())]
        watched = {"": here, **dict.fromkeys(trial.hosts, ()), **(folders or {})}
        self._watches = [self._look]
        for host, paths in watched.items():
            noted = self.seen.files.setdefault(host, {})
            places = [*map(Path, _TEMPORARY), *paths]
            self._watches.append(Files(trial.root(host), places, noted, self._stop).follow)
        self._pool = ThreadPoolExecutor(len(self._watches))

    def __enter__(self) -> Sampler:
        self._running = [self._pool.submit(watch) for watch in self._watches]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for watch in self._running:
            watch.result()

    def _look(self) -> None:
        looks: dict[str, int] = {}
        while not self._stop.is_set():
            there = {name for name in os.listdir("/proc") if name.isdigit()}
            for pid in there:
                # A process is another one after it was started: look at it twice.
                if looks.get(pid, 0) < 2:
                    self.seen.processes += pid not in looks
                    looks[pid] = looks.get(pid, 0) + 1
                    self._read(pid)
            looks = {pid: count for pid, count in looks.items() if pid in there}
            time.sleep(_PAUSE)

    def _read(self, pid: str) -> None:
        for name in ("cmdline", "environ"):
            with suppress(OSError):
                text = Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
                self.seen.texts.add(text)


_CREATE, _MOVED_TO, _ATTRIB, _MODIFY, _OVERFLOW = 0x100, 0x80, 0x4, 0x2, 0x4000
_EVENT = struct.Struct("iIII")


class Files:
    """
    Notes what each file of some folders is whenever something becomes of it.

    + root: where the machine's files are
    + folders: those that come to be in them, or on the way to them, are followed too
    + noted: where to note
    + stop: when to end
    """

    def __init__(
        self,
        root: str,
        folders: Iterable[Path],
        noted: dict[Path, Noted],
        stop: threading.Event,
    ) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK)
        self._root, self._folders = root, list(folders)
        self._noted, self._stop = noted, stop
        self._watched: dict[int, Path] = {}
        for folder in self._folders:
            self._watch(next(p for p in (folder, *folder.parents) if self._there(p).is_dir()))

    def follow(self) -> None:
        while select.select([self._inotify], [], [], _PAUSE)[0] or not self._stop.is_set():
            with suppress(BlockingIOError):
                self._take(os.read(self._inotify, 65536))
        os.close(self._inotify)

    def _take(self, events: bytes) -> None:
        while events:
            number, mask, _, length = _EVENT.unpack_from(events)
            name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
            events = events[_EVENT.size + length :]
            assert not mask & _OVERFLOW, "more became of files than could be noted"
            if name:
                new = bool(mask & (_CREATE | _MOVED_TO))
                self._note(self._watched[number] / os.fsdecode(name), new)

    def _there(self, path: Path) -> Path:
        return Path(f"{self._root}{path}")

    def _watch(self, folder: Path) -> None:
        mask = _CREATE | _MOVED_TO | _ATTRIB | _MODIFY
        there = os.fsencode(self._there(folder))
        self._watched[self._libc.inotify_add_watch(self._inotify, there, mask)] = folder

    def _note(self, path: Path, new: bool) -> None:
        there = self._there(path)
        if not any(path.is_relative_to(f) or f.is_relative_to(path) for f in self._folders):
            return
        with suppress(OSError):
            state = there.lstat()
            if stat.S_ISLNK(state.st_mode):
                return
            noted = self._noted.setdefault(path, Noted())
            noted.modes.add(stat.S_IMODE(state.st_mode))
            if stat.S_ISREG(state.st_mode) and state.st_size <= _LONGEST:
                noted.hold(there.read_bytes())
            if stat.S_ISDIR(state.st_mode) and new:
                self._watch(path)
                for inner in there.iterdir():
                    self._note(path / inner.name, new)
