"""
docker: what each place that it reads tells it, and what it does.
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

from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.cluster.runtimes.docker_spelling import (
    Flag,
    flag_name,
    members,
    split_flags,
    texts,
)
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word
from pyinfra_kube.facts.systemd import (
    Unit,
    Word,
    decoded,
    read_unit,
    split_words,
    unit_command,
    variables,
)

DAEMON_JSON = "/etc/docker/daemon.json"
DATA_ROOT = "/var/lib/docker"

# The distributions' files of options, and the variables in them that hold flags.
OPTION_FILES = {
    "/etc/default/docker": ("DOCKER_OPTS",),
    "/etc/sysconfig/docker": ("OPTIONS", "ADD_REGISTRY", "BLOCK_REGISTRY", "INSECURE_REGISTRY"),
    "/etc/sysconfig/docker-network": ("DOCKER_NETWORK_OPTIONS",),
    "/etc/sysconfig/docker-storage": ("DOCKER_STORAGE_OPTIONS",),
}

# Where systemd looks for units. It knows them as they were when it read them.
_UNIT_FOLDERS = tuple(
    f"{folder}/systemd/system" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib")
)


@dataclass(frozen=True)
class Network(Printable):
    """
    One of docker's networks.

    + bridge: the link that it uses; empty for none
    """

    name: str
    bridge: str = ""


@dataclass(frozen=True)
class DockerState(Printable):
    """
    What :class:`Docker` returns.

    + installed: whether its client is there
    + running: whether the daemon answers
    + version: of the running daemon, or else of the client
    + file_text: the content of daemon.json; ``None`` if there is none
    + file_error: why docker cannot start with daemon.json
    + option_files: text by path of the distribution's files that exist
    + unit: docker's unit, as systemd loaded it
    + unit_files: text by path of the unit's file and drop-ins, in systemd's order
    + stale: those of them that changed since systemd read them
    + words: the command line of the running daemon
    + storage_driver, cgroup_driver, root: what the running daemon uses
    + docker0: whether the link docker0 exists
    """

    installed: bool = False
    running: bool = False
    version: str = ""
    file_text: str | None = field(default=None, repr=False)
    file_error: str = ""
    option_files: dict[str, str] = field(default_factory=dict, repr=False)
    unit: Unit = field(default_factory=Unit, repr=False)
    unit_files: dict[str, str] = field(default_factory=dict, repr=False)
    stale: tuple[str, ...] = ()
    words: tuple[str, ...] = field(default=(), repr=False)
    storage_driver: str = ""
    cgroup_driver: str = ""
    root: str = ""
    docker0: bool = False

    @property
    def file(self) -> dict[str, Any]:
        """What daemon.json says."""
        if self.file_error:
            return {}
        return {key: json.loads(text) for key, text in members(self.file_text or "")}

    def values(self, path: str) -> dict[str, str]:
        """
        Return the variables of a file of options that hold flags, as docker's unit reads them.

        + path: of the file
        """

        held = variables(self.option_files.get(path, ""), self.unit.systemd)
        if not self.unit.loaded:
            return {name: held[name] for name in OPTION_FILES[path] if name in held}
        bare = {word[1:] for word in self.unit.words if re.match(r"\$[^{$]", word)}
        sources = self.unit.sources
        return {n: v for n, v in held.items() if n in bare and sources.get(n) == path}

    def flags(self) -> list[Flag]:
        """Return the flags that docker would be started with, and where each is set."""

        if self.unit.loaded:
            words = self.unit.expanded()[1:]
            return self._flags(words[1:] if words and words[0].text == "daemon" else words)
        return [
            flag
            for path in self.option_files
            for name, value in self.values(path).items()
            for flag in self._flags([Word(word, name) for word in split_words(value)], path)
        ]

    def _flags(self, words: Sequence[Word], path: str = "") -> list[Flag]:
        sources = dict.fromkeys(self.values(path), path) if path else self.unit.sources
        flags: list[Flag] = []
        rest = list(words)
        for flag in split_flags([word.text for word in words]):
            first, rest = rest[0], rest[len(flag.words) :]
            name = first.variable or next(iter(first.within), "")
            place = sources.get(name) or self._unit_file(name)
            where = f"{name} in {place}" if name else f"ExecStart= in {place}"
            ours = name if first.variable and place in OPTION_FILES else ""
            flags.append(Flag(flag.name, flag.value, flag.words, where, place, ours))
        return flags

    def _unit_file(self, variable: str) -> str:
        """The last of the unit's files that sets a variable, or the command line if empty."""

        wanted = r"^\s*ExecStart\s*=\s*\S"
        if variable:
            wanted = rf"^\s*Environment\s*=(.|\\\n)*\b{variable}="
        found = [path for path, text in self.unit_files.items() if re.search(wanted, text, re.M)]
        return found[-1] if found else "docker.service"

    def said(self, name: str) -> list[str]:
        """
        Return all values that are configured for a flag. Those of docker's unit come last.

        + name: of the flag, without dashes
        """

        file = [texts(value) for key, value in self.file.items() if flag_name(key) == name]
        flags = [flag.value for flag in self.flags() if flag.name == name]
        return [value for values in file for value in values] + flags

    @property
    def bridge(self) -> str:
        """The configured link for containers; ``none`` for no network."""

        return (self.said("bridge") or [""])[-1] or "docker0"

    @property
    def data_root(self) -> str:
        """The configured folder of its data; with user namespaces, the folder below it in use."""

        wanted = (self.said("data-root") or [DATA_ROOT])[-1]
        within = self.root == wanted or self.root.startswith(f"{wanted}/")
        return self.root if self.running and within else wanted


