"""
Runs facts and operations on data, without a host.

A fact case is ``tests/unit/facts/MODULE.FACT/CASE.json``, in the form of pyinfra-testing::

    {"arg": {}, "output": ["…"], "fact": …}

``fact`` is the fact as JSON (dataclasses as objects). An optional ``command`` is compared too.

Operations have a form of their own: they read many facts in one command, which pyinfra-testing
cannot answer, and each is called again on its own result. A case is
``tests/unit/operations/MODULE.OPERATION/CASE.json``::

    {"args": {}, "facts": {"MODULE.FACT": ["output line", …]},
     "commands": […], "after": {"MODULE.FACT": […]}, "noop": "…", "shows": ["…"], "error": "…"}

+ args: ``{"$File": {"path": "/x"}}`` makes an object of that class of the operation's module
+ facts: what the fact's command prints; a list of ``{"args": {…}, "output": […]}`` where one fact
  is read with several arguments; what is left out answers as a blank host does
+ commands: a string a command; a script is ``{"summary": "…", "lines": […]}`` with the shared
  functions left out and documents shown as text
+ after: the facts as the commands leave them: the same call must then yield nothing
+ noop: the reason that must be given when nothing is yielded (here, or after)
+ shows: lines that ``--diff`` must show
+ error: a part of the message of the error that the call must raise
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pyinfra.api import Config, FactBase, Host, Inventory, State, StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine import changes, snapshot
from pyinfra_kube.engine.digest import DIGEST
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.subject import Subject, understood
from pyinfra_kube.operations import packages
from pyinfra_kube.operations.files import WRITER

FOLDER = Path(__file__).parent


def cases(kind: str) -> list[Path]:
    """The case files of ``facts`` or ``operations``."""

    return sorted((FOLDER / kind).glob("*/*.json"))


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def find(path: Path, package: str) -> tuple[Any, Any]:
    """The module and the attribute that a case's folder names."""

    module_name, name = path.parent.name.rsplit(".", 1)
    module = importlib.import_module(f"pyinfra_kube.{package}.{module_name}")
    return module, getattr(module, name)


def plain(value: Any) -> Any:
    """A fact's value as JSON has it."""

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, bytes):
        return value.decode()
    return value


asked_by_ssh = snapshot.ask
_runners: WeakKeyDictionary[Host, Callable[..., Any]] = WeakKeyDictionary()


def answers(host: Host, runner: Callable[..., Any]) -> None:
    """Have a host's facts answered by a function of fact and arguments."""

    _runners[host] = runner


def _ask(host: Host, subjects: Sequence[Subject]) -> dict[str, Any]:
    if runner := _runners.get(host):
        return {s.key: understood(s, partial(runner, s.fact, **s.arguments)) for s in subjects}
    return asked_by_ssh(host, subjects)


snapshot.ask = _ask


class FactRunner:
    """Answers facts from a case's ``facts``."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.asked: list[str] = []

    def __call__(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        name = f"{fact.__module__.rsplit('.', 1)[-1]}.{fact.__name__}"
        self.asked.append(name)
        instance = fact()
        if callable(instance.command):
            instance.command(**arguments)
        answer = self.facts.get(name)
        if isinstance(answer, list) and answer and isinstance(answer[0], dict):
            wanted = json.loads(json.dumps(arguments, default=list))
            answer = next((a["output"] for a in answer if a["args"] == wanted), None)
        if answer is None or answer == []:
            return instance.default()
        if isinstance(answer, list) and all(isinstance(line, str) for line in answer):
            return instance.process(answer)
        return answer


@dataclasses.dataclass
class Outcome:
    commands: list[Any]
    noops: list[str]
    shown: list[str]


@contextmanager
def fake_host(facts: dict[str, Any]) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A host in context that has these facts; yields it with its no-op reasons and shown lines."""

    config = Config(DIFF=True)
    state = State(Inventory((["host"], {})), config)
    host = state.inventory.get_host("host")
    noops: list[str] = []
    shown: list[str] = []
    answers(host, FactRunner(facts))
    for name, stand_in in {
        "noop": noops.append,
        "log": lambda message, *_, **__: shown.append(message),
    }.items():
        setattr(host, name, stand_in)
    changes._shown.pop(host, None)
    with ctx_state.use(state), ctx_host.use(host):
        yield host, noops, shown


def run(operation: Any, arguments: dict[str, Any], facts: dict[str, Any]) -> Outcome:
    """Call an operation on a host that has these facts."""

    with fake_host(facts) as (_, noops, shown):
        commands = [describe(command) for command in operation._inner(**arguments)]
    return Outcome(commands, noops, shown)


def describe(command: Any) -> Any:
    if isinstance(command, Script):
        return {"summary": command.summary, "lines": _lines(command.text)}
    if isinstance(command, StringCommand):
        return command.get_raw_value()
    return command if isinstance(command, str) else repr(command)


def _lines(text: str) -> list[str]:
    for functions in (WRITER, RECORDER, DIGEST, packages._FUNCTIONS):
        text = text.replace(functions, "")
    text = re.sub(
        r" <<'\.'\n(.*?)^\.$",
        lambda m: "\n" + re.sub(r"(?m)^", "| ", base64.b64decode(m.group(1)).decode().rstrip("\n")),
        text,
        flags=re.S | re.M,
    )
    return [re.sub(r"\b[0-9a-f]{64}\b", "SHA256", line) for line in text.splitlines()]


def build(module: Any, value: Any) -> Any:
    """Turn ``{"$Name": {…}}`` of a case's arguments into objects of the module's classes."""

    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)).startswith("$"):
            name, fields = next(iter(value.items()))
            return getattr(module, name[1:])(**{k: build(module, v) for k, v in fields.items()})
        return {key: build(module, item) for key, item in value.items()}
    if isinstance(value, list):
        return [build(module, item) for item in value]
    return value
