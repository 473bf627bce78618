"""
The files that docker's options are written to: daemon.json, and those of a distribution.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from typing import Any

from pyinfra.api import OperationError

from pyinfra_kube.cluster.runtimes.docker_spelling import flag_name, members, split_flags, texts
from pyinfra_kube.facts.docker import DAEMON_JSON, OPTION_FILES, DockerState
from pyinfra_kube.facts.systemd import join_words, set_variable, split_words
from pyinfra_kube.operations.docker_options import Choice
from pyinfra_kube.operations.files import File


def daemon_json(state: DockerState, choice: Choice, place: str) -> list[File]:
    """
    Return daemon.json with the wanted options. All else in it stays, letter by letter.

    + state: of docker on the host
    + choice: what docker must be told
    + place: where that is written: ``daemon.json`` or ``options``
    """

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


# Options of which everybody may see the values.
_PUBLIC = {
    *("bridge", "bip", "data-root", "debug", "default-ipc-mode", "exec-opt", "host", "icc"),
    *("insecure-registry", "ip-masq", "iptables", "live-restore", "log-driver", "log-level"),
    *("mtu", "storage-driver", "userland-proxy"),
}


def _shown(members: Sequence[tuple[str, str]], names: Container[str]) -> str:
    """daemon.json as it may be shown: values of other options may be secrets."""

    return _object(
        [
            (
                key,
                text if flag_name(key) in names or flag_name(key) in _PUBLIC else "(value hidden)",
            )
            for key, text in members
        ]
    )


def option_files(state: DockerState, choice: Choice, place: str) -> list[File]:
    """
    Return the distribution's files of options, with the wanted flags in one of them or in none.

    + state: of docker on the host
    + choice: what docker must be told
    + place: where that is written: ``daemon.json`` or ``options``

    Raises ``OperationError`` if docker's unit does not read the file.
    """

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
    """The file that the wanted flags are written to."""

    homes = ("/etc/sysconfig/docker", "/etc/default/docker")
    found = next((path for path in homes if path in state.option_files), "")
    own = any("OPTIONS" in word for word in state.unit.words)
    home = found or homes[0 if own else 1]
    variable = OPTION_FILES[home][0]
    if state.unit.loaded and f"${variable}" not in state.unit.words:
        raise OperationError(
            f'config: docker.service does not read {variable} of {home}; use config="daemon.json"'
        )
    return home


def _words(options: Mapping[str, Any]) -> list[str]:
    """The options as words of a command line."""

    return [
        f"--{flag_name(key)}={text}"
        for key, value in options.items()
        if value is not None
        for text in texts(value)
    ]
