"""
Manage docker for a cluster: its options, its limits, and the removal of its own network.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pyinfra import logger
from pyinfra.api import OperationError, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, join, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.docker import DAEMON_JSON, OPTION_FILES, Docker, DockerState
from pyinfra_kube.facts.files import Files
from pyinfra_kube.operations import docker_on_flannel
from pyinfra_kube.operations.docker_files import daemon_json, option_files
from pyinfra_kube.operations.docker_options import (
    Choice,
    for_log_driver,
    implied,
    known,
    place_for,
    refuse_twice,
    say_moves,
)
from pyinfra_kube.operations.docker_rules import docker_rules_absent
from pyinfra_kube.operations.files import File, plan_files

DROP_IN = "/etc/systemd/system/docker.service.d/kubernetes.conf"

# What docker reads when it starts: for the ``config`` of a ``services.Unit``.
CONFIG = (DAEMON_JSON, *OPTION_FILES)

_OUR_DROP_INS = (DROP_IN, docker_on_flannel.DROP_IN, docker_on_flannel.WITHOUT_BRIDGE)


@operation()
def docker(
    options: Mapping[str, Any],
    nofile: int | None = 1_000_000,
    config: Literal["daemon.json", "options"] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    added: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Generator[StringCommand, None, None]:
    """
    Set docker's options in one place, and its limit of open files.

    Options that are not named stay as they are and are never shown. docker does not start with an
    option in two places: one that is set in another place moves. One that cannot move, such as a
    flag in docker's unit, stays if it has the wanted value, and is refused otherwise. Restarting
    docker is left to ``services``, which does it if one of these files has changed.

    + options: by their keys in daemon.json of today's docker; an older docker gets the names that
      it knows. ``None`` removes an option
    + nofile: highest number of open files, of docker and of containers; ``None`` keeps the
      package's limit
    + config: ``daemon.json``, or ``options`` for the distribution's file of options; by default
      daemon.json from docker 1.10, the first to read it
    + defaults: options that the host may override: its own values stay, and are shown. A list is
      added to that of the host; ``log-opts`` are left out where docker's log driver is another than
      json-file
    + added: items that a list must have beside those of the host

    Fails if docker would not start with its options, if it is not known what docker will be told,
    or if a running docker would lose its images and containers.

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
    options, defaults = for_log_driver(state, options, defaults)
    asked = {**implied(state, options), **known(options, state.version)}
    choice = Choice.of(state, asked, known(defaults, state.version), added)
    place = config or place_for(state.version)
    files = daemon_json(state, choice, place) + option_files(state, choice, place)
    refuse_twice(state, choice, place)
    _check_root(state, str(asked.get("data-root") or asked.get("graph") or ""))
    if nofile is None:
        files.append(File(DROP_IN, kind="absent"))
    else:
        text = render(DROP_IN.lstrip("/") + ".j2", nofile=nofile)
        files.append(File(DROP_IN, text))
    for line in choice.stays:
        changes.say(f"docker: {line}")
    say_moves(state, choice, place)
    yield from run_or_noop(plan_files(files), "docker is configured as wanted")


@operation()
def docker0_absent() -> Generator[StringCommand, None, None]:
    """
    Remove what docker's own network left: the link docker0 and docker's iptables rules.

    docker must have been configured with another bridge or none, and restarted since. A docker that
    is configured before it is installed never makes them. Rules stay if docker manages iptables
    itself; rules of anybody else always stay.

    Fails if docker runs with docker0 as its bridge.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import docker

        docker.docker0_absent(name="Remove docker's own network")
    """

    state = read(Docker)
    # In the plan docker may still have it: an earlier operation of the run changes that.
    if ctx_state.get().is_executing and state.running and state.bridge == "docker0":
        raise OperationError(
            "docker0: docker runs with it as its bridge; configure another, as "
            'docker.docker(options={"bridge": "cbr0"}), or "none"'
        )
    scripts: list[Script | None] = []
    # The link tells which rules are docker's, so it goes last.
    if not state.running or state.said("iptables")[-1:] == ["false"]:
        scripts += [script for script in docker_rules_absent._inner() if isinstance(script, Script)]
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
    Check that docker works before anything builds on it. It changes nothing, and looks only during
    a run.

    + storage_drivers: allowed storage drivers; empty for any
    + tried: versions that are known to work, such as ``20.10`` for all of 20.10; another version
      gives a warning

    Fails with docker's recent log lines.

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


def _refuse_unknown(state: DockerState) -> None:
    """Refuse to plan if it is not known what docker will be told."""

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
            f"{DOCKER.socket}: a docker answers that docker.service does not run, as one of "
            "a snap or of another unit; see systemctl status $(pidof dockerd), and stop and "
            "disable that"
        )
    stale = [path for path in state.stale if path not in _OUR_DROP_INS]
    if stale:
        raise OperationError(
            f"{', '.join(stale)}: changed since systemd read it, so what docker will be told is "
            "not known; run systemctl daemon-reload"
        )


def _check_root(state: DockerState, wish: str) -> None:
    """Refuse to move a running docker away from its images and containers unless asked to."""

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
