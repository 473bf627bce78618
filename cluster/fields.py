"""
Which fields the configuration file of a component has in each release, read from ``data/``.

``fields.json`` has one line a field: where it exists (``in``), what its value is (``is``) and which
values it takes where not every one (``values``). A component only logs a field that it does not
know, so names are checked here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.releases import (
    Release,
    configuration_setting,
    covers,
    flags_setting,
    value_at,
)

KINDS = {
    "kubelet": "KubeletConfiguration",
    "kube-proxy": "KubeProxyConfiguration",
    "kube-scheduler": "KubeSchedulerConfiguration",
}
"""The components that have a configuration file, from 1.24 on, and what it is called."""

_ALLOWED = {
    "bool": "True or False",
    "duration": 'a duration, such as "30s"',
    "int": "a whole number",
    "list": "a list",
    "map": "a dictionary",
    "number": "a number",
    "text": "text in quotes",
}
_TYPES = {
    "bool": (bool,),
    "duration": (str,),
    "int": (int,),
    "list": (list, tuple),
    "map": (Mapping,),
    "number": (int, float),
    "text": (str,),
}
_DURATION = re.compile(r"-?(\d+(\.\d+)?(h|m|s|ms|us|ns))+|0")


def has_file(component: str, release: Release) -> bool:
    """
    Tell whether a component of a release has a configuration file here.

    + component: such as "kubelet"
    + release: the Kubernetes release
    """
    return component in KINDS and bool(release.fact("configuration_files"))


def check_settings(settings: Mapping[str, object], release: Release) -> list[Problem]:
    """
    Name each field of a cluster's settings that its release cannot have.

    + settings: the spec's fields by name
    + release: the Kubernetes release
    """
    return [
        problem
        for component in KINDS
        if (content := settings.get(configuration_setting(component)))
        and isinstance(content, Mapping)
        for problem in check_fields(component, content, release)
    ]


def check_fields(component: str, content: Mapping[str, Any], release: Release) -> list[Problem]:
    """
    Name each field of a configuration file that a component does not know, and each wrong value.

    + component: such as "kubelet"
    + content: of the file, without ``apiVersion`` and ``kind``
    + release: the Kubernetes release

    ```
    >>> print(*check_fields("kubelet", {"failCgroupv1": False}, Release.of("1.37.2")))
    kubelet_configuration = 'failCgroupv1'; allowed: …; fix: did you mean failCgroupV1?
    ```
    """
    if not has_file(component, release):
        allowed = f"nothing: {component} {release.version} takes flags here"
        fix = f"use {flags_setting(component)}"
        return [Problem(configuration_setting(component), dict(content), None, allowed, fix)]
    checks = (
        _check(component, path, value, release) for path, value in _fields(component, content)
    )
    return [problem for problem in checks if problem]


def _fields(
    component: str, content: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, object]]:
    """Each field with its path, down to where the table ends."""
    for key, value in content.items():
        # A key with a dot is no path.
        path = f"{above}{key}" if str(key).isalnum() else f"{above}{key!r}"
        yield path, value
        if isinstance(value, Mapping) and _is_group(component, f"{path}."):
            yield from _fields(component, value, f"{path}.")
        elif isinstance(value, (list, tuple)) and _is_group(component, f"{path}[]."):
            for item in value:
                if isinstance(item, Mapping):
                    yield from _fields(component, item, f"{path}[].")


def _is_group(component: str, start: str) -> bool:
    return any(path.startswith(start) for path in table("fields")[component])


def _check(component: str, path: str, value: object, release: Release) -> Problem | None:
    key, row = configuration_setting(component), table("fields")[component].get(path)
    if row is None and _is_group(component, f"{path}."):
        return None if isinstance(value, Mapping) else _wrong(key, path, value, "a dictionary")
    if row is None or not covers(row["in"], release.minor):
        allowed = f"a field of {KINDS[component]} in Kubernetes {release.version}"
        return Problem(key, path, None, allowed, _way_out(component, path, row, release))
    kind = row["is"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        return _wrong(key, path, value, _ALLOWED[kind])
    if kind == "duration" and not _DURATION.fullmatch(str(value)):
        return _wrong(key, path, value, _ALLOWED[kind])
    takes = value_at(row.get("values", {}), release.minor)
    return _wrong(key, path, value, ", ".join(takes)) if takes and value not in takes else None


def _wrong(key: str, path: str, value: object, allowed: str) -> Problem:
    return Problem(key, {path: value}, None, f"{path}: {allowed}")


def _way_out(component: str, path: str, row: Mapping[str, str] | None, release: Release) -> str:
    if row:
        return f"leave it out; it exists in {row['in']}"
    rows = table("fields")[component].items()
    known = [name for name, row in rows if covers(row["in"], release.minor)]
    if path.replace("'", "") in known:
        return "write a dictionary for each dot in it"
    last = path.rpartition(".")[2]
    near = [name for name in known if name.rpartition(".")[2] == last]
    near = near or difflib.get_close_matches(path, known, 1)
    return f"did you mean {near[0]}?" if near else "leave it out"
