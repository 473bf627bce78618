"""
Which package of which distribution brings what, read from ``data/packages.json``.

The file says, for each distribution and part, *since which release and until which* (``"-34"``,
``"41-"``, ``"40"``, ``"-"``) which packages bring the part; ``{minor}`` there is the Kubernetes
release line. A release that no span covers ships no such package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.releases import covers, minor_of

Spans = dict[str, list[str]]
Value = TypeVar("Value")

# What can be set where a distribution does not ship a part: (setting, what to do).
_RPMS = 'where dnf installs packages, give RPM files or URLs, with package_source = "rpm"'
_FLANNELD = "give the URL of a flanneld, or a folder with it, or a flannel RPM in rpm_files"
_RUNTIME = "give a folder or URL with containerd's programs, runc, crictl and CNI plugins"
CHOICES = {
    "control-plane": ("rpm_files", f"use the scratch path, or {_RPMS}"),
    "node": ("rpm_files", f"use the scratch path, or {_RPMS}"),
    "client": ("kubernetes_source", "give a release's folder or URL"),
    "containerd": ("runtime_source", _RUNTIME),
    "runc": ("runtime_source", _RUNTIME),
    "cni": ("runtime_source", _RUNTIME),
    "network-tools": ("packet_filter", 'set it to "nftables": iptables is no part of this system'),
    "cri-o": ("runtime_source", "give a folder or URL with crio, pinns, crictl and CNI plugins"),
    "flannel": ("flannel_source", _FLANNELD),
    "supervisor": ("liveness_monitor", 'set it to "systemd"'),
}
OTHERWISE = ("rpm_files", _RPMS)

NETWORK_TOOLS = {"iptables": "network-tools", "nftables": "network-tools-nft"}
"""The part that brings the tools of the pods' network, by ``packet_filter``."""

BY_MINOR = ("control-plane", "node", "client", "cri-o", "crictl")
"""The parts whose packages are named by Kubernetes' minor release, and conflict with each other."""

LOCKED = (
    *("control-plane", "node", "client", "etcd", "flannel"),
    *("docker", "containerd", "cri-o", "crictl"),
)
"""The parts whose packages keep their version when the system is upgraded."""

NO_LOCAL_SBIN = {"fedora": {"42-": True}}
"""Systems whose units do not look for programs in /usr/local/sbin."""

# The release lines that packages with ``{minor}`` in their names are of.
LINES = "1.29-"

_RPM = re.compile(r"(?P<name>.+)-(?P<version>[^-]+-[^-]+)\.[^.-]+\.rpm")


def parse_rpm(source: str) -> tuple[str, str] | None:
    """
    Give name and version of what an RPM file brings; ``None`` where its own name does not tell.

    + source: its path or URL

    ```
    >>> parse_rpm("https://rpms.example.com/flannel-0.9.0-8.fc33.x86_64.rpm")
    ('flannel', '0.9.0-8.fc33')
    ```
    """

    match = _RPM.fullmatch(source.partition("?")[0].rpartition("/")[2])
    return (match["name"], match["version"]) if match else None