class Docker(FactBase[DockerState]):
    """
    Returns docker's configuration in every place, and its running state. It tells a client that is
    not installed from a daemon that is down.

    .. code:: python

        DockerState(
            installed=True,
            running=True,
            version="20.10.24",
            file_text='{"bridge": "cbr0", "iptables": false}',
            unit=Unit("loaded", 311, ("/usr/sbin/dockerd", "-H", "fd://", "$DOCKER_OPTS")),
            words=("-H", "fd://"),
            storage_driver="overlay2",
            cgroup_driver="cgroupfs",
            root="/var/lib/docker",
        )
    """

    # Options of a driver may hold a token.
    secret = True

    default = DockerState

    @override
    def command(self) -> str:
        paths = shlex.join([DAEMON_JSON, *OPTION_FILES])
        return f"""\
{DOCKER.guard}
show() {{ [ -f "$2" ] && [ -r "$2" ] && printf '%s %s %s\\n' "$1" "$(base64 -w 0 < "$2")" "$2"; }}
for path in {paths}; do show file "$path"; done
[ -e /sys/class/net/docker0 ] && echo docker0
if command -v docker >/dev/null 2>&1; then
if docker_runs && info=$(timeout 20 docker info 2>/dev/null); then
echo running
printf '%s\\n' "$info" | sed 's/^ */info /'
else
echo "client $(dockerd --version 2>/dev/null || docker --version 2>/dev/null)"
fi
fi
{unit_command("docker.service")}
of() {{ systemctl show --value --property="$1" docker.service 2>/dev/null; }}
for path in $(of FragmentPath) $(of DropInPaths); do show in "$path"; done
if [ "$(of NeedDaemonReload)" = yes ]; then
read=$(busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1 \
org.freedesktop.systemd1.Manager UnitsLoadTimestamp 2>/dev/null |
sed -n 's/^t \\([0-9]*\\)\\([0-9]\\{{6\\}}\\)$/@\\1.\\2/p')
[ -z "$read" ] || for folder in {shlex.join(_UNIT_FOLDERS)}; do
find "$folder/docker.service" "$folder"/docker.service.d/*.conf -maxdepth 0 -newermt "$read" \\
-printf 'newer %p\\n' 2>/dev/null
done
fi
pid=$(of MainPID)
if [ "${{pid:-0}}" != 0 ] && [ -r "/proc/$pid/cmdline" ]; then
tr '\\0' '\\n' < "/proc/$pid/cmdline" | sed 's/^/word /'
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> DockerState:
        said = list(output)
        lines = by_word(said)
        try:
            files = dict(_file(line) for line in lines.get("file", []))
            state = read_unit([line for line in said if line.startswith(_OF_UNIT)])
            unit_files = dict(_file(line) for line in lines.get("in", []))
        except ValueError as error:
            raise FactProcessError(str(error)) from error

        text = files.pop(DAEMON_JSON, None)
        words = lines.get("word", [])[1:]
        info = dict(line.partition(": ")[::2] for line in lines.get("info", []))
        client = re.search(r"version ([^,\s]+)", "".join(lines.get("client", [])))
        if "running" in lines and not info.get("Server Version"):
            raise FactProcessError(
                "docker info does not tell the daemon's version; where podman stands in for "
                "docker, remove podman-docker"
            )
        return DockerState(
            installed="client" in lines or "running" in lines,
            running="running" in lines,
            version=info.get("Server Version", "") or (client[1] if client else ""),
            file_text=text,
            file_error=_error(text or ""),
            option_files=files,
            unit=state,
            unit_files=unit_files,
            stale=tuple(lines.get("newer", [])),
            words=tuple(words[1:] if words[:1] == ["daemon"] else words),
            storage_driver=info.get("Storage Driver", ""),
            cgroup_driver=info.get("Cgroup Driver", ""),
            root=info.get("Docker Root Dir", ""),
            docker0="docker0" in lines,
        )


_OF_UNIT = ("version ", "unit ", "bus ", "read ")


def _file(line: str) -> tuple[str, str]:
    data, _, path = line.partition(" ")
    return path, decoded(path, data)


def _error(text: str) -> str:
    try:
        members(text)
    except ValueError as error:
        return str(error)
    return ""


class DockerNetworks(FactBase["tuple[Network, ...] | None"]):
    """
    Returns the networks of the running daemon; ``None`` if it does not run.

    .. code:: python

        (Network("bridge", "cbr0"),)
    """

    @override
    def command(self) -> str:
        # docker always has networks of its own: no answer is an error.
        return f"""\
{DOCKER.guard}
if command -v docker >/dev/null 2>&1 && docker_runs; then
networks=$(timeout 20 docker network ls --quiet) && [ -n "$networks" ] || exit 1
timeout 20 docker network inspect $networks
fi"""

    @override
    def process(self, output: Iterable[str]) -> tuple[Network, ...]:
        shown: list[dict[str, Any]] = json.loads("\n".join(output))
        option = "com.docker.network.bridge.name"
        return tuple(
            Network(item["Name"], (item.get("Options") or {}).get(option, "")) for item in shown
        )
