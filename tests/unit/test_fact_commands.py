"""What the commands of facts do in a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.deploys.phases.verification import _ready
from pyinfra_kube.facts.checks import Checks
from pyinfra_kube.facts.fitness import Fitness
from pyinfra_kube.facts.hosts import Hosts
from pyinfra_kube.facts.kubectl import asking
from pyinfra_kube.facts.processes import Listeners

_FIND = shutil.which("find")


def _said(command: str) -> list[str]:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


def test_checks_look_at_one_answer() -> None:
    commands = {"one": 'test "$shown" = "a b"', "other": 'test "$shown" = c'}
    fact = Checks()
    said = _said(fact.command(commands, given={"shown": "echo 'a b'"}))
    assert fact.process(said) == {"one": True, "other": False}


def test_checks_run_side_by_side(tmp_path: Path) -> None:
    # Each waits for the other's file, so one after the other neither would hold.
    waits = "touch {0}; until test -e {1}; do sleep 0.05; done"
    one, other = tmp_path / "one", tmp_path / "other"
    fact = Checks()
    said = _said(fact.command({"1": waits.format(one, other), "2": waits.format(other, one)}))
    assert fact.process(said) == {"1": True, "2": True}


def test_checks_of_many_nodes_are_one_command() -> None:
    names = [f"kube-node-{number}.a-long-domain.example" for number in range(400)]
    questions = [_ready("kubectl", HostSpec(name=name)) for name in names]
    command = Checks().command({check.name: check.command for check in questions})
    # As the shell that logs in gets it; Linux takes 128 KiB.
    assert len(shlex.quote(command)) < 131_072


def test_dns_is_not_asked_for_names_of_the_block(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# BEGIN own\n192.0.2.1 one\n# END own\n192.0.2.2 two\n")
    command = Hosts().command(["one", "two", "on"], marker="own").replace("/etc/hosts", str(file))
    said = _said(command.replace("timeout 2 getent -s dns ahostsv4", "echo 192.0.2.9"))
    assert sorted(Hosts().process(said).resolved) == ["on", "two"]


def test_who_listens_is_told_without_a_tool() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        # A port that is only connected to is not listened on.
        with socket.create_connection(tcp.getsockname()) as used:
            ports = [one.getsockname()[1] for one in (tcp, used)]
            fact = Listeners()
            found = fact.process(_said(fact.command(ports, udp=[port])))
    assert list(found) == [f"tcp {ports[0]}", f"udp {port}"]
    assert {one.pid for listeners in found.values() for one in listeners} == {os.getpid()}


def test_who_ends_while_it_is_looked_at_does_not_listen(tmp_path: Path) -> None:
    serve = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]"
    serving = [sys.executable, "-c", f"{serve}, flush=True); input()"]
    with subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ending:
        assert ending.stdout
        port = int(ending.stdout.readline())
        # It ends after the sockets were read, and before those who hold them are.
        (tmp_path / "find").write_text(
            f'#!/bin/sh\nkill {ending.pid}\nsleep 0.5\nexec {_FIND} "$@"\n'
        )
        (tmp_path / "find").chmod(0o755)
        fact = Listeners()
        said = _said(f"PATH={tmp_path}:$PATH\n{fact.command([port])}")
    assert any(line.startswith("socket tcp") for line in said)
    assert fact.process(said) == {}


def test_a_clock_is_told_apart_from_the_way_to_it(tmp_path: Path) -> None:
    fact = Fitness()
    least, most = fact.process(_said(fact.command())).behind or (1, 1)
    assert least <= 0 <= most
    (tmp_path / "date").write_text('#!/bin/sh\nexec /bin/date -d "300 seconds ago" "$@"\n')
    (tmp_path / "date").chmod(0o755)
    said = _said(f"PATH={tmp_path}:$PATH\n{fact.command()}")
    least, most = fact.process(said).behind or (1, 1)
    assert least <= 300 <= most
    assert least > 200


def test_file_systems_are_those_of_the_nearest_folder() -> None:
    fact = Fitness()
    command = fact.command(folders=["/proc/1", "/proc/1/none/at all"])
    disks = fact.process(_said(command)).disks
    assert [disk.mount for disk in disks.values()] == ["/proc", "/proc"]
    assert "rw" in disks["/proc/1"].options


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("sign", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to", [os.kill, os.killpg])
def test_a_killed_question_leaves_no_cache(
    tmp_path: Path, sign: signal.Signals, to: Callable[[int, int], None]
) -> None:
    memory, kubectl = tmp_path / "memory", tmp_path / "kubectl"
    memory.mkdir()
    kubectl.write_text('#!/bin/sh\necho cached >"$HOME/cache"\nsleep 1\n')
    kubectl.chmod(0o755)
    text = asking(str(kubectl), str(kubectl)).replace("/dev/shm", str(memory))
    asked = subprocess.Popen(["sh", "-c", text], stdout=subprocess.DEVNULL, start_new_session=True)
    _until(lambda: bool([*memory.glob("*/cache")]))
    to(asked.pid, sign)
    asked.wait(timeout=30)
    # One that the signal did not reach ends after kubectl.
    _until(lambda: not [*memory.iterdir()])
