"""Which hosts an upgrade takes in which order, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.releases import Release, known_releases, minor_of, newest_patch
from pyinfra_kube.cluster.upgrade import Upgrade, Wanted, upgrade_of, upgrade_problems

PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
ETCD = "3.6.4"

Has = dict[str, dict[str, str]]


def wanted(version: str, etcd: str = ETCD, containerd: str = "") -> Wanted:
    return Wanted(Release.of(version), etcd, containerd)


def plane(version: str, kubelet: str = "", etcd: str = ETCD) -> dict[str, str]:
    return {"etcd": etcd, **dict.fromkeys(PLANE, version), "kubelet": kubelet or version}


def cluster(version: str, *nodes: str, etcd: str = ETCD) -> Has:
    found = {"m": plane(version, etcd=etcd)}
    return found | {f"n{i}": {"kubelet": one} for i, one in enumerate(nodes, 1)}


def planned(now: Has, then: Wanted, *drained: str) -> Upgrade:
    return upgrade_of(now, then, control_plane=["m"], etcd=["m"], drained=drained)


TODAY = "1.37.2"

# What hosts have, what is wanted, and what is said of it.
PLANS: dict[str, tuple[Has, Wanted, str]] = {
    "a minor release": (
        cluster("1.36.3", "1.36.3", "1.36.3"),
        wanted(TODAY),
        "Kubernetes 1.36.3 → 1.37.2: control plane first, then m, n1, n2, drained one by one",
    ),
    "a patch": (
        cluster("1.37.1", "1.37.1"),
        wanted(TODAY),
        "Kubernetes 1.37.1 → 1.37.2: control plane first, then m, n1, drained one by one",
    ),
    "back to a patch": (
        cluster("1.37.3", "1.37.3"),
        wanted(TODAY),
        "Kubernetes 1.37.3 → 1.37.2: control plane first, then m, n1, drained one by one",
    ),
    "etcd alone": (
        cluster(TODAY, TODAY, etcd="3.5.21"),
        wanted(TODAY),
        "etcd 3.5.21 → 3.6.4: control plane, host by host",
    ),
    "Kubernetes and etcd": (
        cluster("1.36.3", etcd="3.5.21"),
        wanted(TODAY),
        "Kubernetes 1.36.3 → 1.37.2, etcd 3.5.21 → 3.6.4: control plane first, then m, drained one "
        "by one",
    ),
    "one node was off": (
        cluster(TODAY, "1.36.3", TODAY),
        wanted(TODAY),
        "Kubernetes 1.36.3 → 1.37.2: n1, drained one by one",
    ),
    "nodes of two releases": (
        cluster("1.36.3", "1.35.4", "1.36.3"),
        wanted(TODAY),
        "Kubernetes 1.35.4, 1.36.3 → 1.37.2: control plane first, then m, n1, n2, drained one "
        "by one",
    ),
    "another minor release of containerd": (
        {"m": plane(TODAY), "n1": {"kubelet": TODAY, "containerd": "2.3.1"}},
        wanted(TODAY, containerd="2.4.2"),
        "containerd 2.3.1 → 2.4.2: n1, drained one by one",
    ),
}

# What changes nothing in turn.
NOTHING: dict[str, tuple[Has, Wanted]] = {
    "blank hosts": ({}, wanted(TODAY)),
    "as wanted": (cluster(TODAY, TODAY), wanted(TODAY)),
    "a pod is lost": ({"m": {"etcd": ETCD, "kubelet": TODAY}}, wanted(TODAY)),
    "a patch of containerd": (
        {"m": plane(TODAY), "n1": {"kubelet": TODAY, "containerd": "2.4.1"}},
        wanted(TODAY, containerd="2.4.2"),
    ),
    "containerd is a package's": ({"n1": {"kubelet": TODAY, "containerd": "2.3.1"}}, wanted(TODAY)),
}

REFUSED: dict[str, tuple[Has, Wanted, str]] = {
    "a minor release is skipped": (
        cluster("1.35.4", "1.35.4"),
        wanted(TODAY),
        "m: kubernetes_version = '1.37.2'; allowed: 1.35 or 1.36, for its kube-apiserver is "
        "1.35.4; "
        'a control plane goes one minor release at a time; fix: run this with "1.36.6", then with '
        '"1.37.2"',
    ),
    "back": (
        cluster(TODAY, TODAY),
        wanted("1.36.3"),
        "m: kubernetes_version = '1.36.3'; allowed: 1.37, for its kube-apiserver is "
        "1.37.2; "
        'a control plane never goes back; fix: write "1.37.2"',
    ),
    "back in the middle of an upgrade": (
        {"m": plane("1.36.3") | {"kube-apiserver": TODAY}},
        wanted("1.36.3"),
        "m: kubernetes_version = '1.36.3'; allowed: 1.37, for its kube-apiserver is "
        "1.37.2; "
        'a control plane never goes back; fix: write "1.37.2"',
    ),
    "a kubelet is too old": (
        cluster("1.36.3", "1.33.13", "1.36.3"),
        wanted(TODAY),
        "n1: kubernetes_version = '1.37.2'; allowed: up to 1.36, for its kubelet is 1.33.13; an "
        'apiserver takes kubelets that are 3 minor releases older at most; fix: write "1.36.3" and '
        'run this, which brings that kubelet up; then "1.37.2"',
    ),
    "a kubelet was too old up to 1.27 by two releases": (
        cluster("1.26.15", "1.24.17"),
        wanted("1.27.16"),
        "n1: kubernetes_version = '1.27.16'; allowed: up to 1.26, for its kubelet is 1.24.17; an "
        'apiserver takes kubelets that are 2 minor releases older at most; fix: write "1.26.15" '
        "and "
        'run this, which brings that kubelet up; then "1.27.16"',
    ),
    "a kubelet is newer": (
        cluster("1.36.3", TODAY),
        wanted("1.36.3"),
        "n1: kubernetes_version = '1.36.3'; allowed: 1.37, for its kubelet is 1.37.2, and no "
        "kubelet "
        "goes back or is newer than the apiserver; fix: take the node out with "
        "deploys/remove_node.py, and build it anew",
    ),
    "control planes are two minor releases apart": (
        {"m": plane(TODAY), "o": plane("1.35.4")},
        wanted(TODAY),
        "o: kubernetes_version = '1.37.2'; allowed: control planes that are one minor release "
        "apart at most; its kube-apiserver is 1.35.4, and the kube-apiserver of m is 1.37.2; fix: "
        "take it back with deploys/reset.py and --limit o, and build it anew",
    ),
    "half way, the release of the newer ones is allowed": (
        {"m": plane("1.36.3"), "o": plane("1.35.4")},
        wanted(TODAY),
        "o: kubernetes_version = '1.37.2'; allowed: 1.36, for its kube-apiserver is 1.35.4; a "
        'control plane goes one minor release at a time; fix: run this with "1.36.6", then with '
        '"1.37.2"',
    ),
    "a control plane has a release that is not known": (
        cluster("1.38.0"),
        wanted(TODAY),
        "m: kubernetes_version = '1.37.2'; allowed: 1.38, for its kube-apiserver is 1.38.0; a "
        "control plane never goes back; fix: take a newer pyinfra-kube, which knows that release",
    ),
    "a kubelet is too old half way": (
        {"m": plane("1.36.3"), "o": plane(TODAY, "1.36.3"), "n": {"kubelet": "1.32.13"}},
        wanted(TODAY),
        "n: kubernetes_version = '1.37.2'; allowed: up to 1.35, for its kubelet is 1.32.13; an "
        "apiserver takes kubelets that are 3 minor releases older at most; fix: take the node out "
        "with deploys/remove_node.py, and build it anew",
    ),
    "etcd skips": (
        cluster("1.36.3", etcd="3.4.13-0"),
        wanted(TODAY),
        "m: etcd_version = '3.6.4'; allowed: 3.4 or 3.5, for its etcd is 3.4.13-0; etcd goes one "
        'minor release at a time, and not back; fix: set etcd_version = "3.5.24-0"',
    ),
    "etcd goes back": (
        cluster(TODAY, etcd="3.7.0-0"),
        wanted(TODAY),
        "m: etcd_version = '3.6.4'; allowed: 3.7 or 3.8, for its etcd is 3.7.0-0; etcd goes one "
        "minor "
        'release at a time, and not back; fix: set etcd_version = "3.7.0-0"',
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_what_is_said(case: str) -> None:
    now, then, said = PLANS[case]
    assert upgrade_problems(now, then) == []
    assert str(planned(now, then)) == said


@pytest.mark.parametrize("case", NOTHING)
def test_nothing_to_do(case: str) -> None:
    now, then = NOTHING[case]
    assert upgrade_problems(now, then) == []
    assert not planned(now, then)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    now, then, said = REFUSED[case]
    assert [str(problem) for problem in upgrade_problems(now, then)] == [said]


AWAY: list[tuple[dict[str, Has], str]] = [
    (
        {"absent": {"m": {}}},
        "m: kubernetes_version = '1.37.2'; allowed: the release of its kube-apiserver, which is "
        "not known; the host takes no part in the run; fix: let it take part in the run; if it is "
        "lost for good, take it out of the inventory",
    ),
    (
        {"told": cluster("1.36.3"), "absent": {"o": {"kubelet": "1.36.3"}}},
        "o: kubernetes_version = '1.37.2'; allowed: up to 1.36, for its kube-apiserver may be of "
        "that release; the host takes no part in the run; fix: let it take part in the run; if it "
        "is lost for good, take it out of the inventory",
    ),
    # The newest kubelet is no newer than any apiserver.
    ({"told": cluster(TODAY), "absent": {"o": {"kubelet": "1.36.3"}}}, ""),
    (
        {"told": cluster("1.36.3"), "foreign": {"f": {"kubelet": "1.33.13"}}},
        "f: kubernetes_version = '1.37.2'; allowed: up to 1.36, for its kubelet is 1.33.13; an "
        "apiserver takes kubelets that are 3 minor releases older at most; fix: give that node, "
        "which is not in the inventory, another kubelet, or `kubectl delete node f`",
    ),
    (
        {"told": cluster("1.36.3"), "absent": {"n": {"kubelet": "1.33.13"}}},
        "n: kubernetes_version = '1.37.2'; allowed: up to 1.36, for its kubelet is 1.33.13; an "
        'apiserver takes kubelets that are 3 minor releases older at most; fix: write "1.36.3" and '
        'run this, with n in the run, which brings that kubelet up; then "1.37.2"',
    ),
]


@pytest.mark.parametrize(("hosts", "said"), AWAY)
def test_who_takes_no_part_counts(hosts: dict[str, Has], said: str) -> None:
    now = {name: has for some in hosts.values() for name, has in some.items() if has}
    outside = {key: list(hosts.get(key, {})) for key in ("absent", "foreign")}
    found = upgrade_problems(now, wanted(TODAY), control_plane=["m", "o"], **outside)
    assert [str(problem) for problem in found] == [said] * bool(said)


def test_a_kubelet_that_was_left_behind_catches_up() -> None:
    """The control plane has been upgraded: it does not move away from that kubelet."""
    now = cluster(TODAY, "1.32.13")
    assert upgrade_problems(now, wanted(TODAY)) == []
    assert planned(now, wanted(TODAY)).nodes == ("n1",)


def test_an_interrupted_upgrade_goes_on() -> None:
    half = {"m": {"kubelet": "1.36.3"}, "n1": {"kubelet": "1.36.3"}}
    found = planned(half, wanted(TODAY))
    # Killed while it had taken the control plane's pods away.
    assert (found.etcd, found.control_plane, found.nodes) == (("m",), ("m",), ("m", "n1"))
    done = cluster(TODAY, TODAY)
    assert planned(done, wanted(TODAY), "n1").nodes == ("n1",)
    assert str(planned(done, wanted(TODAY), "n1")) == (
        "what an interrupted upgrade left: n1, drained one by one"
    )


# Properties

LINES = [minor_of(line)[1] for line in known_releases()]
STEP = st.sampled_from([minor for minor in LINES if minor >= 24])
NODES = st.lists(st.integers(0, 4), max_size=4)


def version(minor: int) -> str:
    return str(newest_patch(f"1.{minor}"))


def etcd_of(minor: int) -> str:
    return Release.of(version(minor)).etcd_version


@given(STEP, st.integers(-2, 3), NODES, st.integers(1, 3))
def test_each_step_keeps_the_skew(
    minor: int, distance: int, behind: list[int], planes: int
) -> None:
    """What is not refused breaks the skew policy at no step, if it was kept before."""
    then = minor + distance
    if f"1.{then}" not in known_releases():
        return
    names = [f"m{i}" for i in range(planes)]
    now: Has = {name: plane(version(minor), etcd=etcd_of(minor)) for name in names}
    for i, older in enumerate(behind):
        now[f"n{i}"] = {"kubelet": version(max(minor - older, 2))}
    before = broken(now)
    aim = Wanted(Release.of(version(then)), etcd_of(then))
    problems = upgrade_problems(now, aim)
    if distance not in (0, 1):
        assert problems
    if problems or before:
        return
    upgrade = upgrade_of(now, aim, names, names)
    for state in steps(now, upgrade, aim):
        assert broken(state) == []
    assert not upgrade_of(now, aim, names, names)
    assert upgrade_problems(now, aim) == []


def steps(now: Has, upgrade: Upgrade, aim: Wanted) -> Iterator[Has]:
    """The states that the hosts go through, as the phase of an upgrade takes them."""
    turns = [(host, ["etcd"]) for host in upgrade.etcd]
    turns += [(host, [PLANE[0]]) for host in upgrade.control_plane]
    turns += [(host, list(PLANE[1:])) for host in upgrade.control_plane]
    turns += [(host, ["kubelet"]) for host in upgrade.nodes]
    for host, components in turns:
        now[host] |= {component: aim.of(component) for component in components}
        yield now


def broken(now: Has) -> list[str]:
    """What the version skew policy forbids, in the words of that document."""
    minors = {host: {c: minor_of(v)[1] for c, v in has.items()} for host, has in now.items()}
    apiservers = [has[PLANE[0]] for has in minors.values() if PLANE[0] in has]
    found = []
    if max(apiservers) - min(apiservers) > 1:
        found.append("the newest and the oldest apiserver are within one minor release")
    for host, has in minors.items():
        for component in PLANE[1:]:
            # On the scratch path they ask the apiserver of their own host.
            if component in has and has[component] not in (has[PLANE[0]], has[PLANE[0]] - 1):
                found.append(f"{component} of {host} is not newer, and one older at most")
        kubelet, newest = has["kubelet"], max(apiservers)
        if kubelet > min(apiservers):
            found.append(f"kubelet of {host} is not newer than an apiserver")
        if newest - kubelet > (2 if kubelet < 25 else 3):
            found.append(f"kubelet of {host} is three older at most, two where it is below 1.25")
    return found


@given(STEP)
def test_the_next_release_is_always_in_reach(minor: int) -> None:
    """With the etcd that each release came with, too."""
    if minor + 1 in LINES:
        now = cluster(version(minor), version(minor), etcd=etcd_of(minor))
        assert upgrade_problems(now, wanted(version(minor + 1), etcd_of(minor + 1))) == []


@given(STEP, STEP)
def test_between_patches_everything_goes(one: int, other: int) -> None:
    now = cluster(f"1.37.{one}", f"1.37.{other}")
    assert upgrade_problems(now, wanted(f"1.37.{other}")) == []


def test_every_release_says_how_old_a_kubelet_may_be() -> None:
    assert set(table("releases")["kubelet_skew"].values()) == {2, 3}
