"""
Variables as Ansible's files hold them: YAML that keeps what is written, templates over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import StrictUndefined, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from netaddr import AddrFormatError, IPNetwork

from pyinfra_kube.ansible_2016.hosts import literal
from pyinfra_kube.cluster.errors import HIDDEN, InputError, Problem

VAULT = "$ANSIBLE_VAULT"
ALONE = re.compile(r"\s*\{\{\s*(\w+)\s*\}\}\s*")
SECRET = re.compile("pass|token|secret|key|vault", re.IGNORECASE)
SUFFIXES = ("", ".yml", ".yaml", ".json")

# Old spellings of one variable. A dash is an underscore everywhere.
ALIASES = {
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
    "ansible_ssh_pass": "ansible_password",
    "ansible_ssh_private_key_file": "ansible_private_key_file",
    "ansible_sudo": "ansible_become",
    "ansible_sudo_user": "ansible_become_user",
    "ansible_sudo_pass": "ansible_become_password",
    "ansible_become_pass": "ansible_become_password",
    "apiserver_extra_args": "kube_apiserver_additional_options",
}


class Setting(NamedTuple):
    """
    A variable with its origin.

    + value: as it is written, templates unresolved
    + place: the file
    + spelling: its name there
    """

    value: object
    place: str
    spelling: str


class _Vault:
    """Stands where a vault's text stood."""


def canonical(name: str) -> str:
    """The one name for all spellings of a variable."""
    name = name.replace("-", "_")
    return ALIASES.get(name, name)


def settings(values: Mapping[str, object], place: str) -> dict[str, Setting]:
    """
    Variables under their canonical names.

    + values: name → value as it is written
    + place: where they stand
    """
    return {canonical(name): Setting(value, place, name) for name, value in values.items()}


def read_variables(folder: Path, name: str) -> Iterator[tuple[Path, dict[str, object]]]:
    """
    Read what a folder says of one group or host, each file with its variables, in rising order.

    Takes the first of ``NAME`` (a file, or a folder of files), ``NAME.yml``, ``NAME.yaml`` and
    ``NAME.json``, as Ansible does.

    + folder: a ``group_vars`` or ``host_vars``; it need not exist
    + name: the group or host

    Raises ``InputError`` for a file that is no YAML, no dictionary or a vault.
    """
    found = next((p for p in (folder / f"{name}{s}" for s in SUFFIXES) if p.exists()), None)
    if found and found.is_dir():
        for path in sorted(found.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(found).parts)
            if path.is_file() and path.suffix in SUFFIXES and not hidden and path.name[-1] != "~":
                yield path, load(path)
    elif found:
        yield found, load(found)


def load(path: Path) -> dict[str, object]:
    """
    Read one file of variables.

    + path: the file

    Raises ``InputError``.
    """
    text = read_text(path)
    if text.startswith(VAULT):
        fix = f"ansible-vault decrypt {path}, or set these values in group_data/all.py instead"
        raise InputError([Problem(str(path), HIDDEN, None, "no vault: its key is not here", fix)])
    try:
        # The loader is SafeLoader with less in it.
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark, why = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        allowed = f"YAML ({why or 'it has characters that YAML has not'})"
        raise InputError([Problem(place, HIDDEN, None, allowed)]) from None
    if not isinstance(values or {}, dict):
        raise InputError([Problem(str(path), HIDDEN, None, "YAML with names and values")])
    return {str(name): value for name, value in (values or {}).items()}


