"""docs/conformance.md: what the suite said, of which cluster, and how it was run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.conformance.ginkgo import Outcome

INTRODUCTION = """\
# Conformance

`make conformance` runs Kubernetes' own conformance suite on a cluster that this package builds on
the lab's three hosts, and writes this page. The suite is the one of the release's own module, built
from source; that of 1.20 is in Debian's source package. From 1.30 to 1.33 no suite can be built
from the modules: there it is that of 1.34, without the specs that came with later releases, and
without those that ask for more by now than the release answers, and fail there: how a template is
stored (the daemon set's RollingUpdate, up to 1.33), a pod's generation (ephemeral containers, up to
1.32), why a job is complete (three of jobs, up to 1.30).

The cluster has the settings of `make lab`, and a mirror of registry.k8s.io with the images of the
suite: they are made from the suite's own programs and Debian's packages, for the lab reaches no
registry. `OPTIONS` takes another cluster, such as `make conformance OPTIONS="--network flannel"`,
or the specs of NetworkPolicies, which are not of conformance:
`make conformance OPTIONS=--policies`.

A cluster of 1.20 runs on docker, which mirrors only Docker Hub: the suite is told to find its
images in the lab's registry (`KUBE_TEST_REPO_LIST`), which is one of `insecure_registries`. Its
`dns` is on, which is not so by itself up to 1.23.
"""

# Of a message, in letters.
_LONGEST = 300
_GROUP = re.compile(r"\[(sig-[\w-]+)\]")


@dataclass(frozen=True)
class Phase:
    """
    One run of the suite's program.

    + name: such as `parallel`
    + processes: how many specs ran at once
    + seconds: how long it took
    + outcomes: of its specs
    """

    name: str
    processes: int
    seconds: float
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True)
class Result:
    """
    What is reported of one cluster.

    + cluster: what it is, such as `Kubernetes 1.37.2, routes, kube-proxy nftables`
    + specs: every spec of conformance
    + phases: the run
    + repeated: specs that did not pass in it, tried once more, alone
    + facts: what else is said, by its name: the date, the commit
    + left: what was left over on hosts
    + later: specs of the suite that judge a later release than that of the cluster
    """

    cluster: str
    specs: Sequence[str]
    phases: Sequence[Phase]
    repeated: Phase | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    left: Sequence[str] = ()
    later: Sequence[str] = ()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Of the run itself; of what was begun in it."""
        return {name: it for phase in self.phases for name, it in phase.outcomes.items()}

    @property
    def unfinished(self) -> list[str]:
        """What did not pass in the run."""
        outcomes = self.outcomes
        return [name for name in self.specs if not (outcomes.get(name) or Outcome("none")).passed]

    @property
    def failed(self) -> list[str]:
        """What did not pass at all."""
        again = self.repeated.outcomes if self.repeated else {}
        return [name for name in self.unfinished if not (again.get(name) or Outcome("")).passed]

    @property
    def good(self) -> bool:
        """Whether all passed in the one run, and nothing was left over."""
        return not self.unfinished and not self.left


def page(before: str, result: Result) -> str:
    """
    The page with the section of a cluster written anew; those of others stay.

    + before: the page as it is; empty for none
    """
    heading = f"## {result.cluster}\n"
    others = re.findall(r"^## .*?(?=^## |\Z)", before, re.M | re.S)
    sections = {section.partition("\n")[0]: section.rstrip() + "\n" for section in others}
    sections[heading.rstrip()] = f"{heading}\n{section(result)}"
    return "\n".join([INTRODUCTION, *(sections[name] for name in sorted(sections))])


def section(result: Result) -> str:
    """What is said of a cluster."""
    rows = {**result.facts}
    for phase in [*result.phases, *([result.repeated] if result.repeated else [])]:
        passed = sum(it.passed for it in phase.outcomes.values())
        at_once = f"{phase.processes} at once" if phase.processes > 1 else "one after the other"
        minutes, seconds = divmod(round(phase.seconds), 60)
        rows[phase.name] = (
            f"{passed} of {len(phase.outcomes)} passed, {at_once}, {minutes} min {seconds} s"
        )
    rows["Left over on hosts"] = f"{len(result.left)} things" if result.left else "nothing"
    parts = [f"{_verdict(result)}\n", _table(("", ""), rows.items())]
    parts.append(_table(("Group", "Specs", "Passed", "Failed", "Not run"), _groups(result)))
    if result.unfinished:
        parts.append(_table(("Spec", "In the run", "Repeated alone", "Why"), _problems(result)))
    if result.left:
        parts.append("".join(f"- `{line}`\n" for line in result.left))
    if result.later:
        parts.append("Specs that judge a later release, and were not asked for:\n")
        parts.append("".join(f"- {_cell(name)}\n" for name in result.later))
    return "\n".join(parts)


def _verdict(result: Result) -> str:
    total, passed = len(result.specs), len(result.specs) - len(result.unfinished)
    said = f"**{passed} of {total} specs passed in one uninterrupted run.**"
    if result.unfinished:
        again = len(result.unfinished) - len(result.failed)
        failed = [name for name in result.unfinished if name in result.outcomes]
        said += f" {len(failed)} failed, {len(result.unfinished) - len(failed)} were not run."
        if result.repeated:
            said += f" {again} of them passed when they were repeated, alone."
    return said


def _groups(result: Result) -> list[tuple[str, ...]]:
    outcomes = result.outcomes
    counts: dict[str, Counter[str]] = {}
    for name in result.specs:
        found = _GROUP.search(name)
        of_group = counts.setdefault(found[1] if found else "other", Counter())
        outcome = outcomes.get(name)
        of_group["passed" if outcome and outcome.passed else "failed" if outcome else "not"] += 1
    return [
        (group, *map(str, (found.total(), found["passed"], found["failed"], found["not"])))
        for group, found in sorted(counts.items())
    ]


def _problems(result: Result) -> list[tuple[str, ...]]:
    outcomes, again = result.outcomes, result.repeated.outcomes if result.repeated else {}
    not_run = Outcome("not run")
    rows: list[tuple[str, ...]] = []
    for name in result.unfinished:
        first, second = outcomes.get(name, not_run), again.get(name, not_run)
        why = " ".join(first.message.split())[:_LONGEST]
        rows.append((name, first.state, second.state, why))
    return rows


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(_cell(it) for it in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
