"""
The control machine records which node has which pod CIDR, before any host uses one.
"""

from __future__ import annotations

from pyinfra_kube.deploys.run.context import current_cluster
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.operations import control_machine


@phase("Allocations")
def record_allocations() -> None:
    """Record the pod CIDRs, so that no later run renumbers a node."""

    cluster = current_cluster()
    # An operation of all hosts: none goes on before one of them has written.
    control_machine.save(
        name="Record the pod CIDRs on the control machine",
        pending=lambda: cluster.new_addresses if cluster.runs_once else [],
        write=cluster.record,
    )


if "__name__" not in globals():
    run_phases([record_allocations])
