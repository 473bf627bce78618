"""
Kubernetes' own suite on the cluster that the scratch path builds: the specs that fail where a part
of it is missing. `make conformance` runs all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import images, registry
from tests.conformance.cluster import Judged
from tests.conformance.images import Programs
from tests.conformance.suite import Outcome
from tests.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"

# What must be there → the spec that misses it.
SPECS = {
    "portmap": "HostPort validates that there is no conflict between pods with same hostPort",
    "the front proxy": "Aggregator Should be able to support the 1.17 Sample API Server",
    "an issuer that pods can resolve": "ServiceAccountIssuerDiscovery should support OIDC",
    "DNS": "DNS should provide DNS for services",
    "rules for packets on the bridge": "Services should serve multiport endpoints from pods",
    "privileged pods": "KubeletManagedEtcHosts should test kubelet managed /etc/hosts file",
    "a mirror of the registry": "ImageVolume should succeed with pod and pull policy of Always",
}


@pytest.fixture(scope="module")
def judged(lab: Lab, release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    programs = Programs.built(release)
    storage = images.stored(programs)
    with registry.serving(storage, f"{lab.network.control}:5000", read_only=True) as mirror:
        found = Judged(lab, programs, {})
        found.build(tmp_path_factory.mktemp("site") / "cluster", mirror)
        found.pull()
        yield found


@pytest.fixture(scope="module")
def outcomes(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    specs = judged.suite.specs()
    only = [name for text in SPECS.values() for name in specs if f" {text}" in name]
    assert len(only) == len(SPECS)
    folder = tmp_path_factory.mktemp("suite")
    return dict(judged.run(folder, "some", only=only, processes=len(only)).outcomes)


@pytest.mark.parametrize("needed", SPECS)
def test_spec(outcomes: dict[str, Outcome], needed: str) -> None:
    (outcome,) = (it for name, it in outcomes.items() if f" {SPECS[needed]}" in name)
    assert outcome.passed, outcome.message


def test_nothing_is_left_over(outcomes: dict[str, Outcome], judged: Judged) -> None:
    assert judged.left_over() == []
