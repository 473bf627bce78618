"""
Which options docker must be told, which of the host's own stay, and which are in the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import OperationError

from pyinfra_kube.cluster.runtimes.docker_spelling import Flag, flag_name, texts
from pyinfra_kube.engine import changes
from pyinfra_kube.facts.docker import DAEMON_JSON, DockerState

# docker does not start with an option that it does not know. By option: the first version that
# takes it, and its name before that; "" where an older docker behaves so anyway.
SINCE = {
    "data-root": ((17, 5), "graph"),
    "default-ipc-mode": ((19, 3), ""),
    # Bounds of json-file's logs.
    "log-opts": ((1, 8), ""),
}
_LOG_DRIVER = "json-file"

# docker does not start with some of these beside "bridge", and ignores the others.
_OF_ITS_OWN_BRIDGE = ("bip", "fixed-cidr", "fixed-cidr-v6", "default-gateway", "default-gateway-v6")


def known(options: Mapping[str, Any], version: str) -> dict[str, Any]:
    """
    Return options under the names that a version of docker knows.

    + options: by today's keys of daemon.json
    + version: of the host's docker; empty for today's
    """

    found = {}
    for key, value in options.items():
        since, before = SINCE.get(key, ((), ""))
        found[before if _older_than(version, *since) else key] = value
    found.pop("", None)
    return found


def place_for(version: str) -> str:
    """
    Return where a version of docker is told its options: ``daemon.json`` or ``options``.

    + version: of the host's docker; empty for today's
    """

    return "options" if _older_than(version, 1, 10) else "daemon.json"


def _older_than(version: str, *wanted: int) -> bool:
    found = tuple(int(part) for part in re.findall(r"\d+", version)[: len(wanted)])
    return bool(found) and found < wanted


def implied(state: DockerState, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the options that docker must not have beside others, each as ``None``.

    + state: of docker on the host
    + options: that are asked for

    Raises ``OperationError`` for one that is set where only the host's owner may remove it.
    """

    if options.get("iptables") is False and state.said("icc") == ["false"]:
        raise OperationError(
            f"docker option icc: false in {_places(state, 'icc')}, and docker does not start with "
            "it when it leaves iptables alone, as a cluster needs; take it out"
        )
    excluded: tuple[str, ...] = ()
    if options.get("bridge"):
        excluded = _OF_ITS_OWN_BRIDGE
    elif options.get("bip"):
        excluded = ("bridge",)
    for key in excluded:
        if key not in options and _fixed(state, key):
            raise _in_the_way(key, None, _fixed(state, key))
    return {key: None for key in excluded if state.said(key)}


def for_log_driver(
    state: DockerState, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Return options and defaults without default options of logs where docker logs by another driver
    than json-file: it does not start with options that its driver does not know.

    + state: of docker on the host
    + options: that are asked for
    + defaults: that the host's own options take the place of
    """

    driver = options.get("log-driver") or (state.said("log-driver") or [_LOG_DRIVER])[-1]
    if driver == _LOG_DRIVER or "log-opts" not in defaults:
        return {**options}, {**defaults}
    # An earlier run wrote it, before the host had another driver.
    ours = state.file.get("log-opts") == defaults["log-opts"]
    gone = {"log-opts": None} if ours else {}
    return {**gone, **options}, {key: one for key, one in defaults.items() if key != "log-opts"}


def _places(state: DockerState, name: str) -> str:
    found = [flag.where for flag in state.flags() if flag.name == name]
    found += [DAEMON_JSON for key in state.file if flag_name(key) == name]
    return ", ".join(dict.fromkeys(found))


@dataclass(frozen=True)
class Choice:
    """
    What docker must be told, and what not.

    + wanted: options that our place must have; ``None`` for those that no place may have
    + stays: lines for people about what the host has instead of a default
    + fixed: names of flags that are set as wanted where we change nothing
    + dropped: names of flags that daemon.json must not have, because another place has them
    """

    wanted: dict[str, Any] = field(default_factory=dict)
    stays: list[str] = field(default_factory=list)
    fixed: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        """The flags that only our place may have."""
        return {flag_name(key) for key in self.wanted} | self.fixed

    @classmethod
    def of(
        cls,
        state: DockerState,
        options: Mapping[str, Any],
        defaults: Mapping[str, Any],
        added: Mapping[str, Sequence[str]],
    ) -> Choice:
        """
        Choose for a host.

        + state: of docker there
        + options: that are asked for
        + defaults: that the host's own options take the place of
        + added: items that lists must have

        Raises ``OperationError`` for what is set otherwise where it cannot be changed.
        """

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

    def removes(self, name: str) -> bool:
        """
        Return whether no place may have a flag.

        + name: of the flag
        """

        return any(flag_name(key) == name and value is None for key, value in self.wanted.items())

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
        # Where both set native.cgroupdriver=…, the host's value wins.
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
            # An earlier run wrote it, before the host had its own.
            self.dropped.add(name)
        theirs = theirs or state.said(name)
        if not set(ours) <= set(theirs):
            self.stays.append(f"{key} {', '.join(theirs)} stays ({_places(state, name)})")


def _flags(state: DockerState, key: str) -> list[Flag]:
    return [flag for flag in state.flags() if flag.name == flag_name(key)]


def _fixed(state: DockerState, key: str) -> list[Flag]:
    """The flags of a key that are set where we do not change anything."""

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


def refuse_twice(state: DockerState, choice: Choice, place: str) -> None:
    """
    Raise ``OperationError`` for an option that docker would find in two places.

    + state: of docker on the host
    + choice: what it will be told
    + place: where that is written: ``daemon.json`` or ``options``
    """

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


def say_moves(state: DockerState, choice: Choice, place: str) -> None:
    """
    Show which options go, and which move from one place to another.

    + state: of docker on the host
    + choice: what it will be told
    + place: where that is written: ``daemon.json`` or ``options``
    """

    for flag in state.flags():
        if flag.name not in choice.names or not flag.variable:
            continue
        words = " ".join(flag.words)
        if flag.name in choice.fixed or choice.removes(flag.name):
            changes.say(f"docker: {words} of {flag.path} goes")
        elif place == "daemon.json":
            changes.show(f"docker: {words} of {flag.path} moves to {DAEMON_JSON}")
    for key, value in state.file.items():
        if choice.removes(flag_name(key)):
            changes.say(f"docker: {key} {', '.join(texts(value))} of {DAEMON_JSON} goes")
        elif flag_name(key) in choice.names and place == "options":
            changes.show(f"docker: {key} of {DAEMON_JSON} moves to the file of options")
