"""A fact that cannot be read is an answer: no command of a fact may end in failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pyinfra.api import StringCommand

from tests.unit import harness

# What hosts may have and not be able to run.
PROGRAMS = (
    *("bridge", "crictl", "curl", "docker", "dpkg-query", "etcdctl", "flanneld", "getent", "ip"),
    *("iptables", "iptables-save", "journalctl", "kubectl", "openssl", "ping", "rpm", "systemctl"),
    *("sysctl", "wget"),
)
FACTS = {path.parent.name: path for path in harness.cases("facts")}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which every such program fails."""
    folder = tmp_path_factory.mktemp("failing")
    for name in PROGRAMS:
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", FACTS)
def test_every_program_fails(name: str, environment: dict[str, str]) -> None:
    path: Path = FACTS[name]
    _, fact = harness.find(path, "facts")
    instance = fact()
    command = instance.command(**harness.load(path).get("args", {}))
    text = command.get_raw_value() if isinstance(command, StringCommand) else command
    done = subprocess.run(
        ["sh", "-c", text], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    instance.process(done.stdout.splitlines())
