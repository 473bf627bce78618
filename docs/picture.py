"""
Draws docs/picture.svg, what the scratch path builds of inventories/scratch.py: `make picture`.

It is narrow, for phones, and has colors for dark pages too.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from runpy import run_path

from netaddr import IPNetwork

from pyinfra_kube.cluster.allocation import AddressPlan, NodeAddresses, make_plan
from pyinfra_kube.cluster.spec import ClusterSpec

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
    groups = {group: dict(inventory[group]) for group in ("control_plane", "nodes")}
    names, common = inventory["all"]
    own = {name: data for members in groups.values() for name, data in members.items()}
    members = {group: list(hosts) for group, hosts in groups.items()}
    spec = ClusterSpec.from_inventory(members, {name: common | own[name] for name in names})
    plan = make_plan(spec)
    first, *nodes = plan.nodes.values()
    parts = [
        *_control(f"{spec.cluster_name}-credentials/"),
        _rect("hosts", MARGIN, 128, WIDTH - 2 * MARGIN, 726, 10),
        *_arrow(WIDTH / 2, 100, WIDTH / 2, 146, "line"),
        _text("ssh", WIDTH / 2 + 10, 122, "quiet"),
        *_control_plane(first, plan),
    ]
    for index, node in enumerate(nodes):
        parts += _node(MARGIN + PAD + index * (NODE + PAD), node, plan)
    parts += _between()
    parts += _legend(872)
    return _svg(910, parts)


def _control(folder: str) -> list[str]:
    return [
        _rect("box", MARGIN, 8, WIDTH - 2 * MARGIN, 92),
        _text("control machine", MARGIN + PAD, 32, "title"),
        _text("inventory.py, deploys/scratch.py, pyinfra", MARGIN + PAD, 54),
        *_chips("secret", MARGIN + PAD, 64, [f"{folder} CAs, keys, tokens"]),
    ]


def _control_plane(host: NodeAddresses, plan: AddressPlan) -> list[str]:
    left, top = MARGIN + PAD, 146
    within, width = left + PAD, WIDTH - 2 * left - 2 * PAD
    pods = [["etcd :2379", "kube-apiserver :6443"], ["kube-controller-manager", "kube-scheduler"]]
    routes = [f"route {pods} via {at}" for pods, at in plan.routes(host.name)]
    return [
        _rect("box", left, top, WIDTH - 2 * left, 286),
        *_head(within, top + 26, host.name, host.address or ""),
        *_chips("unit", within, top + 38, ["containerd", "kubelet", "kube-proxy"]),
        _text("static pods, /etc/kubernetes/manifests", within, top + 86, "quiet"),
        *_chips("pod", within, top + 94, pods[0]),
        *_chips("pod", within, top + 124, pods[1]),
        _text("credentials, /srv/kubernetes", within, top + 172, "quiet"),
        *_chips(
            "secret", within, top + 180, ["ca", "server", "etcd", "front-proxy", "tokens", "…"]
        ),
        *_bridge(within, top + 214, width, host),
        *(_text(route, within, top + 258 + 17 * n, "quiet") for n, route in enumerate(routes)),
    ]


def _node(left: float, node: NodeAddresses, plan: AddressPlan) -> list[str]:
    top, within, width = 478, left + PAD, NODE - 2 * PAD
    half = (width - 8) / 2
    parts = [
        _rect("box", left, top, NODE, 326),
        *_head(within, top + 26, node.name, node.address or "", below=True),
        *_chips("unit", within, top + 56, ["containerd", "kubelet"]),
        *_chips("unit", within, top + 86, ["kube-proxy"]),
        *_chips("secret", within, top + 116, ["ca", "kubelet.crt"]),
        *_chips("secret", within, top + 146, ["2 kubeconfigs"]),
    ]
    for index, pod in enumerate(("CoreDNS", str(IPNetwork(node.pod_cidr)[3]))):
        x = within + index * (half + 8)
        parts += [
            _rect("pod", x, top + 184, half, 26, 6),
            _text(pod, x + half / 2, top + 202, "middle"),
            _line(x + half / 2, top + 210, x + half / 2, top + 224, "wire"),
        ]
    routes = [f"route {pods}" for pods, _ in plan.routes(node.name)]
    return [
        *parts,
        *_bridge(within, top + 224, width, node),
        *(_text(route, within, top + 272 + 17 * n, "quiet") for n, route in enumerate(routes)),
        _text("masquerade what leaves", within, top + 311, "quiet"),
    ]


def _bridge(left: float, top: float, width: float, node: NodeAddresses) -> list[str]:
    return [
        _rect("net", left, top, width, 26, 6),
        _text(f"cbr0 {node.bridge_address}", left + width / 2, top + 18, "middle"),
    ]


def _between() -> list[str]:
    """What goes from host to host."""

    left, right = MARGIN + PAD + NODE / 2, WIDTH - MARGIN - PAD - NODE / 2
    box, edge = MARGIN + PAD, MARGIN + PAD / 2
    return [
        *_arrow(left, 478, left, 434, "line"),
        *_arrow(right, 478, right, 434, "line"),
        _text("https, to the apiserver", WIDTH / 2, 460, "quiet middle"),
        f'<path class="wire" d="M{box + PAD} 373 H{edge} V822 H{right} V804 M{left} 804 V822"/>',
        _text("pods reach pods, by routes", WIDTH / 2, 843, "middle"),
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
