"""The conformance suite: its images, what is made of its reports, and what it leaves on hosts."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import images, report
from tests.conformance.ginkgo import Asked, Outcome, of_version, outcomes_of_json, outcomes_of_junit
from tests.conformance.images import Programs
from tests.conformance.left_over import Pod, Told, left_over, pods_of
from tests.conformance.mirror import Mirror
from tests.conformance.report import Phase, Result
from tests.conformance.suite import _ASKS_MORE, PARALLEL, SERIAL, since

SPECS = ["[sig-node] a | pod runs", "[sig-node] it stops", "[sig-network] a service answers"]
PASSED, FAILED = Outcome("passed", 1.5), Outcome("failed", 2, "no answer\nafter 5 minutes")


# Images


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Folders of small programs."""
    for name in (
        *("suite/agnhost", "suite/sample-apiserver", "suite/nonewprivs", "suite/porter.crt"),
        *("suite/porter.key", "suite/kitten/data.json", "suite/nautilus/data.json"),
        *("kubernetes/pause", "coredns/coredns", "etcd/etcd", "etcd/etcdctl"),
        *("busybox/busybox", "debian/layer.tar"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    busybox = tmp_path / "busybox/busybox"
    busybox.write_text("#!/bin/sh\nprintf '%s\\n' busybox cat ls sh\n")
    busybox.chmod(0o755)
    suite, kubernetes, coredns, etcd, small, debian = (
        tmp_path / name for name in ("suite", "kubernetes", "coredns", "etcd", "busybox", "debian")
    )
    return Programs(suite, kubernetes, coredns, etcd, small, debian)


def test_images_have_the_names_that_the_suite_asks_for(programs: Programs) -> None:
    agnhost = [f"registry.k8s.io/e2e-test-images/agnhost:{tag}" for tag in ("2.55", "2.66.1")]
    others = ["registry.k8s.io/etcd:3.7.0-0", "registry.k8s.io/e2e-test-images/perl:5.26"]
    made = images.images(programs, [*agnhost, *others])
    assert [image.names for image in made] == [agnhost, others[:1]]


def test_images_of_1_20_are_of_several_registries(tmp_path: Path, programs: Programs) -> None:
    wanted = {
        "docker.io/library/httpd:2.4.38-alpine": "library/httpd:2.4.38-alpine",
        "docker.io/library/httpd:2.4.39-alpine": "library/httpd:2.4.39-alpine",
        "gcr.io/kubernetes-e2e-test-images/kitten:1.0": "kubernetes-e2e-test-images/kitten:1.0",
        "k8s.gcr.io/e2e-test-images/agnhost:2.21": "e2e-test-images/agnhost:2.21",
        "k8s.gcr.io/pause:3.2": "pause:3.2",
    }
    others = ["gcr.io/k8s-authenticated-test/agnhost:2.6", "invalid.com/invalid/alpine:3.1"]
    (tmp_path / "e2e.test").write_text("#!/bin/sh\necho " + " ".join([*others, *wanted]))
    (tmp_path / "e2e.test").chmod(0o755)
    names = images.names(tmp_path)
    assert names == sorted(wanted)
    made = {name for image in images.images(programs, names) for name in image.names}
    assert made == set(wanted)
    mirror = Mirror.of("docker", "192.0.2.1:5000")
    assert {name: mirror.name(name) for name in names} == {
        name: f"192.0.2.1:5000/{path}" for name, path in wanted.items()
    }
    assert mirror.settings == {"insecure_registries": ["192.0.2.1:5000"]}
    assert mirror.registries == {
        "dockerLibraryRegistry": "192.0.2.1:5000/library",
        "e2eRegistry": "192.0.2.1:5000/kubernetes-e2e-test-images",
        "gcRegistry": "192.0.2.1:5000",
        "promoterE2eRegistry": "192.0.2.1:5000/e2e-test-images",
    }


def test_containerd_has_a_mirror_and_images_keep_their_names() -> None:
    mirror = Mirror.of("containerd", "192.0.2.1:5000")
    name = "registry.k8s.io/pause:3.10"
    assert (mirror.name(name), mirror.registries) == (name, {})
    assert mirror.settings == {"registry_mirrors": {"registry.k8s.io": "http://192.0.2.1:5000"}}


def test_an_image_of_its_own_has_what_specs_look_for(programs: Programs, tmp_path: Path) -> None:
    prefix = "registry.k8s.io/e2e-test-images"
    own = ("busybox", "httpd", "kitten", "nonewprivs", "nonroot")
    names = [f"{prefix}/{name}:1" for name in own]
    made = {image.names[0].split("/")[-1][:-2]: image for image in images.images(programs, names)}
    inside: dict[str, dict[str, tarfile.TarInfo]] = {}
    for name, image in made.items():
        image.write_layer(tmp_path / f"{name}.tar")
        with tarfile.open(tmp_path / f"{name}.tar") as tar:
            inside[name] = {entry.name: entry for entry in tar}
    assert inside["nonewprivs"]["usr/local/bin/nnp"].mode == 0o6755
    assert {"data.json", "etc/os-release", "agnhost", "agnhost-2"} <= inside["kitten"].keys()
    assert "Alpine Linux" in (Path(images.__file__).parent / "os-release").read_text()
    assert inside["busybox"]["bin/sh"].linkname == "busybox"
    assert inside["httpd"]["usr/local/apache2/htdocs"].linkname == "/var/www/html"
    assert "var/www/html/index.html" in inside["httpd"]
    configuration: dict[str, Any] = json.loads(made["nonroot"].configuration(["0" * 64]))
    assert configuration["config"]["User"] == "1234"
    assert configuration["rootfs"]["diff_ids"] == [f"sha256:{'0' * 64}"]


# Reports


def _spec(name: str, state: str, **more: Any) -> dict[str, Any]:
    group, _, text = name.partition(" ")
    return {
        "ContainerHierarchyTexts": [group],
        "LeafNodeText": text,
        "LeafNodeType": "It",
        "State": state,
        "RunTime": 1_500_000_000,
        "NumAttempts": 1,
        **more,
    }


def test_outcomes_are_of_specs_that_were_begun() -> None:
    specs = [
        _spec(SPECS[0], "passed"),
        _spec(SPECS[1], "failed", Failure={"Message": "no answer"}),
        _spec(SPECS[2], "skipped", NumAttempts=0),
        _spec("[suite] before", "passed", LeafNodeType="SynchronizedBeforeSuite"),
        {**_spec("alone", "passed"), "ContainerHierarchyTexts": None, "LeafNodeText": "alone"},
    ]
    assert outcomes_of_json([{"SpecReports": specs}, {"SpecReports": None}]) == {
        SPECS[0]: Outcome("passed", 1.5),
        SPECS[1]: Outcome("failed", 1.5, "no answer"),
        "alone": Outcome("passed", 1.5),
    }


JUNIT = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="suite" tests="2" failures="1" errors="0" time="9.1">
  <testcase name="[sig-node] a | pod runs" classname="suite" time="1.5"></testcase>
  <testcase name="[sig-node] it stops" classname="suite" time="2">
    <failure type="Failure">/src/a.go:12&#xA;no answer&#xA;after 5 minutes&#xA;/b.go:3</failure>
    <system-out>much</system-out>
  </testcase>
  <testcase name="[sig-network] a service answers" classname="suite" time="0">
    <skipped></skipped>
  </testcase>
  <testcase name="AfterSuite" classname="suite" time="3">
    <failure type="Failure">no answer</failure>
  </testcase>
</testsuite>
"""


def test_the_first_ginkgo_tells_outcomes_of_each_process_in_a_file() -> None:
    case = '<testcase name="alone" time="4"><failure type="Panic">oh</failure></testcase>'
    assert outcomes_of_junit([JUNIT, f"<testsuite>{case}</testsuite>"]) == {
        SPECS[0]: PASSED,
        SPECS[1]: FAILED,
        "alone": Outcome("panicked", 4, "oh"),
    }


@pytest.mark.parametrize(
    ("said", "asked", "options"),
    [
        (
            "Ginkgo Version 1.11.0",
            Asked(Path("/x"), PARALLEL, without=SPECS[:1], processes=4),
            [
                *("-nodes=4", "-timeout=2h", "-noColor", r"-focus=\[Conformance\]"),
                r"-skip=\[Serial\]|\[sig\-node\] a \| pod runs$",
            ],
        ),
        (
            "Ginkgo Version 1.11.0",
            Asked(Path("/x"), SERIAL),
            [
                *("-nodes=1", "-timeout=2h", "-noColor"),
                *(r"-focus=\[Serial\].*\[Conformance\]", "-skip="),
            ],
        ),
        (
            "Ginkgo Version 1.11.0",
            Asked(Path("/x"), ("Conformance",), only=SPECS[1:]),
            [
                *("-nodes=1", "-timeout=2h", "-noColor"),
                r"-focus=\[sig\-node\] it stops$|\[sig\-network\] a service answers$",
                "-skip=",
            ],
        ),
        (
            "Ginkgo Version 2.21.0",
            Asked(Path("/x"), PARALLEL, only=SPECS[1:2], processes=8),
            [
                *("--procs=8", "--timeout=2h", "--no-color", "--silence-skips"),
                *("--label-filter=!Serial && Conformance", r"--focus=\[sig\-node\] it stops$"),
                *("--output-dir=/x", "--json-report=report.json"),
            ],
        ),
    ],
)
def test_each_ginkgo_is_asked_in_its_words(said: str, asked: Asked, options: list[str]) -> None:
    assert of_version(said).options(asked) == options


def test_a_spec_is_of_conformance_since_the_first_release_that_it_names() -> None:
    listed: list[dict[str, object]] = [
        {"codename": "a", "release": "v1.9, v1.18"},
        {"codename": "b", "release": 1.34},
    ]
    assert since(listed) == {"a": (1, 9), "b": (1, 34)}


def test_a_spec_that_asks_for_more_by_now_judges_no_earlier_release() -> None:
    name = next(iter(_ASKS_MORE))
    daemon_set = {"codename": name, "release": "v1.10"}
    assert since([daemon_set, {"codename": "b", "release": "v1.20"}])[name] == (1, 10)
    assert since([daemon_set, {"codename": "b", "release": "v1.34"}])[name] == (1, 34)


@pytest.mark.parametrize(
    ("release", "suite"),
    [("1.20", "1.20"), ("1.30", "1.34"), ("1.33", "1.34"), ("1.34", "1.34"), ("1.37", "1.37")],
)
def test_a_release_without_a_suite_has_the_next_one(release: str, suite: str) -> None:
    assert images.suite_for(release) == suite


def test_specs_of_later_releases_are_named(tmp_path: Path) -> None:
    said = report.section(Result("Kubernetes 1.33.13", SPECS[:1], [], later=SPECS[1:]))
    assert "judge a later release, and were not asked for:" in said
    assert f"- {SPECS[1]}\n- {SPECS[2]}\n" in said


def _result(
    *states: Outcome, again: Outcome | None = None, left: list[str] | None = None
) -> Result:
    phase = Phase("parallel", 8, 61.4, dict(zip(SPECS, states, strict=False)))
    repeated = Phase("repeated", 1, 5, {SPECS[1]: again}) if again else None
    return Result("Kubernetes 1.37.2", SPECS, [phase], repeated, {"Commit": "abc"}, left or [])


def test_one_run_in_which_all_passed() -> None:
    result = _result(PASSED, PASSED, PASSED)
    said = report.section(result)
    assert result.good
    assert said.startswith("**3 of 3 specs passed in one uninterrupted run.**\n")
    assert "| parallel | 3 of 3 passed, 8 at once, 1 min 1 s |" in said
    assert "| sig-node | 2 | 2 | 0 | 0 |" in said
    assert "| Commit | abc |" in said
    assert "| Left over on hosts | nothing |" in said


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (
            _result(PASSED, FAILED, PASSED, again=PASSED),
            [
                "**2 of 3 specs passed in one uninterrupted run.** 1 failed, 0 were not run. 1 of "
                "them passed when they were repeated, alone.",
                "| [sig-node] it stops | failed | passed | no answer after 5 minutes |",
            ],
        ),
        (
            _result(PASSED, FAILED, again=FAILED),
            [
                "**1 of 3 specs passed in one uninterrupted run.** 1 failed, 1 were not run. 0 of "
                "them passed when they were repeated, alone.",
                "| [sig-network] a service answers | not run | not run |  |",
            ],
        ),
        (_result(PASSED, PASSED, PASSED, left=["n1: rule"]), ["- `n1: rule`"]),
    ],
)
def test_what_did_not_pass_is_said(result: Result, lines: list[str]) -> None:
    said = report.section(result).splitlines()
    assert not result.good
    assert set(lines) <= set(said)


def test_a_page_has_a_section_for_each_cluster() -> None:
    first = report.page("", _result(PASSED, PASSED, PASSED))
    other = Result("Kubernetes 1.36.3", SPECS, [])
    both = report.page(first, other)
    assert both.startswith(report.INTRODUCTION)
    assert [line for line in both.splitlines() if line.startswith("## ")] == [
        "## Kubernetes 1.36.3",
        "## Kubernetes 1.37.2",
    ]
    assert report.page(both, other) == both
    assert "**3 of 3" in both


# What is left over

CIDR = "10.10.1.0/24"
PODS = [Pod("default/web", "1234abcd-0", "10.10.1.5"), Pod("kube-system/etcd", "99aa99aa-f")]
LINES = [
    "sandboxes "
    + json.dumps({"items": [{"metadata": {"uid": pod}} for pod in ("1234abcd-0", "99aa99aa-f")]}),
    "address 10.10.1.5",
    "address lock",
    "address last_reserved_ip.0",
    "namespace cni-1",
    "group /sys/fs/cgroup/pids/kubepods.slice/kubepods-pod1234abcd_0.slice",
    "group /sys/fs/cgroup/cpu/kubepods/besteffort/pod99aa99aa-f",
    "rule -A POSTROUTING -s 10.10.1.0/24 ! -d 10.10.0.0/16 -j MASQUERADE",
    "rule -A CNI-DN -d 10.254.0.1/32 -j DNAT --to-destination 10.10.1.5:8080",
    "rule ip daddr 10.10.2.9 accept",
    "rule ip daddr 10.10.1.1 accept",
]


def test_nothing_is_left_over() -> None:
    assert left_over(Told.read(LINES), PODS, CIDR) == []


def test_docker_names_a_sandbox_a_line() -> None:
    lines = [f"sandbox {pod.uid}" for pod in PODS]
    assert left_over(Told.read([*lines, *LINES[1:]]), PODS, CIDR) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("address 10.10.1.6", "address too many: 10.10.1.6"),
        ("namespace cni-2", "2 network namespaces for 1 pods with addresses"),
        ("group /x/kubepods/pod00000000-1", "control group of pod too many: 00000000-1"),
        ("rule dnat to 10.10.1.7:80", "rule of 10.10.1.7, which no pod has: dnat to 10.10.1.7:80"),
        ("rule -d 10.10.1.7/32", "rule of 10.10.1.7, which no pod has: -d 10.10.1.7/32"),
    ],
)
def test_what_is_left_over_is_named(line: str, found: str) -> None:
    assert left_over(Told.read([*LINES, line]), PODS, CIDR) == [found]


def test_what_a_running_pod_lacks_is_named() -> None:
    told = Told.read(LINES)
    told.sandboxes.pop()
    told.addresses.clear()
    told.namespaces.clear()
    assert left_over(told, PODS, CIDR) == [
        "no sandbox of pod 99aa99aa-f",
        "no address 10.10.1.5",
        "0 network namespaces for 1 pods with addresses",
    ]


def test_pods_of_a_node() -> None:
    def pod(name: str, **more: Any) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "namespace": "a", "uid": name, **more.get("metadata", {})},
            "spec": {"nodeName": "n1", **more.get("spec", {})},
            "status": {"phase": "Running", "podIP": "10.10.1.5", **more.get("status", {})},
        }

    static = {"annotations": {"kubernetes.io/config.hash": "hash"}}
    items = [
        pod("one"),
        pod("static", metadata=static, spec={"hostNetwork": True}),
        pod("elsewhere", spec={"nodeName": "n2"}),
        pod("done", status={"phase": "Succeeded"}),
    ]
    assert pods_of(items, "n1") == [Pod("a/one", "one", "10.10.1.5"), Pod("a/static", "hash", "")]