def packages_for(
    parts: Iterable[str],
    system: str,
    release: str,
    kubernetes_version: str,
    rpm_files: Iterable[str] = (),
) -> list[str]:
    """
    Give the packages that bring parts, each once, in the order of the parts.

    + parts: of ``control-plane``, ``node``, ``client``, ``etcd``, ``flannel``, ``docker``,
      ``containerd``, ``runc``, ``cri-o``, ``conmon``, ``skopeo``, ``cni``, ``network-tools``,
      ``bridge-tools``, ``selinux``, ``supervisor``
    + system: the distribution's ``ID`` as its os-release has it, such as ``fedora``
    + release: its ``VERSION_ID``, such as ``42``
    + kubernetes_version: the Kubernetes release, such as ``1.31.4``
    + rpm_files: paths or URLs of RPM files; a part that they bring is not asked for

    Raises ``InputError`` with every part that the distribution does not ship, and the choices
    left.

    ```
    >>> packages_for(["node", "docker"], "fedora", "24", "1.2.0")
    ['kubernetes-node', 'docker']
    >>> packages_for(["node", "containerd"], "fedora", "42", "1.33.6")
    ['kubernetes1.33', 'kubernetes1.33-systemd', 'containerd']
    ```
    """

    table, rpm_files = _data().get(system, {}), [*rpm_files]
    given = {found[0] for found in map(parse_rpm, rpm_files) if found}
    minor = ".".join(kubernetes_version.split(".")[:2])
    found = {
        part: [name.format(minor=minor) for name in find(table.get(part, {}), release) or []]
        for part in parts
        if not _brought(table.get(part, {}), minor, given)
    }
    lacking = [part for part in found if not found[part]]
    if lacking and not table:
        refuse([_unknown(system)])
    problems = [_missing(part, system, release, table.get(part, {}), rpm_files) for part in lacking]
    named = [part for part in found if any(minor in name for name in found[part])]
    if named and not covers(LINES, minor_of(kubernetes_version)):
        allowed = f"{LINES[:-1]} or later: what {system} {release} has packages of"
        fix = CHOICES.get(named[0], OTHERWISE)[1]
        problems.append(Problem("kubernetes_version", kubernetes_version, None, allowed, fix))
    refuse(problems)
    return list(dict.fromkeys(name for names in found.values() for name in names))


def ships(part: str, system: str, release: str) -> bool:
    """
    Return whether a distribution has packages of a part.

    + part, system, release: as of ``packages_for``

    ```
    >>> ships("crictl", "fedora", "44")
    True
    ```
    """

    return bool(find(_data().get(system, {}).get(part, {}), release))


def packages_of(part: str) -> list[str]:
    """
    Return the packages that bring a part, of every distribution and release.

    + part: as in ``packages_for``

    ```
    >>> packages_of("docker")
    ['docker', 'docker-cli', 'docker.io', 'moby-engine']
    ```
    """

    spans = (table.get(part, {}) for table in _data().values())
    return sorted({name for span in spans for names in span.values() for name in names})


@cache
def _data() -> dict[str, dict[str, Spans]]:
    path = files("pyinfra_kube.cluster.data") / "packages.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    # A name stands for the packages of that distribution.
    return {name: data[one] if isinstance(one, str) else one for name, one in data.items()}


def find(spans: Mapping[str, Value], release: str) -> Value | None:
    """
    Return the value of a table for a release of a distribution; ``None`` where no span covers it.

    + spans: values by span, such as ``-34`` or ``41-``
    + release: its ``VERSION_ID``; one without a number is a rolling one, newer than all

    ```
    >>> find({"-34": "old", "35-": "new"}, "42")
    'new'
    ```
    """

    number = int(re.sub(r"\D.*", "", release) or 10**9)
    return next((value for span, value in spans.items() if _covers(span, number)), None)


def _brought(spans: Spans, minor: str, given: set[str]) -> bool:
    """Whether given packages bring a part, as any release of the distribution calls them."""

    return any({name.format(minor=minor) for name in names} <= given for names in spans.values())


def _covers(span: str, release: int) -> bool:
    first, dash, last = span.partition("-")
    end = int(last) if last else (release if dash else int(first))
    return int(first or 0) <= release <= end


def _unknown(system: str) -> Problem:
    known = ", ".join(sorted(_data()))
    allowed = f"True on {known}: what packages {system or 'this system'} has is not known"
    fix = "set it to False, and install the programs yourself; a run names those that are missing"
    return Problem("install_packages", True, None, allowed, fix)


def _missing(part: str, system: str, release: str, spans: Spans, rpm_files: list[str]) -> Problem:
    key, fix = CHOICES.get(part, OTHERWISE)
    ends = [span.partition("-")[2] for span in spans]
    last = f"; the last that did is {max(ends, key=int)}" if ends and all(ends) else ""
    distribution = f"{system or 'this system'} {release}".strip()
    allowed = f"where {part} comes from: {distribution} ships no package of it{last}"
    given = rpm_files or None if key == "rpm_files" else None
    return Problem(key, given, None, allowed, fix)
