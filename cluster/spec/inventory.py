"""From an inventory's groups and data to fields, with everything that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.errors import HIDDEN, Problem
from pyinfra_kube.cluster.networks import first_address
from pyinfra_kube.cluster.releases import minor_of, value_at
from pyinfra_kube.cluster.spec.aliases import GROUPS, OTHER_KEYS, our_name, our_value
from pyinfra_kube.cluster.spec.base import BaseSpec
from pyinfra_kube.cluster.spec.host import CONTROL_PLANE_ROLE, HostSpec
from pyinfra_kube.cluster.spec.problems import nearest, problems_of

Groups = Mapping[str, Sequence[str]]
Data = Mapping[str, Mapping[str, Any]]
Spec = TypeVar("Spec", bound=BaseSpec)

CLUSTER_KEYS = frozenset(BaseSpec.model_fields) - {"hosts"}
HOST_KEYS = frozenset(HostSpec.model_fields) - {"name", "roles", "control_plane_only"}
KEYS = sorted(CLUSTER_KEYS | HOST_KEYS)
_KNOWN = sorted({*KEYS, *OTHER_KEYS})

ROLES = {"control_plane": "control_plane", "nodes": "node", "etcd": "etcd"}

# Keys that are pyinfra's, or the user's own.
FOREIGN_PREFIXES = ("_", "ssh_", "fake_")
FOREIGN_KEYS = {
    *("docker_identifier", "docker_platform", "docker_architecture"),
    *("sudo", "sudo_user", "sudo_password", "use_sudo_login", "preserve_sudo_env"),
    *("su_user", "use_su_login", "preserve_su_env", "su_shell"),
    *("doas", "doas_user", "shell_executable", "env"),
}


def read(kind: type[Spec], groups: Groups, data: Data) -> tuple[Spec, set[str], list[Problem]]:
    """
    Read an inventory. Gives the spec with defaults for what is wrong, the names of that, and every
    problem.

    + kind: the class of the spec
    + groups: group → its hosts in order
    + data: host → its inventory data
    """
    members, problems = _read_groups(groups)
    names = list(dict.fromkeys(name for group in members.values() for name in group))
    names = names or list(data)
    ours, found = _sort_keys({name: data.get(name, {}) for name in names})
    problems += found
    hosts = []
    for name in names:
        host, found = _read_host(name, members, ours[name], data.get(name, {}))
        hosts.append(host)
        problems += found
    values, found = _one_value_each(ours)
    problems += found
    spec, wrong, found = _read_cluster(kind, values, tuple(hosts))
    if "kubernetes_version" not in wrong and _are_nodes(spec.kubernetes_version):
        spec = spec.model_copy(update={"hosts": tuple(map(_as_node, spec.hosts))})
    return spec, wrong, problems + found


def says_address(data: Mapping[str, Any]) -> bool:
    """
    Whether a host's data gives its address itself, and not only where SSH finds it.

    + data: of one host
    """
    return any(our_name(str(key)) == "address" and value is not None for key, value in data.items())


def _read_groups(groups: Groups) -> tuple[dict[str, list[str]], list[Problem]]:
    """Our groups with their hosts in order, under one name each."""
    members = {
        group: list(dict.fromkeys(host for name in _names(group) for host in groups.get(name, ())))
        for group in GROUPS
    }
    required = ("control_plane", "nodes")
    problems = [_missing_group(group, groups) for group in required if not members[group]]
    fix = "name hosts of the inventory, or leave the group out: the control plane has the members"
    if "etcd" in groups and not members["etcd"]:
        problems.append(Problem("etcd", [], None, "1, 3 or 5 hosts of the inventory", fix))
    members["etcd"] = members["etcd"] or members["control_plane"]
    return {group: members[group] for group in ("control_plane", "etcd", "nodes")}, problems


def _missing_group(group: str, groups: Groups) -> Problem:
    allowed = f"a group with at least one host, here or as {' or '.join(GROUPS[group])}"
    if any(name in groups for name in _names(group)):
        return Problem(group, [], None, allowed)
    near = next(filter(None, (nearest(name, groups) for name in _names(group))), None)
    return Problem(group, None, None, allowed, f"rename the group {near}" if near else None)


def _names(group: str) -> tuple[str, ...]:
    return (group, *GROUPS[group])


def _sort_keys(data: Data) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Our keys of each host under our names; what is neither ours nor anybody's is a problem."""
    own = {key for values in data.values() for key in _strings(values.get("extra_data_keys"))}
    ours: dict[str, dict[str, Any]] = {name: {} for name in data}
    spelled: dict[str, str] = {}
    strange: dict[str, list[str]] = {}
    problems = []
    for name, values in data.items():
        # Python lets anything be a key.
        for raw, value in ((str(key), value) for key, value in values.items()):
            key = our_name(raw)
            if key not in KEYS:
                if raw not in own | FOREIGN_KEYS and not raw.startswith(FOREIGN_PREFIXES):
                    strange.setdefault(raw, []).append(name)
            elif key in ours[name] and not _same(ours[name][key], value):
                allowed = f"one value: it also says {spelled[key]} = {ours[name][key]!r}"
                problems.append(Problem(raw, value, name, allowed))
            else:
                ours[name][key], spelled[key] = value, raw
    for key, names in strange.items():
        host = None if len(names) == len(data) else ", ".join(names)
        near = nearest(our_name(key), _KNOWN)
        meant = f"did you mean {our_name(near)}? " if near else ""
        fix = f"{meant}If it is your own, add it to extra_data_keys"
        problems.append(Problem(key, HIDDEN, host, "a known key", fix))
    return ours, problems


