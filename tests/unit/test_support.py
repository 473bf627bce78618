"""What hosts are asked for an archive of support, and what of the answers is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyinfra_kube.cluster.components import PODS
from pyinfra_kube.cluster.runtimes import CONTAINERD, CRIO, DOCKER, Runtime
from pyinfra_kube.deploys import support
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.deploys.run.support import API, questions
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.facts.answers import Answer
from tests.unit.blank import ONE_NODE, prepared
from tests.unit.test_scratch_runs import DEBIAN

TODAY = {"kubernetes_version": "1.37.2"}
BY_RUNTIME: list[tuple[Runtime, dict[str, Any]]] = [
    (DOCKER, {"kubernetes_version": "1.20.2"}),
    (CONTAINERD, TODAY),
    (CRIO, {**TODAY, "container_runtime": "cri-o"}),
]


def asked(data: dict[str, Any]) -> dict[str, str]:
    """Of the host of the control plane."""
    found: list[dict[str, str]] = []

    @phase("Ask")
    def ask() -> None:
        found.append(questions(current_cluster()))

    prepared(ask, ONE_NODE, data, DEBIAN)
    return found[0]


@pytest.mark.parametrize(("runtime", "data"), BY_RUNTIME, ids=["docker", "containerd", "cri-o"])
def test_a_runtime_is_asked_for_its_unit_log_files_and_containers(
    runtime: Runtime, data: dict[str, Any]
) -> None:
    found = asked(data)
    name = runtime.unit.removesuffix(".service")
    assert f"-u {runtime.unit}" in found[f"log-{name}.txt"]
    assert f"systemctl cat {runtime.unit}" in found[f"unit-{name}.txt"]
    assert runtime.configuration
    assert all(path in found["runtime.txt"].split() for path in runtime.configuration)
    # The function that the guard defines is the one that is called.
    for file in ("containers.txt", "log-containers.txt"):
        assert f"{runtime.runs}() {{" in found[file]
        assert f"\n{runtime.runs} ||" in found[file]


def test_what_runs_pods_is_asked_in_each_release() -> None:
    for kind in ("deployments", "daemonsets"):
        assert f"get '/apis/apps/v1/{kind}" in asked(TODAY)[f"{kind}.json"]
        assert f"get '/apis/extensions/v1beta1/{kind}" in asked(TODAY)[f"{kind}.json"]


def test_logs_that_are_files_are_asked() -> None:
    assert "/var/log/kube*.log " in asked(TODAY)["log-files.txt"]


def test_manifests_of_others_are_named_alone() -> None:
    found = asked({**TODAY, "manifest_dir": "/srv/pods"})["manifests.txt"]
    assert "ls -l /srv/pods " in found
    assert "*" not in found
    assert all(f"/srv/pods/{name}.yaml" in found for name in PODS)


def test_arguments_of_processes_are_not_asked() -> None:
    assert "args" not in asked(TODAY)["processes.txt"]


def test_an_answer_that_was_cut_off_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = json.dumps({"items": []}), '"value": "SECRET"}]}'
    told = {"pods.json": Answer(0, cut), "nodes.json": Answer(0, whole), "log.txt": Answer(1, cut)}
    assert told.keys() & API.keys()
    monkeypatch.setattr(support, "questions", lambda _: dict.fromkeys(told, "a\nask"))
    monkeypatch.setattr(support, "ask_now", lambda *_, **__: told)
    assert support._ask(None) == {  # type: ignore[arg-type]
        "pods.json": "# ask\n(left out: too long)\n",
        "nodes.json": f"# ask\n{whole}\n",
        "log.txt": f"# ask\n{cut}\n(exit status 1)\n",
    }


def test_the_end_of_a_long_answer_stays_below_its_question() -> None:
    found = support._end(f"# ask\n{'x' * 500_000}y\n")
    assert found.startswith("# ask\nx")
    assert found.endswith("xy\n")
    assert len(found) == len("# ask\n") + support._FILE
