"""
What could be seen of a run from outside, on the control machine and on the hosts: command lines
and environments of processes, and the modes of files from their creation on.

The hosts are containers of this machine, so its own /proc shows all of them.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.promises.trial import Trial

_PAUSE = 0.05


@dataclass
class Seen:
    """
    + texts: command lines and environments
    + processes: how many processes they are of
    + modes: path → modes that a file had
    """

    texts: set[str] = field(default_factory=set)
    processes: int = 0
    modes: dict[str, set[int]] = field(default_factory=dict)


class Sampler:
    """
    Watches while it is entered.

    + trial: whose hosts and control folder are watched
    + folders: host → folders whose files' modes are noted
    """

    def __init__(self, trial: Trial, folders: Mapping[str, Iterable[str]] | None = None) -> None:
        self.seen = Seen()
        self._stop = threading.Event()
        roots = [trial.folder]
        for host, paths in (folders or {}).items():
            leader = trial.lab.host(host).leader()
            roots += [Path(f"/proc/{leader}/root{path}") for path in paths]
        self._modes = Modes(roots, self.seen.modes)
        self._threads = [
            threading.Thread(target=self._look, daemon=True),
            threading.Thread(target=self._modes.follow, args=(self._stop,), daemon=True),
        ]

    def __enter__(self) -> Sampler:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

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


_CREATE, _MOVED_TO, _ATTRIB, _MODIFY = 0x100, 0x80, 0x4, 0x2
_EVENT = struct.Struct("iIII")


class Modes:
    """
    Notes the mode of each file of some folders whenever something becomes of it.

    + roots: the folders; those that come to be in them are followed too
    + modes: where to note
    """

    def __init__(self, roots: Iterable[Path], modes: dict[str, set[int]]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK)
        self._folders: dict[int, Path] = {}
        self._modes = modes
        for root in roots:
            self._add(root)

    def follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                events = os.read(self._inotify, 65536)
            except BlockingIOError:
                time.sleep(0.002)
                continue
            while events:
                number, _, _, length = _EVENT.unpack_from(events)
                name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
                events = events[_EVENT.size + length :]
                if name and number in self._folders:
                    self._note(self._folders[number] / name)
        os.close(self._inotify)

    def _add(self, folder: Path) -> None:
        mask = _CREATE | _MOVED_TO | _ATTRIB | _MODIFY
        number = self._libc.inotify_add_watch(self._inotify, str(folder).encode(), mask)
        if number >= 0:
            self._folders[number] = folder
        with suppress(OSError):
            for path in folder.iterdir():
                self._note(path)

    def _note(self, path: Path) -> None:
        with suppress(OSError):
            if path.is_symlink():
                return
            self._modes.setdefault(str(path), set()).add(path.stat().st_mode & 0o7777)
            if path.is_dir() and path not in self._folders.values():
                self._add(path)
