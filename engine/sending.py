"""
Files on their way to hosts while operations run: a large one is there by the time that its
operation needs it.

Each host has a channel of its connection for files alone. They go one after the other, in the order
in which operations will need them, and wait in a folder of whoever connects, by digest: what a run
that was killed has sent is not sent again, and what nobody waits for is taken away.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pyinfra.api import FileUploadCommand, Host, QuoteString, State, StringCommand
from pyinfra.context import ctx_host, ctx_state
from typing_extensions import override

from pyinfra_kube.engine import internals
from pyinfra_kube.engine.snapshot import discovering

FOLDER = "/var/tmp/pyinfra-kube-files"
"""Where files wait; the user's number follows."""

# What one message of SSH takes: 32 KiB, of which paramiko keeps 64 bytes.
_PIECE = 32704


def send_ahead(files: Mapping[str, str]) -> None:
    """
    Note what the current operation will upload, when it is planned.

    + files: digest → path on this machine
    """

    if discovering() or ctx_state.get().is_executing:
        return
    sending = _sendings.setdefault(ctx_host.get(), Sending())
    for digest, path in files.items():
        if digest not in sending.files:
            sending.files[digest] = path
            sending.arrivals[digest] = internals.Arrival()


def begin() -> None:
    """Begin to send what the current host's operations have noted; once a run."""

    host = ctx_host.get()
    sending = _sendings.get(host)
    if sending and not sending.begun:
        sending.begun = True
        internals.beside(lambda: sending.send(host))


class Upload(FileUploadCommand):
    """
    Upload a file of this machine, or take it from where it has arrived meanwhile.

    + src: the path on this machine
    + dest: the path on the host
    + digest: of the file
    """

    def __init__(self, src: str, dest: str, digest: str) -> None:
        super().__init__(src, dest)
        self.digest = digest

    @override
    def execute(self, state: State, host: Host, connector_arguments: Any) -> Any:
        sending = _sendings.get(host)
        if sending and (at := sending.arrived(self.digest)):
            place, dest, folder = map(QuoteString, (at, str(self.dest), at.rpartition("/")[0]))
            # A copy gets the label that SELinux has for its folder; beside it that is the same.
            take = StringCommand("cp", place, dest, "&&", "rm", "-f", place)
            if str(self.dest).startswith(f"{FOLDER.rpartition('/')[0]}/"):
                take = StringCommand("mv", "-f", place, dest)
            if sending.done:
                take = StringCommand(
                    take, "&&", "{", "rmdir", folder, "2>/dev/null", "||", ":;", "}"
                )
            works, _ = host.run_shell_command(
                take,
                print_output=state.print_output,
                print_input=state.print_input,
                **connector_arguments,
            )
            if works:
                return True
        return super().execute(state, host, connector_arguments)


class Sending:
    """
    What is sent to one host.

    + files: digest → path on this machine, in order
    + arrivals: where each is on the host once it is there; empty where it could not be sent
    + begun: whether it has begun
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.arrivals: dict[str, internals.Arrival[str]] = {}
        self.begun = False

    @property
    def done(self) -> bool:
        """Whether nothing more will be sent."""

        return all(arrival.ready() for arrival in self.arrivals.values())

    def arrived(self, digest: str) -> str:
        """
        Wait for a file; return where it is, or nothing where the operation must upload it.

        + digest: of the file
        """

        if not self.begun or digest not in self.arrivals:
            return ""
        return self.arrivals[digest].get() or ""

    def send(self, host: Host) -> None:
        """
        Send all files. What cannot be sent so is left to its operation, which says why.

        + host: the host
        """

        try:
            with internals.file_transfer(host) as sftp:
                folder = _folder(sftp)
                there = self._sent_before(host, sftp, folder)
                for digest, path in self.files.items():
                    place = f"{folder}/{digest}"
                    if digest not in there:
                        _send(sftp, path, place)
                    self.arrivals[digest].set(place)
        except internals.TRANSFER_ERRORS:
            pass
        finally:
            for arrival in self.arrivals.values():
                if not arrival.ready():
                    arrival.set("")

    def _sent_before(self, host: Host, sftp: internals.SFTPClient, folder: str) -> set[str]:
        """The digests of whole files that wait for an operation of this run; others are removed."""

        names = {*sftp.listdir(folder)}
        if not names:
            return names
        places = [QuoteString(f"{folder}/{name}") for name in sorted(names)]
        _, output = host.run_shell_command(StringCommand("sha256sum", "--", *places))
        found = {line.partition("  ")[0] for line in output.stdout_lines}
        kept = names & found & self.files.keys()
        for name in names - kept:
            sftp.remove(f"{folder}/{name}")
        return kept


_sendings: WeakKeyDictionary[Host, Sending] = WeakKeyDictionary()


def _folder(sftp: internals.SFTPClient) -> str:
    """The folder, which nobody else can write to."""

    user = sftp.stat(".").st_uid
    folder = f"{FOLDER}-{user}"
    with suppress(OSError):
        sftp.mkdir(folder, 0o700)
    found = sftp.lstat(folder)
    if found.st_uid != user or found.st_mode != stat.S_IFDIR | 0o700:
        raise OSError(f"{folder} is not ours")
    return folder


def _send(sftp: internals.SFTPClient, path: str, place: str) -> None:
    """Send a file into a command: SFTP answers each piece, which costs as much as to send it."""

    part, size = f"{place}.part", Path(path).stat().st_size
    take = f"cat > {part} && [ $(wc -c < {part}) -eq {size} ] && mv {part} {place}"
    try:
        with internals.another_channel(sftp) as channel, Path(path).open("rb") as own:
            channel.exec_command(f"sh -c '{take}'")
            while piece := own.read(_PIECE):
                channel.sendall(piece)
                # Others have their turn after each piece.
                internals.sleep(0)
            channel.shutdown_write()
            if channel.recv_exit_status():
                raise OSError(f"{place} is not whole")
    except OSError:
        # The disk may be full.
        with suppress(OSError):
            sftp.remove(part)
        raise
