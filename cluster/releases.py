"""
What each Kubernetes release takes and needs, read from ``data/``.

All say *since when and until when* (``"1.2-1.7"``, ``"1.10-"``, ``"1.2-1.5,1.10-"``), so a new
release is new data. ``flags.json`` has one line a flag: where it exists (``in``), from when it is
deprecated, what replaces it (``instead``), and which values it takes where not every one
(``values``), and from when the component does not read it beside its configuration file
(``unread``). etcd's flags count in etcd's own releases. ``other_flags.json`` names all further
flags of the releases that it calls ``whole``: there, a flag that neither file knows is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.errors import InputError, Problem

Minor = tuple[int, int]
Value = TypeVar("Value")

CHOICES = {
    "audit": "leave it unset: its policy is for 1.24 and later",
    "dns": "leave it unset: up to 1.18 the API does not take objects as this package sets them",
    "encryption": "leave it unset: an apiserver encrypts nothing in etcd before 1.13",
    "apiserver_approach": 'use "https": from 1.20 on an apiserver has no port without TLS',
    "basic_auth": "leave it unset: from 1.19 on an apiserver takes no passwords",
    "bridge_approach": 'use "manual": from 1.24 on no kubelet sets up a bridge',
    "certificate_signing": "leave it unset: up to 1.23 no host holds the CA's key",
    "cloud_provider": "leave it unset for bare metal and local machines",
    "container_runtime": "leave it unset for docker up to 1.23, from 1.24 on containerd or CRI-O",
    "flannel_store": "leave it unset: from 1.24 on flannel can have its network in the API",
    "hyperkube": "leave it unset: each component has an image of its own",
    "metrics_server": "leave it unset: up to 1.20 no apiserver applies an APIService",
    "network_policies": "leave it unset: what enforces them was tried from 1.24 on",
    "node_local_dns": "leave it unset: a cache of each node was tried from 1.24 on",
    "network": "a kubelet up to 1.23 that runs docker needs a network of ours",
    "log_to_host": "leave it unset: from 1.26 on components write to stderr only",
    "proxy_mode": "leave it unset: kube-proxy has ipvs from 1.8 on, and nftables from 1.29 on",
}
"""Settings of which a release takes only the values that its data lists, and the way out."""


def minor_of(version: str) -> Minor:
    """
    Give the release line of a version.

    + version: such as ``"1.20.2"`` or ``"3.4.13-0"``

    ```
    >>> minor_of("3.4.13-0")
    (3, 4)
    ```
    """
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


@cache
def covers(spans: str, minor: Minor) -> bool:
    """
    Tell whether a release line lies within spans.

    + spans: such as ``"1.2-1.7"``, ``"1.20"``, ``"1.10-"`` or several with commas between
    + minor: the release line, as ``minor_of`` gives it

    ```
    >>> covers("1.2-1.5,1.10-", (1, 6))
    False
    ```
    """
    for span in filter(None, spans.split(",")):
        first, dash, last = span.partition("-")
        end = minor_of(last) if last else (minor if dash else minor_of(first))
        if minor_of(first) <= minor <= end:
            return True
    return False


def value_at(values: Mapping[str, Value], minor: Minor) -> Value | None:
    """
    Give the value of a table for a release line; ``None`` where no span of it covers the line.

    + values: spans → value
    + minor: the release line

    ```
    >>> value_at({"1.2-1.6": 10249, "1.7-": 10256}, (1, 20))
    10256
    ```
    """
    return next((value for spans, value in values.items() if covers(spans, minor)), None)


def flags_setting(component: str) -> str:
    """
    Give the setting of the inventory that holds the extra flags of a component.

    + component: such as "kube-proxy"

    ```
    >>> flags_setting("kube-proxy")
    'proxy_flags'
    ```
    """
    return f"{component.removeprefix('kube-').replace('-', '_')}_flags"


def configuration_setting(component: str) -> str:
    """
    Give the setting of the inventory that holds more fields of a component's configuration file.

    + component: such as "kube-proxy"

    ```
    >>> configuration_setting("kube-proxy")
    'proxy_configuration'
    ```
    """
    return f"{flags_setting(component).removesuffix('_flags')}_configuration"


def newest_patch(line: str) -> str | None:
    """
    Give the newest version that is known of a release line; ``None`` for an unknown line.

    + line: such as ``"1.20"``

    ```
    >>> newest_patch("1.20")
    '1.20.15'
    ```
    """
    return f"{line}.{table('releases')['newest_patch'][line]}" if line in known_releases() else None


def newest_etcd(line: str) -> str | None:
    """
    Give the newest etcd of a line that a release came with; ``None`` for a line of which none did.

    + line: such as ``"3.5"``

    ```
    >>> newest_etcd("3.5")
    '3.5.24'
    ```
    """
    versions = table("releases")["etcd_version"].values()
    found = [one.partition("-")[0] for one in versions if one.rpartition(".")[0] == line]
    return max(found, key=lambda one: int(one.rpartition(".")[2]), default=None)


def known_releases() -> tuple[str, ...]:
    """Give the release lines that have data, oldest first: ``("1.2", … "1.37")``."""
    return _lines_of(",".join(table("releases")["etcd_version"]))


@cache
def _lines_of(spans: str) -> tuple[str, ...]:
    lines = [minor_of(line) for line in re.findall(r"\d+\.\d+", spans)]
    major, first, last = lines[0][0], min(lines)[1], max(lines)[1]
    return tuple(f"{major}.{minor}" for minor in range(first, last + 1))


@dataclass(frozen=True)
class Release:
    """
    One release of Kubernetes. Make it with ``Release.of``.

    + version: without a leading "v"; only ``"1.37"`` where any patch will do

    ```
    release = Release.of("1.20.2")
    release.etcd_version  # 3.4.13-0
    release.has_flag("kubelet", "configure-cbr0")  # False
    ```
    """

    version: str

    @classmethod
    def of(cls, version: str) -> Release:
        """
        Give the release of a version.

        + version: all three numbers, or two for any patch; a leading "v" is left out

        Raises ``InputError`` for a text that is no version and for a release without data.
        """
        known = known_releases()
        match = re.fullmatch(r"v?(\d+\.\d+)(\.\d+)?((?:-[0-9A-Za-z.]+)?)", str(version))
        if match and match[1] in known and (match[2] or not match[3]):
            return cls(str(version).removeprefix("v"))
        raise InputError([_unknown_release(version, match, known)])

    @property
    def minor(self) -> Minor:
        """The release line: ``(1, 20)``."""
        return minor_of(self.version)

    @property
    def is_whole(self) -> bool:
        """Whether the version names a patch."""
        return self.version.count(".") > 1

    def fact(self, name: str) -> Any:
        """
        Give what ``data/releases.json`` says of a name for this release.

        + name: such as ``"registry"``
        """
        return value_at(table("releases")[name], self.minor)

    # Software

    @property
    def etcd_version(self) -> str:
        """The etcd that the release names."""
        return str(self.fact("etcd_version"))

    @property
    def api_storage(self) -> str:
        """The etcd API in which the apiserver keeps its objects: "etcd2" or "etcd3"."""
        return str(self.fact("api_storage"))

    @property
    def container_runtime(self) -> str:
        """What runs its containers when nothing is chosen: "docker", or "containerd" from 1.24."""
        return str(self.fact("container_runtime")[0])

    @property
    def docker_versions(self) -> list[str]:
        """The docker versions that it was tried with; none where it needs a CRI runtime."""
        return list(self.fact("docker_versions"))

    # Settings

    @property
    def admission_control(self) -> list[str]:
        """The recommended admission plugins, in order."""
        return list(self.fact("admission_control"))

    @property
    def authorization_mode(self) -> str:
        """The authorization mode when none is chosen."""
        return str(self.fact("authorization_mode"))

    @property
    def kubelet_bridge(self) -> str | None:
        """How the kubelet sets up cbr0: "configure-cbr0", "kubenet", or ``None`` when it cannot."""
        value = self.fact("kubelet_bridge")
        return str(value) if value else None

    # Checks

    def has_flag(self, component: str, flag: str, etcd_version: str | None = None) -> bool:
        """
        Tell whether a component is known to take a flag, and to heed it.

        + component: such as "kubelet"
        + flag: without leading dashes
        + etcd_version: for the component "etcd"; by default the one that the release names
        """
        row, line = table("flags")[component].get(flag), self.line_of(component, etcd_version)
        return bool(row and covers(row["in"], line) and not covers(row.get("unread", ""), line))

    def check_flags(
        self,
        component: str,
        flags: Mapping[str, object] | Iterable[str],
        etcd_version: str | None = None,
    ) -> list[Problem]:
        """
        Name each flag, and each value, that a component of this release refuses.

        + component: such as "kubelet"
        + flags: names without leading dashes, or names with values
        + etcd_version: for the component "etcd"; by default the one that the release names

        A flag of which nothing is known passes in releases whose list of flags is not whole.

        ```
        >>> print(*Release.of("1.8.0").check_flags("kubelet", ["api-servers"]))
        kubelet_flags = 'api-servers'; allowed: a flag of kubelet 1.8; fix: use --kubeconfig, …
        ```
        """
        line = self.line_of(component, etcd_version)
        values = flags if isinstance(flags, Mapping) else dict.fromkeys(flags)
        checks = (_check_flag(component, flag, value, line) for flag, value in values.items())
        return [problem for problem in checks if problem]

    def check_settings(self, settings: Mapping[str, object]) -> list[Problem]:
        """
        Name each setting of a cluster that this release cannot do.

        + settings: the spec's fields by name; those that are missing or ``None`` are not looked at

        ```
        >>> print(*Release.of("1.20.2").check_settings({"apiserver_approach": "http"}))
        apiserver_approach = 'http'; allowed: https (Kubernetes 1.20); fix: use "https": …
        ```
        """
        problems = [
            _not_allowed(key, settings[key], self.fact(key), self, fix)
            for key, fix in CHOICES.items()
            if settings.get(key) is not None and settings[key] not in self.fact(key)
        ]
        problems += self._check_modes(settings)
        etcd = settings.get("etcd_version")
        for component in table("flags"):
            extra = settings.get(flags_setting(component))
            if isinstance(extra, Mapping):
                problems += self.check_flags(component, extra, str(etcd) if etcd else None)
        return problems

    def _check_modes(self, settings: Mapping[str, object]) -> list[Problem]:
        mode = str(settings.get("authorization_mode") or self.authorization_mode)
        modes, known = set(mode.split(",")), self.fact("authorization_modes")
        if not modes <= set(known):
            return [_not_allowed("authorization_mode", mode, known, self)]
        per_node = settings.get("credential_policy") == "per_node"
        refused = "RBAC" in modes and not modes & {"Node", "AlwaysAllow"}
        if per_node and refused and self.fact("nodes_need_node_mode"):
            allowed = "Node too, for credential_policy is per_node"
            fix = f'write "Node,{mode}"'
            return [Problem("authorization_mode", mode, None, allowed, fix)]
        return []

    def line_of(self, component: str, etcd_version: str | None = None) -> Minor:
        """
        Give the release line that a component's flags count in; etcd has its own.

        + component: such as "kubelet"
        + etcd_version: for the component "etcd"; by default the one that the release names
        """
        return minor_of(etcd_version or self.etcd_version) if component == "etcd" else self.minor


def _check_flag(component: str, flag: str, value: object, line: Minor) -> Problem | None:
    row = table("flags")[component].get(flag)
    if row is None:
        return _unknown_flag(component, flag, line)
    key, release = flags_setting(component), f"{component} {_dotted(line)}"
    if not covers(row["in"], line):
        return Problem(key, flag, None, f"a flag of {release}", _instead(row))
    if covers(row.get("unread", ""), line):
        allowed = f"a flag that {release} reads beside its configuration file"
        fix = f"{_instead(row)}, by {configuration_setting(component)}"
        return Problem(key, flag, None, allowed, fix)
    takes = value_at(row.get("values", {}), line)
    if value is not None and takes is not None and str(value) not in takes:
        words = ", ".join(word or '""' for word in takes)
        allowed = f"{flag}: {words} ({release})"
        return Problem(key, f"{flag}={value}", None, allowed, _instead(row))
    return None


def _instead(row: Mapping[str, Any]) -> str:
    if "instead" in row:
        return f"use {row['instead']}"
    return f"leave it out; it exists in {row['in']}" if row["in"] else "leave it out"


def _unknown_flag(component: str, flag: str, line: Minor) -> Problem | None:
    others = table("other_flags")
    if component not in others["flags"] or not covers(str(others["whole"]), line):
        return None
    rows = others["flags"][component].items()
    known = [name for spans, names in rows if covers(spans, line) for name in names.split()]
    if flag in known:
        return None
    known += [name for name, row in table("flags")[component].items() if covers(row["in"], line)]
    near = difflib.get_close_matches(flag, known, 1)
    fix = f"did you mean {near[0]}?" if near else "leave it out"
    allowed = f"a flag of {component} {_dotted(line)}"
    return Problem(flags_setting(component), flag, None, allowed, fix)


def _not_allowed(
    key: str, value: object, allowed: Iterable[object], release: Release, fix: str | None = None
) -> Problem:
    words = ", ".join(str(word) for word in allowed)
    return Problem(key, value, None, f"{words} (Kubernetes {_dotted(release.minor)})", fix)


def _dotted(minor: Minor) -> str:
    return f"{minor[0]}.{minor[1]}"


def _unknown_release(version: object, match: re.Match[str] | None, known: Sequence[str]) -> Problem:
    allowed = f'a release of {known[0]} … {known[-1]} with all three numbers, such as "1.37.2"'
    if match and match[1] in known:
        newest = f'write "{newest_patch(match[1])}"'
        return Problem("kubernetes_version", version, None, allowed, newest)
    fix = None
    if match:
        _, minor = minor_of(match[1])
        near = sorted(known, key=lambda line: abs(minor_of(line)[1] - minor))[:2]
        fix = f"nearest known: {', '.join(sorted(near, key=minor_of))}"
    return Problem("kubernetes_version", version, None, allowed, fix)
