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

from pyinfra_kube.engine.printable import Printable
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

# The distributions' option files, and the variables that hold flags there.
OPTION_FILES = {
    "/etc/default/docker": ("DOCKER_OPTS",),
    "/etc/sysconfig/docker": ("OPTIONS", "ADD_REGISTRY", "BLOCK_REGISTRY", "INSECURE_REGISTRY"),
    "/etc/sysconfig/docker-network": ("DOCKER_NETWORK_OPTIONS",),
    "/etc/sysconfig/docker-storage": ("DOCKER_STORAGE_OPTIONS",),
}

# Keys of daemon.json that take a list or an object have a flag in the singular.
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

# What docker takes for a value of some keys of daemon.json.
_OBJECTS = ("cluster-store-opts", "default-ulimits", "log-opts", "runtimes")
_LISTS = (*(key for key in _FLAGS if key not in (*_OBJECTS, "add-runtimes")), "dns", "dns-search")
_SWITCHES = (
    *("debug", "icc", "init", "ip-forward", "ip-masq", "iptables", "ip6tables", "ipv6"),
    *("live-restore", "no-new-privileges", "selinux-enabled", "tls", "tlsverify", "userland-proxy"),
)
_TEXTS = (
    *("bip", "bridge", "data-root", "default-ipc-mode", "fixed-cidr", "graph", "log-driver"),
    "storage-driver",
)
_KINDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(_OBJECTS, (dict, "an object")),
    **dict.fromkeys(_LISTS, (list, "a list")),
    **dict.fromkeys(_SWITCHES, (bool, "true or false")),
    **dict.fromkeys(_TEXTS, (str, "a string")),
    "mtu": (int, "a whole number"),
}

# Where systemd looks for units; what it knows of them is what was there when it read them.
_UNIT_FOLDERS = tuple(
    f"{folder}/systemd/system" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib")
)

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


@dataclass(frozen=True)
class Flag:
    """
    One flag of docker's.

    + name: without dashes, of the long form
    + value: as ``cbr0``; ``true`` for a switch that has none
    + words: the words of the command line that say so
    + where: which place says so, for people; empty for a command line
    + path: of the file there
    + variable: that holds it in one of the distribution's files of options, which we may change
    """

    name: str
    value: str
    words: tuple[str, ...]
    where: str = ""
    path: str = ""
    variable: str = ""


def split_flags(words: Sequence[str]) -> list[Flag]:
    """
    Return the flags of a command line.

    + words: without the program's name
    """

    return [Flag(name, _value(parts), tuple(parts)) for name, parts in _parts(words)]


