"""
Whatever state a cluster has come to, an accepted plan keeps Kubernetes' version skew policy at each
step, and what a refusal names leads to an accepted plan.

The model knows all hosts; a plan knows what its run sees of them. The judge knows the policy only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.releases import Release, known_releases, minor_of
from pyinfra_kube.cluster.upgrade import Wanted, upgrade_of, upgrade_problems
from tests.unit.test_upgrade import PLANE, Has, etcd_of, plane, version

OLDEST, NEWEST = 24, minor_of(known_releases()[-1])[1]
PARTS = (*PLANE, "kubelet")


@dataclass
class World:
    """
    + has: what each host has, in the order of the inventory; a blank host has nothing
    + planes: the hosts of the control plane; the first one is asked for the nodes
    + foreign: nodes outside of the inventory
    + out: hosts that take no part in the run
    + silent: hosts whose kubelet does not tell its version
    + answers: whether the API does on the first host of the control plane
    + release, etcd: what the inventory says
    """

    has: Has
    planes: list[str]
    foreign: list[str]
    out: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    answers: bool = True
    release: str = ""
    etcd: str = ""

    @property
    def wanted(self) -> Wanted:
        return Wanted(Release.of(self.release), self.etcd or etcd_of(minor_of(self.release)[1]))

    @property
    def tells_nodes(self) -> bool:
        first = self.planes[0]
        return self.answers and first not in self.out and PLANE[0] in self.has[first]

    @property
    def in_run(self) -> list[str]:
        return [host for host in self.has if host not in {*self.out, *self.foreign}]

    @property
    def seen(self) -> Has:
        """What the hosts of the run tell, and the API of kubelets that do not."""
        quiet = set() if self.tells_nodes else self.silent
        told = {
            host: {c: v for c, v in self.has[host].items() if c != "kubelet" or host not in quiet}
            for host in self.in_run
        }
        return {host: has for host, has in told.items() if has}

    def problems(self) -> list[Problem]:
        asked = [*self.out, *self.foreign] if self.tells_nodes else []
        nodes = {h: {"kubelet": self.has[h]["kubelet"]} for h in asked if "kubelet" in self.has[h]}
        known = {"control_plane": self.planes, "absent": self.out, "foreign": self.foreign}
        return upgrade_problems({**self.seen, **nodes}, self.wanted, **known)

    def steps(self) -> Iterator[None]:
        """Change the hosts as a run does, component by component."""
        upgrade = upgrade_of(self.seen, self.wanted, self.planes, self.planes)
        turns = [(host, ["etcd"]) for host in upgrade.etcd]
        turns += [(host, [PLANE[0]]) for host in upgrade.control_plane]
        turns += [(host, list(PLANE[1:])) for host in upgrade.control_plane]
        turns += [(host, ["kubelet"]) for host in upgrade.nodes]
        # What is blank, or lost, comes last.
        planes = [host for host in self.in_run if host in self.planes]
        turns += [(host, [part]) for part in ("etcd", *PLANE) for host in planes]
        turns += [(host, ["kubelet"]) for host in self.in_run]
        for host, components in turns:
            for component in components:
                if component == "etcd":
                    assert_etcd(self.has[host].get("etcd"), self.wanted.etcd)
                self.has[host][component] = self.wanted.of(component)
            yield


def assert_etcd(old: str | None, new: str) -> None:
    if old:
        distance = minor_of(new)[1] - minor_of(old)[1]
        assert minor_of(new)[0] == minor_of(old)[0]
        assert distance in (0, 1)


def broken(has: Has) -> list[str]:
    """What https://kubernetes.io/releases/version-skew-policy/ forbids."""
    minors = {host: {c: minor_of(v)[1] for c, v in one.items()} for host, one in has.items()}
    apiservers = [one[PLANE[0]] for one in minors.values() if PLANE[0] in one]
    found = []
    if not apiservers:
        return []
    if max(apiservers) - min(apiservers) > 1:
        found.append("apiservers are more than one minor release apart")
    for host, one in minors.items():
        for component in PLANE[1:]:
            # They ask the apiserver of their own host.
            if {component, PLANE[0]} <= {*one} and one[PLANE[0]] - one[component] not in (0, 1):
                found.append(f"{component} of {host} is newer, or older by more than one")
        if "kubelet" not in one:
            continue
        if one["kubelet"] > min(apiservers):
            found.append(f"kubelet of {host} is newer than an apiserver")
        if max(apiservers) - one["kubelet"] > (2 if one["kubelet"] < 25 else 3):
            found.append(f"kubelet of {host} is too old for an apiserver")
    return found


