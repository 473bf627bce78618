"""
Docker: what it is told in each place that it reads, and what it really does.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

DAEMON_JSON = "/etc/docker/daemon.json"

# The distributions' option files, and the variables that hold flags there.
OPTION_FILES = {
    "/etc/default/docker": ("DOCKER_OPTS",),
    "/etc/sysconfig/docker": ("OPTIONS",),
    "/etc/sysconfig/docker-network": ("DOCKER_NETWORK_OPTIONS",),
    "/etc/sysconfig/docker-storage": ("DOCKER_STORAGE_OPTIONS",),
}

# Keys of daemon.json that take a list have a flag in the singular.
_FLAGS = {
    "add-runtimes": "add-runtime",
    "cluster-store-opts": "cluster-store-opt",
    "default-address-pools": "default-address-pool",
    "default-ulimits": "default-ulimit",
    "dns-opts": "dns-opt",
    "exec-opts": "exec-opt",
    "hosts": "host",
    "insecure-registries": "insecure-registry",
    "labels": "label",
    "log-opts": "log-opt",
    "registry-mirrors": "registry-mirror",
    "runtimes": "add-runtime",
    "storage-opts": "storage-opt",
}
_SHORT = {"-H": "host", "-b": "bridge", "-D": "debug", "-l": "log-level", "-s": "storage-driver"}
_SHORT |= {"-g": "data-root", "-G": "group", "-p": "pidfile"}
_RENAMED = {"graph": "data-root"}

# Asking a docker that is stopped would start it, where systemd keeps its socket open; even
# "docker --version" asks.
RUNS = """\
docker_runs() {
case "$(systemctl show --property=LoadState,ActiveState docker.service 2>/dev/null)" in
*LoadState=loaded*ActiveState=inactive*|*LoadState=loaded*ActiveState=failed*) return 1 ;;
*LoadState=*) ;;
*)
echo 'systemctl does not tell whether docker runs' >&2
exit 1 ;;
esac
}
"""


def flag_name(key: str) -> str:
    """Return the flag of a daemon.json key, without dashes: ``insecure-registry``."""

    name = _FLAGS.get(key, key)
    return _RENAMED.get(name, name)


def split_flags(words: Sequence[str]) -> list[tuple[str, str]]:
    """
    Return a command line's flags as ``(name, word)``, each word whole: ``--bridge=cbr0``.

    + words: without the program's name; a value that is a word of its own is joined to its flag
    """

    flags: list[tuple[str, str]] = []
    for word in words:
        head = word.partition("=")[0]
        if word.startswith("$"):
            flags.append((word, word))
        elif head.startswith("--"):
            flags.append((_RENAMED.get(head[2:], head[2:]), word))
        elif head in _SHORT:
            flags.append((_SHORT[head], word))
        elif flags and "=" not in flags[-1][1]:
            name, flag = flags[-1]
            long = flag if flag.startswith("--") else f"--{name}"
            flags[-1] = (name, f"{long}={word}")
        else:
            flags.append((word, word))
    return flags


@dataclass(frozen=True)
class Network:
    """
    One of docker's networks.

    + bridge: the link it uses, empty for none
    + subnets: as ``172.17.0.0/16``
    """

    name: str
    driver: str
    bridge: str = ""
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True)
class DockerState:
    """
    What :class:`Docker` returns.

    + installed: whether its client is there
    + running: whether the daemon answers
    + version: of the daemon when it runs, else of the client
    + file: the content of daemon.json
    + file_text: the same as it stands there
    + file_error: why daemon.json cannot be read as JSON
    + option_files: text by path, of the distribution's files that exist
    + unit_words: the unit's command line with drop-ins applied, variables unexpanded
    + words: the command line of the daemon that runs
    + nofile: its limit of open files, -1 for unlimited
    + storage_driver, cgroup_driver, root: what the running daemon uses
    + docker0: whether the link docker0 exists
    """

    installed: bool = False
    running: bool = False
    version: str = ""
    file: dict[str, Any] = field(default_factory=dict)
    file_text: str = ""
    file_error: str = ""
    option_files: dict[str, str] = field(default_factory=dict)
    unit_words: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    nofile: int | None = None
    storage_driver: str = ""
    cgroup_driver: str = ""
    root: str = ""
    docker0: bool = False

    def options(self, path: str) -> list[str]:
        """Return the flags that one of the option files gives."""

        found = []
        for line in self.option_files.get(path, "").splitlines():
            name, _, value = line.strip().partition("=")
            if name in OPTION_FILES.get(path, ()):
                found = shlex.split(value)
        return [word for text in found for word in text.split()]

    def configured(self) -> dict[str, str]:
        """Return where each flag is set: its name and daemon.json, an option file or the unit."""

        places = {name: "docker.service" for name, _ in split_flags(self.unit_words)}
        for path in self.option_files:
            places |= {name: path for name, _ in split_flags(self.options(path))}
        return places | {flag_name(key): DAEMON_JSON for key in self.file}

    @property
    def bridge(self) -> str:
        """The link that it is configured to join containers to; ``none`` for no network."""

        given = {"bridge": self.file["bridge"]} if "bridge" in self.file else {}
        words = [*self.unit_words]
        for path in self.option_files:
            words += self.options(path)
        flags = {name: word.partition("=")[2] for name, word in split_flags(words)}
        return str(given.get("bridge") or flags.get("bridge") or "docker0")


class Docker(FactBase[DockerState]):
    """
    Returns docker's configuration in every place, and its running state. A client that is not
    installed and a daemon that is down are different answers.

    .. code:: python

        DockerState(
            installed=True,
            running=True,
            version="20.10.24",
            file={"bridge": "cbr0", "iptables": False},
            unit_words=("-H", "fd://", "$DOCKER_OPTS"),
            words=("-H", "fd://"),
            nofile=1000000,
            storage_driver="overlay2",
            cgroup_driver="cgroupfs",
            root="/var/lib/docker",
        )
    """

    @staticmethod
    @override
    def default() -> DockerState:
        return DockerState()

    @override
    def command(self) -> str:
        paths = shlex.join([DAEMON_JSON, *OPTION_FILES])
        return f"""\
{RUNS}
for path in {paths}; do
[ -r "$path" ] && {{ echo "file $path"; sed 's/^/line /' "$path"; echo; }}
done
[ -e /sys/class/net/docker0 ] && echo docker0
if command -v docker >/dev/null 2>&1; then
if docker_runs && info=$(timeout 20 docker info 2>/dev/null); then
echo running
printf '%s\\n' "$info" | sed 's/^ */info /'
else
echo "client $(dockerd --version 2>/dev/null || docker --version 2>/dev/null)"
fi
fi
if shown=$(systemctl show --property=LoadState,ExecStart,MainPID docker.service 2>/dev/null); then
case $shown in *LoadState=*) ;; *) exit 1 ;; esac
printf '%s\\n' "$shown" | sed 's/^/unit /'
pid=$(printf '%s\\n' "$shown" | sed -n 's/^MainPID=//p')
if [ "${{pid:-0}}" != 0 ] && [ -r "/proc/$pid/cmdline" ]; then
tr '\\0' '\\n' < "/proc/$pid/cmdline" | sed 's/^/word /'
sed -n 's/^Max open files *\\([^ ]*\\).*/nofile \\1/p' "/proc/$pid/limits"
fi
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> DockerState:
        lines: dict[str, list[str]] = {}
        files: dict[str, list[str]] = {}
        path = ""
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "file":
                path = rest
                files[path] = []
            elif word == "line":
                files[path].append(rest)
            elif word:
                lines.setdefault(word, []).append(rest)

        text = "".join(f"{line}\n" for line in files.pop(DAEMON_JSON, []))
        file, error = _json_object(text)
        info = dict(line.partition(": ")[::2] for line in lines.get("info", []))
        client = re.search(r"version ([^,\s]+)", "".join(lines.get("client", [])))
        nofile = "".join(lines.get("nofile", []))
        if "running" in lines and not info.get("Server Version"):
            raise FactProcessError("docker info does not tell the daemon's version")
        return DockerState(
            installed="client" in lines or "running" in lines,
            running="running" in lines,
            version=info.get("Server Version", "") or (client[1] if client else ""),
            file=file,
            file_text=text,
            file_error=error,
            option_files={name: "".join(f"{line}\n" for line in f) for name, f in files.items()},
            unit_words=_exec_start(lines.get("unit", [])),
            words=_without_program(lines.get("word", [])),
            nofile=-1 if nofile == "unlimited" else int(nofile) if nofile else None,
            storage_driver=info.get("Storage Driver", ""),
            cgroup_driver=info.get("Cgroup Driver", ""),
            root=info.get("Docker Root Dir", ""),
            docker0="docker0" in lines,
        )


