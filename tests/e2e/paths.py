"""
Paths as a person runs them: pyinfra in a folder with an inventory, what it said, what it did.

    site = Site(folder, {"credential_kind": "certificate"})
    dry = site.run("--dry", "--json")
    run = site.run("-y", "--json")
    assert run.changed == dry.planned
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.e2e import containers
from tests.lab import Lab
from tests.lab.places import KNOWN_HOSTS

REPOSITORY = Path(__file__).resolve().parents[2]

_INVENTORY = """\
from runpy import run_path

_lab = run_path({lab!r})
_own = {own!r}
_there = dict([*_lab["control_plane"][0], *_lab["nodes"][0]])
_hosts = {{
    name: {{**_there.get(name, {{}}), **_own.get(name, {{}})}} for name in {{**_there, **_own}}
}}
_data = {{**_lab["control_plane"][1], **{settings!r}}}
"""
_GROUP = """\
{group} = ([(name, _hosts[name]) for name in {names}], _data)
"""
_GROUPS_OF_LAB = """\
control_plane = ([(name, _hosts[name]) for name, _ in _lab["control_plane"][0]], _data)
nodes = ([(name, _hosts[name]) for name, _ in _lab["nodes"][0]], _data)
"""
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"^ {4}\[(?P<host>[^]]+)\] (?P<text>.*)$", re.M)
_NEW_FILE = re.compile(r"(?P<path>/\S+): absent → file$")


@dataclass(frozen=True)
class Run:
    """What one run of pyinfra said: `out` for machines, `said` for people."""

    code: int
    out: str
    said: str

    @cached_property
    def planned(self) -> set[tuple[str, str]]:
        """Each change that a dry run lists: operation and host."""
        return self._pairs(self._document["plan"], "hosts_with_change")

    @cached_property
    def conditional(self) -> set[tuple[str, str]]:
        """What a dry run cannot tell for sure; nothing should be."""
        return self._pairs(self._document["plan"], "hosts_with_conditional_change")

    @cached_property
    def changed(self) -> set[tuple[str, str]]:
        """Each change that a run made."""
        return self._pairs(self._document["results"]["operations"], "success")

    @cached_property
    def lines(self) -> list[tuple[str, str]]:
        """What was said of a host, line by line."""
        return [(found["host"], found["text"]) for found in _LINE.finditer(self.said)]

    def new_files(self, host: str) -> dict[str, str]:
        """The files that ``--diff`` shows as new on a host, with the text that it shows."""
        texts: dict[str, str] = {}
        path = ""
        for line in (text for name, text in self.lines if name == host):
            if line.startswith("  + ") and path:
                texts[path] += f"{line[4:]}\n"
            elif not line.startswith("  "):
                found = _NEW_FILE.match(line)
                path = found["path"] if found else ""
                texts |= {path: ""} if path else {}
        return texts

    @cached_property
    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document

    @staticmethod
    def _pairs(operations: Iterable[dict[str, Any]], key: str) -> set[tuple[str, str]]:
        # The first part of a name is the path's own.
        return {(o["name"].partition(" | ")[2], host) for o in operations for host in o[key]}


class Site:
    """
    A person's folder with an inventory of the lab's hosts.

    + folder: an empty one
    + settings: data of the inventory, over that of inventories/lab.py
    + groups: group → hosts; by default the control plane and nodes that the lab has at that time
    + own: host → data of its own
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        groups: Mapping[str, list[str]] | None = None,
        own: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.py"
        lab = str(REPOSITORY / "inventories/lab.py")
        settings = {"credentials_dir": None, **(settings or {})}
        text = _INVENTORY.format(lab=lab, settings=settings, own=dict(own or {}))
        named = [_GROUP.format(group=group, names=names) for group, names in (groups or {}).items()]
        text += "".join(named) or _GROUPS_OF_LAB
        (folder / "home/tmp").mkdir(parents=True)
        self.inventory.write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a run, whose home and temporary files are its own."""
        home = self.folder / "home"
        return {**os.environ, "HOME": str(home), "TMPDIR": str(home / "tmp")}

    @property
    def store(self) -> Path:
        """The folder of the cluster's credentials; there is one at most."""
        return next(self.folder.glob("*-credentials"), self.folder / "no-credentials")

    def run(self, *options: str, deploy: str | Path = "scratch", timeout: float = 600) -> Run:
        """Run a deploy of ours, by name, or any other file."""
        path = deploy if isinstance(deploy, Path) else REPOSITORY / f"deploys/{deploy}.py"
        return self.pyinfra(self.inventory, path, *options, timeout=timeout)

    def pyinfra(
        self, *words: str | Path, timeout: float = 600, more: Mapping[str, str] | None = None
    ) -> Run:
        """Run pyinfra in this folder, with more variables."""
        done = subprocess.run(
            [Path(sys.executable).with_name("pyinfra"), *words],
            cwd=self.folder,
            env={**self.environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Run(done.returncode, done.stdout, _COLOR.sub("", done.stderr))

    def contents(self) -> dict[str, tuple[str, int, str]]:
        """Everything in the folder: mode, time of last change, digest."""
        return {
            str(path.relative_to(self.folder)): (
                f"{path.lstat().st_mode:o}",
                path.lstat().st_mtime_ns,
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            )
            for path in self.folder.rglob("*")
        }

    def secrets(self) -> set[str]:
        """Every secret of the store, in the pieces that it would be printed in."""
        found = set()
        for path in self.store.rglob("*"):
            if path.suffix == ".key":
                found |= {line for line in path.read_text().splitlines() if len(line) == 64}
            elif path.suffix == ".json":
                found |= set(re.findall(r"\b[A-Za-z0-9]{32}\b", path.read_text()))
                found |= set(re.findall(r"\"([A-Za-z0-9+/]{43}=)\"", path.read_text()))
        return found


def succeeded(run: Run) -> Run:
    """The run, if it succeeded."""
    assert run.code == 0, run.said[-8000:]
    return run


# What a host is: files and their dates, packages, links, routes, rules, settings, units. What a
# login leaves behind is in /run and /var/log; rpm dates its database anew when it is only asked;
# etcd writes into its data all the time.
_STATE = r"""
find / /usr -xdev \( -path /proc -o -path /run -o -path /sys -o -path /var/log \
  -o -path /var/lib/rpm -o -path '/var/lib/etcd/member/*' \) -prune -o \
  -printf 'file %p %y %m %U:%G %s %T@ %l\n' | sort -u
if command -v rpm >/dev/null; then rpm --query --all | sed 's/^/package /'
else dpkg-query --show --showformat='package ${Package} ${Version} ${Status}\n'; fi
{ ip -o link; ip -o -4 address; ip -4 route show table all; ip rule; } | sed 's/^/net /'
for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
  $tool-save | sed "/^#/d; s/\[[0-9]*:[0-9]*\]//; s/^/$tool /"
done
sysctl -a -r '^net\.(ipv4|bridge)' 2>/dev/null | sed 's/^/sysctl /'
systemctl list-unit-files --no-legend --no-pager | sed 's/^/unit file /'
systemctl list-units --type=service --all --plain --no-legend --no-pager |
grep -vE '^(user|user-runtime-dir)@|^polkit| not-found ' | sed 's/^/unit /'
"""

# Units that come and go by themselves.
_PASSING = re.compile(r"^(user|user-runtime-dir)@|^systemd-|^dbus|^getty|^apt|^logrotate")
_UNITS = """\
systemctl show --type=service --state=active \
  --property=Id,MainPID,ActiveEnterTimestampMonotonic '*' | tr '\\n' ' ' | sed 's/  /\\n/g'
"""


def state(lab: Lab, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """All that a run could change on hosts, line by line."""
    chosen = list(names or lab.hosts)
    return dict(zip(chosen, each(lambda name: execute(lab, name, _STATE), chosen), strict=True))


def starts(lab: Lab, name: str) -> dict[str, str]:
    """When each unit and each container of a host that runs was started."""
    units = execute(lab, name, _UNITS)
    found = {f"unit {part['Id']}": str(part) for part in map(_properties, units)}
    found = {key: when for key, when in found.items() if not _PASSING.match(key[5:])}
    running = containers.read(execute(lab, name, f"{containers.SHELL}running"))
    return found | {f"container {one.name}": one.id for one in running}


def started(lab: Lab, before: Mapping[str, Mapping[str, str]]) -> set[tuple[str, str]]:
    """
    The hosts and their units and containers that run otherwise than before.

    + before: by host, from ``starts``
    """
    after = {name: starts(lab, name) for name in before}
    return {
        (name, part)
        for name in before
        for part in before[name].keys() | after[name].keys()
        if before[name].get(part) != after[name].get(part)
    }


def _properties(line: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in line.split())
    return {key: value for key, _, value in pairs}


def execute(lab: Lab, name: str, command: str, timeout: float = 120) -> list[str]:
    """Run a command in a host that must succeed, past its network; return its lines."""
    done = lab.exec(name, command, timeout=timeout)
    assert done.returncode == 0, (name, command, done.stdout, done.stderr)
    return done.stdout.splitlines()


def ssh(lab: Lab, name: str, command: str, stdin: bytes = b"") -> str:
    """Run a command on a host over its network."""
    record = lab.hosts[name]
    options = ["-o", f"UserKnownHostsFile={KNOWN_HOSTS}", "-o", "BatchMode=yes"]
    words = ["ssh", "-i", record.ssh_key, *options, f"root@{record.ip}", command]
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=120)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, (name, command, done.stdout, said)
    return done.stdout.decode()


def each(do: Callable[[str], Any], names: Iterable[str]) -> list[Any]:
    """The same for several hosts, at once."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(do, names))


def load_test_image(lab: Lab, names: Iterable[str]) -> None:
    """Have the image to test with on hosts."""
    assert lab.kubernetes
    load_image(lab, names, lab.kubernetes / "test.tar")


def load_image(lab: Lab, names: Iterable[str], archive: Path) -> None:
    """Have an archive's image on hosts."""
    content = archive.read_bytes()
    each(lambda name: ssh(lab, name, f"{containers.SHELL}load_image", content), names)


def eventually(look: Callable[[], Any], patience: float = 60) -> Any:
    """Look until it no longer fails and finds something; return that."""
    deadline = time.monotonic() + patience
    while True:
        try:
            found = look()
            if found:
                return found
            problem: AssertionError | None = None
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise problem or AssertionError(f"not so after {patience:.0f} s")
        time.sleep(0.5)
