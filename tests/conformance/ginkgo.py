"""
ginkgo, which runs the specs of a suite: how each of its versions is asked, and what it reports.

Suites up to 1.24 have the first one. It knows no labels, but names have them in brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


@dataclass(frozen=True)
class Outcome:
    """
    What came of a spec.

    + state: as ginkgo says it: passed, failed, timedout, interrupted, panicked, skipped
    + seconds: how long it took
    + message: why it did not pass
    """

    state: str
    seconds: float = 0
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.state == "passed"


@dataclass(frozen=True)
class Asked:
    """
    A run that is asked for.

    + into: the folder for its reports
    + labels: that each spec has, in the order of its name; with a "!", that it has not
    + only: of those, the ones of these names; by default all
    + without: of those, the ones of other names
    + processes: how many at once
    + hours: when it is given up
    """

    into: Path
    labels: Sequence[str]
    only: Sequence[str] = ()
    without: Sequence[str] = ()
    processes: int = 1
    hours: int = 2


@dataclass(frozen=True)
class Ginkgo:
    """
    A version of ginkgo.

    + options: its own
    + suite_options: those of the suite's program, for its reports
    + reports: which files it writes
    + outcomes: what came of each spec that was begun, of the texts of such files
    """

    options: Callable[[Asked], list[str]]
    suite_options: Callable[[Asked], list[str]]
    reports: str
    outcomes: Callable[[Sequence[str]], dict[str, Outcome]]


def of_version(said: str) -> Ginkgo:
    """
    The ginkgo of a version.

    + said: what it says of itself, such as `Ginkgo Version 1.11.0`
    """
    return _FIRST if re.search(r" 1\.", said) else _SECOND


# The first one


def _first_options(asked: Asked) -> list[str]:
    has = [_label(one) for one in asked.labels if not one.startswith("!")]
    has_not = [_label(one[1:]) for one in asked.labels if one.startswith("!")]
    focus = _names(asked.only) or [".*".join(has)]
    skip = [*has_not, *_names(asked.without)]
    return [
        *(f"-nodes={asked.processes}", f"-timeout={asked.hours}h", "-noColor"),
        *(f"-focus={'|'.join(focus)}", f"-skip={'|'.join(skip)}"),
    ]


def outcomes_of_junit(texts: Iterable[str]) -> dict[str, Outcome]:
    """
    What came of each spec that was begun, by its whole name.

    + texts: a report of each process, in JUnit's form
    """
    return {
        case.attrib["name"]: _of_case(case)
        for text in texts
        for case in ElementTree.fromstring(text).iter("testcase")
        if case.find("skipped") is None and case.attrib["name"] not in _AROUND
    }


def _of_case(case: ElementTree.Element) -> Outcome:
    seconds, failure = float(case.attrib["time"]), case.find("failure")
    if failure is None:
        return Outcome("passed", seconds)
    lines = (failure.text or "").splitlines()
    message = "\n".join(line for line in lines if not _PLACE.match(line))
    return Outcome(_STATES[failure.attrib["type"]], seconds, message)


_AROUND = ("BeforeSuite", "AfterSuite")
_STATES = {"Failure": "failed", "Timeout": "timedout", "Panic": "panicked"}
# In the code.
_PLACE = re.compile(r"\s*\S+\.go:\d+")


# The second one


def _second_options(asked: Asked) -> list[str]:
    return [
        *(f"--procs={asked.processes}", f"--timeout={asked.hours}h"),
        *("--no-color", "--silence-skips", f"--label-filter={' && '.join(asked.labels)}"),
        *(f"--focus={name}" for name in _names(asked.only)),
        *(f"--skip={name}" for name in _names(asked.without)),
        *(f"--output-dir={asked.into}", "--json-report=report.json"),
    ]


def outcomes_of_json(reports: Iterable[dict[str, Any]]) -> dict[str, Outcome]:
    """
    What came of each spec that was begun, by its whole name.

    + reports: in the form of ``--json-report``
    """
    return {
        " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]]): Outcome(
            spec["State"], spec["RunTime"] / 1e9, spec.get("Failure", {}).get("Message", "")
        )
        for report in reports
        for spec in report["SpecReports"] or []
        if spec["LeafNodeType"] == "It" and spec["NumAttempts"]
    }


# Both


def _label(label: str) -> str:
    return rf"\[{label}\]"


def _names(names: Sequence[str]) -> list[str]:
    """Names as patterns of Go; what is matched has the name of the suite before it."""
    escaped = (re.sub(r"([^\w\s])", r"\\\1", name) for name in names)
    return [f"{name}$" for name in escaped]


_FIRST = Ginkgo(
    _first_options,
    lambda asked: [f"--report-dir={asked.into}"],
    "junit_*.xml",
    outcomes_of_junit,
)
_SECOND = Ginkgo(
    _second_options,
    lambda _: [],
    "report.json",
    lambda texts: outcomes_of_json(report for text in texts for report in json.loads(text)),
)
