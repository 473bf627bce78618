"""The machine that the lab runs on: its commands, its packages, and what it is told."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.lab.places import CACHE

_STARTED = time.monotonic()


class LabError(Exception):
    """Something that one clear sentence tells a person."""


def say(message: str) -> None:
    """A line of progress."""
    print(f"lab {time.monotonic() - _STARTED:6.1f}s  {message}", file=sys.stderr, flush=True)


def run(
    *command: str | Path,
    check: bool = True,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command quietly; when it fails, the end of its output is the error."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        input=stdin if stdin is not None else "",
        env={**os.environ, **environment} if environment else None,
        cwd=folder,
        timeout=timeout,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if check and done.returncode != 0:
        last_words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-12:]
        raise LabError(
            f"{' '.join(words)} ended with {done.returncode}:\n  " + "\n  ".join(last_words)
        )
    return done


def run_logged(
    *command: str | Path, log: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run something long; its output goes to a log, whose last line is shown now and then."""
    words = [str(word) for word in command]
    shown = ""
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment} if environment else None,
        )
        while process.poll() is None:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                line = _last_line(log)
                if line != shown:
                    say(f"  … {line}")
                    shown = line
    if process.returncode != 0:
        tail = log.read_text(errors="replace").splitlines()[-12:]
        raise LabError(
            f"{words[0]} ended with {process.returncode} ({log}):\n  " + "\n  ".join(tail)
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:100] if lines else ""


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("The lab makes hosts, so it needs root: run it with sudo.")


def require_tools(tools: Mapping[str, str]) -> None:
    """Install the Debian packages of the tools or files ({tool: package}) that are missing."""
    missing = sorted({package for tool, package in tools.items() if not _is_there(tool)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"Missing here, and there is no apt-get to install it: {', '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "--yes", "--no-install-recommends", *missing)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "apt.lock").open("w") as lock:
        # apt fails where another lab's is at work.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if run(*install, check=False, environment=quiet).returncode != 0:
            run("apt-get", "update")
            run(*install, environment=quiet)


def _is_there(tool: str) -> bool:
    return Path(tool).exists() if tool.startswith("/") else bool(shutil.which(tool))


def folders(parent: Path, pattern: str = "*") -> list[Path]:
    """The folders, and only them, that match."""
    return sorted(path for path in parent.glob(pattern) if path.is_dir())


def first_lines(paths: Iterable[Path]) -> dict[Path, str]:
    """The content of small files, those that can be read."""
    found: dict[Path, str] = {}
    for path in paths:
        try:
            found[path] = path.read_text().strip()
        except OSError:
            continue
    return found
