"""What reads a file starts anew for another content of it, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyinfra_kube.facts.files import FileState
from pyinfra_kube.operations import files, services
from pyinfra_kube.operations.util.coming import coming
from tests.unit.harness import fake_host

WANTED = files.File("/etc/systemd/system/docker.service.d/kubernetes.conf", "[Service]\n")
STANDS = FileState("file", "644", "root", "root", 10, 0.0, sha256=WANTED.sha256)


@pytest.mark.parametrize(
    ("stands", "restarted"),
    [
        (None, True),
        (replace(STANDS, sha256="0" * 64), True),
        (replace(STANDS, kind="link", target="/elsewhere"), True),
        (replace(STANDS, mode="666"), False),
        (replace(STANDS, user="daemon"), False),
    ],
)
def test_only_another_content_restarts(stands: FileState | None, restarted: bool) -> None:
    with fake_host({"files.Files": {WANTED.path: stands} if stands else {}}):
        assert list(files.files._inner(files=[WANTED]))
        assert coming() == ({WANTED.path} if restarted else set())
        docker, running = services.Unit("docker.service"), services.UnitState(active="active")
        assert bool(services._staleness(docker, running, {})) == restarted
