"""
Which node has which pod CIDR, recorded on the control machine beside the credentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from pyinfra_kube.cluster.credential_store import write_whole
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.networks import parse_network


class Allocations:
    """
    The file of pod CIDRs in a cluster's folder.

    + folder: of the cluster, on the control machine
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "addresses.yaml"

    def read(self) -> dict[str, str]:
        """Return the recorded pod CIDR of each host. Raises ``InputError``."""

        try:
            text = self.path.read_text() if self.path.exists() else ""
            found = (yaml.safe_load(text) or {}).items()
            return {str(name): str(parse_network(str(cidr))) for name, cidr in found}
        except (OSError, yaml.YAMLError, AttributeError, ValueError) as error:
            allowed = f"host: CIDR, one a line ({' '.join(str(error).split())})"
            raise InputError([Problem("credentials_dir", str(self.path), None, allowed)]) from None

    def write(self, addresses: Mapping[str, str]) -> None:
        """
        Replace the file.

        + addresses: host → pod CIDR
        """

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.path, yaml.safe_dump(dict(addresses)))
