"""
How a cluster comes from one release to another: which hosts, in which order, and what is refused.

After Kubernetes' `version skew policy <https://kubernetes.io/releases/version-skew-policy/>`_: a
control plane goes one minor release at a time and never back, its apiservers are one minor release
apart at most, no kubelet is newer than any apiserver, and none is too old for it. kube-proxy moves
with its kubelet. Between patches of one minor release everything goes. etcd has the same rule of
its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.releases import Minor, Release, known_releases, minor_of, newest_patch

Versions = Mapping[str, Mapping[str, str]]
"""Host → component → its version there; what is not known is not in it."""

_KUBERNETES = (*CONTROL_PLANE_COMPONENTS, "kubelet")


@dataclass(frozen=True)
class Wanted:
    """
    The versions that a cluster is to have.

    + kubernetes: the release
    + etcd: which etcd
    + containerd: which containerd we bring; empty where a package does
    """

    kubernetes: Release
    etcd: str
    containerd: str = ""

    def of(self, component: str) -> str:
        """
        Give the version that a component is to have.

        + component: such as "kubelet"; "etcd" and "containerd" too
        """
        others = {"etcd": self.etcd, "containerd": self.containerd}
        return others.get(component, self.kubernetes.version)


@dataclass(frozen=True)
class Upgrade:
    """
    What an upgrade does, in this order. It is false where nothing is to be done in turn.

    + changes: what changes, in words: "Kubernetes 1.36.3 → 1.37.2"
    + etcd: the hosts with a member of etcd, one after another
    + control_plane: the hosts of the control plane, one after another
    + nodes: the hosts whose kubelet or containerd changes, one after another, each drained
    + of_control_plane: whether anything of the control plane is known to change
    """

    changes: tuple[str, ...] = ()
    etcd: tuple[str, ...] = ()
    control_plane: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    of_control_plane: bool = False

    def __bool__(self) -> bool:
        return bool(self.changes or self.nodes)

    def __str__(self) -> str:
        what = ", ".join(self.changes) or "what an interrupted upgrade left"
        nodes = f"{', '.join(self.nodes)}, drained one by one" if self.nodes else ""
        if not self.of_control_plane:
            return f"{what}: {nodes}"
        return f"{what}: control plane{f' first, then {nodes}' if nodes else ', host by host'}"


def upgrade_of(
    current: Versions,
    wanted: Wanted,
    control_plane: Collection[str],
    etcd: Collection[str],
    drained: Collection[str] = (),
) -> Upgrade:
    """
    Give the upgrade that takes hosts from what they have to what is wanted.

    A host of which nothing is known is blank: it has no turn. Of the control plane all others have
    one, for an interrupted upgrade may have left a host without some of its pods.

    + current: what hosts have, in the order of the inventory
    + wanted: what they are to have
    + control_plane: the hosts of the control plane
    + etcd: the hosts with a member of etcd
    + drained: hosts that an interrupted upgrade drained

    ```
    >>> now = {"m": {"etcd": "3.6.4", "kube-apiserver": "1.36.3", "kubelet": "1.36.3"}}
    >>> print(upgrade_of(now, Wanted(Release.of("1.37.2"), "3.6.4"), ["m"], ["m"]))
    Kubernetes 1.36.3 → 1.37.2: control plane first, then m, drained one by one
    ```
    """
    changes = tuple(_changes(current, wanted))
    nodes = tuple(
        host
        for host, has in current.items()
        if host in drained or any(_differs(has, part, wanted) for part in ("kubelet", "containerd"))
    )
    if not (changes or nodes):
        return Upgrade()
    known = [host for host, has in current.items() if has]
    members = tuple(host for host in known if host in etcd)
    planes = tuple(host for host in known if host in control_plane)
    moves = any(
        _differs(has, part, wanted)
        for has in current.values()
        for part in ("etcd", *CONTROL_PLANE_COMPONENTS)
    )
    return Upgrade(changes, members, planes, nodes, moves)


def _differs(has: Mapping[str, str], component: str, wanted: Wanted) -> bool:
    """Whether a component is to change. Pods outlive another patch of containerd."""
    if component not in has:
        return False
    now, then = has[component], wanted.of(component)
    if component == "containerd":
        return bool(then) and minor_of(now) != minor_of(then)
    return now != then


def _changes(current: Versions, wanted: Wanted) -> Iterator[str]:
    for title, components in (
        ("Kubernetes", _KUBERNETES),
        ("etcd", ("etcd",)),
        ("containerd", ("containerd",)),
    ):
        old = {
            has[component]
            for has in current.values()
            for component in components
            if _differs(has, component, wanted)
        }
        if old:
            yield f"{title} {', '.join(sorted(old, key=minor_of))} → {wanted.of(components[0])}"


def upgrade_problems(
    current: Versions,
    wanted: Wanted,
    control_plane: Collection[str] = (),
    absent: Collection[str] = (),
    foreign: Collection[str] = (),
) -> list[Problem]:
    """
    Name what forbids to take hosts from what they have to what is wanted, each with its way out.

    + current: what hosts have; of nodes that take no part in the run too
    + wanted: what they are to have
    + control_plane: the hosts of the control plane
    + absent: those hosts of the inventory that take no part in the run
    + foreign: nodes outside of the inventory

    ```
    >>> now = {"m": {"kube-apiserver": "1.35.4"}}
    >>> print(*upgrade_problems(now, Wanted(Release.of("1.37.2"), "3.6.4")))
    m: kubernetes_version = '1.37.2'; allowed: 1.35 or 1.36, for its kube-apiserver is 1.35.4 …
    ```
    """
    release, hosts = wanted.kubernetes, _Hosts(control_plane, absent, foreign)
    found = _of_control_plane(current, release) or [
        *_of_absent(current, release, hosts),
        *_of_kubelets(current, release, hosts),
    ]
    return [*found, *_of_etcd(current, wanted.etcd)]


@dataclass(frozen=True)
class _Hosts:
    """Which host is what, as ``upgrade_problems`` takes it."""

    control_plane: Collection[str]
    absent: Collection[str]
    foreign: Collection[str]

    def way_out(self, host: str) -> str:
        """How a host leaves the cluster, to come back as a new one."""
        if host in self.foreign:
            own = "give that node, which is not in the inventory, another kubelet"
            return f"{own}, or `kubectl delete node {host}`"
        if host in self.control_plane:
            return _built_anew(host)
        return "take the node out with deploys/remove_node.py, and build it anew"


def _built_anew(host: str) -> str:
    return f"take it back with deploys/reset.py and --limit {host}, and build it anew"


def _of_control_plane(current: Versions, wanted: Release) -> list[Problem]:
    versions = _versions(current, CONTROL_PLANE_COMPONENTS)
    if not versions:
        return []
    newest, component, host = max(versions, key=_minor)
    oldest, lagging, behind = min(versions, key=_minor)
    apart = _steps(minor_of(oldest), minor_of(newest))
    if apart > 1:
        # Whatever is wanted, it skips a release for one host or goes back for the other.
        allowed = f"control planes that are one minor release apart at most; its {lagging} is "
        allowed += f"{oldest}, and the {component} of {host} is {newest}"
        return [_problem(behind, wanted, allowed, _built_anew(behind))]
    allowed = _known(newest, 1 - apart)
    if minor_of(newest) > wanted.minor:
        allowed += f", for its {component} is {newest}; a control plane never goes back"
        return [_problem(host, wanted, allowed, _write(newest))]
    if _steps(minor_of(oldest), wanted.minor) > 1:
        allowed += f", for its {lagging} is {oldest}; a control plane goes one minor release at a "
        allowed += "time"
        return [_problem(behind, wanted, allowed, _ways(oldest, wanted))]
    return []


def _of_absent(current: Versions, wanted: Release, hosts: _Hosts) -> Iterator[Problem]:
    """No apiserver that nobody sees is left behind. It is as new as any kubelet, or newer."""
    newest = max(_versions(current, ("kubelet",)), key=_minor, default=None)
    if newest and _minor(newest) >= wanted.minor:
        return
    allowed = "the release of its kube-apiserver, which is not known"
    if newest:
        allowed = f"up to {_dotted(_minor(newest))}, for its kube-apiserver may be of that release"
    allowed += "; the host takes no part in the run"
    fix = "let it take part in the run"
    if len(hosts.control_plane) > 1:
        fix += "; if it is lost for good, take it out of the inventory"
    for host in hosts.absent:
        if host in hosts.control_plane:
            yield _problem(host, wanted, allowed, fix)


def _of_kubelets(current: Versions, wanted: Release, hosts: _Hosts) -> Iterator[Problem]:
    planes = _versions(current, CONTROL_PLANE_COMPONENTS)
    skew = int(wanted.fact("kubelet_skew"))
    # A node that came back too old is drained and brought up beside the control plane as it is.
    moves = any(minor_of(version) != wanted.minor for version, _, _ in planes)
    for version, _, host in _versions(current, ("kubelet",)):
        steps = _steps(minor_of(version), wanted.minor)
        if steps < 0:
            allowed = (
                f"{_dotted(minor_of(version))}, for its kubelet is {version}, and no kubelet goes "
            )
            allowed += "back or is newer than the apiserver"
            fix = hosts.way_out(host) if planes else _write(version)
            yield _problem(host, wanted, allowed, fix)
        elif moves and steps > skew:
            allowed = (
                f"up to {_dotted(_plus(minor_of(version), skew))}, for its kubelet is {version}; "
            )
            allowed += f"an apiserver takes kubelets that are {skew} minor releases older at most"
            yield _problem(host, wanted, allowed, _way_up(host, planes, wanted, hosts))


def _way_up(host: str, planes: list[tuple[str, str, str]], wanted: Release, hosts: _Hosts) -> str:
    """How a kubelet that is too old comes up: beside a control plane that stays as it is."""
    now = max(planes, key=_minor)[0]
    if host in hosts.foreign or minor_of(now) != _minor(min(planes, key=_minor)):
        return hosts.way_out(host)
    those = f"with {host} in the run, which brings" if host in hosts.absent else "which brings"
    return f'write "{now}" and run this, {those} that kubelet up; then "{wanted.version}"'


def _of_etcd(current: Versions, wanted: str) -> Iterator[Problem]:
    for version, _, host in _versions(current, ("etcd",)):
        steps = _steps(minor_of(version), minor_of(wanted))
        if steps not in (0, 1):
            following = _dotted(_next_etcd(minor_of(version)))
            allowed = f"{_dotted(minor_of(version))} or {following}, for its etcd is {version}; "
            allowed += "etcd goes one minor release at a time, and not back"
            other = version if steps < 0 else _known_etcd(following)
            fix = f'set etcd_version = "{other}"' if other else None
            yield Problem("etcd_version", wanted, host, allowed, fix)


def _versions(current: Versions, components: Iterable[str]) -> list[tuple[str, str, str]]:
    """Version, component and host of each of some components."""
    chosen = tuple(components)
    return [
        (has[component], component, host)
        for host, has in current.items()
        for component in chosen
        if component in has
    ]


def _minor(version: tuple[str, str, str]) -> Minor:
    return minor_of(version[0])


def _steps(old: Minor, new: Minor) -> int:
    """How many minor releases lie between two."""
    if old[0] == new[0]:
        return new[1] - old[1]
    return 1 if _next_etcd(old) == new else (new[0] - old[0]) * 100


def _next_etcd(minor: Minor) -> Minor:
    """The release line after one of etcd, whose 3.0 followed 2.3."""
    return (3, 0) if minor == (2, 3) else _plus(minor, 1)


def _plus(minor: Minor, steps: int) -> Minor:
    return minor[0], minor[1] + steps


def _known(version: str, steps: int) -> str:
    """The release line of a version, and the ones up to some steps after it, if they are known."""
    lines = [_dotted(_plus(minor_of(version), step)) for step in range(steps + 1)]
    return " or ".join(lines[:1] + [line for line in lines[1:] if line in known_releases()])


def _write(version: str) -> str:
    """How a release is chosen that some host has already."""
    if _dotted(minor_of(version)) in known_releases():
        return f'write "{version}"'
    return "take a newer pyinfra-kube, which knows that release"


def _ways(version: str, wanted: Release) -> str:
    """One run after another, by way of the newest patch of each minor release between."""
    steps = range(1, _steps(minor_of(version), wanted.minor))
    lines = [_dotted(_plus(minor_of(version), step)) for step in steps]
    stations = [*(newest_patch(line) or line for line in lines), wanted.version]
    return "run this with " + ", then with ".join(f'"{station}"' for station in stations)


def _known_etcd(line: str) -> str:
    """The newest version of a release line of etcd that some release of Kubernetes names."""
    named = [
        one for one in table("releases")["etcd_version"].values() if one.startswith(f"{line}.")
    ]
    return named[-1] if named else ""


def _problem(host: str, wanted: Release, allowed: str, fix: str) -> Problem:
    return Problem("kubernetes_version", wanted.version, host, allowed, fix)


def _dotted(minor: Minor) -> str:
    return f"{minor[0]}.{minor[1]}"
