"""The other side: ansible-core in an environment of its own, and the playbook run with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.timed import Door, Timed
from tests.lab import Lab
from tests.lab.machine import run
from tests.lab.places import CACHE, KNOWN_HOSTS

_ENVIRONMENT = CACHE / "bench-ansible"
_BIN = _ENVIRONMENT / "bin"
_PACKAGES = CACHE / "bench-python3-apt"

# What Ansible's apt module needs on a host, beside python3.
_APT_MODULE = ("python3-apt", "python-apt-common", "distro-info-data")

_SETTINGS = """\
[defaults]
forks = 20
gathering = explicit
host_key_checking = True
interpreter_python = /usr/bin/python3
[connection]
pipelining = True
[ssh_connection]
ssh_args = -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = {control}
"""

_RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)
_TRIP = re.compile(r"^<(\S+)> (?:SSH: EXEC|PUT|FETCH)\b", re.M)


def install() -> str:
    """Have ansible-core; return its version."""

    if not (_BIN / "ansible-playbook").exists():
        run(sys.executable, "-m", "venv", _ENVIRONMENT)
        run(_BIN / "pip", "install", "--quiet", "ansible-core")
    return run(_BIN / "ansible", "--version").stdout.split("]")[0].split()[-1]


def prepare(lab: Lab, names: Iterable[str]) -> None:
    """Give blank hosts the Python that Ansible needs; nobody's time counts for it."""

    if not _PACKAGES.exists():
        _PACKAGES.mkdir(parents=True)
        unsandboxed = ("-o", "APT::Sandbox::User=root")
        run("apt-get", "download", "-q", *unsandboxed, *_APT_MODULE, folder=_PACKAGES)

    def one(name: str) -> None:
        record = lab.hosts[name]
        known = f"UserKnownHostsFile={KNOWN_HOSTS}"
        packages = sorted(_PACKAGES.glob("*.deb"))
        there = f"root@{record.ip}:/var/tmp"
        run("scp", "-q", "-i", record.ssh_key, "-o", known, *packages, there)
        install = "apt-get -qq --yes --no-install-recommends install python3"
        done = lab.exec(name, f"{install} && dpkg -i /var/tmp/*.deb && rm /var/tmp/*.deb")
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, names))


class Playbook:
    """
    The playbook in a folder.

    + folder: what ``wanted`` wrote
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = 0

    def run(self, doors: Mapping[str, Door], *options: str) -> Timed:
        """
        Run it; every run makes its connections anew.

        + doors: where each host is reached
        + options: of ansible-playbook
        """

        self._runs += 1
        # A short path: it becomes the name of a socket.
        control = Path(f"/tmp/bench-{os.getpid()}-{self._runs}")
        (self.folder / "ansible.cfg").write_text(_SETTINGS.format(control=control))
        lines = [
            f"{name} ansible_host={door.address} ansible_port={door.port} ansible_user=root "
            f"ansible_ssh_private_key_file={door.key} "
            f"ansible_ssh_common_args='-o UserKnownHostsFile={door.known_hosts}'"
            for name, door in doors.items()
        ]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        start = time.monotonic()
        done = subprocess.run(
            [_BIN / "ansible-playbook", "-i", "hosts", "playbook.yml", *options],
            cwd=self.folder,
            env={**os.environ, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - start
        self._close(control, doors)
        recap = _RECAP.findall(done.stdout)
        if done.returncode or not recap:
            raise RuntimeError(f"ansible-playbook {options}:\n{done.stdout[-4000:]}{done.stderr}")
        names = {door.address: name for name, door in doors.items()}
        trips = [names.get(host, host) for host in _TRIP.findall(done.stdout)]
        return Timed(
            seconds,
            changed=sum(int(changed) for _, changed, _, _ in recap),
            trips={name: trips.count(name) for name in doors},
            said=done.stdout,
        )

    def _close(self, control: Path, doors: Mapping[str, Door]) -> None:
        """End the connections that would linger."""

        for socket in control.glob("*"):
            words = ["ssh", "-q", "-o", f"ControlPath={socket}", "-O", "exit", "host"]
            subprocess.run(words, check=False, capture_output=True)
