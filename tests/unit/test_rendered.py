"""The files in examples/rendered are those that the paths set."""

from __future__ import annotations

import pytest
import yaml

from tests.rendered import render_all, stored


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return render_all()


def test_the_stored_files_are_what_is_set(rendered: dict[str, str]) -> None:
    there = stored()
    again = "run: make rendered"
    assert sorted(there.keys() ^ rendered.keys()) == [], again
    for path, text in rendered.items():
        assert there[path] == text, again


def test_they_hold_no_key(rendered: dict[str, str]) -> None:
    assert [path for path, text in rendered.items() if "-----BEGIN" in text] == []


def test_kubeconfigs_and_manifests_are_whole(rendered: dict[str, str]) -> None:
    kinds = [
        document.get("kind")
        for path, text in rendered.items()
        if path.endswith((".yaml", "kubeconfig"))
        for document in yaml.safe_load_all(text)
    ]
    assert kinds.count("Pod") == 12
    assert kinds.count("Config") == 30
    assert kinds.count("KubeletConfiguration") == 3
    assert kinds.count("Deployment") == 1
