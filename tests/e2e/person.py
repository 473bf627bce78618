"""Whoever has a kubeconfig, away from the hosts: what the API answers to that."""

from __future__ import annotations

import base64
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.e2e.paths import Site
from tests.lab import Lab


@dataclass(frozen=True)
class Person:
    """kubectl on the control machine, with somebody's kubeconfig."""

    lab: Lab
    kubeconfig: Path

    def asks(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        assert self.lab.kubernetes
        program = self.lab.kubernetes / "kubectl"
        return subprocess.run(
            [program, f"--kubeconfig={self.kubeconfig}", "--cache-dir=/dev/null", *words],
            env={"HOME": str(self.kubeconfig.parent), "NO_PROXY": "*"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def may(self, *words: str, stdin: str = "") -> str:
        """What comes of what must be allowed."""
        done = self.asks(*words, stdin=stdin)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def may_not(self, *words: str, stdin: str = "") -> str:
        """What the API says of what must be forbidden, not merely fail."""
        done = self.asks(*words, stdin=stdin)
        assert done.returncode, (words, done.stdout)
        assert re.search(r"\b[Ff]orbidden\b", done.stderr), (words, done.stderr)
        return done.stderr

    def pem(self) -> tuple[Path, Path]:
        """The files of its client certificate and key, beside the kubeconfig."""
        user = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]
        files = []
        for part in ("certificate", "key"):
            path = self.kubeconfig.with_suffix(f".{part}.pem")
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(user[f"client-{part}-data"]))
            files.append(path)
        return files[0], files[1]


def kubeconfig_of(site: Site, person: str) -> Path:
    """Where a site keeps somebody's kubeconfig."""
    return site.store / f"users/{person}.kubeconfig"
