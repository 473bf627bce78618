"""The lab: hosts of its own on one machine, all made alike and all gone afterwards."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pyinfra_kube.cluster.releases import Release
from tests.lab import cgroups, families, kubernetes, network, settings, state
from tests.lab.cache import alone
from tests.lab.host import Host
from tests.lab.machine import LabError, require_root, require_tools, run, say
from tests.lab.places import DISKS, HERE, KNOWN_HOSTS, NAME, RUN, SSH_KEY, SWITCH
from tests.lab.state import HostRecord, State

HOSTS = ("kube-master", "kube-node-1", "kube-node-2")

_OUTSIDE = "outside"
_TOOLS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "rsync": "rsync",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
}


class Lab:
    """The lab that is up on this machine; there is one at most."""

    def __init__(self, up: State) -> None:
        self._state = up

    @classmethod
    def up(
        cls,
        names: Iterable[str] = HOSTS,
        *,
        family: str = "debian",
        runtime: str = "",
        release: str | None = "",
        more: Sequence[str] = (),
    ) -> Lab:
        """Make hosts, ready to be used.

        + release: of Kubernetes, to be installed on them, such as `1.20`; by default the one that
          the environment chooses; `None` for hosts only
        + more: releases that the repository of Fedora-like hosts has too
        """
        require_root()
        if not re.fullmatch("[a-z0-9]{1,7}", NAME):
            raise LabError(f"PYINFRA_KUBE_LAB={NAME}: a name has 1 to 7 small letters or digits.")
        with state.held():
            if state.load():
                raise LabError("The lab is up already. Take it down first: make lab-down")
            require_tools(_TOOLS)
            found = None if release is None else str(kubernetes.release(release))
            # Two labs that choose at the same moment must not choose the same network.
            with alone("network"):
                chosen = network.choose()
                lab = cls(State(chosen, found, settings.change()))
                RUN.mkdir(mode=0o755, exist_ok=True)
                lab._state.save()
                with _down_if_it_fails():
                    network.make(chosen)
            with _down_if_it_fails():
                lab._open()
                if names:
                    lab.add(*names, family=family, runtime=runtime, more=more)
            return lab

    @classmethod
    def load(cls) -> Lab:
        """The lab that is up."""
        found = state.load()
        if not found:
            raise LabError("The lab is down. Bring it up: make lab-up")
        return cls(found)

    @property
    def hosts(self) -> dict[str, HostRecord]:
        return dict(self._state.hosts)

    @property
    def network(self) -> network.Network:
        return self._state.network

    @property
    def kubernetes(self) -> Path | None:
        """The folder of binaries and images of the release that is provided."""
        return Path(self._state.kubernetes) if self._state.kubernetes else None

    def provide(self, release: str) -> None:
        """Have another release to install from now on. What hosts run stays as it is.

        + release: such as `1.20`
        """
        with state.held():
            self._state.kubernetes = str(kubernetes.release(release))
            self._state.save()

    @property
    def release(self) -> Release:
        """The release of these binaries."""
        if not self.kubernetes:
            raise LabError("This lab has no Kubernetes.")
        return Release.of((self.kubernetes / "version").read_text().strip())

    def host(self, name: str) -> Host:
        record = self._state.hosts.get(name)
        if not record:
            raise LabError(f"No such host: {name}. There are: {', '.join(self._state.hosts)}.")
        return Host(record, self._state.network)

    def add(
        self, *names: str, family: str = "debian", runtime: str = "", more: Sequence[str] = ()
    ) -> None:
        """Further hosts, blank and ready."""
        with state.held():
            releases = [kubernetes.release(one) for one in more]
            base = families.base(family, runtime=runtime, release=self.kubernetes, more=releases)
            say(f"starting {len(names)} hosts" if len(names) > 1 else f"starting {names[0]}")
            for name in names:
                self._check_new(name)
                taken = {record.address for record in self._state.hosts.values()}
                address = self._state.network.free_address(taken)
                self._state.hosts[name] = HostRecord(
                    *(name, str(address), family, runtime),
                    *(str(base.usr), str(base.apt), str(base.disk)),
                )
            self._state.save()
            self._start_blank(names)
            say("ready")

    def reset(self, names: Iterable[str] | None = None) -> None:
        """Make hosts (all of them, if none is named) blank again, whatever was done to them."""
        with state.held():
            chosen = list(self._state.hosts) if names is None else list(names)
            _each(lambda name: self.host(name).power_off(), chosen)
            self._start_blank(chosen)

    def remove(self, name: str) -> None:
        with state.held():
            host = self.host(name)
            host.remove()
            known = KNOWN_HOSTS.read_text().splitlines(keepends=True)
            KNOWN_HOSTS.write_text(
                "".join(line for line in known if line.split()[0] != host.record.ip)
            )
            del self._state.hosts[name]
            self._state.save()

    def exec(
        self, name: str, command: str | Sequence[str], *, timeout: float | None = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a host, past its network and its sshd."""
        return self.host(name).exec(command, timeout=timeout)

    def reboot(self, name: str) -> None:
        """An orderly reboot; returns when the host is ready again."""
        with state.held():
            self.host(name).reboot()

    def power_off(self, name: str) -> None:
        """Pull a host's plug."""
        with state.held():
            self.host(name).power_off()

    def start(self, name: str) -> None:
        """Power a host on; its disk is as it was."""
        with state.held():
            host = self.host(name)
            host.start()
            host.wait_until_ready()

    def cut(self, name: str) -> None:
        """Pull a host's network cable."""
        with state.held():
            network.cut(self.host(name).record.address)

    def mend(self, name: str) -> None:
        """Plug a host's network cable in again."""
        with state.held():
            network.mend(self.host(name).record.address)

    def fill_disk(self, name: str) -> None:
        """Leave no free block on a host's disk."""
        with state.held():
            self.host(name).fill_disk()

    def free_disk(self, name: str) -> None:
        """Take back what `fill_disk` took."""
        with state.held():
            self.host(name).free_disk()

    def _check_new(self, name: str) -> None:
        if name in self._state.hosts:
            raise LabError(f"There is a host named {name} already.")
        if not re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) or name == _OUTSIDE:
            raise LabError(f"{name} cannot be the name of a host.")

    def _start_blank(self, names: Iterable[str]) -> None:
        def start(name: str) -> None:
            host = self.host(name)
            host.make()
            host.start()
            host.wait_until_ready()

        _each(start, names)

    def _open(self) -> None:
        """Make what hosts need from the start: a key for their doors, and a gateway."""
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pyinfra-kube lab", "-f", SSH_KEY)
        KNOWN_HOSTS.touch()
        cgroups.make(_OUTSIDE)
        with (RUN / "outside.log").open("wb") as log:
            subprocess.Popen(
                ["unshare", "--net", HERE / "host/outside.sh"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    "CGROUPS": " ".join(map(str, cgroups.groups(_OUTSIDE))),
                    "SWITCH": str(SWITCH),
                    "GATEWAY": str(self.network.gateway),
                    "ADDRESS": str(self.network.outside_address),
                    "PYTHON": sys.executable,
                },
            )


def down() -> None:
    """Take the lab away, whatever of it is there."""
    require_root()
    with state.held():
        found = state.load()
        for name in cgroups.left():
            _end(name)
        cgroups.remove_all()
        # Without a state nothing tells whether a link of this name is the lab's.
        if found:
            network.remove(found.network)
            settings.put_back(found.settings)
        network.remove_switch()
        shutil.rmtree(DISKS, ignore_errors=True)
        shutil.rmtree(RUN, ignore_errors=True)


@contextmanager
def _down_if_it_fails() -> Iterator[None]:
    try:
        yield
    except BaseException:
        say("that failed; taking down what there is of the lab")
        down()
        raise


def _end(name: str) -> None:
    """End all that runs in one of the lab's own control groups."""
    deadline = time.monotonic() + 15
    while remaining := cgroups.processes(name):
        for pid in remaining:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(f"{name} still runs processes: {remaining}")
        time.sleep(0.02)
    cgroups.remove(name)


def _each(do: Callable[[str], None], names: Iterable[str]) -> None:
    """The same for several hosts, at once."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        for _ in pool.map(do, names):
            pass
