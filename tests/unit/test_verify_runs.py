"""deploys/verify.py on hosts that tell little: what it prints, and that it touches nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyinfra import logger
from pyinfra.api.exceptions import DeployError

from pyinfra_kube.deploys.verify import verify
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import TWO_NODES, prepared

DEBIAN = PackageStates(manager="apt", system="debian", release="12")
SETTINGS: list[dict[str, Any]] = [
    {"kubernetes_version": "1.37.2"},
    {"kubernetes_version": "1.37.2", "network": "none"},
    {"kubernetes_version": "1.37.2", "network": "flannel", "flannel_source": "/f"},
    {"kubernetes_version": "1.20.2"},
    {"kubernetes_version": "1.20.2", "network": "flannel"},
]


def verdict(
    tmp_path: Path, data: Mapping[str, Any], **more: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The causes and what is unknown."""
    file = tmp_path / "found.json"
    with pytest.raises(DeployError):
        prepared(verify, TWO_NODES, {**data, "verify_json": str(file)}, DEBIAN, **more)
    found = json.loads(file.read_text())
    return found["causes"], found["unknown"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("data", SETTINGS, ids=str)
def test_it_writes_nothing_but_its_verdict(tmp_path: Path, data: dict[str, Any]) -> None:
    verdict(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_host_that_is_off_is_named_once(tmp_path: Path) -> None:
    causes, unknown = verdict(tmp_path, SETTINGS[0], dead=["n"])
    assert [one["check"] for one in causes if one["host"] == "n"] == ["host.answers"]
    assert not [one for one in unknown if one["host"] == "n"]


def test_a_host_that_takes_no_part_is_unknown(tmp_path: Path) -> None:
    causes, unknown = verdict(tmp_path, SETTINGS[0], left_out=["m"])
    assert "m" not in {one["host"] for one in causes}
    assert [one["check"] for one in unknown if one["host"] == "m"] == ["host.answers"]


# What tells that Fedora's packages run the components.
FEDORA = {"files.Files": dict.fromkeys(["/etc/kubernetes/apiserver", "/etc/kubernetes/kubelet"], 1)}


@pytest.mark.parametrize("network", ["routes", "flannel"])
def test_fedora_has_no_containers_on_a_control_plane(tmp_path: Path, network: str) -> None:
    data = {"kubernetes_version": "1.20.2", "network": network}
    causes, unknown = verdict(tmp_path, data, more=FEDORA)
    of_runtime = ("runtime.runs", "runtime.answers", "image.there", "pod.runs", "pod.manifest")
    found = {(one["host"], one["check"]) for one in (*causes, *unknown)}
    assert not found & {("m", check) for check in of_runtime}
    assert ("n", "runtime.answers") in found


def test_the_verdict_is_printed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=logger.name)
    verdict(tmp_path, SETTINGS[0])
    assert caplog.text.count("WARNINGS") == 1
