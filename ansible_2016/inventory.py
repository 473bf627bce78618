"""
The inventories of the era's Ansible playbooks, read as ours.

In: an inventory in INI form with the groups ``masters``, ``etcd`` and ``nodes``, and the
``group_vars`` and ``host_vars`` beside it or beside the playbook. Out: groups and data as
pyinfra and `ClusterSpec.from_inventory` take them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pyinfra_kube.ansible_2016.hosts import Hosts, parse_hosts
from pyinfra_kube.ansible_2016.variables import (
    ALONE,
    Setting,
    Variables,
    read_text,
    read_variables,
    referenced,
    settings,
)
from pyinfra_kube.cluster.errors import HIDDEN, InputError, Problem, Wrong, refuse
from pyinfra_kube.cluster.networks import first_address
from pyinfra_kube.cluster.spec.aliases import our_name
from pyinfra_kube.cluster.spec.inventory import KEYS
from pyinfra_kube.cluster.spec.values import node_name

# How a value becomes of the type that our key has; what cannot is left for the spec to refuse.


def _as_is(value: object) -> object:
    return value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) else value


def _integer(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _boolean(value: object) -> object:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    return words.get(str(value).lower(), value)


def _words(value: object) -> object:
    return re.findall(r"[^,\s]+", value) if isinstance(value, str) else value


def _flags(value: object) -> object:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(re.match("--?[a-z]", str(word)) for word in words):
        raise Wrong("flags such as --max-pods=50")
    split = [str(word).lstrip("-").partition("=") for word in words]
    return {name: value if equals else True for name, equals, value in split}


def _interface(value: object) -> object:
    if not (match := re.fullmatch(r"--?iface[= ](\S+)", str(value).strip())):
        raise Wrong("-iface=NAME", "leave the others out: flannel_* keys say the rest")
    return match[1]


class Row(NamedTuple):
    """
    One key of ours from variables of theirs.

    + key: ours, or pyinfra's
    + template: over theirs; the row counts where all of them are set
    + convert: to our type
    """

    key: str
    template: str
    convert: Callable[[object], object] = _as_is


# What the playbooks take where nobody says otherwise. Their plays all become root.
DEFAULTS: dict[str, object] = {
    "ansible_become": "{{ ansible_user | default('') != 'root' }}",
    "cluster_name": "cluster.local",
    "dns_domain": "{{ cluster_name }}",
    "flannel_host_prefix": 24,
    "flannel_prefix": 12,
    "flannel_subnet": "172.16.0.0",
    "kube_config_dir": "/etc/kubernetes",
    "kube_cert_dir": "{{ kube_config_dir }}/certs",
    "kube_manifest_dir": "{{ kube_config_dir }}/manifests",
    "kube_master_api_port": 443,
    "kube_service_addresses": "10.254.0.0/16",
    "networking": "flannel",
}

ROWS = (
    Row("cluster_name", "{{ cluster_name }}"),
    Row("kubernetes_version", "{{ kube_version }}", _text),
    Row("cluster_domain", "{{ dns_domain }}"),
    Row("cluster_dns", "{{ dns_server }}"),
    Row("service_cidr", "{{ kube_service_addresses }}"),
    Row("secure_port", "{{ kube_master_api_port }}", _integer),
    Row("insecure_port", "{{ kube_master_insecure_port }}", _integer),
    Row("admission_control", "{{ admission_controllers }}", _words),
    Row("manifest_dir", "{{ kube_manifest_dir }}"),
    Row("kubelet_root", "{{ kubelet_working_dir }}"),
    Row("insecure_registries", "{{ insecure_registrys }}", _words),
    Row("etcd_client_port", "{{ etcd_client_port }}", _integer),
    Row("etcd_peer_port", "{{ etcd_peer_port }}", _integer),
    Row("network", "{{ networking }}"),
    Row("flannel_network", "{{ flannel_subnet }}/{{ flannel_prefix }}"),
    Row("flannel_subnet_len", "{{ flannel_host_prefix }}", _integer),
    Row("flannel_etcd_prefix", "/{{ cluster_name }}/network"),
    Row("flannel_iface", "{{ flannel_options }}", _interface),
    Row("apiserver_flags", "{{ kube_apiserver_additional_options }}", _flags),
    Row("controller_manager_flags", "{{ kube_controller_manager_additional_options }}", _flags),
    Row("scheduler_flags", "{{ kube_scheduler_additional_options }}", _flags),
    Row("kubelet_flags", "{{ kubelet_options }}", _flags),
    Row("kubelet_flags", "{{ kubelet_additional_options }}", _flags),
    Row("proxy_flags", "{{ kube_proxy_options }}", _flags),
    # pyinfra's own
    Row("ssh_hostname", "{{ ansible_host }}"),
    Row("ssh_port", "{{ ansible_port }}", _integer),
    Row("ssh_user", "{{ ansible_user }}"),
    Row("ssh_password", "{{ ansible_password }}", _text),
    Row("ssh_key", "{{ ansible_private_key_file }}"),
    Row("_sudo", "{{ ansible_become }}", _boolean),
    Row("_sudo_user", "{{ ansible_become_user }}"),
    Row("_sudo_password", "{{ ansible_become_password }}", _text),
)

# Variables of the playbooks that have no meaning here, and why.
NOT_USED = {
    r"((kube|docker|etcd|flannel)_)?source_type": "packages are the distribution's; to change "
    "that, set package_source and rpm_files",
    r"kube_(ui|dash)|cluster_(logging|monitoring)|dns_(setup|replicas)|node_problem_detector": (
        "add-ons are not built here"
    ),
    r"ansible_python_interpreter|pypy_version|ansible_temp_dir": "hosts need no Python",
    r"(opencontrail|contiv)_.*": "the network is flannel",
    r"https?_proxy|no_proxy": "proxies are the hosts' own matter",
    r"kube_(config|cert|token|script)_dir|kube_cert_group": "it is always in the same place",
    r"(etcd|flannel)_.*(cert|scheme).*|apiserver_etcd_use_certs": "etcd's TLS is not set from here",
    r"(master_)?cluster_((public_)?hostname|port)": "clients come to control_plane_endpoint",
    r"kube_use_.*_system_container|system_images_.*": "components run from packages",
    r"kube_(apiserver|controller_manager|scheduler)_options": "only what is beside the defaults "
    "is: the variables that end in _additional_options",
}

CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh")
LEFTOVERS = ("~", ".orig", ".bak", ".cfg", ".retry", ".pyc", ".pyo", ".swp")


@dataclass(frozen=True)
class AnsibleInventory:
    """
    An inventory of theirs in our words. Made by `read_inventory`.

    + groups: group → its hosts in order
    + data: host → all its data, defaults of the playbooks included
    + warnings: each variable that is not used, once, and why; what is still to be set
    """

    groups: dict[str, list[str]]
    data: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]

    def as_pyinfra(self) -> dict[str, Any]:
        """
        The groups as a pyinfra inventory file holds them, ``all`` with the data.

        What all hosts share is data of ``all``, so that ``group_data/all.py`` can say otherwise.
        """
        first, *others = self.data.values() or [{}]
        shared = {
            key: value
            for key, value in first.items()
            if all(key in other and other[key] == value for other in others)
        }
        own = [
            (host, {key: value for key, value in data.items() if key not in shared})
            for host, data in self.data.items()
        ]
        return {**self.groups, "all": (own, shared)}


def read_inventory(path: str | Path, playbooks: str | Path | None = None) -> AnsibleInventory:
    """
    Read an Ansible inventory with its variables, in Ansible's order of precedence.

    ``group_vars`` and ``host_vars`` beside the inventory come first; those beside the playbook
    win. Templates over known variables are resolved. A release such as ``1.10`` is read as it is
    written. Keys of ours may stand among the variables (``kubernetes_version``,
    ``control_plane_endpoint`` …) and win over what is made from theirs. The endpoint is the address
    of the first of ``masters``, where one is known.

    + path: the inventory in INI form, or a folder of such files
    + playbooks: the folder of the playbook; by default the one above the inventory's, and
      ``playbooks`` in it

    Raises ``InputError`` with everything that cannot be read: lines, YAML, vaults, templates over
    what is not set (facts of the hosts, for example), another connection than SSH or local.

    ```
    # inventories/mine.py
    from pyinfra_kube.ansible_2016.inventory import read_inventory

    inventory = read_inventory("~/contrib/ansible/inventory/hosts")
    control_plane, etcd, nodes = map(inventory.groups.get, ("masters", "etcd", "nodes"))
    all = inventory.as_pyinfra()["all"]
    ```
    """
    path = Path(path).expanduser()
    home = path if path.is_dir() else path.parent
    above = home.resolve().parent
    beside = [Path(playbooks).expanduser()] if playbooks else [above, above / "playbooks"]
    hosts = parse_hosts(dict(_inventory_files(path)))
    variables = _variables(hosts, str(path), [home, *beside])
    ours, problems = _translate(variables)
    names, more = _pyinfra_names(variables)
    refuse([*problems, *more])
    members = {group: hosts.members(group) for group in hosts.groups if group != "all"}
    groups = {
        group: [names[host] for host in found]
        for group, found in members.items()
        if found or group != "ungrouped"
    }
    order = [*groups.get("masters", ()), *groups.get("etcd", ()), *groups.get("nodes", ())]
    by_name = {names[host]: data for host, data in ours.items()}
    data = {name: by_name[name] for name in dict.fromkeys([*order, *by_name])}
    in_use = {name for members in groups.values() for name in members}
    used = [(host, name) for host, name in names.items() if name in in_use]
    renamed = [line for host, name in used for line in _set_node_name(host, data[name], name)]
    missing = _set_endpoint(groups.get("masters", []), data, {n: h for h, n in names.items()})
    return AnsibleInventory(groups, data, (*renamed, *missing, *_unused(variables)))


def _inventory_files(path: Path) -> Iterator[tuple[str, str]]:
    folder = path.is_dir()
    files = sorted(path.iterdir()) if folder else [path]
    for file in files:
        leftover = file.name.startswith(".") or file.name.endswith(LEFTOVERS)
        if folder and (leftover or not file.is_file()):
            continue
        text = read_text(file)
        if file.suffix in (".yml", ".yaml", ".json", ".py") or text.startswith("#!"):
            fix = "name the INI file itself" if folder else "write its groups in INI form"
            raise InputError([Problem(str(file), HIDDEN, None, "an inventory in INI form", fix)])
        yield str(file), text


# Variables of each host


def _variables(hosts: Hosts, inventory: str, folders: list[Path]) -> dict[str, Variables]:
    """Each host's variables, merged as Ansible merges them: what comes later wins."""
    files = _Files(folders)
    every: dict[str, Variables] = {}
    members = {group: hosts.members(group) for group in hosts.groups}
    for host, inline in hosts.variables.items():
        groups = hosts.groups_of(host)
        magic = {
            "inventory_hostname": host,
            "inventory_hostname_short": host.split(".")[0],
            "group_names": groups,
            "groups": members,
            "hostvars": every,
        }
        layers = [
            settings(DEFAULTS, ""),
            *(settings(hosts.groups[group].variables, inventory) for group in ("all", *groups)),
            *files.read("group_vars", ["all"]),
            *files.read("group_vars", groups),
            settings(inline, inventory),
            *files.read("host_vars", [host]),
            settings(magic, ""),
        ]
        every[host] = Variables({k: setting for layer in layers for k, setting in layer.items()})
    refuse(files.problems)
    return every


