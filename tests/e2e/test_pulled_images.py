"""
Images that are pulled by digest, from a registry of one's own whose tags lead elsewhere by now.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conformance import registry
from tests.e2e.paths import Run, Site, execute, succeeded
from tests.e2e.pods import Kubectl
from tests.lab import Lab, go_build
from tests.lab.images import Image
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE = HOSTS[0]
RELEASE = "1.37"
REGISTRY = "registry.k8s.io"
# Of all that the release's folder has, what a cluster without add-ons runs.
PARTS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns", "pause"),
)


@pytest.fixture(scope="module")
def mirrored(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """A registry, and the digests of the images that its tags had before others got them."""
    assert lab.kubernetes
    go_build.built("registry")
    storage = tmp_path_factory.mktemp("registry")
    with registry.serving(storage, f"{lab.network.control}:5000") as url:
        digests: dict[str, str] = {}
        for part in PARTS:
            digests |= registry.push_archive(url, lab.kubernetes / f"{part}.tar")
        for name in digests:
            registry.push(url, Image([name], files={"bin/other": lab.kubernetes / "pause"}))
        yield url, digests


@pytest.fixture(scope="module")
def site(mirrored: tuple[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Site:
    url, digests = mirrored
    settings = {
        # Without an archive in it.
        "image_source": str(tmp_path_factory.mktemp("archives")),
        "registry_mirrors": {REGISTRY: url},
        "image_sha256": digests,
    }
    return Site(tmp_path_factory.mktemp("site") / "cluster", settings)


@pytest.fixture(scope="module")
def built(site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


def test_nodes_are_ready(built: Run, kubectl: Kubectl) -> None:
    assert kubectl.ready_nodes() == set(HOSTS)
    kubectl("rollout status deployment/coredns --namespace=kube-system --timeout=120s")


def test_what_runs_is_what_the_digests_name(
    built: Run, lab: Lab, mirrored: tuple[str, dict[str, str]]
) -> None:
    (told,) = execute(lab, CONTROL_PLANE, "crictl images --digests --output=json | tr -d '\\n'")
    there = {
        tag: {one.rpartition("@sha256:")[2] for one in image["repoDigests"]}
        for image in json.loads(told)["images"]
        for tag in image["repoTags"]
    }
    for name, digest in mirrored[1].items():
        assert there.get(name, {digest}) == {digest}, name
    assert set(mirrored[1]) - there.keys() <= {name for name in mirrored[1] if "coredns" in name}


def test_a_second_run_changes_nothing(built: Run, site: Site) -> None:
    assert succeeded(site.run("-y", "--json")).changed == set()


def test_verification_finds_nothing_wrong(built: Run, site: Site) -> None:
    said = succeeded(site.run("-y", deploy="verify")).said
    assert "image.same" not in said


def test_another_digest_is_named(
    built: Run, site: Site, mirrored: tuple[str, dict[str, str]]
) -> None:
    other = {name: "0" * 64 for name in mirrored[1] if "kube-scheduler" in name}
    said = site.run("-y", "--data", f"image_sha256={json.dumps(other)}", deploy="verify").said
    assert "image.pinned" in said
    assert "kube-scheduler" in said
