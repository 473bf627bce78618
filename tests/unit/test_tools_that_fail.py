"""
Every fact and every tool that it calls, which is missing, fails, says nothing, says something else,
hangs or is too old: the fact's value is the same as ever, or tells it in its type, or is an error
that names what does not answer. And whoever is told of an error plans nothing.

Exempt: ``sh``, without which nothing can be asked, and a ``timeout`` that hangs itself, which the
patience of a whole trip ends.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactError, FactProcessError

import pyinfra_kube.facts
from pyinfra_kube.cluster.fitness.states import Disk
from pyinfra_kube.engine.round_trip import RoundTrip
from pyinfra_kube.engine.subject import Failure, Subject
from pyinfra_kube.facts.docker import DockerState
from pyinfra_kube.facts.firewall import Firewall
from pyinfra_kube.facts.fitness import FitnessState
from pyinfra_kube.facts.flannel import FlannelState
from pyinfra_kube.facts.iptables import Ruleset
from pyinfra_kube.facts.packages import Packages, RemovalStates
from pyinfra_kube.facts.processes import ProcessState
from pyinfra_kube.facts.reach import PlaceOfPods, Reached
from tests.unit import harness
from tests.unit.sandbox import Sandbox, sandbox

# Shell in place of a tool, ``None`` for no tool at all.
WAYS = {
    "missing": None,
    "fails": "exit 1",
    "complains": "echo 'cannot open /x' >&2; exit 1",
    "says nothing": "exit 0",
    "says something else": "printf 'gArb4ge = { [ ( \" %%s\\n##pyinfra-kube 0\\n\\001\\377\\n'",
    "is too old": "echo \"$0: unrecognized option '$1'\" >&2; exit 2",
    "hangs": "exec /bin/sleep 600",
}

# In a hurry: what is to end in seconds ends in less than one.
_HURRY = """\
while :; do case $1 in -k) shift 2 ;; -*) shift ;; *) break ;; esac; done
shift
exec /usr/bin/timeout -k 1 0.7 "$@"
"""


@dataclass
class Attack:
    """What the facts see on a whole host, and which tools each calls."""

    box: Sandbox
    words: list[str]
    real: Mapping[str, Any]
    uses: Mapping[str, Sequence[str]]

    @property
    def tools(self) -> list[str]:
        return sorted(set().union(*self.uses.values()) - {"sh"})

    def run(self, way: str, tool: str) -> list[str]:
        """What is wrong with the facts that call a tool that is missing, or does something else."""

        about = [s for s in self.box.subjects if tool in self.uses[s.key]]
        folders = [self.box.link(set(self.words) - {tool})]
        if (text := WAYS[way]) is not None:
            folders.insert(0, self.box.script(tool, text))
        if way == "hangs":
            folders.insert(0, self.box.script("timeout", _HURRY))
        values = self.box.ask(about, *folders)
        return [
            f"{subject!r}: {tool} {way}: {values[subject.key]}"
            for subject in about
            if not self.is_right(subject, values[subject.key], tool, way)
        ]

    def is_right(self, subject: Subject, value: Any, tool: str, way: str) -> bool:
        if isinstance(value, Failure):
            return tool in value.reason or repr(subject) in value.reason
        real = self.real[subject.key]
        same = _same(harness.plain(value), harness.plain(real))
        return same or _tells(value, real, way == "missing")


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same; times are read anew, and not to the last digit."""

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            key == "now" or _same(one[key], other[key]) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 1
    return bool(one == other)


def _tells(value: Any, real: Any, missing: bool) -> bool:
    """Whether a value says that a tool is missing, or that something does not answer."""

    if isinstance(value, FlannelState):
        return value == replace(real, version=None if missing else "")
    if isinstance(value, DockerState):
        return value.installed is not missing and not value.running
    if isinstance(value, Firewall):
        return bool(value.unknown)
    if isinstance(value, RemovalStates):
        return not value.known
    if isinstance(value, Ruleset):
        return bool(value.error)
    if isinstance(value, FitnessState):
        # Who does not tell its disks has none that is full.
        return value == replace(
            real, disks=dict.fromkeys(real.disks, Disk("")), behind=value.behind
        )
    words = {getattr(value, name, "") for name in ("status", "runtime", "manager")}
    if missing:
        # Every host has a loopback: who has no link at all has no iproute2.
        nothing = value is None or (value == {} and "lo" in real)
        unknown = isinstance(value, dict) and value != {} and all(v is None for v in value.values())
        units = isinstance(value, dict) and all(
            isinstance(v, ProcessState) and v.configured is None for v in value.values()
        )
        health = isinstance(value, dict) and {getattr(v, "status", "") for v in value.values()}
        return (
            nothing
            or unknown
            or units
            or bool(words & {"missing", "curl missing", "etcdctl missing"})
            or (health == {"curl missing"})
        )
    return "down" in words


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    with sandbox(tmp_path_factory.mktemp("host")) as box, ThreadPoolExecutor(4) as pool:
        words = box.words(box.subjects)
        called = pool.map(box.called, box.subjects)
        uses = {s.key: names for s, names in zip(box.subjects, called, strict=True)}
        yield Attack(box, words, box.ask(box.subjects, box.link(words)), uses)


def _facts() -> set[type[FactBase[Any]]]:
    names = (module.name for module in pkgutil.iter_modules(pyinfra_kube.facts.__path__))
    modules = [importlib.import_module(f"pyinfra_kube.facts.{name}") for name in names]
    return {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, FactBase)
        # A place is made by its question, and who does not answer a packet is not reached.
        and kind not in (FactBase, PlaceOfPods, Reached)
    }