class _Files:
    """The files of variables, each read once."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self.problems: list[Problem] = []
        self._read: dict[tuple[Path, str], list[dict[str, Setting]]] = {}

    def read(self, kind: str, names: Iterable[str]) -> list[dict[str, Setting]]:
        keys = [(folder / kind, name) for folder in self.folders for name in names]
        return [layer for key in keys for layer in self._layers(*key)]

    def _layers(self, folder: Path, name: str) -> list[dict[str, Setting]]:
        if (folder, name) not in self._read:
            try:
                found = [settings(values, str(p)) for p, values in read_variables(folder, name)]
            except InputError as error:
                self.problems += error.problems
                found = []
            self._read[folder, name] = found
        return self._read[folder, name]


# From their words to ours

# Our own keys are of our types, but for what an INI file cannot say.
_CONVERTERS = {
    row.key: row.convert if row.convert not in (_flags, _interface) else _as_is for row in ROWS
}
# What a variable is called that says the same as a key of ours, by that key.
_TWINS = {
    row.key: match[1]
    for row in ROWS
    if row.convert is _CONVERTERS[row.key]
    and (match := ALONE.fullmatch(row.template))
    and match[1] != row.key
}
_OURS = frozenset(KEYS) | _CONVERTERS.keys()


def _translate(
    variables: Mapping[str, Variables],
) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Each host's data, and what of it cannot be read, once."""
    data: dict[str, dict[str, Any]] = {}
    problems: dict[tuple[str, str], Problem] = {}
    for host, known in variables.items():
        ours = _ours(known)
        for key in ours.keys() & _TWINS.keys():
            # Templates of theirs must not go on with what is overridden.
            known.stand_in(_TWINS[key], ours[key])
        data[host] = {}
        rows = [row for row in ROWS if not _is_overridden(row, ours, known)]
        rows += [
            Row(key, f"{{{{ {name} }}}}", _CONVERTERS.get(key, _as_is))
            for key, name in sorted(ours.items())
        ]
        for row in rows:
            try:
                value = _value(row, known)
            except InputError as error:
                problems.update({(p.key, p.allowed): p for p in error.problems})
                continue
            if isinstance(value, dict):
                value = {**data[host].get(row.key, {}), **value}
            if value is not None:
                data[host][row.key] = value
    return data, list(problems.values())


