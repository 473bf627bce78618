"""
What a component's rows say for one host: its command line, its configuration file, its probe.

A row is left out where the release is not within its span, where its ``when`` does not hold, and
where a setting that its value names is ``None``. ``data/flags.json`` checks every flag again, so no
component ever meets one that its release does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Any, TypeVar

import yaml

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.components.rows import ALWAYS, Asked, Field, Flag, Probe
from pyinfra_kube.cluster.errors import Problem, refuse
from pyinfra_kube.cluster.fields import check_fields
from pyinfra_kube.cluster.releases import (
    Release,
    configuration_setting,
    covers,
    flags_setting,
    value_at,
)
from pyinfra_kube.cluster.spec import ClusterSpec

AnyRow = TypeVar("AnyRow", Flag, Field, Probe)
ValueRow = TypeVar("ValueRow", Flag, Field)
_HEAD = ("apiVersion", "kind")

# Settings that one component alone reads: a flag of its own may say otherwise.
_OF_ONE = {
    "admission_control",
    "authorization_mode",
    "cloud_config",
    "cloud_provider",
    "log_level",
    "max_pods",
}
_SETTINGS = ClusterSpec.model_fields.keys() - _OF_ONE


def command_line(
    component: str,
    release: Release,
    context: Mapping[str, object],
    extra: Mapping[str, object] = ALWAYS,
) -> list[str]:
    """
    Give a component's flags, "--flag=value" each, always in the same order.

    + component: a key of ``COMPONENTS``
    + release: the Kubernetes release
    + context: the settings that the component's rows name, as ``row_settings.settings`` gives them
    + extra: flags without leading dashes; one that a row has too takes the row's place, the others
      follow by name

    Raises ``InputError`` with every flag that the release does not have, and what replaces it, and
    with every one that a setting gives otherwise.

    ```
    >>> command_line("kube-proxy", Release.of("1.3.10"), context, {"masquerade-all": True})
    ['--kubeconfig=/var/lib/kube-proxy/kubeconfig', … '--masquerade-all=true']
    ```
    """
    rows = (row for row in COMPONENTS[component].rows if isinstance(row, Flag))
    own = {
        row.name: _fill(row.value, context)
        for row in holding(rows, component, release, context)
        if _is_set(row.value, context)
    }
    flags = {**own, **{flag: _text(extra[flag]) for flag in sorted(extra)}}
    refuse(
        [
            *release.check_flags(component, flags, str(context["etcd_version"])),
            *_of_settings(component, Flag, flags_setting(component), flags, release, context),
        ]
    )
    return [f"--{flag}={value}" for flag, value in flags.items()]


def configuration(
    component: str,
    release: Release,
    context: Mapping[str, object],
    extra: Mapping[str, Any] = ALWAYS,
) -> dict[str, Any]:
    """
    Give the content of a component's configuration file; empty where the release takes flags only.

    + component: a key of ``COMPONENTS``
    + release: the Kubernetes release
    + context: as for ``command_line``
    + extra: more fields, nested as in the file; one that a row has too takes its place, and of a
      dictionary each key by itself

    Raises ``InputError`` with every field that the release does not have, and with every one that
    a setting gives otherwise.

    ```
    >>> rows = (Field("port", 10250), Field("authentication.anonymous.enabled", False))
    >>> configuration("kubelet", release, context)  # of a kubelet with these rows
    {'port': 10250, 'authentication': {'anonymous': {'enabled': False}}}
    ```
    """
    content: dict[str, Any] = {}
    context = {**context, **ports(component, release)}
    rows = (row for row in COMPONENTS[component].rows if isinstance(row, Field))
    for row in holding(rows, component, release, context):
        if not isinstance(row.value, str) or _is_set(row.value, context):
            *parents, name = row.name.split(".")
            place = content
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = _typed(row.value, context)
    given = _merged({key: content[key] for key in content if key not in _HEAD}, extra)
    refuse(check_fields(component, given, release) if given else ())
    key = configuration_setting(component)
    refuse(_of_settings(component, Field, key, dict(_flat(extra)), release, context))
    return {**content, **given}


def configuration_text(
    component: str,
    release: Release,
    context: Mapping[str, object],
    extra: Mapping[str, Any] = ALWAYS,
) -> str:
    """
    Give a component's configuration file; empty where the release takes flags only.

    + component, release, context, extra: as for ``configuration``
    """
    content = configuration(component, release, context, extra)
    return str(yaml.safe_dump(content, sort_keys=False, width=10**6)) if content else ""


def probes(component: str, release: Release, context: Mapping[str, object]) -> dict[Asked, Probe]:
    """
    Give how a component is asked whether it lives, is ready and has started, filled in.

    + component: a key of ``COMPONENTS``
    + release: the Kubernetes release
    + context: as for ``command_line``

    ```
    >>> list(probes("kube-apiserver", Release.of("1.37.2"), context))
    ['liveness', 'readiness', 'startup']
    ```
    """
    context = {**context, **ports(component, release)}
    rows = holding(COMPONENTS[component].probes, component, release, context)
    return {
        row.asked: row._replace(host=_fill(row.host, context), port=_fill(row.port, context))
        for row in rows
    }


def probe(component: str, release: Release, context: Mapping[str, object]) -> Probe:
    """
    Give how a component is asked whether it lives, filled in.

    + component: a key of ``COMPONENTS``
    + release: the Kubernetes release
    + context: as for ``command_line``

    ```
    >>> probe("kube-apiserver", Release.of("1.3.10"), context)[:4]
    ('HTTP', '127.0.0.1', '8080', '/healthz')
    ```
    """
    return probes(component, release, context)["liveness"]


def ports(component: str, release: Release) -> dict[str, int]:
    """
    Give the open ports of a component that no setting names.

    + component: a key of ``COMPONENTS``
    + release: the Kubernetes release

    ```
    >>> ports("kube-proxy", Release.of("1.20.2"))
    {'healthz_port': 10256, 'metrics_port': 10249}
    ```
    """
    found = {
        name: value_at(spans, release.minor) for name, spans in COMPONENTS[component].ports.items()
    }
    return {name: port for name, port in found.items() if port is not None}


def named_files(flags: Iterable[str], paths: Iterable[str]) -> list[str]:
    """
    Give those of some files that a command line names: what its component reads when it starts.

    + flags: "--flag=value" each
    + paths: the files

    ```
    >>> named_files(["--root-ca-file=/srv/kubernetes/ca.crt"], ["/srv/kubernetes/ca.crt", "/x"])
    ['/srv/kubernetes/ca.crt']
    ```
    """
    values = {flag.partition("=")[2] for flag in flags}
    return [path for path in paths if path in values]


def reread_files(component: str, release: Release, context: Mapping[str, object]) -> frozenset[str]:
    """
    Give the files that a component reads again by itself when they change.

    + component: a key of ``COMPONENTS``
    + release: the Kubernetes release
    + context: as for ``command_line``

    ```
    >>> "/srv/kubernetes/server.crt" in reread_files("kube-apiserver", release, context)
    True
    ```
    """
    line = release.line_of(component, str(context["etcd_version"]))
    rows = COMPONENTS[component].rows
    flags = (row for row in rows if isinstance(row, Flag))
    fields = (row for row in rows if isinstance(row, Field))
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for row in holding(flags, component, release, context):
        found[covers(row.rereads, line)].add(row.value)
    for one in holding(fields, component, release, context):
        found[covers(one.rereads, line)].add(str(one.value))
    return frozenset(found[True] - found[False])


def holding(
    rows: Iterable[AnyRow], component: str, release: Release, context: Mapping[str, object]
) -> Iterator[AnyRow]:
    """
    Give the rows that hold for a release and settings.

    + rows: of one component
    + component: its name
    + release: the Kubernetes release
    + context: as for ``command_line``
    """
    line = release.line_of(component, str(context["etcd_version"]))
    for row in rows:
        if covers(row.releases, line) and all(context[k] == row.when[k] for k in row.when):
            yield row


def _of_settings(
    component: str,
    kind: type[ValueRow],
    key: str,
    given: Mapping[str, object],
    release: Release,
    context: Mapping[str, object],
) -> Iterator[Problem]:
    """Name what a setting gives already: other parts of the cluster follow the setting alone."""

    rows = (row for row in COMPONENTS[component].rows if isinstance(row, kind))
    for row in holding(rows, component, release, context):
        setting = str(row.value)[1:-1]
        if row.value != f"{{{setting}}}" or setting not in _SETTINGS or row.name not in given:
            continue
        own, value = context[setting], given[row.name]
        if own is not None and _text(value) != _text(own):
            where = f"{key}.{row.name}"
            yield Problem(where, value, None, f"{_text(own)}, as {setting} says", f"set {setting}")


def _flat(fields: Mapping[str, Any], parents: str = "") -> Iterator[tuple[str, object]]:
    """Fields by their whole names, such as ``authentication.anonymous.enabled``."""

    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{parents}{name}.")
        else:
            yield f"{parents}{name}", value


def _names(value: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(value) if name]


def _is_set(value: str, context: Mapping[str, object]) -> bool:
    return all(context[name] is not None for name in _names(value))


def _merged(own: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**own, **extra}
    for key in own.keys() & extra.keys():
        if isinstance(own[key], Mapping) and isinstance(extra[key], Mapping):
            merged[key] = _merged(own[key], extra[key])
    return merged


def _typed(value: object, context: Mapping[str, object]) -> object:
    """A value as YAML has it: text that is one setting alone keeps the setting's own type."""
    if isinstance(value, list):
        return [_typed(item, context) for item in value]
    if not isinstance(value, str):
        return value
    alone = value.removeprefix("{").removesuffix("}")
    return context[alone] if _names(value) == [alone] else _fill(value, context)


def _fill(value: str, context: Mapping[str, object]) -> str:
    return value.format_map({name: _text(context[name]) for name in _names(value)})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_text(item) for item in value)
    return str(value)
