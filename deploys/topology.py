"""
Say and draw who has which address in a running cluster, and the way of a packet. No host changes.

    pyinfra INVENTORY deploys/topology.py -y
    pyinfra INVENTORY deploys/topology.py -y --data packet_from=default/web --data packet_to=ADDRESS
"""

from __future__ import annotations

from pathlib import Path

from pyinfra import logger

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.deploys.run.packet_way import text_of_way
from pyinfra_kube.deploys.run.topology import text_of
from pyinfra_kube.deploys.run.topology_facts import look
from pyinfra_kube.deploys.run.topology_picture import picture
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.operations import control_machine


@phase("Topology")
def show_topology() -> None:
    """Say and draw what hosts and the API tell; with ``packet_from``, the way of a packet too."""

    cluster = current_cluster()
    file = _file(cluster.spec)
    topology, ways = look(cluster)
    if not cluster.runs_once:
        return
    drawn = picture(topology, ways)
    lines = [line for way in ways for line in ["", *text_of_way(way)]]
    for line in ["", *text_of(topology), *lines, ""]:
        logger.info(f"    {line}".rstrip())
    control_machine.save(
        name="Draw the picture on the control machine",
        pending=lambda: [f"{file}: drawn"] if _held(file) != drawn else [],
        write=lambda: file.write_text(drawn, encoding="utf-8"),
    )


def _file(spec: ClusterSpec) -> Path:
    file = Path(spec.topology_file or f"{spec.cluster_name}-topology.svg").expanduser()
    if file.is_dir() or not file.parent.is_dir():
        allowed = "a file in a folder that is there"
        raise InputError([Problem("topology_file", spec.topology_file, None, allowed)])
    return file


def _held(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


if "__name__" not in globals():
    show_topology()
