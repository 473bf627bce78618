"""
Manage docker for a cluster: its flags, its limits, and the end of its own network.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Container, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pyinfra import logger
from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.docker import (
    DAEMON_JSON,
    OPTION_FILES,
    Docker,
    DockerState,
    Flag,
    flag_name,
    members,
    split_flags,
    texts,
)
from pyinfra_kube.facts.files import Files
from pyinfra_kube.facts.systemd import join_words, set_variable, split_words
from pyinfra_kube.operations.files import File, plan_files
from pyinfra_kube.operations.iptables import remove_docker_rules

DROP_IN = "/etc/systemd/system/docker.service.d/kubernetes.conf"

# What a running docker reads when it starts: for services' ``config``.
CONFIG = (DAEMON_JSON, *OPTION_FILES)

# Options with the docker from which on they are needed, and what says the same to one before; "" is
# what it does anyway. It does not start with an option that it does not know.
SINCE = {"data-root": ((17, 5), "graph"), "default-ipc-mode": ((19, 3), "")}

# Drop-ins of ours: what they say of docker's flags is another operation's.
_OURS = (
    DROP_IN,
    "/etc/systemd/system/docker.service.d/flannel.conf",
    "/run/systemd/system/docker.service.d/zz-forget.conf",
)

# What docker does not start with beside another option, or what says nothing beside it.
_OF_ITS_OWN_BRIDGE = ("bip", "fixed-cidr", "fixed-cidr-v6", "default-gateway", "default-gateway-v6")


@operation()
def docker(
    options: Mapping[str, Any],
    nofile: int | None = 1_000_000,
    config: Literal["daemon.json", "options"] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    added: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Generator[StringCommand, None, None]:
    """
    Set docker's flags in one place, and its limit of open files (D1).

    Options that are not named stay as they are, and are never shown. One that is set in the other
    place moves, for docker does not start with a flag in both. One that is set where it cannot be
    moved from, as in docker's unit, stays if it says the same, and is refused if not.
    Restarting docker is left to ``services``, which does it when one of these files has changed.

    + options: by their keys in daemon.json of today's docker, which an older one gets under its own
      names; ``None`` removes one
    + nofile: open files at most, of docker and so of containers; ``None`` leaves the package's
    + config: ``daemon.json``, or ``options`` for the distribution's file of options; by default
      daemon.json from docker 1.10, which is the first to read it
    + defaults: options that nobody asked for: what the host has instead stays, and is said; to a
      list they are added
    + added: items that must be in a list, beside those of the host

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker, services

        docker.docker(
            name="Configure docker",
            options={"bridge": "cbr0", "iptables": False, "ip-masq": False},
            defaults={"data-root": "/srv/docker"},
            added={"insecure-registries": ["10.10.0.0/16"]},
        )
        services.services(
            name="Run docker",
            units=[services.Unit("docker.service", config=docker.CONFIG)],
        )
    """

    state = read(Docker)
    _refuse_unknown(state)
    asked = {**_implied(state, options), **_known(options, state.version)}
    choice = _Choice.of(state, asked, _known(defaults, state.version), added)
    place = config or ("options" if _older_than(state.version, 1, 10) else "daemon.json")
    files = _daemon_json(state, choice, place) + _option_files(state, choice, place)
    _refuse_twice(state, choice, place)
    _look_at_root(state, str(asked.get("data-root") or asked.get("graph") or ""))
    if nofile is None:
        files.append(File(DROP_IN, kind="absent"))
    else:
        text = render(DROP_IN.lstrip("/") + ".j2", nofile=nofile)
        files.append(File(DROP_IN, text))
    for line in choice.stays:
        changes.say(f"docker: {line}")
    _say_moves(state, choice, place)
    yield from run_or_noop(plan_files(files), "docker is configured as wanted")


@operation()
def docker0_absent() -> Generator[StringCommand, None, None]:
    """
    Remove what docker's own network left: the link docker0 and docker's iptables rules (H5).

    For a docker that is configured with another bridge, or none, and was restarted since. One that
    is configured before it is installed never makes them. Rules stay where docker manages iptables
    itself, and rules of anybody else always do.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker

        docker.docker0_absent(name="Remove docker's own network")
    """

    state = read(Docker)
    # Before the run docker may still have it: an earlier operation gives it another.
    if ctx_state.get().is_executing and state.running and state.bridge == "docker0":
        raise OperationError(
            "docker0: docker runs with it as its bridge; configure another, as "
            'docker.docker(options={"bridge": "cbr0"}), or "none"'
        )
    scripts: list[Script | None] = []
    # Its link tells which rules are docker's, and so goes last.
    if not state.running or state.said("iptables")[-1:] == ["false"]:
        scripts += [script for script in remove_docker_rules._inner() if isinstance(script, Script)]
    if state.docker0:
        changes.show("link docker0: present → absent")
        text = "[ ! -e /sys/class/net/docker0 ] || ip link delete docker0"
        scripts.append(Script(text, "delete the link docker0"))
    yield from run_or_noop(join(scripts), "nothing is left of docker's own network")


@operation()
def working(
    storage_drivers: Sequence[str] = (), tried: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """
    Check that docker works before anything builds on it (D2). It never changes anything, and so
    looks only when the run is under way.

    + storage_drivers: those that are good enough; empty for any
    + tried: versions that what builds on it was tried with, as ``20.10`` for all of these;
      another one is warned of (S4)

    **Example:**

    .. code:: python

        docker.working(name="Docker works", storage_drivers=["overlay2"])
    """

    problem = ""
    if ctx_state.get().is_executing:
        state = read(Docker)
        problem = _problem(state, storage_drivers)
        _warn_of_untried(state.version, tried)
    if problem:
        text = f"echo {shlex.quote(problem)} >&2\n"
        text += "journalctl --no-pager --quiet --lines=20 --unit=docker.service >&2 || true\n"
        yield Script(text + "exit 1", "show why docker does not work")
    else:
        ctx_host.get().noop("docker works")


def _problem(state: DockerState, storage_drivers: Sequence[str]) -> str:
    if not state.installed:
        return "docker is not installed"
    if not state.running:
        return "docker does not answer: docker info failed, or took longer than 20 seconds"
    if storage_drivers and state.storage_driver not in storage_drivers:
        wanted = " or ".join(storage_drivers)
        return f"docker stores with {state.storage_driver}, wanted is {wanted}"
    return ""


def _warn_of_untried(version: str, tried: Sequence[str]) -> None:
    if tried and version and not any(f"{version}.".startswith(f"{one}.") for one in tried):
        said = f"docker {version} is none of those that this was tried with: {', '.join(tried)}"
        ctx_host.get().log(said, logger.warning)


def _known(options: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The options under the names that a docker knows."""

    known = {}
    for key, value in options.items():
        since, before = SINCE.get(key, ((), ""))
        known[before if _older_than(version, *since) else key] = value
    known.pop("", None)
    return known