def _ours(known: Variables) -> dict[str, str]:
    """Our keys among a host's variables, with the name that each has there."""
    found = {our_name(name): name for name in known if our_name(name) in _OURS}
    known.used |= {*found.values()}
    return {key: name for key, name in found.items() if known.setting(name).value is not None}


def _is_overridden(row: Row, ours: Mapping[str, str], known: Variables) -> bool:
    """Whether a key of ours says what the row would make of theirs."""
    names = referenced(row.template)
    if row.key in ours:
        known.used |= names
        return True
    # The playbooks' own default is no wish where another range is set.
    unset = all(name in known and not known.setting(name).place for name in names)
    return row.key == "flannel_network" and "cluster_cidr" in ours and unset


def _value(row: Row, known: Variables) -> object:
    """What a row makes of a host's variables; ``None`` where one is not set."""
    names = referenced(row.template)
    if not all(name in known for name in names):
        return None
    value = known.resolve(row.template)
    try:
        return None if value is None else row.convert(value)
    except Wrong as wrong:
        setting = known.setting(min(names))
        key = f"{setting.place}: {setting.spelling}"
        raise InputError([Problem(key, HIDDEN, None, wrong.allowed, wrong.fix)]) from None


def _pyinfra_names(variables: Mapping[str, Variables]) -> tuple[dict[str, str], list[Problem]]:
    """What pyinfra calls each host: its name, or ``@local``."""
    names: dict[str, str] = {}
    problems = []
    for host, known in variables.items():
        connection = str(known.get("ansible_connection", "ssh"))
        local = connection == "local"
        if local and "@local" in names.values():
            allowed = "local for one host: another is this machine already"
            problems.append(Problem("ansible_connection", connection, host, allowed))
        elif not local and connection not in CONNECTIONS:
            allowed = f"local, {', '.join(CONNECTIONS)}"
            problems.append(Problem("ansible_connection", connection, host, allowed))
        names[host] = "@local" if local else host
    return names, problems