class DockerNetworks(FactBase["tuple[Network, ...] | None"]):
    """
    Returns the networks of the daemon that runs; ``None`` when it does not.

    .. code:: python

        (Network("bridge", "bridge", "cbr0", ("10.10.1.0/24",)),)
    """

    @override
    def command(self) -> str:
        # docker has networks of its own, always.
        return f"""\
{RUNS}
if command -v docker >/dev/null 2>&1 && docker_runs; then
networks=$(timeout 20 docker network ls --quiet) && [ -n "$networks" ] || exit 1
timeout 20 docker network inspect $networks
fi"""

    @override
    def process(self, output: Iterable[str]) -> tuple[Network, ...]:
        shown: list[dict[str, Any]] = json.loads("\n".join(output))
        return tuple(
            Network(
                name=item["Name"],
                driver=item["Driver"],
                bridge=(item.get("Options") or {}).get("com.docker.network.bridge.name", ""),
                subnets=tuple(
                    pool["Subnet"]
                    for pool in (item.get("IPAM") or {}).get("Config") or []
                    if "Subnet" in pool
                ),
            )
            for item in shown
        )


def _json_object(text: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        return {}, str(error)
    return (value, "") if isinstance(value, dict) else ({}, "it is not an object")


def _exec_start(shown: list[str]) -> tuple[str, ...]:
    """The words of ``ExecStart={ path=… ; argv[]=/usr/bin/dockerd -H fd:// ; … }``."""

    matches = [re.search(r"argv\[\]=(.*?) ; ", line) for line in shown]
    words = [word for match in matches if match for word in match[1].split()]
    return _without_program(words)


def _without_program(words: Sequence[str]) -> tuple[str, ...]:
    rest = words[1:]
    return tuple(rest[1:] if rest[:1] == ["daemon"] else rest)
