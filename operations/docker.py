"""
Manage docker for a cluster: its flags, its limits, and the end of its own network.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

from pyinfra import logger
from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.facts.docker import (
    DAEMON_JSON,
    OPTION_FILES,
    Docker,
    DockerState,
    flag_name,
    split_flags,
)
from pyinfra_kube.facts.snapshot import read
from pyinfra_kube.operations.iptables import remove_docker_rules
from pyinfra_kube.operations.util import changes
from pyinfra_kube.operations.util.files import File, plan_files
from pyinfra_kube.operations.util.operation import operation
from pyinfra_kube.operations.util.script import Script, join
from pyinfra_kube.operations.util.templates import render

DROP_IN = "/etc/systemd/system/docker.service.d/kubernetes.conf"

# What a running docker reads when it starts: for services' ``config``.
CONFIG = (DAEMON_JSON, *OPTION_FILES)

# Options with the docker from which on they are needed, and what says the same to one before; "" is
# what it does anyway. It does not start with an option that it does not know.
SINCE = {"data-root": ((17, 5), "graph"), "default-ipc-mode": ((19, 3), "")}


@operation()
def docker(
    options: Mapping[str, Any],
    nofile: int | None = 1_000_000,
    config: Literal["daemon.json", "options"] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Set docker's flags in one place, and its limit of open files (D1).

    Options that are not named stay as they are. One that is set in the other place moves, for
    docker does not start with a flag in both; one that is set in docker's unit itself is refused.
    Restarting docker is left to ``services``, which does it when one of these files has changed.

    + options: by their keys in daemon.json of today's docker, which an older one gets under its own
      names; ``None`` removes one
    + nofile: open files at most, of docker and so of containers; ``None`` leaves the package's
    + config: ``daemon.json``, or ``options`` for the distribution's file of options; by default
      daemon.json from docker 1.10, which is the first to read it

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker, services

        docker.docker(
            name="Configure docker",
            options={
                "bridge": "cbr0",
                "iptables": False,
                "ip-masq": False,
                "insecure-registries": ["10.10.0.0/16"],
            },
        )
        services.services(
            name="Run docker",
            units=[services.Unit("docker.service", config=docker.CONFIG)],
        )
    """

    state = read(Docker)
    options = _known(options, state.version)
    place = config or ("options" if _older_than(state.version, 1, 10) else "daemon.json")
    _refuse(state, options)
    files = _daemon_json(state, options, place) + _option_files(state, options, place)
    if nofile is None:
        files.append(File(DROP_IN, kind="absent"))
    else:
        text = render(DROP_IN.lstrip("/") + ".j2", nofile=nofile)
        files.append(File(DROP_IN, text))
    _say_moves(state, options, place)
    script = plan_files(files)
    if script:
        yield script
    else:
        ctx_host.get().noop("docker is configured as wanted")


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
    if not state.running or _value(state, "iptables") == "false":
        scripts += [script for script in remove_docker_rules._inner() if isinstance(script, Script)]
    if state.docker0:
        changes.show("link docker0: present → absent")
        text = "[ ! -e /sys/class/net/docker0 ] || ip link delete docker0"
        scripts.append(Script(text, "delete the link docker0"))
    script = join(scripts)
    if script:
        yield script
    else:
        ctx_host.get().noop("nothing is left of docker's own network")


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


def _refuse(state: DockerState, options: Mapping[str, Any]) -> None:
    if state.file_error:
        raise OperationError(
            f"{DAEMON_JSON} is not valid, and docker cannot start with it: {state.file_error}"
        )
    fixed = dict(split_flags(state.unit_words))
    for key in options:
        if flag_name(key) in fixed:
            raise OperationError(
                f"docker option {key}: docker.service itself gives {fixed[flag_name(key)]}; docker "
                "does not start with it in two places: take it out of ExecStart in the unit "
                "(systemctl cat docker.service) or out of the options"
            )


def _say_moves(state: DockerState, options: Mapping[str, Any], place: str) -> None:
    names = {flag_name(key) for key in options}
    for path in state.option_files:
        for name, word in split_flags(state.options(path)):
            if name in names and place == "daemon.json":
                changes.show(f"docker: {word} of {path} moves to {DAEMON_JSON}")
    for key in state.file:
        if flag_name(key) in names and place == "options":
            changes.show(f"docker: {key} of {DAEMON_JSON} moves to the file of options")


def _daemon_json(state: DockerState, options: Mapping[str, Any], place: str) -> list[File]:
    managed = {flag_name(key) for key in options}
    wanted = options if place == "daemon.json" else {}
    kept = {
        key: value
        for key, value in state.file.items()
        if flag_name(key) not in managed or key in wanted
    }
    merged = {key: value for key, value in (kept | dict(wanted)).items() if value is not None}
    if not merged and not state.file_text:
        return []
    same = merged == state.file and state.file_text
    return [File(DAEMON_JSON, state.file_text if same else json.dumps(merged, indent=2) + "\n")]


def _option_files(state: DockerState, options: Mapping[str, Any], place: str) -> list[File]:
    """The distribution's files without the managed flags, or with them in one."""

    names = {flag_name(key) for key in options}
    home = next(iter(p for p in reversed(OPTION_FILES) if p in state.option_files), "")
    home = home if home in ("/etc/sysconfig/docker", "/etc/default/docker") else ""
    home = home or ("/etc/sysconfig/docker" if _sysconfig(state) else "/etc/default/docker")
    texts = dict(state.option_files)
    if place == "options":
        _require_variable(state, OPTION_FILES[home][0], home)
        texts.setdefault(home, "")
    files = []
    for path, text in texts.items():
        wanted = _words(options) if place == "options" and path == home else []
        found = split_flags(state.options(path))
        managed = [word for name, word in found if name in names]
        if managed != wanted:
            words = [word for name, word in found if name not in names] + wanted
            text = _with_variable(text, OPTION_FILES[path][0], " ".join(words))
            files.append(File(path, text))
    return files


def _sysconfig(state: DockerState) -> bool:
    return any("OPTIONS" in word for word in state.unit_words)


def _require_variable(state: DockerState, variable: str, path: str) -> None:
    if state.unit_words and not any(word.strip("${}") == variable for word in state.unit_words):
        raise OperationError(
            f'config: docker.service does not read {variable} of {path}; use config="daemon.json"'
        )


def _words(options: Mapping[str, Any]) -> list[str]:
    """The options as words of a command line."""

    words = []
    for key, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, Mapping):
            values = [f"{name}={item}" for name, item in value.items()]
        for item in values:
            text = str(item).lower() if isinstance(item, bool) else str(item)
            if item is not None:
                words.append(f"--{flag_name(key)}={text}")
    return words


def _with_variable(text: str, variable: str, value: str) -> str:
    line = f'{variable}="{value}"'
    pattern = re.compile(rf"^[ \t]*{variable}=.*$", re.M)
    if pattern.search(text):
        return pattern.sub(lambda _: line, text)
    return text + ("" if text.endswith("\n") or not text else "\n") + line + "\n"


def _value(state: DockerState, flag: str) -> str:
    """What a flag is configured as, in whichever place."""

    words = [*state.unit_words]
    for path in state.option_files:
        words += state.options(path)
    values = {name: word.partition("=")[2] for name, word in split_flags(words)}
    for key, value in state.file.items():
        values[flag_name(key)] = str(value).lower() if isinstance(value, bool) else str(value)
    return values.get(flag, "")
