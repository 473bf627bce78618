"""One host: its disk, its life, and what can be done to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cgroups, network
from tests.lab.machine import LabError, run
from tests.lab.network import Network
from tests.lab.places import DISKS, HERE, KNOWN_HOSTS, RUN, SSH_KEY, SWITCH
from tests.lab.state import HostRecord

_FILLER = "/var/lib/lab-filler"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Host:
    """A host of the lab, up or not."""

    record: HostRecord
    network: Network

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def _folder(self) -> Path:
        return RUN / "hosts" / self.name

    @property
    def _disk(self) -> Path:
        return DISKS / f"{self.name}.ext4"

    @property
    def console(self) -> Path:
        """What the host said on its console since it was started."""
        return self._folder / "console.log"

    def make(self) -> None:
        """A blank disk, and the few files that tell this host from another."""
        DISKS.mkdir(parents=True, exist_ok=True)
        # A new file: the kernel may not have let go of the old one yet.
        copy = ("cp", "--sparse=always", "--remove-destination")
        run(*copy, self.record.blank_disk, self._disk)
        identity = self._folder / "identity"
        key = self._ssh_host_key()
        files = {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{self.name}\n",
            "etc/machine-id": f"{uuid.uuid4().hex}\n",
            "etc/network/interfaces.d/eth0": (
                "auto eth0\n"
                "iface eth0 inet static\n"
                f"    address {self.record.ip}/{self.network.hosts.prefixlen}\n"
                f"    gateway {self.network.gateway}\n"
            ),
            # Nothing answers there, and says so at once.
            "etc/resolv.conf": f"nameserver {self.network.gateway}\n",
            "etc/ssh/ssh_host_ed25519_key": key.read_text(),
            "etc/ssh/ssh_host_ed25519_key.pub": key.with_suffix(".pub").read_text(),
            "root/.ssh/authorized_keys": SSH_KEY.with_suffix(".pub").read_text(),
        }
        for place, text in files.items():
            path = identity / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600 if "ssh" in place else 0o644)

    def start(self) -> None:
        """Power on; returns before the host is ready."""
        if self.processes():
            raise LabError(f"{self.name} is on already.")
        cgroups.make(self.name)
        with self.console.open("ab") as console:
            subprocess.Popen(
                [HERE / "host/run.sh"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    "PATH": _PATH,
                    "NAME": self.name,
                    "CGROUPS": self._cgroups(),
                    "DISK": str(self._disk),
                    "IDENTITY": str(self._folder / "identity"),
                    "USR": self.record.usr,
                    "APT": self.record.apt,
                    "SWITCH": str(SWITCH),
                    "PORT": network.port(self.record.address),
                    "MAC": network.mac(self.record.address),
                },
            )

    def wait_until_ready(self, *, patience: float = 120) -> None:
        """Wait until sshd answers on the network, and systemd has started all it wants."""
        deadline = time.monotonic() + patience
        while not (self._ssh_answers() and self._has_started()):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not get ready in {patience:.0f} s: {self._why()}")
            time.sleep(0.1)

    def power_off(self) -> None:
        """Pull the plug. The disk stays as it is."""
        leader = self.leader()
        if leader:
            _kill(leader, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while remaining := self.processes():
            # Whatever is in the host's own control group is the host's.
            if time.monotonic() > deadline - 8:
                for pid in remaining:
                    _kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} still runs processes: {remaining}")
            time.sleep(0.02)
        network.unplug(self.record.address)
        cgroups.remove(self.name)

    def reboot(self) -> None:
        """As `systemctl reboot` in the host; returns when it is ready again."""
        before = self.leader()
        self.exec("systemctl reboot")
        deadline = time.monotonic() + 150
        while self.leader() in (None, before):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not reboot: {self._why()}")
            time.sleep(0.1)
        self.wait_until_ready()

    def remove(self) -> None:
        self.power_off()
        self._disk.unlink(missing_ok=True)
        run("rm", "--recursive", "--force", self._folder)

    def exec(
        self, command: str | Sequence[str], *, timeout: float | None = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host, even when its network or its sshd is gone."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} is off.")
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        return subprocess.run(
            [HERE / "host/exec.sh", str(leader), *words],
            env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "CGROUPS": self._cgroups()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    def fill_disk(self) -> None:
        """Leave not one free block on the host's disk."""
        script = (
            f'fallocate -l "$(df --output=avail -B1 / | tail -1)" {_FILLER}; '
            f"dd if=/dev/zero bs=4k >>{_FILLER} 2>/dev/null; true"
        )
        self.exec(script)

    def free_disk(self) -> None:
        self.exec(["rm", "-f", _FILLER])

    def processes(self) -> list[int]:
        return cgroups.processes(self.name)

    def leader(self) -> int | None:
        """The host's process 1, as the machine numbers it."""
        for pid in self.processes():
            numbers = _status(pid, "NSpid")
            if len(numbers) == len(_status(os.getpid(), "NSpid")) + 1 and numbers[-1] == "1":
                return pid
        return None

    def _cgroups(self) -> str:
        return " ".join(map(str, cgroups.groups(self.name)))

    def _ssh_host_key(self) -> Path:
        """A reset host keeps its key, so that who knows it goes on knowing it."""
        key = self._folder / "ssh_host_ed25519_key"
        if not key.exists():
            self._folder.mkdir(parents=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", key)
            kind, public = key.with_suffix(".pub").read_text().split()[:2]
            with KNOWN_HOSTS.open("a") as known:
                known.write(f"{self.record.ip} {kind} {public}\n")
        return key

    def _has_started(self) -> bool:
        try:
            said = self.exec("systemctl is-system-running --wait").stdout.strip()
        except (LabError, subprocess.TimeoutExpired):
            return False
        return said in ("running", "degraded")

    def _ssh_answers(self) -> bool:
        try:
            with socket.create_connection((self.record.ip, 22), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _why(self) -> str:
        lines = self.console.read_text(errors="replace").strip().splitlines()[-5:]
        return f"see {self.console}\n  " + "\n  ".join(lines)


def _status(pid: int, key: str) -> list[str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(f"{key}:")), [])


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