def follow(problem: Problem, world: World, lost: bool) -> None:
    """Do what a refusal says, and nothing else."""
    fix, host = problem.fix or "", problem.host or ""
    before = world.release
    if found := re.fullmatch(r'set etcd_version = "(\S+)"', fix):
        world.etcd = found[1]
    elif found := re.match(r'(?:write|run this with) "([^"]+)"', fix):
        world.release = found[1]
        if "and run this" in fix:
            also = re.search(r"with (\S+) in the run", fix)
            assert also or host not in world.out
            world.out -= {host}
            assert host not in world.foreign
    elif "remove_node.py" in fix:
        # That deploy takes no host of the control plane, and needs the first one.
        assert host not in {*world.planes, *world.foreign}
        world.has[host] = {}
        world.out -= {world.planes[0]}
    elif found := re.search(r"reset.py and --limit (\S+),", fix):
        assert found[1] == host
        assert host in world.planes
        world.has[host] = {}
        world.out -= {host}
    elif fix.startswith("let it take part"):
        assert host in world.out
        world.out -= {host}
        if lost and len(world.planes) > 1:
            world.planes.remove(host)
            world.foreign.append(host)
            world.has[host] = {c: v for c, v in world.has[host].items() if c == "kubelet"}
    elif "kubectl delete node" in fix:
        assert host in world.foreign
        world.foreign.remove(host)
        del world.has[host]
    else:
        raise AssertionError(f"a refusal without a way: {problem}")
    if world.release != before:
        world.etcd = ""


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A cluster that keeps the policy, with kubelets as old as that allows."""
    minor = draw(st.integers(OLDEST + 3, NEWEST))
    oldest = 3 if minor >= 28 else 2
    kubelets = st.integers(minor - oldest, minor).map(version)
    planes = [f"m{i}" for i in range(draw(st.integers(1, 3)))]
    has: Has = {m: plane(version(minor), draw(kubelets), etcd_of(minor)) for m in planes}
    nodes = [f"n{i}" for i in range(draw(st.integers(0, 2)))]
    foreign = [f"f{i}" for i in range(draw(st.integers(0, 1)))]
    has |= {host: {"kubelet": draw(kubelets)} for host in [*nodes, *foreign]}
    assert broken(has) == []
    return World(has, planes, foreign, release=version(minor))


@given(worlds(), st.data())
def test_no_run_breaks_the_policy_and_each_refusal_has_a_way(
    world: World, data: st.DataObject
) -> None:
    for _ in range(data.draw(st.integers(1, 4), "runs")):
        happens(world, data)
        tried: list[str] = []
        while found := world.problems():
            now = repr(world)
            assert now not in tried, f"{found[0]} leads back"
            tried.append(now)
            follow(found[0], world, data.draw(st.booleans(), "lost"))
        # A notice says that nodes are not seen.
        if world.planes[0] not in world.out and not world.tells_nodes:
            for host in [*(set(world.out) - set(world.planes)), *world.foreign]:
                del world.has[host]
            world.out &= set(world.planes)
            world.foreign.clear()
        killed = data.draw(st.integers(0, 30), "killed after")
        for step, _ in enumerate(world.steps()):
            assert broken(world.has) == []
            if step == killed:
                break
        assert broken(world.has) == []


def happens(world: World, data: st.DataObject) -> None:
    """What befalls a cluster between two runs, and who takes part in the next one."""
    inventory = [host for host in world.has if host not in world.foreign]
    minor = minor_of(world.release)[1] + data.draw(st.integers(-1, 3), "release")
    world.release, world.etcd = version(max(OLDEST, min(minor, NEWEST))), ""
    out = data.draw(st.sets(st.sampled_from(inventory)), "out")
    world.out = out if len(out) < len(inventory) else set()
    world.answers = data.draw(st.booleans(), "the API answers")
    for host in data.draw(st.sets(st.sampled_from(inventory), max_size=1), "blank"):
        # The last one of the control plane has the only data.
        if host not in world.planes or len(world.planes) > 1:
            world.has[host] = {}
    for host in data.draw(st.sets(st.sampled_from(world.planes), max_size=1), "lost pods"):
        if len(world.planes) > 1:
            world.has[host].pop(data.draw(st.sampled_from(["etcd", *PLANE])), None)
    readable = st.sets(st.sampled_from(inventory)) if world.tells_nodes else st.just(set())
    world.silent = data.draw(readable, "silent")
