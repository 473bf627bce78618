"""
Draws docs/picture.svg, what the scratch path builds of inventories/scratch.py: `make picture`.

It is narrow, for phones, and has colors for dark pages too.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import islice
from pathlib import Path
from runpy import run_path

from netaddr import IPNetwork

FOLDER = Path(__file__).parent
WIDTH, MARGIN, PAD = 480, 8, 14
NODE = (WIDTH - 2 * MARGIN - 3 * PAD) // 2

STYLE = """\
text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 16px; }
.quiet { fill: #57606a; }
.middle { text-anchor: middle; }
.box { fill: #ffffff; stroke: #8c959f; }
.hosts { fill: #f6f8fa; stroke: #d0d7de; stroke-dasharray: 5 4; }
.unit { fill: #dafbe1; stroke: #2da44e; }
.pod { fill: #ddf4ff; stroke: #218bff; }
.secret { fill: #fff1d6; stroke: #bf8700; }
.net { fill: #fbefff; stroke: #8250df; }
.line { fill: none; stroke: #57606a; stroke-width: 1.5; }
.wire { fill: none; stroke: #8250df; stroke-width: 2; }
.tip { fill: #57606a; }
.wiretip { fill: #8250df; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9da7b3; }
  .box { fill: #161b22; stroke: #6e7681; }
  .hosts { fill: #0d1117; stroke: #30363d; }
  .unit { fill: #12361f; stroke: #3fb950; }
  .pod { fill: #0c2d55; stroke: #58a6ff; }
  .secret { fill: #3d2c00; stroke: #d29922; }
  .net { fill: #301a4d; stroke: #a371f7; }
  .line { stroke: #9da7b3; }
  .wire { stroke: #a371f7; }
  .tip { fill: #9da7b3; }
  .wiretip { fill: #a371f7; }
}
"""


def main() -> None:
    (FOLDER / "picture.svg").write_text(picture())


def picture() -> str:
    """The drawing, as SVG."""

    inventory = run_path(str(FOLDER.parent / "inventories/scratch.py"))
    (host, host_data), *_ = inventory["control_plane"]
    nodes = [(name, data["ssh_hostname"]) for name, data in inventory["nodes"]]
    settings = inventory["all"][1]
    pods = IPNetwork(settings["cluster_cidr"])
    cidrs = list(islice(pods.subnet(settings["node_cidr_mask_size"]), len(nodes)))
    address = host_data["ssh_hostname"]
    parts = [
        *_control(f"{settings['cluster_name']}-credentials/"),
        _rect("hosts", MARGIN, 128, WIDTH - 2 * MARGIN, 636, 10),
        *_arrow(WIDTH / 2, 100, WIDTH / 2, 146, "line"),
        _text("ssh", WIDTH / 2 + 10, 122, "quiet"),
        *_control_plane(
            host, address, [f"route {c} via {a}" for c, (_, a) in zip(cidrs, nodes, strict=True)]
        ),
    ]
    for index, (name, own) in enumerate(nodes):
        left = MARGIN + PAD + index * (NODE + PAD)
        others = [c for c in cidrs if c != cidrs[index]]
        parts += _node(left, name, own, cidrs[index], others[0])
    parts += _between()
    parts += _legend(782)
    return _svg(820, parts)


def _control(folder: str) -> list[str]:
    return [
        _rect("box", MARGIN, 8, WIDTH - 2 * MARGIN, 92),
        _text("control machine", MARGIN + PAD, 32, "title"),
        _text("inventory.py, deploys/scratch.py, pyinfra", MARGIN + PAD, 54),
        *_chips("secret", MARGIN + PAD, 64, [f"{folder} CA, keys, tokens"]),
    ]


def _control_plane(name: str, address: str, routes: Sequence[str]) -> list[str]:
    left, top = MARGIN + PAD, 146
    within = left + PAD
    pods = [["etcd :2379", "kube-apiserver :6443"], ["kube-controller-manager", "kube-scheduler"]]
    return [
        _rect("box", left, top, WIDTH - 2 * left, 250),
        *_head(within, top + 26, name, address),
        *_chips("unit", within, top + 38, ["docker", "kubelet"]),
        _text("static pods, /etc/kubernetes/manifests", within, top + 86, "quiet"),
        *_chips("pod", within, top + 94, pods[0]),
        *_chips("pod", within, top + 124, pods[1]),
        _text("credentials, /srv/kubernetes", within, top + 172, "quiet"),
        *_chips("secret", within, top + 180, ["ca", "server", "kubelet-client", "tokens", "…"]),
        *(_text(route, within, top + 222 + 17 * n, "quiet") for n, route in enumerate(routes)),
    ]


def _node(left: float, name: str, address: str, own: IPNetwork, other: IPNetwork) -> list[str]:
    top, within, width = 440, left + PAD, NODE - 2 * PAD
    first = [str(own[n]) for n in (2, 3)]
    half = (width - 8) / 2
    parts = [
        _rect("box", left, top, NODE, 278),
        *_head(within, top + 26, name, address, below=True),
        *_chips("unit", within, top + 56, ["docker", "kubelet"]),
        *_chips("unit", within, top + 86, ["kube-proxy"]),
        *_chips("secret", within, top + 116, ["ca", "2 kubeconfigs"]),
    ]
    for index, pod in enumerate(first):
        x = within + index * (half + 8)
        parts += [
            _rect("pod", x, top + 154, half, 26, 6),
            _text(pod, x + half / 2, top + 172, "middle"),
            _line(x + half / 2, top + 180, x + half / 2, top + 194, "wire"),
        ]
    return [
        *parts,
        _rect("net", within, top + 194, width, 26, 6),
        _text(f"cbr0 {own[1]}/{own.prefixlen}", within + width / 2, top + 212, "middle"),
        _text(f"route {other}", within, top + 242, "quiet"),
        _text("masquerade what leaves", within, top + 262, "quiet"),
    ]


def _between() -> list[str]:
    """What goes from host to host."""

    left, right = MARGIN + PAD + NODE / 2, WIDTH - MARGIN - PAD - NODE / 2
    middle = WIDTH / 2
    return [
        *_arrow(left, 440, left, 398, "line"),
        *_arrow(right, 440, right, 398, "line"),
        _text("https, to the apiserver", middle, 424, "quiet middle"),
        f'<path class="wire" d="M{left} 718 V736 H{right} V718"/>',
        _text("pods reach pods, by routes", middle, 755, "middle"),
    ]


def _legend(top: float) -> list[str]:
    words = {"unit": "systemd unit", "pod": "pod", "secret": "certificate, token", "net": "bridge"}
    parts, left = [], MARGIN + PAD
    for kind, word in words.items():
        parts += [_rect(kind, left, top, 16, 16, 4), _text(word, left + 22, top + 13, "quiet")]
        left += 22 + 7 * len(word) + 16
    return parts


# Shapes


def _head(left: float, top: float, name: str, address: str, below: bool = False) -> list[str]:
    at = (left, top + 20) if below else (left + 12 * len(name), top)
    return [_text(name, left, top, "title"), _text(address, *at, "quiet")]


def _chips(kind: str, left: float, top: float, words: Sequence[str]) -> list[str]:
    parts = []
    for word in words:
        width = 8 * len(word) + 18
        parts += [
            _rect(kind, left, top, width, 24, 6),
            _text(word, left + width / 2, top + 17, "middle"),
        ]
        left += width + 8
    return parts


def _rect(kind: str, x: float, y: float, width: float, height: float, radius: float = 8) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"'
    return f'<rect class="{kind}" {place}/>'


def _text(text: str, x: float, y: float, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _arrow(x1: float, y1: float, x2: float, y2: float, kind: str) -> list[str]:
    """An upright line with a tip at its end."""

    back = -8 if y2 > y1 else 8
    tip = f"M{x2:g} {y2:g} l-5 {back} h10 z"
    return [_line(x1, y1, x2, y2 + back / 2, kind), f'<path class="tip" d="{tip}"/>']


def _svg(height: int, parts: Sequence[str]) -> str:
    title = "What is built: a control machine, a control plane host, two nodes and their network"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{title}</title>",
        f"<style>\n{STYLE}</style>",
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
