"""No secret is ever printed, left behind or readable for others."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.e2e.promises.sampler import Sampler
from tests.e2e.promises.settled import Settled
from tests.e2e.promises.trial import Trial

pytestmark = pytest.mark.lab

# So much of a secret is found wherever it starts, in its own letters or in base64.
_WINDOW = 20

_MODES = [
    ("--dry", "--diff", "-vvv", "--debug-all"),
    ("--debug-operations", "-vvv"),
    ("--dry", "--json", "-vvv"),
    ("--debug-facts", "--dry"),
    ("--debug-operations", "--json"),
    ("--dry", "--diff", "--debug"),
]


class Needles:
    """
    What to look for.

    + secrets: whole secrets
    + public: texts that may be seen, and have parts in common with secrets (a key's modulus)
    """

    def __init__(self, secrets: Iterable[str], public: Iterable[str]) -> None:
        self.secrets = [secret for secret in secrets if len(secret) >= _WINDOW]
        self._windows = {w for secret in self.secrets for w in _windows(_spellings(secret), 1)}
        self._windows -= {window for text in public for window in _windows([text], 1)}

    @property
    def patterns(self) -> list[str]:
        """Lines for grep, none of which has a part in common with a public text."""
        first = [secret[:40] for secret in self.secrets]
        return [text for text in first if self._windows.issuperset(_windows([text], 1))]

    def find(self, text: str) -> list[str]:
        """The first parts of secrets that a text has."""
        return [w for w in _windows([text, "".join(text.split())], 1) if w in self._windows][:3]


def _windows(texts: Iterable[str], stride: int) -> Iterable[str]:
    for text in texts:
        for start in range(0, len(text) - _WINDOW + 1, stride):
            yield text[start : start + _WINDOW]


def _spellings(secret: str) -> list[str]:
    """The secret, and its base64 wherever it begins in what is encoded."""

    data = secret.encode()
    shifted = [base64.b64encode(b"\0" * shift + data).decode() for shift in range(3)]
    return [secret, *(text[4 if shift else 0 : -4] for shift, text in enumerate(shifted))]


def test_secrets_stay_hidden(settled: Settled, full: bool, figures: list[str]) -> None:
    trial = settled.trial
    needles = _needles(settled)
    _would_find(needles)
    outputs = {
        "blank: --dry --diff -vvv": settled.shown.out + settled.shown.said,
        "blank: a run with -vvv --debug-all": settled.run.out + settled.run.said,
    }
    found: list[str] = []
    found += _look_at_processes(needles, settled.seen.texts, "the first run")

    secret = _secret_files(settled)
    for host, paths in secret.items():
        trial.execute(host, f"rm {' '.join(paths)}")
    for options in _MODES if full else _MODES[:2]:
        said = trial.run(*options, deploy=trial.path.name)
        outputs[" ".join(options)] = said.out + said.said
    outputs["a failing run"] = _failing_run(trial, secret[trial.path.master][0])
    folders = {
        host: sorted({*(path.rpartition("/")[0] for path in paths), "/tmp", "/var/tmp"})
        for host, paths in secret.items()
    }
    with Sampler(trial, folders) as sampler:
        run = trial.watched("--diff", "-vvv", "--debug-all")
    outputs["a run with --diff -vvv --debug-all"] = run.out + run.said

    for mode, text in outputs.items():
        assert len(text) > 200, (mode, text)
        found += [f"output of {mode}: {part}" for part in needles.find(text)]
    found += _look_at_processes(needles, sampler.seen.texts, "a run that writes secrets")
    wrong_modes = _open_modes(settled, sampler.seen.modes)
    left = _left_on_hosts(settled, needles) + _left_here(trial, needles)
    figures.append(
        f"secrets, {trial.path.name}: {len(needles.secrets)} secrets looked for in "
        f"{len(outputs)} outputs of {sum(map(len, outputs.values())) // 1024} KiB and in "
        f"{settled.seen.processes + sampler.seen.processes} processes; modes of "
        f"{len(sampler.seen.modes)} files; {len(found) + len(wrong_modes) + len(left)} found"
    )
    assert not found + wrong_modes + left
    assert not settled.differs()


def _would_find(needles: Needles) -> None:
    """What is looked for is found in the middle of a text, and encoded."""

    assert len(needles.patterns) > 10
    for secret in needles.patterns:
        encoded = base64.encodebytes(f"some,{secret},more".encode()).decode()
        assert needles.find(f"some {secret}, more"), secret[:4]
        assert needles.find(f"text {encoded}"), secret[:4]


def _needles(settled: Settled) -> Needles:
    store = settled.trial.store
    public = [path.read_text() for path in store.rglob("*") if path.suffix in (".crt", ".pub")]
    return Needles(settled.run.report.secrets, public)


def _secret_files(settled: Settled) -> dict[str, list[str]]:
    return {
        host: [path for path, wanted in files.items() if wanted.file.secret]
        for host, files in settled.catalogue.files.items()
    }


def _failing_run(trial: Trial, path: str) -> str:
    """What a run says that cannot write a secret file, for something else is in its place."""

    trial.execute(trial.path.master, f"mkdir {path} && touch {path}/other")
    run = trial.watched("--diff", "-vvv", "--debug-all", fine=False)
    trial.execute(trial.path.master, f"rm -r {path}")
    assert run.failed, (path, run.code, run.said[:6000])
    return run.out + run.said


def _look_at_processes(needles: Needles, texts: Iterable[str], when: str) -> list[str]:
    return [f"a process of {when}: {text[:300]!r}" for text in texts if needles.find(text)]


def _open_modes(settled: Settled, modes: dict[str, set[int]]) -> list[str]:
    """Files with a secret, or on their way to be one, that others could read."""

    secret = {path for paths in _secret_files(settled).values() for path in paths}
    store = settled.trial.store
    wrong = []
    noted = set()
    for path, seen in modes.items():
        there = "/" + path.split("/root/", 1)[1] if path.startswith("/proc/") else path
        folder, _, name = there.rpartition("/")
        real = f"{folder}/{name.removeprefix('.').removesuffix('.pyinfra-kube')}"
        if real in secret or Path(path).is_relative_to(store):
            noted.add(real)
            wrong += [f"{path} was {mode:o}" for mode in seen if mode & 0o037]
    missed = secret - noted
    return wrong + [f"{path}: its modes were not seen" for path in missed]


def _left_on_hosts(settled: Settled, needles: Needles) -> list[str]:
    """Files with a secret that should not have it."""

    trial, allowed = settled.trial, _secret_files(settled)
    patterns = "\n".join(needles.patterns)
    command = (
        "umask 077; cat >/root/patterns <<'.'\n" + patterns + "\n.\n"
        "grep -rlFaf /root/patterns --devices=skip --exclude=patterns --exclude-dir=proc "
        "--exclude-dir=sys --exclude-dir=overlay2 --exclude-dir=image / 2>/dev/null || :\n"
        "rm /root/patterns"
    )
    return [
        f"left on {host}: {path}"
        for host, said in trial.everywhere(command).items()
        for path in said.splitlines()
        if path not in allowed[host]
    ]


def _left_here(trial: Trial, needles: Needles) -> list[str]:
    """Temporary files of the control machine."""

    patterns = "\n".join(needles.patterns)
    places = [str(path) for path in trial.folder.iterdir() if _may_not_know(trial, path)]
    places += [str(path) for path in Path("/tmp").iterdir() if "pyinfra" in path.name]
    words = ["grep", "-rlFaf", "/dev/stdin", "--devices=skip", *places, os.devnull]
    done = subprocess.run(words, input=patterns, capture_output=True, text=True)
    return [f"left here: {path}" for path in done.stdout.splitlines()]


def _may_not_know(trial: Trial, path: Path) -> bool:
    """Everything but the store and our own reports."""
    return path != trial.store and not path.name.startswith("report-")
