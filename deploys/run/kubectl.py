"""
Which kubectl a host of the control plane has.
"""

from __future__ import annotations

from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import Files

_PATHS = ("/usr/local/bin/kubectl", "/usr/bin/kubectl")


def kubectl_program() -> str:
    """Return the path of the current host's kubectl: ours, or else that of a package."""

    found = read(Files, paths=_PATHS, digest=False)
    return next((path for path in _PATHS if path in found), "kubectl")
