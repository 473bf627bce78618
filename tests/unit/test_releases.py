"""Releases as data: every fact for every release, flags that come and go, errors that help."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster import releases
from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.images import image
from pyinfra_kube.cluster.releases import Release, covers, known_releases

LINES = known_releases()
FACTS = table("releases")
FLAGS = table("flags")


def problems_of(version: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        Release.of(version)
    return [str(problem) for problem in caught.value.problems]


def test_known_releases() -> None:
    assert [f"1.{minor}" for minor in range(2, 38)] == [*LINES]


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_each_fact_has_one_value_for_each_release(fact: str) -> None:
    for line in LINES:
        minor = releases.minor_of(line)
        assert len([span for span in FACTS[fact] if covers(span, minor)]) == 1, line


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.7", ("2.2.1", "etcd2", "gcr.io/google_containers/pause:2.0", "configure-cbr0")),
        (
            "1.3.10",
            ("2.2.5", "etcd2", "gcr.io/google_containers/pause-amd64:3.0", "configure-cbr0"),
        ),
        ("1.5.8", ("2.2.1", "etcd2", "gcr.io/google_containers/pause-amd64:3.0", "kubenet")),
        ("1.6.13", ("3.0.17", "etcd3", "gcr.io/google_containers/pause-amd64:3.0", "kubenet")),
        ("1.20.2", ("3.4.13-0", "etcd3", "k8s.gcr.io/pause:3.2", "kubenet")),
        ("1.24.0", ("3.5.3-0", "etcd3", "k8s.gcr.io/pause:3.7", None)),
        ("1.37.2", ("3.7.0-0", "etcd3", "registry.k8s.io/pause:3.10.2", None)),
        ("1.36.3", ("3.6.11-0", "etcd3", "registry.k8s.io/pause:3.10.2", None)),
    ],
)
def test_what_goes_with_a_release(version: str, expected: tuple[str, str, str, str | None]) -> None:
    release = Release.of(version)
    found = (
        release.etcd_version,
        release.api_storage,
        image("pause", release).name,
        release.kubelet_bridge,
    )
    assert found == expected
    assert image("etcd", release).name.endswith(f"/etcd:{expected[0]}")


def test_settings_of_a_release() -> None:
    old, new = Release.of("1.2.0"), Release.of("1.20.2")
    assert old.fact("apiserver_approach") == ["https", "http"]
    assert new.fact("apiserver_approach") == ["https"]
    assert (old.authorization_mode, new.authorization_mode) == ("AlwaysAllow", "Node,RBAC")
    assert (old.fact("basic_auth"), new.fact("basic_auth")) == (
        [False, True],
        [False],
    )
    assert (old.container_runtime, Release.of("1.24.0").container_runtime) == (
        "docker",
        "containerd",
    )
    assert "1.9.1" in old.docker_versions
    assert "mesos" in old.fact("cloud_provider")
    assert old.admission_control[0] == "NamespaceLifecycle"
    assert new.admission_control == ["NodeRestriction"]


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("1.38.0", "nearest known: 1.36, 1.37"),
        ("1.1.8", "nearest known: 1.2, 1.3"),
        ("1.200.2", "nearest known: 1.36, 1.37"),
        ("1.20-rc.1", 'write "1.20.15"'),
        ("1.38", "nearest known: 1.36, 1.37"),
        ("2.0.0", "a release of 1.2 … 1.37"),
        ("latest", "a release of 1.2 … 1.37"),
        ("1.20.2.3", "a release of 1.2 … 1.37"),
        ("", "a release of 1.2 … 1.37"),
    ],
)
def test_unknown_release(version: str, says: str) -> None:
    (problem,) = problems_of(version)
    assert says in problem
    assert problem.startswith("kubernetes_version")


# Flag, component, the releases at both sides of each change.
CHANGES = [
    ("kubelet", "api-servers", {"1.2": True, "1.7": True, "1.8": False, "1.36": False}),
    ("kubelet", "config", {"1.5": True, "1.6": False, "1.9": False, "1.10": True, "1.36": True}),
    ("kubelet", "pod-manifest-path", {"1.3": False, "1.4": True, "1.36": True}),
    ("kubelet", "configure-cbr0", {"1.2": True, "1.4": True, "1.5": False}),
    ("kubelet", "network-plugin", {"1.2": True, "1.23": True, "1.24": False}),
    ("kubelet", "docker-root", {"1.23": True, "1.24": False}),
    ("kubelet", "pod-infra-container-image", {"1.34": True, "1.35": False}),
    ("kubelet", "cgroups-per-qos", {"1.4": True, "1.5": False, "1.6": True}),
    ("kube-apiserver", "cluster-name", {"1.2": False, "1.36": False}),
    ("kube-apiserver", "insecure-port", {"1.19": True, "1.23": True, "1.24": False}),
    ("kube-apiserver", "basic-auth-file", {"1.18": True, "1.19": False}),
    ("kube-apiserver", "enable-admission-plugins", {"1.9": False, "1.10": True, "1.11": True}),
    ("kube-apiserver", "cloud-provider", {"1.32": True, "1.33": False}),
    ("kube-controller-manager", "service-cluster-ip-range", {"1.2": False, "1.3": True}),
    ("kube-proxy", "api-servers", {"1.2": False, "1.20": False}),
    ("kube-scheduler", "port", {"1.22": True, "1.23": True, "1.24": False}),
    ("kubelet", "logtostderr", {"1.12": True, "1.25": True, "1.26": False}),
]


@pytest.mark.parametrize(("component", "flag", "there"), CHANGES)
def test_flags_come_and_go(component: str, flag: str, there: dict[str, bool]) -> None:
    found = {line: Release.of(f"{line}.0").has_flag(component, flag) for line in there}
    assert found == there


def test_refused_flags_name_what_replaces_them() -> None:
    release = Release.of("1.8.0")
    (problem,) = release.check_flags("kubelet", ["api-servers", "kubeconfig"])
    assert str(problem) == (
        "kubelet_flags = 'api-servers'; allowed: a flag of kubelet 1.8; "
        "fix: use --kubeconfig, which names the server"
    )
    (problem,) = Release.of("1.2.7").check_flags("kube-apiserver", {"cluster-name": "x"})
    assert problem.key == "apiserver_flags"
    assert "controller_manager_flags" in str(problem.fix)


@pytest.mark.parametrize(
    ("component", "flag", "fix"),
    [
        ("kubelet", "api-server", "use --api-servers up to 1.7"),
        ("kube-proxy", "api-servers", "use --master, or --kubeconfig"),
    ],
)
def test_flags_of_the_guide_that_there_never_were(component: str, flag: str, fix: str) -> None:
    for version in ("1.3.10", "1.20.2", "1.23.1"):
        (problem,) = Release.of(version).check_flags(component, [flag])
        assert fix in str(problem.fix)


def test_values_that_a_release_does_not_take() -> None:
    assert Release.of("1.19.0").check_flags("kube-apiserver", {"insecure-port": 8080}) == []
    assert Release.of("1.20.2").check_flags("kube-apiserver", {"insecure-port": 0}) == []
    (problem,) = Release.of("1.20.2").check_flags("kube-apiserver", {"insecure-port": 8080})
    assert "insecure-port: 0 (kube-apiserver 1.20)" in str(problem)
    assert "--secure-port" in str(problem)


@pytest.mark.parametrize("version", ["1.2.7", "1.3.10", "1.4.12", "1.5.8", "1.20.2"])
def test_a_flag_that_nobody_knows_is_refused_where_the_list_is_whole(version: str) -> None:
    release = Release.of(version)
    (problem,) = release.check_flags("kube-apiserver", {"etcd-server": "http://127.0.0.1:2379"})
    assert problem.fix == "did you mean etcd-servers?"
    assert release.check_flags("kube-apiserver", {"watch-cache": True, "help": True}) == []


def test_a_flag_that_nobody_knows_passes_where_the_list_is_not_whole() -> None:
    assert Release.of("1.30.0").check_flags("kube-apiserver", {"brand-new": 1}) == []


def test_etcd_flags_count_in_etcd_releases() -> None:
    assert Release.of("1.20.2").has_flag("etcd", "enable-v2")
    assert not Release.of("1.3.10").has_flag("etcd", "enable-v2")
    assert Release.of("1.3.10").has_flag("etcd", "enable-v2", "3.4.23")
    (problem,) = Release.of("1.36.0").check_flags("etcd", ["enable-v2"])
    assert "a flag of etcd 3.6" in str(problem)


@given(st.sampled_from(LINES), st.sampled_from(sorted(FLAGS)), st.data())
def test_exactly_the_flags_that_are_there_pass(line: str, component: str, data: Any) -> None:
    release = Release.of(f"{line}.0")
    names = data.draw(st.lists(st.sampled_from(sorted(FLAGS[component])), unique=True))
    refused = [problem.value for problem in release.check_flags(component, names)]
    assert refused == [name for name in names if not release.has_flag(component, name)]


@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 40), st.booleans())
def test_spans(first: int, last: int, minor: int, more: bool) -> None:
    span = f"1.{first}-1.{last}" + (",1.38-" if more else "")
    assert covers(span, (1, minor)) == (first <= minor <= last or (more and minor >= 38))
    assert covers(f"1.{first}", (1, minor)) == (first == minor)
    assert not covers("", (1, minor))


def test_settings_that_a_release_cannot_do() -> None:
    wrong = {
        "apiserver_approach": "http",
        "basic_auth": True,
        "bridge_approach": "kubelet",
        "cloud_provider": "vagrant",
        "hyperkube": True,
        "log_to_host": True,
        "authorization_mode": "Node,RBAQ",
        "kubelet_flags": {"docker-root": "/d"},
        "etcd_flags": {"enable-v2": True},
    }
    found = Release.of("1.36.0").check_settings(wrong)
    assert [problem.key for problem in found] == list(wrong)
    assert all(problem.fix for problem in found if problem.key != "authorization_mode")
    right = {**wrong, "cloud_provider": "mesos", "authorization_mode": None, "etcd_flags": {}}
    assert Release.of("1.3.10").check_settings(right) == []
    assert Release.of("1.3.10").check_settings({}) == []


@pytest.mark.parametrize(("version", "mode"), [("1.7.16", "ipvs"), ("1.28.15", "nftables")])
def test_a_release_refuses_modes_of_kube_proxy_that_came_later(version: str, mode: str) -> None:
    (problem,) = Release.of(version).check_settings({"proxy_mode": mode})
    assert problem.key == "proxy_mode"
    assert Release.of("1.29.15").check_settings({"proxy_mode": mode}) == []


def test_nodes_with_names_need_the_node_mode_from_1_8_on() -> None:
    settings = {"authorization_mode": "RBAC", "credential_policy": "per_node"}
    assert Release.of("1.7.0").check_settings(settings) == []
    (problem,) = Release.of("1.8.0").check_settings(settings)
    assert problem.fix == 'write "Node,RBAC"'
    assert Release.of("1.8.0").check_settings({**settings, "credential_policy": "shared"}) == []


def test_a_new_release_is_new_data(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = copy.deepcopy(FACTS)
    facts["etcd_version"]["1.38"] = "3.7.9-0"
    facts["pause"]["1.38"] = "pause:3.11"
    facts["newest_patch"]["1.38"] = 1
    facts["coredns"]["1.38"] = "coredns/coredns:v1.15.0"
    facts["containerd_versions"]["1.38"] = ["2.4.0"]
    facts["crictl"]["1.38"] = "1.38.0"
    data = {"releases": facts}
    known = releases.table
    monkeypatch.setattr(releases, "table", lambda name: data.get(name) or known(name))
    release = Release.of("1.38.1")
    assert image("etcd", release).name == "registry.k8s.io/etcd:3.7.9-0"
    assert image("pause", release).name == "registry.k8s.io/pause:3.11"
    assert [name for name in facts if not covers(",".join(facts[name]), (1, 38))] == []
    assert release.check_flags("kubelet", ["kubeconfig", "cluster-dns"]) == []