def test_every_fact_sees_something(attack: Attack) -> None:
    assert {subject.fact for subject in attack.box.subjects} == _facts()
    for subject in attack.box.subjects:
        value = attack.real[subject.key]
        assert not isinstance(value, Failure), (subject, value)
        assert value != subject.fact().default(), subject


def test_tools_are_found(attack: Attack) -> None:
    wanted = {"awk", "base64", "curl", "docker", "find", "ip", "kubectl", "sed", "systemctl"}
    assert wanted <= set(attack.tools)


@pytest.mark.parametrize("way", WAYS)
def test_a_tool(attack: Attack, way: str) -> None:
    tools = [tool for tool in attack.tools if (tool, way) != ("timeout", "hangs")]
    with ThreadPoolExecutor(16 if way == "hangs" else 4) as pool:
        problems = [one for found in pool.map(partial(attack.run, way), tools) for one in found]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "hangs"])
def test_rpm(attack: Attack, way: str) -> None:
    fact = Subject(Packages, {"names": ["docker"]})
    whole = attack.box.link(attack.words)
    dnf = attack.box.script("dnf", "exit 1")
    real = attack.box.ask([fact], dnf, whole)[fact.key]
    assert real.versions == {"docker": "20.10.21-1.fc24"}
    text = WAYS[way]
    folder = attack.box.script("rpm", text) if text else attack.box.link([])
    rest = attack.box.link(set(attack.words) - {"rpm"})
    value = attack.box.ask([fact], folder, dnf, rest)[fact.key]
    assert isinstance(value, Failure)
    assert "rpm" in value.reason


# What is printed


class Prints(FactBase[list[str]]):
    """Returns the lines that a shell text prints."""

    default = list

    def command(self, text: str) -> str:
        return text

    def process(self, output: Any) -> list[str]:
        return list(output)


PRINTED = {
    "no newline at the end": ("printf 'a\\nb'", ["a", "b"]),
    "one newline at the end": ("printf 'a\\nb\\n'", ["a", "b"]),
    "an empty line at the end": ("printf 'a\\n\\n'", ["a", ""]),
    "lines as Windows ends them": ("printf 'a\\r\\nb\\r\\n'", ["a\r", "b\r"]),
    "a zero": ("printf 'a\\0b\\n'", ["a\0b"]),
    "no text": ("printf 'a\\377\\n\\303\\244\\n'", ["a\ufffd", "ä"]),
    "other ends of lines": ("printf 'a\\013b\\302\\205c\\n'", ["a\x0bb\x85c"]),
    "marks": (
        "printf '##pyinfra-kube 1\\n##pyinfra-kube status 0\\n##pyinfra-kube said\\n'",
        ["##pyinfra-kube 1", "##pyinfra-kube status 0", "##pyinfra-kube said"],
    ),
    "a long line": ("printf '%0200000d\\n' 7", ["0" * 199_999 + "7"]),
}


@pytest.mark.parametrize("what", PRINTED)
def test_what_is_printed_arrives_as_it_is(attack: Attack, what: str) -> None:
    text, lines = PRINTED[what]
    printed, after = Subject(Prints, {"text": text}), Subject(Prints, {"text": "echo c"})
    values = attack.box.ask([printed, after], Path("/usr/bin"), Path("/bin"))
    assert values == {printed.key: lines, after.key: ["c"]}


def test_an_answer_that_is_cut_off_anywhere() -> None:
    subject = Subject(Prints, {"text": "echo a"})
    trip = RoundTrip([subject])
    box = Sandbox(Path("/nowhere"), {}, [])
    lines = box.shell(trip.command, Path("/usr/bin"), Path("/bin"))
    text = "\n".join(lines)
    assert trip.process(lines) == {subject.key: ["a"]}
    for end in range(len(text) - len(trip.mark)):
        (value,) = trip.process(text[:end].split("\n")).values()
        assert isinstance(value, Failure) or value == ["a"]
    assert isinstance(trip.process([])[subject.key], Failure)


def test_an_error_names_what_was_said(attack: Attack) -> None:
    subject = Subject(Prints, {"text": "echo a; echo 'no such thing' >&2; exit 3"})
    values = attack.box.ask([subject], Path("/usr/bin"), Path("/bin"))
    assert values[subject.key] == Failure(f"{subject!r}: no such thing")


# Who is told of it


def _name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


CASES = [path for path in harness.cases("operations") if "error" not in harness.load(path)]


class _Failing(harness.FactRunner):
    """Answers as the case does, but for one fact."""

    def __init__(self, facts: dict[str, Any], failing: str) -> None:
        super().__init__(facts)
        self.failing = failing

    def __call__(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        value = super().__call__(fact, **arguments)
        if self.asked[-1] == self.failing:
            raise FactProcessError(f"{self.failing} does not answer")
        return value


@pytest.mark.parametrize("path", CASES, ids=_name)
def test_no_operation_plans_without_an_answer(path: Path) -> None:
    case = harness.load(path)
    module, operation = harness.find(path, "operations")
    arguments = harness.build(module, case.get("args", {}))
    with harness.fake_host(case.get("facts", {})) as (host, *_):
        runner = harness.FactRunner(case.get("facts", {}))
        harness.answers(host, runner)
        list(operation._inner(**arguments))
    for name in dict.fromkeys(runner.asked):
        commands: list[Any] = []
        with harness.fake_host({}) as (host, *_):
            harness.answers(host, _Failing(case.get("facts", {}), name))
            with pytest.raises(FactError, match=name):
                commands.extend(operation._inner(**arguments))
        assert not commands, f"{name} does not answer, and something is done"