def _set_node_name(host: str, data: dict[str, Any], name: str) -> list[str]:
    """Give a host the name of its node, where that is not what pyinfra calls it."""
    wanted = node_name(host)
    if "hostname_override" in data or (host == name == wanted) or not wanted:
        return []
    data["hostname_override"] = wanted
    why = "a node's name has small letters, digits, - and . only"
    return [f"{host}: its node is {wanted}, for {why}"] if host != wanted else []


def _set_endpoint(
    control_plane: list[str], data: Mapping[str, dict[str, Any]], names: Mapping[str, str]
) -> list[str]:
    """Make the first control-plane host's address the endpoint, or say that it is to be set."""
    if not control_plane or any("control_plane_endpoint" in values for values in data.values()):
        return []
    name = control_plane[0]
    address = first_address(data[name].get("address"), data[name].get("ssh_hostname"), name)
    if not address:
        fix = "set its ansible_host to it, or control_plane_endpoint"
        return [f"{names[name]}: its address is not known: {fix}"]
    for values in data.values():
        values["control_plane_endpoint"] = address
    return []


def _unused(variables: Mapping[str, Variables]) -> list[str]:
    """One line for each variable that nothing was made from."""
    used = {name for known in variables.values() for name in known.used}
    lines: dict[str, str] = {}
    for known in variables.values():
        for name in known:
            setting = known.setting(name)
            other = "" if name in used else "nothing here is like it"
            reason = next((w for what, w in NOT_USED.items() if re.fullmatch(what, name)), other)
            if setting.place and reason:
                lines.setdefault(name, f"{setting.place}: {setting.spelling} is not used: {reason}")
    return list(lines.values())