def _parts(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    parts: list[tuple[str, list[str]]] = []
    for word in words:
        long = word.startswith("--")
        if long:
            name = word[2:].partition("=")[0]
            parts.append((_RENAMED.get(name, name), [word]))
        elif word.startswith("-") and word != "-":
            parts.append((_SHORT.get(word[:2], word[:2]), [word]))
        elif parts and _takes_more(*parts[-1]):
            parts[-1][1].append(word)
        else:
            parts.append((word, [word]))
    return parts


def _takes_more(name: str, parts: list[str]) -> bool:
    """Whether the next word is the value of a flag."""

    whole = len(parts) > 1 or name in _SWITCHES or not parts[0].startswith("-")
    return not (whole or _inline(parts[0]))


def _inline(word: str) -> str:
    """The value of a flag within its word, with the equals sign: ``=cbr0``, or ``cbr0`` of -b."""

    return word[2:] if not word.startswith("--") else "".join(word.partition("=")[1:])


def _value(parts: Sequence[str]) -> str:
    found = parts[1] if len(parts) > 1 else _inline(parts[0]).removeprefix("=")
    return found or ("" if "=" in parts[0] or len(parts) > 1 else "true")


def members(text: str) -> list[tuple[str, str]]:
    """
    Return the keys of an object in JSON with their values as they are written there.

    + text: of the object

    Raises ``ValueError`` for what docker does not start with.

    ```
    >>> members('{"a": 1.50, "b": {"c" : []}}')
    [('a', '1.50'), ('b', '{"c" : []}')]
    ```
    """

    if not text.strip():
        return []
    decoder = json.JSONDecoder(parse_constant=_no_json)
    try:
        value = decoder.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    for key, (kind, wanted) in _KINDS.items():
        of = value.get(key)
        right = isinstance(of, kind) and (kind is bool or not isinstance(of, bool))
        if of is not None and not right:
            raise ValueError(f"{key} is not {wanted}")
    return _members(text, decoder)


def _no_json(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _members(text: str, decoder: json.JSONDecoder) -> list[tuple[str, str]]:
    """The members of an object that is right."""

    found = []
    at = _skip(text, 0, "{")
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at, ":")
        _, end = decoder.raw_decode(text, at)
        found.append((key, text[at:end]))
        at = _skip(text, end, ",")
    return found


def _skip(text: str, at: int, letter: str) -> int:
    while text[at] in f" \t\n\r{letter}":
        at += 1
    return at


@dataclass(frozen=True)
class Network(Printable):
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
class DockerState(Printable):
    """
    What :class:`Docker` returns.

    + installed: whether its client is there
    + running: whether the daemon answers
    + version: of the daemon when it runs, else of the client
    + file_text: the content of daemon.json; ``None`` where there is none
    + file_error: why docker cannot start with daemon.json
    + option_files: text by path, of the distribution's files that exist
    + unit: what systemd makes of its unit
    + unit_files: text by path, of the unit's file and drop-ins, in systemd's order
    + stale: those that changed after systemd read them, where it would tell other things now
    + words: the command line of the daemon that runs
    + nofile: its limit of open files, -1 for unlimited
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
    nofile: int | None = None
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
        """Return the variables of an option file that hold flags, as docker's unit reads them."""

        held = variables(self.option_files.get(path, ""), self.unit.systemd)
        if not self.unit.loaded:
            return {name: held[name] for name in OPTION_FILES[path] if name in held}
        bare = {word[1:] for word in self.unit.words if re.match(r"\$[^{$]", word)}
        sources = self.unit.sources
        return {n: v for n, v in held.items() if n in bare and sources.get(n) == path}

    def flags(self) -> list[Flag]:
        """Return the flags that it would be started with, and where each is set."""

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
        """The last of the unit's files that sets a variable, or the command line."""

        wanted = r"^\s*ExecStart\s*=\s*\S"
        if variable:
            wanted = rf"^\s*Environment\s*=(.|\\\n)*\b{variable}="
        found = [path for path, text in self.unit_files.items() if re.search(wanted, text, re.M)]
        return found[-1] if found else "docker.service"

    def said(self, name: str) -> list[str]:
        """Return all values of a flag, as it is configured: what its unit says is the last word."""

        file = [texts(value) for key, value in self.file.items() if flag_name(key) == name]
        flags = [flag.value for flag in self.flags() if flag.name == name]
        return [value for values in file for value in values] + flags

    @property
    def bridge(self) -> str:
        """The link that it is configured to join containers to; ``none`` for no network."""

        return (self.said("bridge") or [""])[-1] or "docker0"

    @property
    def data_root(self) -> str:
        """Where it keeps what it has, as it is configured; with user namespaces that is below."""

        wanted = (self.said("data-root") or [DATA_ROOT])[-1]
        within = self.root == wanted or self.root.startswith(f"{wanted}/")
        return self.root if self.running and within else wanted


def texts(value: Any) -> list[str]:
    """
    Return a value of daemon.json as flags say it.

    + value: a list has several
    """

    if isinstance(value, dict):
        return [f"{name}={item}" for name, item in value.items()]
    items = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in items]


class Docker(FactBase[DockerState]):
    """
    Returns docker's configuration in every place, and its running state. A client that is not
    installed and a daemon that is down are different answers.

    .. code:: python

        DockerState(
            installed=True,
            running=True,
            version="20.10.24",
            file_text='{"bridge": "cbr0", "iptables": false}',
            unit=Unit("loaded", 311, ("/usr/sbin/dockerd", "-H", "fd://", "$DOCKER_OPTS")),
            words=("-H", "fd://"),
            nofile=1000000,
            storage_driver="overlay2",
            cgroup_driver="cgroupfs",
            root="/var/lib/docker",
        )
    """

    # A driver's options may hold a token.
    secret = True

    @staticmethod
    @override
    def default() -> DockerState:
        return DockerState()

    @override
    def command(self) -> str:
        paths = shlex.join([DAEMON_JSON, *OPTION_FILES])
        return f"""\
{RUNS}
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
sed -n 's/^Max open files *\\([^ ]*\\).*/nofile \\1/p' "/proc/$pid/limits"
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> DockerState:
        lines: dict[str, list[str]] = {}
        unit: list[str] = []
        for line in output:
            word, _, rest = line.partition(" ")
            if word in ("version", "unit", "bus", "read"):
                unit.append(line)
            elif word:
                lines.setdefault(word, []).append(rest)
        try:
            files = dict(_file(line) for line in lines.get("file", []))
            state = read_unit(unit)
            unit_files = dict(_file(line) for line in lines.get("in", []))
        except ValueError as error:
            raise FactProcessError(str(error)) from error

        text = files.pop(DAEMON_JSON, None)
        info = dict(line.partition(": ")[::2] for line in lines.get("info", []))
        client = re.search(r"version ([^,\s]+)", "".join(lines.get("client", [])))
        nofile = "".join(lines.get("nofile", []))
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
            words=_without_program(lines.get("word", [])),
            nofile=-1 if nofile == "unlimited" else int(nofile) if nofile else None,
            storage_driver=info.get("Storage Driver", ""),
            cgroup_driver=info.get("Cgroup Driver", ""),
            root=info.get("Docker Root Dir", ""),
            docker0="docker0" in lines,
        )


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


def _without_program(words: Sequence[str]) -> tuple[str, ...]:
    rest = words[1:]
    return tuple(rest[1:] if rest[:1] == ["daemon"] else rest)
