"""
The picture of a topology, as SVG, for light and dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import ceil
from textwrap import wrap

from pyinfra_kube.deploys.run.packet_way import Hop, Way
from pyinfra_kube.deploys.run.topology import OVERLAYS, HostView, Topology, gaps, safe

BOX, GAP, MARGIN, LINE = 270, 16, 28, 18
# What each column of boxes is worth: the most hosts for so many columns.
_COLUMNS = {3: 3, 8: 4, 1000: 5}
# The width of a letter, of a font that is as wide as any that is likely.
_LETTER = 6.9
_LETTERS = {"title": 9.5, "bad": 8}

_STYLE = """\
svg { background: #ffffff; }
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 15px; }
.quiet { fill: #57606a; }
.rule { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: #57606a; white-space: pre; }
.box { fill: #f6f8fa; stroke: #8c959f; }
.on { fill: #f6f8fa; stroke: #218bff; stroke-width: 3; }
.net { fill: #fbefff; stroke: #8250df; }
.wire { fill: none; stroke: #8250df; stroke-width: 2; }
.way { fill: none; stroke: #218bff; stroke-width: 2; }
.hops { fill: #0969da; font-weight: 600; text-anchor: end; }
.bad { fill: #cf222e; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .quiet, .rule { fill: #9da7b3; }
  .box, .on { fill: #161b22; }
  .box { stroke: #6e7681; }
  .net { fill: #301a4d; stroke: #a371f7; }
  .wire { stroke: #a371f7; }
  .hops { fill: #58a6ff; }
  .bad { fill: #ff7b72; }
}
"""


def picture(topology: Topology, ways: Sequence[Way] = (), columns: int = 0) -> str:
    """
    Return the picture.

    + topology: the cluster
    + ways: of packets, which are drawn below the hosts
    + columns: of hosts, as for a narrow page; by default as many as their number is worth
    """

    columns = columns or next(n for most, n in _COLUMNS.items() if len(topology.hosts) <= most)
    width = 2 * MARGIN + columns * (BOX + GAP) - GAP
    parts = [_text(MARGIN, 30, f"Cluster {topology.name}", "title", width)]
    ranges, top = _ranges(topology, width)
    parts += ranges
    height = 40 + max(len(_lines(topology, host)) for host in topology.hosts) * (LINE + 4)
    rows = ceil(len(topology.hosts) / columns)
    for number in range(rows):
        at = top + number * (height + 44)
        parts.append(_line("wire", f"M{MARGIN / 2} {at}H{width - MARGIN}"))
        for column, host in enumerate(topology.hosts[number * columns :][:columns]):
            x = MARGIN + column * (BOX + GAP)
            parts.append(_line("wire", f"M{x + BOX / 2} {at}v20"))
            parts += _host(x, at + 20, height, topology, host, ways)
    parts.append(_line("wire", f"M{MARGIN / 2} {top}v{(rows - 1) * (height + 44)}"))
    y: float = top + rows * (height + 44) + 10
    for way in ways:
        parts.append(_text(MARGIN, y + 20, way.title, "title", width - MARGIN))
        found, y = _way(way, y + 34, width)
        parts += found
    y += 10 if ways else -20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" '
            f'width="{width}" height="{y}" role="img">',
            f"<title>{_safe(f'Topology of {topology.name}')}</title>",
            f"<style>\n{_STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _ranges(topology: Topology, width: float) -> tuple[list[str], float]:
    """What each range is for, beside it or below, and where that ends."""

    parts, at, beside = [], 54, MARGIN + 250
    for name, network, text in topology.ranges:
        parts += [_text(MARGIN, at, name, "quiet"), _text(MARGIN + 70, at, network, "", 170)]
        if width > 2 * beside:
            parts.append(_text(beside, at, text, "quiet", width - beside))
        else:
            for line in wrap(text, int((width - 2 * MARGIN) / _LETTER)):
                at += LINE
                parts.append(_text(MARGIN, at, line, "quiet"))
        at += LINE
    return parts, at + 20


def _lines(topology: Topology, host: HostView) -> list[tuple[str, str]]:
    """What is said in a host's box, each with its class."""

    link, bridge = host.link_of(host.address), host.bridge
    lines = [(host.roles or "-", "quiet")]
    lines.append((f"{host.address}{f' on {link.name}, MTU {link.mtu}' if link else ''}", ""))
    if bridge:
        lines.append((f"{bridge.name} {bridge.addresses[0]}, MTU {bridge.mtu}", "net"))
    for one in host.links.values():
        if one.kind in OVERLAYS and one.addresses:
            lines.append((f"{one.name} {one.addresses[0]}, MTU {one.mtu}", "net"))
    pods = [pod for pod in topology.pods.values() if host.node and pod.node == host.node]
    own = sum(not pod.on_host for pod in pods)
    if host.node and not host.silent:
        word = "pod" if own == 1 else "pods"
        lines.append((f"{own} {word} on the bridge, {len(pods) - own} on the host", "quiet"))
    others = [one.pod_cidr for one in topology.hosts if one.pod_cidr and one is not host]
    if routed := [cidr for cidr in others if host.route_to(cidr)]:
        lines.append((f"routes to the pods of {len(routed)} of {len(others)} nodes", "quiet"))
    missing = gaps(topology, host)
    lines += [(f"✗ {gap}", "bad") for gap in missing[:2]]
    return lines + ([(f"✗ and {len(missing) - 2} more", "bad")] if len(missing) > 2 else [])


def _host(
    x: float, y: float, height: float, topology: Topology, host: HostView, ways: Sequence[Way]
) -> list[str]:
    # The way that ends before it should, or else the first.
    shown = [way for way in ways if way.ends] or ways
    hops = [n for way in shown[:1] for n, hop in enumerate(way.hops, 1) if hop.host == host.name]
    parts = [_rect("on" if hops else "box", x, y, BOX, height)]
    label = f"hops {', '.join(map(str, hops))}" if hops else ""
    parts.append(_text(x + 10, y + 22, host.name, "title", BOX - 20 - len(label) * 8))
    parts.append(_text(x + BOX - 10, y + 22, label, "hops"))
    for row, (text, kind) in enumerate(_lines(topology, host)):
        below = y + 46 + row * (LINE + 4)
        if kind == "net":
            parts.append(_rect("net", x + 6, below - 15, BOX - 12, LINE + 3))
        parts.append(_text(x + 10, below, text, "" if kind == "net" else kind, BOX - 16))
    return parts


def _way(way: Way, y: float, width: float) -> tuple[list[str], float]:
    """The hops of a way, those of one host in one box, and where they end."""

    parts: list[str] = []
    groups = groupby(enumerate(way.hops, 1), lambda pair: pair[1].host)
    for first, (name, hops) in enumerate(groups):
        if first:
            parts.append(_line("way", f"M{MARGIN + 60} {y}v20m-5 -7l5 7l5 -7"))
            y += 20
        lines = [line for number, hop in hops for line in _hop(number, hop, width)]
        parts.append(_rect("box", MARGIN, y, width - 2 * MARGIN, 34 + len(lines) * LINE))
        parts.append(_text(MARGIN + 10, y + 20, name, "title", width / 2))
        for row, (indent, text, kind) in enumerate(lines):
            parts.append(_text(MARGIN + 14 + indent, y + 42 + row * LINE, text, kind))
        y += 34 + len(lines) * LINE
    return parts, y + 16


def _hop(number: int, hop: Hop, width: float) -> list[tuple[int, str, str]]:
    text = f"✗ MISSING: {hop.text}" if hop.missing else hop.text
    count = int((width - 2 * MARGIN - 60) / 7.6)
    said = [(0, line, "bad" if hop.missing else "") for line in wrap(f"{number}. {text}", count)]
    return said + [(26, line, "rule") for rule in hop.rules for line in wrap(rule, count)]


def _text(x: float, y: float, text: str, kind: str = "", width: float = 0) -> str:
    """A text, of which no more is shown than its width allows, and all where one points at it."""

    most = int(width / _LETTERS.get(kind, _LETTER)) if width else len(text)
    shown = text if len(text) <= most else f"{text[: max(most - 1, 1)]}…"
    whole = "" if shown == text else f"<title>{_safe(text)}</title>"
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{whole}{_safe(shown)}</text>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" {size} rx="6"/>'


def _line(kind: str, path: str) -> str:
    return f'<path class="{kind}" d="{path}"/>'


def _safe(text: str) -> str:
    return escape(safe(text))
