"""A verdict and a list of files as a page for a browser, which needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby

from pyinfra_kube.checks.check import Finding
from pyinfra_kube.checks.judge import Verdict
from pyinfra_kube.checks.report import summary

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
article { border-left: .3rem solid #c62828; padding: .1rem .8rem; margin: .8rem 0;
  background: #8881; overflow-wrap: anywhere }
article h2 { margin-top: .6rem }
article.warning { border-color: #e08a00 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .5rem 0 }
dt { opacity: .7 } dd { margin: 0; min-width: 0 }
code { font-size: .9em } table { border-collapse: collapse } th, td { padding: .2rem .7rem;
  text-align: left; border-bottom: 1px solid #8885 } .wide { overflow-x: auto }
.small { display: none } svg { background: none !important }
@media (max-width: 40rem) { .small { display: block } .large { display: none }
  .small svg { max-width: 100%; height: auto } th, td { padding: .2rem .3rem }
  table { font-size: .85rem } }
ul { padding-left: 1.2rem } li { overflow-wrap: anywhere } a { padding: .1rem 0 }
"""


def page(
    title: str, verdict: Verdict, files: Mapping[str, int], picture: str = "", narrow: str = ""
) -> str:
    """
    Give the page: what failed first, then the topology, the hosts and the files.

    + title: of the page
    + verdict: what verification found
    + files: path beside the page → its size in bytes
    + picture, narrow: the topology, as SVG, and as a phone shows it
    """
    pictures = f'<div class="wide large">{picture}</div><div class="small">{narrow}</div>'
    drawn = f"<h2>Topology</h2>{pictures}" if picture else ""
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(summary(verdict))}</p>",
        *_causes(verdict),
        drawn,
        _hosts(verdict),
        *_unknown(verdict),
        "<h2>Files</h2>",
        *_files(files),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _causes(verdict: Verdict) -> Iterable[str]:
    for cause in verdict.causes:
        one, said = cause.finding, cause.finding.said
        rows = {"seen": said.seen, "expected": said.expected}
        commands = {"look": one.look, "mend": one.mend}
        lines = [f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v]
        lines += [
            f"<dt>{k}</dt><dd><code>{escape(v)}</code></dd>" for k, v in commands.items() if v
        ]
        below = [
            f"<li>{escape(_where(other))}: {escape(other.said.seen)}</li>"
            for other in cause.consequences
        ]
        also = f"<p>So also:</p><ul>{''.join(below)}</ul>" if below else ""
        yield (
            f'<article class="{said.state}"><h2>{escape(_where(one))}</h2>'
            f"<p>{said.state}, for this does not hold: {escape(one.check.title)}</p>"
            f"<dl>{''.join(lines)}</dl>{also}</article>"
        )


def _hosts(verdict: Verdict) -> str:
    states = ("warning", "failed", "unknown")
    rows = [
        "".join(
            f"<td>{escape(str(cell))}</td>"
            for cell in (host, len(verdict.well[host]), *(verdict.count(host, s) for s in states))
        )
        for host in verdict.hosts
    ]
    titles = "".join(
        f"<th>{title}</th>" for title in ("Host", "OK", "Warnings", "Failed", "Unknown")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<h2>Hosts</h2><div class="wide"><table><tr>{titles}</tr>{body}</table></div>'


def _unknown(verdict: Verdict) -> Iterable[str]:
    if verdict.unknown:
        lines = [
            f"<li>{escape(_where(one))}: {escape(one.said.seen)}</li>" for one in verdict.unknown
        ]
        count = len(verdict.unknown)
        yield f"<details><summary>{count} unknown</summary><ul>{''.join(lines)}</ul></details>"


def _files(files: Mapping[str, int]) -> Iterable[str]:
    for folder, paths in groupby(files, lambda path: path.rpartition("/")[0]):
        lines = [
            f'<li><a href="{escape(path, quote=True)}">{escape(path.rpartition("/")[2])}</a> '
            f"{max(1, files[path] // 1024)} KiB</li>"
            for path in paths
        ]
        name = escape(folder or "the cluster")
        yield f"<details><summary>{name}</summary><ul>{''.join(lines)}</ul></details>"


def _where(one: Finding) -> str:
    subject = f" {one.said.subject}" if one.said.subject else ""
    return f"{one.host}: {one.check.id}{subject}"
