"""Our reading of /etc/hosts against glibc's own, and what `hosts` makes of any such file."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyinfra.api import FactBase, OperationError

from pyinfra_kube.facts.hosts import Hosts, hosts_lines
from pyinfra_kube.operations import hosts
from tests.unit.harness import answers, fake_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a /etc of its own")

OWN = "192.0.2.12"
ENTRIES = {"kube-master": "192.0.2.11", "kube-node-1": OWN}
FOREIGN = ["other", "localhost"]

ADDRESSES = st.sampled_from(
    [
        *("192.0.2.11", OWN, "192.0.2.99", "127.0.0.1", "127.0.1.1", "::1", "2001:db8::5"),
        *("::ffff:192.0.2.11", "fe80::1%lo", "192.0.2.011", "192.0.2", "0x7f.1", "nonsense", ""),
    ]
)
NAMES = st.sampled_from(
    [
        *("kube-master", "KUBE-MASTER", "kube-master.example", "Kube-Node-1", "kube-node-1"),
        *("other", "localhost", "ünï", "#", "#kube-master", "kube-master#x", ""),
    ]
)
BLANKS = st.sampled_from([" ", "\t", "  ", "\r", "\v", "\f", "\x1c", "\x85", "\xa0", "\0"])
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", " # it\n", "\r", ""])
BEGIN, END = "# BEGIN kubernetes cluster", "# END kubernetes cluster"


@st.composite
def lines(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([BEGIN, END])) + draw(ENDS)
    before, blank = draw(st.sampled_from(["", " ", "#"])), draw(BLANKS)
    words = [draw(ADDRESSES), *draw(st.lists(NAMES, max_size=3))]
    return before + blank.join(words) + draw(ENDS)


FILES = st.lists(lines(), max_size=6).map("".join)


class Etc:
    """A folder that stands at /etc for what is run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["cp", "-a", "/etc/.", folder], check=True)
        self.write("nsswitch.conf", "hosts: files\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_bytes(text.encode(errors="surrogateescape"))

    def read(self) -> bytes:
        return (self.folder / "hosts").read_bytes()

    def run(self, command: str, stdin: str | None = None) -> str:
        """Run a command there, on a host that has one address of the cluster."""

        script = f"mount --bind {self.folder} /etc && ip link set lo up; "
        script += f"ip address add {OWN}/32 dev lo; {command}"
        done = subprocess.run(
            ["unshare", "--mount", "--net", "sh", "-c", script],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def fact(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        instance = fact()
        command: Any = instance.command
        said = self.run(command(**arguments)).splitlines()
        return instance.process(said) if said else instance.default()

    def addresses(self, names: list[str]) -> dict[str, list[str]]:
        """What glibc gives to who wants IPv4."""

        asking = "; ".join(
            f"getent ahostsv4 {name} | awk '{{ print \"{name}\", $1 }}' | sort -u" for name in names
        )
        found: dict[str, list[str]] = {name: [] for name in names}
        for line in self.run(asking).splitlines():
            name, address = line.split()
            found[name].append(address)
        return found


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Etc:
    return Etc(tmp_path_factory.mktemp("etc"))


TRIES = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(FILES, st.booleans())
@example(" 192.0.2.11 other", False)
@example("  192.0.2.11 other\r", False)
@example("  192.0.2.11 other oth", False)
@example("::1 kube-node-1\n127.0.1.1 KUBE-NODE-1.example KUBE-NODE-1", True)
@TRIES
def test_it_is_read_as_glibc_reads_it(etc: Etc, text: str, multi: bool) -> None:
    etc.write("hosts", text)
    etc.write("host.conf", f"multi {'on' if multi else 'off'}\n")
    found = etc.addresses([*ENTRIES, *FOREIGN])
    for name, addresses in found.items():
        ours = [
            "127.0.0.1" if line.address == "::1" else line.address
            for line in hosts_lines(text)
            if name in line.names and (":" not in line.address or line.address == "::1")
        ]
        assert set(addresses) == set(ours if multi else ours[:1]), name


@given(FILES, st.booleans())
@example(f"{BEGIN}\n10.0.0.1 other\n{BEGIN}\n192.0.2.11 kube-master\n{END}\n", True)
@example(f"{BEGIN}\r\n192.0.2.11 kube-master\r\n{END}\r\n10.0.0.1 other\r\n", True)
@example("::ffff:192.0.2.11 kube-node-1\n", False)
@example(" 192.0.2.11 kube-master", False)
@example(f"{BEGIN}\n192.0.2.12 kube-node-1\n{END}\n 192.0.2.11 kube-master", False)
@TRIES
def test_each_name_leads_there_or_the_line_is_named(etc: Etc, text: str, multi: bool) -> None:
    etc.write("hosts", text)
    etc.write("host.conf", f"multi {'on' if multi else 'off'}\n")
    before, file = etc.addresses(FOREIGN), etc.read()
    try:
        run(etc)
    except OperationError as error:
        assert etc.read() == file
        number = int(str(error).split("/etc/hosts:")[1].split()[0])
        assert b"kube-" in file.split(b"\n")[number - 1].lower()
        return
    found = etc.addresses([*ENTRIES, *FOREIGN])
    assert found["kube-master"] == ["192.0.2.11"]
    assert all(a == OWN or a.startswith("127.") for a in found["kube-node-1"] or ["none"])
    # A last line may have got its end, and be read from then on.
    unread = text.rpartition("\n")[2][:1].isspace()
    assert {name: found[name] for name in FOREIGN} == before or BEGIN in text or unread
    assert without_block(file) in (without_block(etc.read()), without_block(etc.read())[:-1])
    written = etc.read()
    assert run(etc) == 0
    assert etc.read() == written


@pytest.mark.parametrize(
    ("sources", "asked"),
    [
        ("files", False),
        ("files dns", False),
        ("files mdns4_minimal [NOTFOUND=return] dns", False),
        ("files [SUCCESS=merge] dns", True),
        ("dns files", True),
        ("dns files myhostname", True),
        ("resolve files", True),
        ("dns", True),
    ],
)
def test_names_that_the_file_alone_decides_are_not_looked_up(
    tmp_path: Path, sources: str, asked: bool
) -> None:
    (tmp_path / "etc").mkdir()
    etc = Etc(tmp_path / "etc")
    etc.write("nsswitch.conf", f"hosts: {sources}\n")
    etc.write("hosts", f"{BEGIN}\n192.0.2.11 kube-master\n{END}\n192.0.2.13 other\n")
    log, tool = tmp_path / "asked", tmp_path / "getent"
    tool.write_text(f'#!/bin/sh\necho "$@" >>{log}\nexec /usr/bin/getent "$@"\n')
    tool.chmod(0o755)
    fact = Hosts()
    command = fact.command(["kube-master", "other"], marker="kubernetes cluster")
    found = fact.process(etc.run(f"PATH={tmp_path}:$PATH; {command}").splitlines())
    assert any("kube-master" in line for line in log.read_text().splitlines()) == asked
    assert "other" in log.read_text()
    if not asked:
        assert found.answers["kube-master"] == ("192.0.2.11",)


def run(etc: Etc) -> int:
    """Run the operation as on a host of its own; return how many commands it had."""

    with fake_host({}) as (host, _, _):
        answers(host, etc.fact)
        operation: Any = hosts.hosts
        commands = list(operation._inner(entries=ENTRIES, unless_resolved=True))
        for command in commands:
            text = command.connector_arguments["_stdin"]
            etc.run(f"sh -s -- {shlex.quote(command.summary)}", text)
    return len(commands)


def without_block(text: bytes) -> bytes:
    before, _, after = hosts._parts(text.decode(errors="surrogateescape"), "kubernetes cluster")
    return (before + after).encode(errors="surrogateescape")
