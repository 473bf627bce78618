"""
Which package of which distribution brings what (S3, S4), read from ``data/packages.json``.

The file says, for each distribution and part, *since which release and until which* (``"-34"``,
``"41-"``, ``"40"``, ``"-"``) which packages bring the part; ``{minor}`` there is the Kubernetes
release line. A release that no span covers ships no such package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from pyinfra_kube.cluster.errors import InputError, Problem

Spans = dict[str, list[str]]

# What can be set where a distribution does not ship a part: (setting, what to do).
CHOICES = {
    "control-plane": ("rpm_files", "give RPM files or URLs, or use the scratch path"),
    "node": ("rpm_files", "give RPM files or URLs, or use the scratch path"),
    "client": ("kubernetes_source", "give a release's folder or URL"),
    "flannel": (
        "flannel_source",
        "give the folder or URL of a flannel release, or a flannel RPM in rpm_files",
    ),
}
OTHERWISE = ("rpm_files", "give RPM files or URLs")


def packages_for(
    parts: Iterable[str], system: str, release: str, kubernetes_version: str
) -> list[str]:
    """
    Give the packages that bring parts, each once, in the order of the parts.

    + parts: of ``control-plane``, ``node``, ``client``, ``etcd``, ``flannel``, ``docker``,
      ``containerd``, ``cni``, ``network-tools``, ``bridge-tools``
    + system: the distribution's ``ID`` as its os-release has it, as ``fedora``
    + release: its ``VERSION_ID``, as ``42``
    + kubernetes_version: the Kubernetes release, as ``1.31.4``

    Raises ``InputError`` with every part that the distribution does not ship, and the choices
    left.

    ```
    >>> packages_for(["node", "docker"], "fedora", "24", "1.2.0")
    ['kubernetes-node', 'docker']
    >>> packages_for(["node", "containerd"], "fedora", "42", "1.33.6")
    ['kubernetes1.33', 'kubernetes1.33-systemd', 'containerd']
    ```
    """

    table = _data().get(system, {})
    minor = ".".join(kubernetes_version.split(".")[:2])
    names: list[str] = []
    problems: list[Problem] = []
    for part in parts:
        found = _find(table.get(part, {}), release)
        names += [name.format(minor=minor) for name in found]
        problems += [] if found else [_missing(part, system, release, table.get(part, {}))]
    if problems:
        raise InputError(problems)
    return list(dict.fromkeys(names))


@cache
def _data() -> dict[str, dict[str, Spans]]:
    path = files("pyinfra_kube.cluster.data") / "packages.json"
    data: dict[str, dict[str, Spans]] = json.loads(path.read_text(encoding="utf-8"))
    return data


def _find(spans: Spans, release: str) -> list[str]:
    # A release without a number is a rolling one: newer than all.
    number = int(re.sub(r"\D.*", "", release) or 10**9)
    return next((names for span, names in spans.items() if _covers(span, number)), [])


def _covers(span: str, release: int) -> bool:
    first, dash, last = span.partition("-")
    end = int(last) if last else (release if dash else int(first))
    return int(first or 0) <= release <= end


def _missing(part: str, system: str, release: str, spans: Spans) -> Problem:
    key, fix = CHOICES.get(part, OTHERWISE)
    ends = [span.partition("-")[2] for span in spans]
    last = f"; the last that did is {max(ends, key=int)}" if ends and all(ends) else ""
    distribution = f"{system or 'this system'} {release}".strip()
    allowed = f"where {part} comes from: {distribution} ships no package of it{last}"
    return Problem(key, None, None, allowed, fix)
