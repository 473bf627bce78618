"""Fields of configuration files: what a release has passes, the rest is named with its fix."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.fields import KINDS, check_fields, check_settings, has_file
from pyinfra_kube.cluster.notices import notices
from pyinfra_kube.cluster.releases import Release, covers, known_releases, newest_patch
from pyinfra_kube.cluster.spec import ClusterSpec

FIELDS = table("fields")
RELEASES = [Release.of(str(newest_patch(line))) for line in known_releases()]
WITH_FILES = [release for release in RELEASES if release.minor >= (1, 24)]
VALUES: dict[str, Any] = {
    "bool": True,
    "duration": "1m30s",
    "int": 3,
    "list": ["x"],
    "map": {"x": "y"},
    "number": 0.5,
    "text": "x",
}


def problems(content: dict[str, Any], version: str = "1.37.2", of: str = "kubelet") -> list[str]:
    return [str(problem) for problem in check_fields(of, content, Release.of(version))]


def nested(path: str, value: Any) -> dict[str, Any]:
    """A file with one field."""
    for name in reversed(path.split(".")):
        value = {name.removesuffix("[]"): [value] if name.endswith("[]") else value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("component", KINDS)
def test_the_components_with_files_are_those_with_a_path_and_a_setting(component: str) -> None:
    assert COMPONENTS[component].configuration
    assert f"{component.removeprefix('kube-')}_configuration" in ClusterSpec.model_fields
    assert FIELDS.keys() == KINDS.keys()
    assert [one.minor for one in RELEASES if has_file(component, one)] == [
        (1, minor) for minor in range(24, 38)
    ]


@given(st.sampled_from(WITH_FILES), st.sampled_from(sorted(KINDS)), st.data())
def test_exactly_the_fields_that_are_there_pass(release: Release, of: str, data: Any) -> None:
    path = data.draw(st.sampled_from(sorted(FIELDS[of])))
    row = FIELDS[of][path]
    takes = next(
        (words for span, words in row.get("values", {}).items() if covers(span, release.minor)),
        None,
    )
    value = data.draw(st.sampled_from(takes)) if takes else VALUES[row["is"]]
    found = check_fields(of, nested(path, value), release)
    assert bool(found) is not covers(row["in"], release.minor)
    assert all(problem.fix for problem in found)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_value_of_another_type_is_refused(of: str, data: Any) -> None:
    path = data.draw(st.sampled_from(sorted(FIELDS[of])))
    kind = FIELDS[of][path]["is"]
    wrong = data.draw(st.sampled_from([VALUES[other] for other in VALUES if other != kind]))
    # A duration is text, and a whole number a number.
    if (kind, wrong) in (("text", VALUES["duration"]), ("number", VALUES["int"])):
        return
    release = next(one for one in WITH_FILES if covers(FIELDS[of][path]["in"], one.minor))
    assert check_fields(of, nested(path, wrong), release)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"failCgroupv1": False}, "did you mean failCgroupV1?"),
        ({"clientCAFile": "/ca"}, "did you mean authentication.x509.clientCAFile?"),
        ({"authentication": {"anonymus": {}}}, "did you mean authentication.anonymous.enabled?"),
        ({"authentication.anonymous.enabled": True}, "write a dictionary for each dot in it"),
        ({"kind": "KubeletConfiguration"}, "allowed: a field of KubeletConfiguration in Kub"),
        ({"authentication": True}, "authentication: a dictionary"),
        ({"maxPods": "60"}, "maxPods: a whole number"),
        ({"failSwapOn": 0}, "failSwapOn: True or False"),
        ({"syncFrequency": "soon"}, 'syncFrequency: a duration, such as "30s"'),
        ({"authorization": {"mode": "RBAC"}}, "authorization.mode: AlwaysAllow, Webhook"),
        ({"registerWithTaints": [{"kye": "x"}]}, "did you mean registerWithTaints[].key?"),
    ],
)
def test_what_is_wrong_has_its_way_out(content: dict[str, Any], says: str) -> None:
    (problem,) = problems(content)
    assert problem.startswith("kubelet_configuration = ")
    assert says in problem


def test_a_field_of_another_release() -> None:
    (problem,) = problems({"failCgroupV1": False}, "1.30.14")
    assert problem.endswith("fix: leave it out; it exists in 1.31-")
    (problem,) = problems({"mode": "nftables"}, "1.28.15", "kube-proxy")
    assert problem.endswith("allowed: mode: iptables, ipvs")


def test_a_release_without_files_refuses_the_setting() -> None:
    settings = {"proxy_configuration": {"mode": "ipvs"}, "kubelet_configuration": {}}
    (problem,) = check_settings(settings, Release.of("1.23.17"))
    assert (problem.key, problem.fix) == ("proxy_configuration", "use proxy_flags")
    assert check_settings(settings, Release.of("1.24.17")) == []


def test_flags_that_are_not_read_beside_the_file() -> None:
    assert Release.of("1.23.17").check_flags("kube-proxy", {"cluster-cidr": "10.0.0.0/8"}) == []
    (problem,) = Release.of("1.24.17").check_flags("kube-proxy", {"cluster-cidr": "10.0.0.0/8"})
    assert problem.fix == "use clusterCIDR in the configuration file, by proxy_configuration"
    assert Release.of("1.37.2").check_flags("kube-scheduler", {"leader-elect": True}) == []


def test_notices() -> None:
    assert notices(Release.of("1.20.2"), "cgroup v1", "ipvs") == []
    assert not any("cgroup v1" in line for line in notices(Release.of("1.37.2")))
    assert any("failCgroupV1" in line for line in notices(Release.of("1.35.10"), "cgroup v1"))
    assert any(line.startswith("externalIPs") for line in notices(Release.of("1.36.6")))
    known = {f"1.{minor}" for minor in range(2, 38)}
    for row in table("notices")["notices"]:
        assert set(re.findall(r"\d+\.\d+", row["in"])) <= known
        assert "\n" not in row["says"]
