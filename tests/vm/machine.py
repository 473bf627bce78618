"""The virtual machine: its life, and what can be asked of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.lab.machine import LabError, require_root, require_tools, run, say
from tests.vm import disk

ADDRESS = "10.0.2.15"
"""Its own, on a network that ends in the emulator."""

NAME = "debian-13"
PROCESSORS, MEMORY = 2, "4G"

_GATEWAY = "10.0.2.2"
_SAID_EVERY = 30.0
_TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "ssh-keygen": "openssh-client"}
_KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0"


@dataclass(frozen=True)
class Machine:
    """
    A virtual machine that runs.

    + folder: of what it has and what it says
    + port: of this machine, which leads to its sshd
    """

    folder: Path
    port: int

    @property
    def ssh_key(self) -> Path:
        return self.folder / "ssh_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def console(self) -> Path:
        """What it said on its console."""
        return self.folder / "console.log"

    def ask(self, command: str, *, stdin: bytes = b"", timeout: float = 300) -> str:
        """Run a command over ssh, as its user; return what it says."""
        options = {
            "UserKnownHostsFile": self.known_hosts,
            "BatchMode": "yes",
            "ConnectTimeout": "20",
        }
        done = subprocess.run(
            [
                *("ssh", "-i", self.ssh_key, "-p", str(self.port)),
                *(word for name in options for word in ("-o", f"{name}={options[name]}")),
                *(f"{disk.USER}@127.0.0.1", command),
            ],
            input=stdin,
            capture_output=True,
            timeout=timeout,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise LabError(f"{command} ended with {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    def boot_id(self) -> str:
        """Which of its boots it is in."""
        return self.ask("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self, minutes: float) -> None:
        """An orderly reboot; returns when it answers again."""
        before = self.boot_id()
        # It may end before it has answered.
        with suppress(LabError):
            self.ask("sudo systemctl reboot")
        self.eventually("its reboot", lambda: self.boot_id() != before, minutes)

    def eventually(self, what: str, look: Callable[[], object], minutes: float) -> None:
        """Look until it no longer fails and finds something; say meanwhile how it goes."""
        started = shown = time.monotonic()
        problem = ""
        while True:
            try:
                if look():
                    say(f"{what}: {time.monotonic() - started:.0f} s")
                    return
            except (LabError, AssertionError, subprocess.TimeoutExpired) as error:
                problem = str(error)
            now = time.monotonic()
            if now - started > minutes * 60:
                raise LabError(too_long(what, minutes, f"{self.last_line()} {problem}"))
            if now - shown > _SAID_EVERY:
                say(f"  … {what}, {now - started:.0f} s: {self.last_line()}")
                shown = now
            time.sleep(1)

    def last_line(self) -> str:
        """The last line on its console."""
        lines = self.console.read_text(errors="replace").split("\n")
        return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")


@contextmanager
def running(folder: Path, files: Mapping[str, Path], minutes: float) -> Iterator[Machine]:
    """
    A blank machine, on whose ssh its user is answered; gone afterwards.

    + folder: an empty one, for its disk
    + files: what it has besides what Debian brings: path → file
    + minutes: after which its first boot is given up
    """
    require_root()
    require_tools(_TOOLS)
    made = disk.made()
    machine = Machine(folder, _free_port())
    say("copying the disk")
    run("cp", "--sparse=always", made / "disk.ext4", folder / "disk.ext4")
    _identify(machine, files)
    say(f"booting an emulated machine (console: {machine.console})")
    with (folder / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            _command(machine, made), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        machine.eventually(
            "booting", lambda: process.poll() is not None or machine.ask(":") == "", minutes
        )
        if process.poll() is not None:
            raise LabError(f"The emulator ended: {(folder / 'qemu.log').read_text()}")
        yield machine
    finally:
        process.terminate()
        process.wait()
        (folder / "disk.ext4").unlink()


def _command(machine: Machine, made: Path) -> list[str]:
    """The emulator: no hardware helps it, and no network but one port of the loopback."""
    forwarded = f"hostfwd=tcp:127.0.0.1:{machine.port}-:22"
    drive = f"file={machine.folder}/disk.ext4,format=raw,if=virtio,cache=unsafe"
    return [
        *("nice", "-n", "15", "qemu-system-x86_64", "-nodefaults", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-uuid", str(uuid.uuid4())),
        *("-smp", str(PROCESSORS), "-m", MEMORY, "-rtc", "base=utc"),
        *("-kernel", f"{made}/vmlinuz", "-initrd", f"{made}/initrd.img", "-append", _KERNEL),
        *("-drive", drive, "-device", "virtio-rng-pci"),
        *("-netdev", f"user,id=net,restrict=on,{forwarded}"),
        *("-device", "virtio-net-pci,netdev=net"),
        *("-chardev", f"file,id=console,path={machine.console},append=on"),
        *("-serial", "chardev:console"),
    ]


def _identify(machine: Machine, files: Mapping[str, Path]) -> None:
    """Put what tells this machine from another onto its disk."""
    folder = machine.folder
    keys = {"ssh_key": "tests", "host_key": NAME}
    for name, comment in keys.items():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", folder / name)
    kind, public = (folder / "host_key.pub").read_text().split()[:2]
    machine.known_hosts.write_text(f"[127.0.0.1]:{machine.port} {kind} {public}\n")
    texts = {
        "etc/hostname": f"{NAME}\n",
        "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{NAME}\n",
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/network/interfaces.d/eth0": (
            f"auto eth0\niface eth0 inet static\n    address {ADDRESS}/24\n    gateway {_GATEWAY}\n"
        ),
        # It does not answer, and says so at once.
        "etc/resolv.conf": f"nameserver {ADDRESS}\n",
        "etc/ssh/ssh_host_ed25519_key": (folder / "host_key").read_text(),
        "etc/ssh/ssh_host_ed25519_key.pub": (folder / "host_key.pub").read_text(),
        f"home/{disk.USER}/.ssh/authorized_keys": (folder / "ssh_key.pub").read_text(),
    }
    identity = folder / "identity"
    for place, text in texts.items():
        _place(identity, place).write_text(text)
    (identity / "etc/ssh/ssh_host_ed25519_key").chmod(0o600)
    for place, source in files.items():
        shutil.copy2(source, _place(identity, place.lstrip("/")))
    script = 'mount -o loop "$1" "$2" && cp -r "$0/." "$2" && umount "$2"'
    mount = folder / "mount"
    mount.mkdir()
    unshared = ("unshare", "--mount", "--propagation", "private", "sh", "-euc")
    run(*unshared, script, identity, folder / "disk.ext4", mount)
    shutil.rmtree(identity)


def _place(folder: Path, place: str) -> Path:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def too_long(what: str, minutes: float, last: str) -> str:
    """What is said of something that was given up."""
    return (
        f"{what} took more than {minutes:.0f} minutes, and was given up. Every instruction is "
        f"emulated here: is this machine busy otherwise? Last: {last}"
    )


def watched(
    words: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    what: str,
    minutes: float,
) -> tuple[int, str, str]:
    """Run something long, and say now and then where it is: its code, what it said on either."""
    out, err = folder / "out", folder / "err"
    started = time.monotonic()
    with out.open("wb") as output, err.open("wb") as errors:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(_SAID_EVERY)
                except subprocess.TimeoutExpired:
                    lines = err.read_text(errors="replace").strip().splitlines() or [""]
                    seconds = time.monotonic() - started
                    say(f"  … {what}, {seconds:.0f} s: {lines[-1].strip()[:100]}")
                    if seconds > minutes * 60:
                        raise LabError(too_long(what, minutes, lines[-1])) from None
        finally:
            process.terminate()
            process.wait()
    say(f"{what}: {time.monotonic() - started:.0f} s")
    return process.returncode, out.read_text(), err.read_text()
