"""No secret is ever printed, left behind or readable for others."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from pyinfra_kube.engine.record import PLACE
from tests.e2e.promises.sampler import Sampler, Seen
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
        public = [spelling for text in public for spelling in _spellings(text)]
        shown = "\n".join(reading for text in public for reading in _readings(text))
        self.secrets = [s for s in dict.fromkeys(secrets) if len(s) >= _WINDOW and s not in shown]
        spelled = [text for secret in self.secrets for text in _spellings(secret)]
        self._windows = set(_windows(spelled, _WINDOW)) - set(_windows([shown], _WINDOW))
        # Any window has one of these whole.
        half = _WINDOW // 2
        self.patterns = {w for w in _windows(spelled, half, _WINDOW - half + 1) if w not in shown}

    def find(self, text: str | bytes) -> list[str]:
        """The first parts of secrets that a text has."""
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        windows = _windows(_readings(text), _WINDOW)
        return [window for window in windows if window in self._windows][:3]


def _readings(text: str) -> list[str]:
    """A text as it is, and without the breaks that base64 has."""
    return [text, "".join(text.split())]


def _windows(texts: Iterable[str], size: int, stride: int = 1) -> Iterable[str]:
    for text in texts:
        for start in range(0, len(text) - size + 1, stride):
            yield text[start : start + size]


def _spellings(secret: str) -> list[str]:
    """The secret, and its base64 wherever it begins in what is encoded."""

    data = secret.encode()
    shifted = [base64.b64encode(b"\0" * shift + data).decode() for shift in range(3)]
    return [secret, *(text[4 if shift else 0 : -4] for shift, text in enumerate(shifted))]


def test_secrets_stay_hidden(
    settled: Settled, full: bool, figures: list[str], tmp_path: Path
) -> None:
    trial = settled.trial
    needles = _needles(settled)
    _would_find(needles)
    outputs = {
        "blank: --dry --diff -vvv": settled.shown.out + settled.shown.said,
        "blank: a run with -vvv --debug-all": settled.run.out + settled.run.said,
    }
    secret = settled.catalogue.secret_files
    for host, files in secret.items():
        trial.execute(host, f"rm {' '.join(file.path for file in files)}")
    with Sampler(trial, settled.catalogue.secret_folders) as sampler:
        for options in _MODES if full else _MODES[:2]:
            said = trial.run(*options, deploy=trial.path.file)
            outputs[" ".join(options)] = said.out + said.said
        outputs["a failing run"] = _failing_run(trial, secret[trial.path.control_plane][0].path)
        run = trial.watched("--diff", "-vvv", "--debug-all")
    outputs["a run with --diff -vvv --debug-all"] = run.out + run.said

    sampled = (*settled.seen, sampler.seen)
    found = [f"output of {mode}: {part}" for mode, t in outputs.items() for part in needles.find(t)]
    for seen in sampled:
        found += [f"a process: {text[:300]!r}" for text in seen.texts if needles.find(text)]
        found += _open_files(settled, needles, seen)
    for seen in sampled[1:]:
        found += _unseen(settled, seen)
    found += _left(settled, needles, tmp_path / "patterns")
    figures.append(
        f"secrets, {trial.path.name}: {len(needles.secrets)} secrets looked for in "
        f"{len(outputs)} outputs of {sum(map(len, outputs.values())) // 1024} KiB, in "
        f"{sum(seen.processes for seen in sampled)} processes and in "
        f"{sum(len(files) for seen in sampled for files in seen.files.values())} files from their "
        f"creation on; {len(found)} found"
    )
    assert not [mode for mode, text in outputs.items() if len(text) < 200]
    assert not found
    assert not settled.differs()


def _would_find(needles: Needles) -> None:
    """What is looked for is found in the middle of a text, and encoded."""

    assert len(needles.secrets) > 10
    for secret in needles.secrets:
        plain = f"some,{secret},more"
        for text in (plain, base64.encodebytes(plain.encode()).decode()):
            assert needles.find(text), secret[:4]
            assert any(pattern in text for pattern in needles.patterns), secret[:4]


def _needles(settled: Settled) -> Needles:
    reports = settled.shown.report, settled.run.report
    secrets = [secret for report in reports for secret in report.secrets]
    secrets += settled.trial.cloud_config.read_text().split()
    files = [file for report in reports for _, _, file in report.files]
    public = {file.data.decode() for file in files if file.path.endswith((".crt", ".pub"))}
    return Needles(secrets, public)


def _failing_run(trial: Trial, path: str) -> str:
    """What a run says that may not write a secret file, for something else is in its place."""

    trial.execute(trial.path.control_plane, f"mkdir -m 700 {path} && touch {path}/other")
    run = trial.watched("--diff", "-vvv", "--debug-all", fine=False)
    trial.execute(trial.path.control_plane, f"rm -r {path}")
    assert run.code, (path, run.said[:6000])
    return run.out + run.said


def _closed(settled: Settled, host: str, path: Path) -> int | None:
    """What others may do with a file that may hold secrets; ``None`` for any other file."""

    if not host:
        return 0 if path.is_relative_to(settled.trial.store) else None
    # What somebody had put behind a link, as it was: in a folder of root only.
    if path.is_relative_to(f"{PLACE}/files"):
        return 0
    real = path.with_name(path.name.removeprefix(".").removesuffix(".pyinfra-kube"))
    wanted = settled.catalogue.files[host].get(str(real))
    return int(wanted.file.mode, 8) & 0o077 if wanted and wanted.file.secret else None


def _open_files(settled: Settled, needles: Needles, seen: Seen) -> list[str]:
    """Files that others could read a secret in, or that should have none."""

    wrong = []
    for host, files in seen.files.items():
        for path, noted in files.items():
            allowed = _closed(settled, host, path)
            if allowed is not None:
                modes = [mode for mode in noted.modes if mode & 0o077 & ~allowed]
                wrong += [f"{host}: {path} was {mode:o}" for mode in modes]
            elif any(map(needles.find, noted.texts)):
                wrong.append(f"{host}: {path} held a secret")
    return wrong


def _unseen(settled: Settled, seen: Seen) -> list[str]:
    """Secret files whose modes were not seen."""

    return [
        f"{host}: {file.path} was not seen"
        for host, files in settled.catalogue.secret_files.items()
        for file in files
        if Path(file.path) not in seen.files[host]
    ]


def _left(settled: Settled, needles: Needles, patterns: Path) -> list[str]:
    """Files that have a secret afterwards, and should not."""

    trial, secret = settled.trial, settled.catalogue.secret_files
    patterns.write_text("\n".join(needles.patterns))
    wrong = []
    for host in ("", *trial.hosts):
        root = trial.root(host)
        place = f"{root}/" if host else str(trial.folder)
        places = [
            f"{root}/proc",
            f"{root}/sys",
            "*/overlay2/*/merged",
            "*/runtime.v2.task/*/rootfs",
        ]
        pruned = f"( -path {' -o -path '.join(places)} ) -prune"
        grep = f"-o -type f -exec grep -lFa -D skip -f {patterns} {{}} +"
        words = ["find", place, *pruned.split(), *grep.split()]
        done = subprocess.run(words, capture_output=True, text=True, env={"LC_ALL": "C"})
        holding = [Path(line.removeprefix(root)) for line in done.stdout.splitlines()]
        assert not host or trial.execute(host, f"stat -c %a {PLACE}").strip() == "700"
        assert {Path(file.path) for file in secret.get(host, ())} <= {*holding}, done.stderr[-2000:]
        wrong += [
            f"{host}: {path} holds a secret"
            for path in holding
            if _closed(settled, host, path) is None
            and needles.find(Path(f"{root}{path}").read_bytes())
        ]
    return wrong
