"""What reads a file starts anew for another content of it, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyinfra_kube.engine.pending import pending
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.static_pods import PodContainer, StaticPodStates
from pyinfra_kube.operations import files, services, static_pods
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
        assert pending() == ({WANTED.path} if restarted else set())
        docker, running = services.Unit("docker.service"), services.UnitState(active="active")
        assert bool(services._staleness(docker, running, {})) == restarted


MANIFEST = """\
apiVersion: v1
kind: Pod
metadata: {name: part, namespace: kube-system}
spec:
  restartPolicy: POLICY
  containers: [{name: part, image: part}]
"""
CONTAINER = PodContainer("a1", "part-n", "kube-system", "part", "part", True, 10.0, 0)
ENDED = replace(CONTAINER, running=False, exit_code=137)


@pytest.mark.parametrize(
    ("containers", "policy", "ends", "waits"),
    [
        ([CONTAINER], "Always", True, True),
        # A plan made while it ran foretells the same.
        ([ENDED], "Always", False, True),
        ([ENDED], "Never", False, False),
        ([replace(ENDED, id="a0", pod="part-old", started=5.0), CONTAINER], "Always", True, True),
        ([], "Always", False, False),
    ],
)
def test_a_pod_whose_file_comes_starts_anew(
    containers: list[PodContainer], policy: str, ends: bool, waits: bool
) -> None:
    token = files.File("/srv/kubernetes/tokens.csv", "token")
    text = MANIFEST.replace("POLICY", policy)
    pod = static_pods.StaticPod("part", text, config=[token.path])
    path = "/etc/kubernetes/manifests/part.yaml"
    manifest = static_pods.File(path, text, "600")
    facts = {
        "static_pods.StaticPods": StaticPodStates(
            "docker", 20.0, {path: manifest.sha256}, containers
        ),
        "files.Files": {path: replace(STANDS, mode="600", sha256=manifest.sha256)},
        "times.Mtimes": {},
    }
    with fake_host(facts):
        assert list(files.files._inner(files=[token]))
        said = "\n".join(c.text for c in static_pods.static_pods._inner(pods=[pod]))
    assert ("\nend 30 a1\n" in said) == ends
    assert ("\nagain part-n part a1\n" in said) == waits
    assert "part-old" not in said