def _older_than(version: str, *wanted: int) -> bool:
    found = tuple(int(part) for part in re.findall(r"\d+", version)[: len(wanted)])
    return bool(found) and found < wanted


def _refuse_unknown(state: DockerState) -> None:
    """Refuse where it is not known what docker would be told."""

    if state.file_error:
        raise OperationError(
            f"{DAEMON_JSON}: it is not valid, and docker cannot start with it: {state.file_error}; "
            "mend it"
        )
    if state.unit.load == "unknown":
        raise OperationError(
            "docker.service: systemctl show does not say what docker is told; see that systemctl "
            "works"
        )
    if state.running and not state.unit.pid:
        raise OperationError(
            "/var/run/docker.sock: a docker answers that docker.service does not run, as one of "
            "a snap or of another unit; see systemctl status $(pidof dockerd), and stop and "
            "disable that"
        )
    stale = [path for path in state.stale if path not in _OURS]
    if stale:
        raise OperationError(
            f"{', '.join(stale)}: changed since systemd read it, so what docker will be told is "
            "not known; run systemctl daemon-reload"
        )


def _implied(state: DockerState, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must not be said beside the options; refuse what only its owner may take out."""

    if options.get("iptables") is False and state.said("icc") == ["false"]:
        raise OperationError(
            f"docker option icc: false in {_places(state, 'icc')}, and docker does not start with "
            "it when it leaves iptables alone, as a cluster needs; take it out"
        )
    implied: tuple[str, ...] = ()
    if options.get("bridge"):
        implied = _OF_ITS_OWN_BRIDGE
    elif options.get("bip"):
        implied = ("bridge",)
    for key in implied:
        if key not in options and _fixed(state, key):
            raise _in_the_way(key, None, _fixed(state, key))
    return {key: None for key in implied if state.said(key)}


def _places(state: DockerState, name: str) -> str:
    found = [flag.where for flag in state.flags() if flag.name == name]
    found += [DAEMON_JSON for key in state.file if flag_name(key) == name]
    return ", ".join(dict.fromkeys(found))


@dataclass(frozen=True)
class _Choice:
    """
    What is to be said, and what not.

    + wanted: options that our place must say; ``None`` for those that no place may
    + stays: lines for people, of what the host has in place of a default
    + fixed: names of flags that stay where we do not change them, and say what is wanted
    + dropped: names of flags that daemon.json must not say, for another place does
    """

    wanted: dict[str, Any] = field(default_factory=dict)
    stays: list[str] = field(default_factory=list)
    fixed: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        """The flags that no place but ours may say."""
        return {flag_name(key) for key in self.wanted} | self.fixed

    @classmethod
    def of(
        cls,
        state: DockerState,
        options: Mapping[str, Any],
        defaults: Mapping[str, Any],
        added: Mapping[str, Sequence[str]],
    ) -> _Choice:
        choice = cls()
        asked = {flag_name(key) for key in options}
        for key, value in options.items():
            choice._ask(state, key, value)
        for key in dict.fromkeys([*defaults, *added]):
            if flag_name(key) in asked:
                continue
            if key in added or isinstance(defaults[key], (list, tuple)):
                choice._add(state, key, defaults.get(key, ()), added.get(key, ()))
            elif state.said(flag_name(key)):
                choice._stay(state, key, texts(defaults[key]))
            else:
                choice.wanted[key] = defaults[key]
        return choice

    def _ask(self, state: DockerState, key: str, value: Any) -> None:
        fixed = _fixed(state, key)
        if value is None and all(flag.path.startswith("/run/") for flag in fixed):
            self.wanted[key] = None
        elif not fixed:
            self.wanted[key] = value
        elif value is not None and _same(fixed, value):
            self.fixed.add(flag_name(key))
        else:
            raise _in_the_way(key, value, fixed)

    def _add(self, state: DockerState, key: str, ours: Sequence[str], more: Sequence[str]) -> None:
        theirs = state.said(flag_name(key))
        flags, fixed = _flags(state, key), _fixed(state, key)
        missing = [item for item in more if item not in theirs]
        if fixed and missing:
            raise _in_the_way(key, missing, fixed)
        # Of what has a name, as native.cgroupdriver=systemd, theirs is the value.
        named = {item.partition("=")[0] for item in theirs if "=" in item}
        missing = [
            item
            for item in dict.fromkeys([*ours, *more])
            if item not in theirs and item.partition("=")[0] not in named
        ]
        twice = flags and key in state.file
        if theirs and (fixed or not (missing or twice)):
            self._stay(state, key, list(dict.fromkeys([*ours, *more])))
        else:
            self.wanted[key] = list(dict.fromkeys([*theirs, *missing]))

    def _stay(self, state: DockerState, key: str, ours: Sequence[str]) -> None:
        name = flag_name(key)
        theirs = [flag.value for flag in _flags(state, key)]
        if theirs and key in state.file and texts(state.file[key]) == list(ours):
            # A run before they were there wrote ours.
            self.dropped.add(name)
        theirs = theirs or state.said(name)
        if not set(ours) <= set(theirs):
            self.stays.append(f"{key} {', '.join(theirs)} stays ({_places(state, name)})")


def _flags(state: DockerState, key: str) -> list[Flag]:
    return [flag for flag in state.flags() if flag.name == flag_name(key)]


def _fixed(state: DockerState, key: str) -> list[Flag]:
    """The flags of a key that are set where we change nothing."""

    return [flag for flag in _flags(state, key) if not flag.variable]


_SWITCHED = {"1": "true", "t": "true", "0": "false", "f": "false"}


def _same(flags: Sequence[Flag], value: Any) -> bool:
    said = [flag.value for flag in flags]
    if isinstance(value, bool):
        last = said[-1].lower()
        return _SWITCHED.get(last, last) == str(value).lower()
    wanted = texts(value)
    return (
        sorted(said) == sorted(wanted) if isinstance(value, (list, dict)) else said[-1:] == wanted
    )


def _in_the_way(key: str, value: Any, flags: Sequence[Flag]) -> OperationError:
    words = " ".join(word for flag in flags for word in flag.words)
    places = ", ".join(dict.fromkeys(flag.where for flag in flags))
    wanted = "none" if value is None else " ".join(texts(value))
    return OperationError(
        f"docker option {key}: wanted is {wanted}, and {places} says {words}; docker does not "
        "start with it in two places: take it out there, and run systemctl daemon-reload"
    )


def _refuse_twice(state: DockerState, choice: _Choice, place: str) -> None:
    """Refuse what docker would not start with although we do not manage it."""

    ours, gone = choice.names, choice.names | choice.dropped
    keys = {flag_name(key): key for key in state.file if flag_name(key) not in gone}
    if place == "daemon.json":
        keys |= {flag_name(key): key for key, value in choice.wanted.items() if value is not None}
    for flag in state.flags():
        if flag.name in keys and not (flag.variable and flag.name in ours):
            raise OperationError(
                f"docker option {keys[flag.name]}: it is in {DAEMON_JSON} and in {flag.where}, and "
                "docker does not start with it in two places: take it out of one"
            )


def _say_moves(state: DockerState, choice: _Choice, place: str) -> None:
    for flag in state.flags():
        if flag.name not in choice.names or not flag.variable:
            continue
        words = " ".join(flag.words)
        if flag.name in choice.fixed or _gone(choice, flag.name):
            changes.say(f"docker: {words} of {flag.path} goes")
        elif place == "daemon.json":
            changes.show(f"docker: {words} of {flag.path} moves to {DAEMON_JSON}")
    for key, value in state.file.items():
        if _gone(choice, flag_name(key)):
            changes.say(f"docker: {key} {', '.join(texts(value))} of {DAEMON_JSON} goes")
        elif flag_name(key) in choice.names and place == "options":
            changes.show(f"docker: {key} of {DAEMON_JSON} moves to the file of options")


def _gone(choice: _Choice, name: str) -> bool:
    return any(flag_name(key) == name and value is None for key, value in choice.wanted.items())


def _daemon_json(state: DockerState, choice: _Choice, place: str) -> list[File]:
    """daemon.json with what is wanted; what others say in it stays letter by letter."""

    here = choice.wanted if place == "daemon.json" else {}
    wanted = {key: value for key, value in here.items() if value is not None}
    names = choice.names | choice.dropped
    before = members(state.file_text or "")
    after = []
    for key, text in before:
        if flag_name(key) not in names:
            after.append((key, text))
        elif key in wanted:
            value = wanted.pop(key)
            after.append((key, text if json.loads(text) == value else _json(value)))
    after += [(key, _json(value)) for key, value in wanted.items()]
    if before == after and state.file_text is None:
        return []
    stands = state.file_text if before == after and state.file_text else ""
    shown = "" if state.file_text is None else _shown(before, names), _shown(after, names)
    content = stands if stands.strip() else _object(after)
    return [File(DAEMON_JSON, content, keep=True, shown=shown)]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")


def _object(members: Sequence[tuple[str, str]]) -> str:
    lines = ",\n".join(f"  {json.dumps(key)}: {text}" for key, text in members)
    return f"{{\n{lines}\n}}\n" if lines else "{}\n"


def _look_at_root(state: DockerState, wish: str) -> None:
    """A docker that runs keeps its images and containers, unless another folder is asked for."""

    wanted = wish or state.data_root
    if not (state.running and state.root):
        return
    found = read(Files, paths=[wanted], digest=False).get(wanted)
    same = {wanted, found.real if found else wanted}
    if any(state.root == path or state.root.startswith(f"{path}/") for path in same if path):
        return
    left = f"its images and containers stay behind in {state.root}"
    if wish:
        changes.say(f"docker: data-root {state.root} → {wanted}: {left}")
        return
    raise OperationError(
        f"docker: it runs with the data-root {state.root}, and what it is told by now is {wanted}: "
        f"when it restarts, {left}; restart it yourself once they may, or set docker_root (the "
        "option data-root) to the folder that is meant"
    )


# What docker is often told, and what is no secret of anybody's.
_PLAIN = {
    *("bridge", "bip", "data-root", "debug", "default-ipc-mode", "exec-opt", "host", "icc"),
    *("insecure-registry", "ip-masq", "iptables", "live-restore", "log-driver", "log-level"),
    *("mtu", "storage-driver", "userland-proxy"),
}


def _shown(members: Sequence[tuple[str, str]], names: Container[str]) -> str:
    """What may be shown of daemon.json: values of others may be secrets."""

    return _object(
        [
            (key, text if flag_name(key) in names or flag_name(key) in _PLAIN else "(value hidden)")
            for key, text in members
        ]
    )


def _option_files(state: DockerState, choice: _Choice, place: str) -> list[File]:
    """The distribution's files without the managed flags, or with them in one."""

    home = _home(state) if place == "options" else ""
    here = _words(choice.wanted) if home else []
    held = {path: state.values(path) for path in state.option_files}
    if here:
        held.setdefault(home, {}).setdefault(OPTION_FILES[home][0], "")
    files = []
    for path, values in held.items():
        before = after = state.option_files.get(path, "")
        said, say = [], []
        for name, value in values.items():
            wanted = here if (path, name) == (home, OPTION_FILES[path][0]) else []
            flags = split_flags(split_words(value))
            managed = [word for flag in flags if flag.name in choice.names for word in flag.words]
            if managed == wanted:
                continue
            kept = [word for flag in flags if flag.name not in choice.names for word in flag.words]
            after = set_variable(after, name, join_words([*kept, *wanted]), state.unit.systemd)
            said += [f"{name}: {word}\n" for word in managed]
            say += [f"{name}: {word}\n" for word in wanted]
        if after != before:
            files.append(File(path, after, keep=True, shown=("".join(said), "".join(say))))
    return files


def _home(state: DockerState) -> str:
    """The file of options that ours go to."""

    homes = ("/etc/sysconfig/docker", "/etc/default/docker")
    found = next((path for path in homes if path in state.option_files), "")
    home = found or (homes[0] if _sysconfig(state) else homes[1])
    _require_variable(state, OPTION_FILES[home][0], home)
    return home


def _sysconfig(state: DockerState) -> bool:
    return any("OPTIONS" in word for word in state.unit.words)


def _require_variable(state: DockerState, variable: str, path: str) -> None:
    if state.unit.loaded and f"${variable}" not in state.unit.words:
        raise OperationError(
            f'config: docker.service does not read {variable} of {path}; use config="daemon.json"'
        )


def _words(options: Mapping[str, Any]) -> list[str]:
    """The options as words of a command line."""

    return [
        f"--{flag_name(key)}={text}"
        for key, value in options.items()
        if value is not None
        for text in texts(value)
    ]
