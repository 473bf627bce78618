"""
Where the time of a run went: a table for people, and a picture of bars over time.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from weakref import WeakKeyDictionary

from pyinfra import logger
from pyinfra.api import Host, State
from pyinfra.context import ctx_state

from pyinfra_kube.engine.internals import watch_operations

PLAN, READ = "Plan", "Facts"

# What a terminal has room for.
_HOSTS, _LONGEST = 5, 10


@dataclass(frozen=True)
class Span:
    """
    What a host was busy with.

    + host: its name
    + phase, step: the names of a phase, and of an operation in it
    + begin, end: in seconds since the run began
    """

    host: str
    phase: str
    step: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass
class Profile:
    """
    The spans of a run.

    + spans: in the order of their ends
    + began: by the clock of :func:`time.monotonic`
    + planned: when the plan was ready, in seconds since then; 0 until it is
    """

    spans: list[Span] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    planned: float = 0.0
    _begins: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        return time.monotonic() - self.began

    def begin(self, host: str) -> None:
        """A host begins an operation."""

        self._begins[host] = self.now()
        self.planned = self.planned or self._begins[host]

    def end(self, host: str, phase: str, step: str) -> None:
        """It has ended it."""

        self.spans.append(Span(host, phase, step, self._begins.pop(host), self.now()))

    def of(self, hosts: Sequence[str]) -> list[Span]:
        """All spans, with the time until the plan was ready."""

        end = self.planned or self.now()
        return [Span(host, PLAN, "planned", 0.0, end) for host in hosts] + self.spans


_profiles: WeakKeyDictionary[State, Profile] = WeakKeyDictionary()


def profile_run(state: State, file: Path) -> None:
    """
    Note from now on what each host does in a run; at its end print a table, and draw a picture.

    + state: of the run
    + file: of the picture, as SVG
    """

    profile = _profiles[state] = Profile()
    hosts = [host.name for host in state.inventory]
    watch_operations(state, profile.begin, profile.end)
    # A run that fails has no other end.
    atexit.register(lambda: _tell(profile.of(hosts), file))


@contextmanager
def reading(host: Host) -> Iterator[None]:
    """
    Note, where the run has a profile, that a host is asked.

    + host: the host
    """

    profile = _profiles.get(ctx_state.get())
    if not profile:
        yield
        return
    begin = profile.now()
    try:
        yield
    finally:
        profile.spans.append(Span(host.name, READ, "asked", begin, profile.now()))


def _tell(spans: Sequence[Span], file: Path) -> None:
    for line in ["", *table(spans), "", f"{file} shows it"]:
        logger.info(f"    {line}".rstrip())
    file.write_text(picture(spans))


def _busy(spans: Sequence[Span]) -> dict[tuple[str, str], float]:
    """Seconds by phase and host. Facts that operations read are part of these."""

    found: dict[tuple[str, str], float] = {}
    for span in spans:
        key = span.phase, span.host
        found[key] = found.get(key, 0.0) + span.seconds
    return found


def table(spans: Sequence[Span]) -> list[str]:
    """
    Return lines that say how long each host was busy in each phase, and the longest operations.

    + spans: of all hosts
    """

    busy, whole = _busy(spans), max((span.end for span in spans), default=0.0)
    phases = list(dict.fromkeys(span.phase for span in sorted(spans, key=lambda s: s.begin)))
    total = {
        host: sum(seconds for (phase, of), seconds in busy.items() if of == host and phase != READ)
        for host in dict.fromkeys(span.host for span in spans)
    }
    hosts = sorted(total, key=lambda host: -total[host])[:_HOSTS]
    rows = [["SECONDS", *hosts]]
    for phase in phases:
        rows.append([phase, *(_seconds(busy.get((phase, host), 0.0)) for host in hosts)])
    rows.append(["waits for other hosts", *(_seconds(whole - total[host]) for host in hosts)])
    left = len(total) - len(hosts)
    return [
        f"the run took {whole:.1f} s",
        *([f"the {len(hosts)} busiest hosts of {len(total)}"] if left else []),
        "",
        *_aligned(rows),
        "",
        *_aligned([["LONGEST", "", ""], *_longest(spans)]),
    ]


def _longest(spans: Sequence[Span]) -> list[list[str]]:
    steps = [span for span in spans if span.phase not in (PLAN, READ)]
    slowest: dict[tuple[str, str], Span] = {}
    for span in sorted(steps, key=lambda one: one.seconds):
        slowest[span.phase, span.step] = span
    found = sorted(slowest.values(), key=lambda one: -one.seconds)[:_LONGEST]
    return [[_seconds(one.seconds), one.host, f"{one.phase} | {one.step}"] for one in found]


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 0.05 else "-"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


# -- The picture ---------------------------------------------------------------------------------

_LEFT, _WIDTH, _ROW = 130, 960, 26
_STEPS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
_STYLE = """\
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328; }
.axis { stroke: #d0d7de; }
.read { fill: #1f2328; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .axis { stroke: #30363d; }
  .read { fill: #e6edf3; }
}
"""


def picture(spans: Sequence[Span]) -> str:
    """
    Return an SVG of bars over time, a line for each host. A thin line over a bar is a time in which
    the host answered questions. Where a host has no bar, it waits for others.

    + spans: of all hosts
    """

    hosts = {host: row for row, host in enumerate(dict.fromkeys(span.host for span in spans))}
    phases = list(dict.fromkeys(s.phase for s in sorted(spans, key=lambda s: s.begin)))
    colors = {phase: f"hsl({index * 137 % 360} 60% 60%)" for index, phase in enumerate(phases)}
    whole = max([1.0, *(span.end for span in spans)])
    scale = (_WIDTH - _LEFT - 10) / whole
    bottom = 30 + _ROW * len(hosts)
    bars = [_bar(span, 30 + _ROW * hosts[span.host], scale, colors) for span in spans]
    names = [
        f'<text x="6" y="{30 + _ROW * row + 17}">{escape(host)}</text>'
        for host, row in hosts.items()
    ]
    height = bottom + 20 + 20 * ((len(colors) + 3) // 4)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
            f"<style>{_STYLE}</style>",
            *_axis(whole, scale, bottom),
            *bars,
            *names,
            *_legend(colors, bottom + 14),
            "</svg>\n",
        ]
    )


def _bar(span: Span, top: int, scale: float, colors: Mapping[str, str]) -> str:
    x, width = _LEFT + span.begin * scale, max(span.seconds * scale, 0.5)
    title = f"<title>{escape(f'{span.phase} | {span.step}: {span.seconds:.1f} s')}</title>"
    box = f'x="{x:.1f}" width="{width:.1f}"'
    if span.phase == READ:
        return f'<rect class="read" {box} y="{top}" height="3">{title}</rect>'
    return f'<rect fill="{colors[span.phase]}" {box} y="{top + 4}" height="18">{title}</rect>'


def _axis(whole: float, scale: float, bottom: int) -> Iterator[str]:
    step = next((step for step in _STEPS if whole / step <= 12), _STEPS[-1])
    for number in range(int(whole / step) + 1):
        x = _LEFT + number * step * scale
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="22" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="16">{number * step:g} s</text>'


def _legend(colors: Mapping[str, str], top: int) -> Iterator[str]:
    for index, (phase, color) in enumerate(colors.items()):
        x, y = 6 + index % 4 * _WIDTH / 4, top + 20 * (index // 4)
        fill = 'class="read"' if phase == READ else f'fill="{color}"'
        yield f'<rect {fill} x="{x:g}" y="{y}" width="12" height="12"/>'
        yield f'<text x="{x + 18:g}" y="{y + 10}">{escape(phase)}</text>'