def _read_host(
    name: str, members: Mapping[str, list[str]], ours: Mapping[str, Any], data: Mapping[str, Any]
) -> tuple[HostSpec, list[Problem]]:
    given: dict[str, Any] = {key: value for key, value in ours.items() if key in HOST_KEYS}
    if given.get("hostname_override", ...) is None:
        del given["hostname_override"]
    if given.get("address") is None:
        given["address"] = first_address(data.get("ssh_hostname"), name)
    given["name"] = name
    given["roles"] = frozenset(ROLES[group] for group, hosts in members.items() if name in hosts)
    try:
        return HostSpec.model_validate(given), []
    except ValidationError as error:
        problems = [_with_port(problem, name) for problem in problems_of(error, given, name)]
        wrong = {problem.key.split(".")[0] for problem in problems}
        valid = {key: value for key, value in given.items() if key not in wrong}
        return HostSpec.model_construct(**valid), problems


def _are_nodes(version: str) -> bool:
    """Whether hosts of the control plane are nodes; of an unknown release, others say more."""
    return bool(value_at(table("releases")["control_plane_nodes"], minor_of(version)))


def _as_node(host: HostSpec) -> HostSpec:
    """A host of the control plane as a node with that role."""
    if "control_plane" not in host.roles:
        return host
    update = {
        "roles": host.roles | {"node"},
        "control_plane_only": "node" not in host.roles,
        "node_labels": {CONTROL_PLANE_ROLE: "", **host.node_labels},
    }
    return host.model_copy(update=update)


def _with_port(problem: Problem, name: str) -> Problem:
    """The way out for a host that is named by its address and port."""
    match = re.fullmatch(r"([^:]+):(\d+)", name)
    if not match or (problem.key, problem.value) != ("hostname_override", name):
        return problem
    fix = f'name it as you like, with ssh_hostname = "{match[1]}" and ssh_port = {match[2]}'
    return replace(problem, fix=fix)


def _one_value_each(data: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], list[Problem]]:
    """The cluster's keys, each of which has one value wherever it has one."""
    values: dict[str, tuple[str, Any]] = {}
    problems = []
    for name, ours in data.items():
        for key in (key for key in ours if key in CLUSTER_KEYS):
            first, value = values.setdefault(key, (name, ours[key]))
            if not _same(value, ours[key]):
                allowed = f"one value for the whole cluster: {first} has {value!r}"
                problems.append(Problem(key, ours[key], name, allowed))
    return {key: value for key, (_, value) in values.items()}, problems


def _read_cluster(
    kind: type[Spec], values: Mapping[str, Any], hosts: tuple[HostSpec, ...]
) -> tuple[Spec, set[str], list[Problem]]:
    """The spec with defaults for what is wrong, the names of that, and why."""
    given: dict[str, Any] = {key: our_value(key, value) for key, value in values.items()}
    given["hosts"] = hosts
    if given.get("network") == "flannel" and "flannel_network" in given:
        given.setdefault("cluster_cidr", given["flannel_network"])
    try:
        return kind.model_validate(given), set(), []
    except ValidationError as error:
        wrong = {str(detail["loc"][0]) for detail in error.errors()}
        found = problems_of(error, given)
        problems = [p for p in found if p.key.split(".")[0] in values or p.value is None]
        valid = {key: value for key, value in given.items() if key not in wrong}
        return cast(Spec, kind.model_construct(**valid)), wrong, problems


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other
