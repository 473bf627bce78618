"""
Hosts and groups of an Ansible inventory in INI form: ranges, children, variables.
"""

from __future__ import annotations

import ast
import re
import shlex
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pyinfra_kube.cluster.errors import HIDDEN, InputError, Problem, Wrong

SECTION = re.compile(r"\[(?P<group>[^:\]\s]+)(:(?P<kind>children|vars))?\]\s*([#;].*)?")
HOST = re.compile(r"(?P<pattern>([^:\[\]]|\[[^\]]*\])+)(:(?P<port>\d+))?")
RANGE = re.compile(r"\[(?P<first>\w*):(?P<last>\w+)(:(?P<step>[1-9]\d*))?\]")


@dataclass
class Group:
    """
    One section of the inventory, as it is written.

    + hosts: the hosts of its own
    + children: the groups in it
    + variables: of ``[group:vars]``
    """

    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    variables: dict[str, object] = field(default_factory=dict)


@dataclass
class Hosts:
    """
    An inventory as it is written.

    + groups: by name; ``all`` and ``ungrouped`` are always there
    + variables: host → the variables on its line, every host in order
    """

    groups: dict[str, Group] = field(default_factory=lambda: {"all": Group(), "ungrouped": Group()})
    variables: dict[str, dict[str, object]] = field(default_factory=dict)

    def members(self, group: str) -> list[str]:
        """The hosts of a group and of the groups in it, its own first, in order."""
        if group == "all":
            return list(self.variables)
        if group == "ungrouped":
            return [host for host in self.variables if self.groups_of(host) == [group]]
        section = self.groups[group]
        below = [host for child in section.children for host in self.members(child)]
        return list(dict.fromkeys([*section.hosts, *below]))

    def groups_of(self, host: str) -> list[str]:
        """The groups that a host is in, without ``all``: the outer ones first, then by name."""
        names = [
            name for name in self.groups if name not in IMPLICIT and host in self.members(name)
        ]
        return sorted(names, key=lambda name: (self._depth(name), name)) or ["ungrouped"]

    def _depth(self, group: str) -> int:
        return 1 + max(map(self._depth, self.parents(group)), default=0)

    def parents(self, group: str) -> list[str]:
        """The groups that name this one as their child."""
        return [name for name, other in self.groups.items() if group in other.children]


IMPLICIT = ("all", "ungrouped")


def parse_hosts(files: Mapping[str, str]) -> Hosts:
    """
    Read inventories in INI form as one, as Ansible reads a folder of them.

    + files: name → text, in order

    Raises ``InputError`` with every line that cannot be read, groups that are used and stand
    nowhere, and groups that contain themselves.

    ```
    >>> parse_hosts({"hosts": "[nodes]\\nnode[01:02] ansible_user=fedora"}).members("nodes")
    ["node01", "node02"]
    ```
    """
    hosts = Hosts()
    problems = []
    declared, mentioned = set(IMPLICIT), dict[str, str]()
    for name, text in files.items():
        group, kind = "ungrouped", None
        for place, line in _lines(name, text):
            try:
                if line[0] == "[":
                    group, kind = _read_section(line)
                    hosts.groups.setdefault(group, Group())
                    declared |= set() if kind == "vars" else {group}
                else:
                    _READERS[kind](hosts, group, line)
            except Wrong as wrong:
                problems.append(Problem(place, HIDDEN, None, wrong.allowed, wrong.fix))
                continue
            mentioned.setdefault(group, place)
            for child in hosts.groups[group].children:
                mentioned.setdefault(child, place)
    for group in mentioned.keys() - declared:
        allowed = "a group that stands in the inventory"
        problems.append(Problem(mentioned[group], group, None, allowed, f"add [{group}]"))
    problems = problems or _cycles(hosts)
    if problems:
        raise InputError(problems)
    return hosts


def expand(pattern: str) -> list[str]:
    """
    Every host that a name with ranges stands for, the first range slowest.

    + pattern: such as ``node[01:03].example.com``, ``rack-[a:c]-[1:9:2]``

    Raises ``Wrong`` for a range that is none.
    """
    match = RANGE.search(pattern)
    before = pattern[: match.start()] if match else pattern
    if "[" in before or "]" in before:
        raise Wrong("a range: [1:3], [01:12], [a:c] or [1:9:2]")
    if not match:
        return [pattern]
    after, step = expand(pattern[match.end() :]), int(match["step"] or 1)
    return [before + item + rest for item in _items(match, step) for rest in after]


def literal(text: str) -> object:
    """
    What a text means where Ansible reads it as Python: ``5``, ``True``, ``['a']``, else itself.

    A number with a point stays as it is written: 1.10 is a release, and no 1.1.

    + text: as it stands in the inventory, or comes out of a template
    """
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if value is None or isinstance(value, (str, int, list, dict)) else text


def _items(match: re.Match[str], step: int) -> Iterator[str]:
    first, last = match["first"] or "0", match["last"]
    if first.isdecimal() and last.isdecimal():
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        if width and width != len(last):
            raise Wrong(f"a range {match[0]} with as many digits on both sides")
        found = [str(number).zfill(width) for number in range(int(first), int(last) + 1, step)]
    else:
        letters = string.ascii_letters
        if len(first) != 1 or len(last) != 1 or not {first, last} <= set(letters):
            raise Wrong(f"a range {match[0]} of two numbers or two letters")
        found = list(letters[letters.index(first) : letters.index(last) + 1 : step])
    if not found:
        raise Wrong(f"a range {match[0]} that goes upwards", f"write [{last}:{first}]")
    yield from found


def _lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The lines that say something, each with its place."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and line.strip()[0] not in "#;":
            yield f"{name}:{number}", line.strip()


def _read_section(line: str) -> tuple[str, str | None]:
    if not (match := SECTION.fullmatch(line)):
        raise Wrong("[group], [group:children] or [group:vars]")
    return match["group"], match["kind"]


def _read_host(hosts: Hosts, group: str, line: str) -> None:
    try:
        pattern, *words = shlex.split(line, comments=True)
    except ValueError as error:
        raise Wrong("quotes that close") from error
    if not (match := HOST.fullmatch(pattern)):
        raise Wrong("a host's name or IPv4 address, with :PORT where needed")
    variables = dict(map(_read_variable, words))
    if match["port"]:
        variables.setdefault("ansible_port", int(match["port"]))
    for host in expand(match["pattern"]):
        if host not in hosts.groups[group].hosts:
            hosts.groups[group].hosts.append(host)
        hosts.variables.setdefault(host, {}).update(variables)


def _read_child(hosts: Hosts, group: str, line: str) -> None:
    hosts.groups[group].children.append(line.split()[0])


def _read_group_variable(hosts: Hosts, group: str, line: str) -> None:
    name, value = _read_variable(line)
    hosts.groups[group].variables[name] = value


def _read_variable(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise Wrong("variable=value")
    return name.strip(), literal(value.strip())


_READERS = {None: _read_host, "children": _read_child, "vars": _read_group_variable}


def _cycles(hosts: Hosts) -> list[Problem]:
    for group in hosts.groups:
        inside, new = set[str](), {group}
        while new:
            new = {child for name in new for child in hosts.groups[name].children} - inside
            inside |= new
        if group in inside:
            return [
                Problem(f"[{group}:children]", HIDDEN, None, "groups that are not in themselves")
            ]
    return []
