"""Real hosts on one machine, to try deploys on.

from tests.lab import Lab, held

with held():                        # nobody else changes the lab meanwhile
    lab = Lab.up(runtime="docker")  # or Lab.load(), when it is up
    lab.exec("kube-node-1", "docker ps").stdout
    lab.reset(["kube-node-1"])      # blank again
"""

from __future__ import annotations

from tests.lab.lab import Lab, down
from tests.lab.machine import LabError
from tests.lab.state import held

__all__ = ["Lab", "LabError", "down", "held"]