def read_text(path: Path) -> str:
    """
    Read a file as UTF-8.

    + path: the file

    Raises ``InputError``.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        problem = Problem(str(path), HIDDEN, None, f"a file that can be read ({why})")
        raise InputError([problem]) from None


class Variables(Mapping[str, object]):
    """
    The variables of one host, each resolved when it is asked for.

    + settings: canonical name → its setting

    Asking for one that cannot be resolved raises ``InputError``: an undefined variable, a
    template in itself, a vault.

    ```
    >>> Variables(settings({"a": "{{ b }}/24", "b": "10.0.0.0"}, "all.yml"))["a"]
    "10.0.0.0/24"
    ```
    """

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self._settings = settings
        self._trail: list[str] = []
        self.used: set[str] = set()
        """Canonical names of all that were asked for, by templates too."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __contains__(self, name: object) -> bool:
        return canonical(str(name)) in self._settings

    def __getitem__(self, name: str) -> object:
        name = canonical(name)
        setting = self._settings[name]
        self.used.add(name)
        if name in self._trail:
            circle = " → ".join([*self._trail[self._trail.index(name) :], name])
            raise _problem(setting, f"a template that is not in itself ({circle})")
        self._trail.append(name)
        try:
            return self._resolve(setting.value, setting)
        finally:
            self._trail.pop()

    def setting(self, name: str) -> Setting:
        """A variable as it is written; ``KeyError`` if it is not set."""
        return self._settings[canonical(name)]

    def stand_in(self, name: str, other: str) -> None:
        """
        Have one variable say what another does.

        + name: what it is called, set or not
        + other: the variable that wins
        """
        self._settings = {**self._settings, canonical(name): self.setting(other)}
        self.used.add(canonical(name))

    def resolve(self, template: str) -> object:
        """
        What a template of ours over these variables makes.

        + template: Jinja
        """
        return self._resolve(template, Setting(template, "", template))

    def _resolve(self, value: object, setting: Setting) -> object:
        if isinstance(value, _Vault) or (isinstance(value, str) and value.startswith(VAULT)):
            fix = "decrypt it there, or set it in group_data/all.py instead"
            raise _problem(setting, "no vault value: its key is not here", fix)
        if isinstance(value, list):
            return [self._resolve(item, setting) for item in value]
        if isinstance(value, dict):
            return {key: self._resolve(item, setting) for key, item in value.items()}
        if isinstance(value, str) and ("{{" in value or "{%" in value):
            return self._render(value, setting)
        return value

    def _render(self, template: str, setting: Setting) -> object:
        try:
            known = {name: self[name] for name in referenced(template) if name in self}
            # Rendering would lose the type.
            if (match := ALONE.fullmatch(template)) and match[1] in known:
                return known[match[1]]
            return literal(ENVIRONMENT.from_string(template).render(known))
        except InputError:
            raise
        # A template may raise anything.
        except Exception as error:
            why = str(error).partition("\n")[0]
            allowed = f"a template over variables that are set in these files ({why})"
            raise _problem(setting, allowed, "write the value itself") from None


def referenced(template: str) -> set[str]:
    """The variables that a template names."""
    return meta.find_undeclared_variables(ENVIRONMENT.parse(template))


def ipaddr(value: object, query: str | int = "") -> object:
    """
    Ansible's filter: a part of an address or network, or ``False`` where there is none.

    + value: an address, with or without its length
    + query: one of ``IPADDR``, or the number of an address in the network

    Raises ``ValueError`` for another query.
    """
    try:
        network = IPNetwork(str(value))
    except (AddrFormatError, ValueError):
        return False
    if str(query).lstrip("-").isdecimal():
        return f"{network[int(query)]}/{network.prefixlen}"
    if query not in IPADDR:
        raise ValueError(f"ipaddr({query!r}) is not known here")
    return IPADDR[str(query)](network, str(value))


def _is_network(network: IPNetwork) -> bool:
    return bool(network.size > 1 and network.ip == network.network)


IPADDR: dict[str, Any] = {
    "": lambda n, text: text,
    "net": lambda n, _: _is_network(n) and str(n),
    "address": lambda n, _: not _is_network(n) and str(n.ip),
    "host/prefix": lambda n, _: not _is_network(n) and str(n),
    "network": lambda n, _: str(n.network),
    "subnet": lambda n, _: str(n.cidr),
    "network/prefix": lambda n, _: str(n.cidr),
    "prefix": lambda n, _: n.prefixlen,
    "netmask": lambda n, _: str(n.netmask),
    "broadcast": lambda n, _: str(n.broadcast),
    "size": lambda n, _: n.size,
}

ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
ENVIRONMENT.filters["ipaddr"] = ipaddr
ENVIRONMENT.filters["bool"] = lambda value: str(value).lower() in ("true", "yes", "on", "1")


def _problem(setting: Setting, allowed: str, fix: str | None = None) -> InputError:
    shown = isinstance(setting.value, str) and not SECRET.search(setting.spelling + setting.value)
    key = f"{setting.place}: {setting.spelling}" if setting.place else setting.spelling
    return InputError([Problem(key, setting.value if shown else HIDDEN, None, allowed, fix)])


class _Loader(yaml.SafeLoader):
    """Numbers with a point, dates and times stay as they are written: 1.10 is a release."""


def _written(loader: _Loader, node: yaml.ScalarNode) -> object:
    return loader.construct_scalar(node)


_AS_WRITTEN = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _AS_WRITTEN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag in ("!vault", "!vault-encrypted"):
    _Loader.add_constructor(_tag, lambda loader, node: _Vault())
_Loader.add_constructor("!unsafe", _written)
