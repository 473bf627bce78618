"""
The kubeconfigs of people, kept on the control machine beside the cluster's credentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyinfra_kube.cluster.credential_store import write_whole
from pyinfra_kube.cluster.errors import InputError, Problem

_END = ".kubeconfig"


class Kubeconfigs:
    """
    The folder of people's kubeconfigs, each ``PERSON.kubeconfig`` and 0600.

    + folder: of the cluster, on the control machine
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "users"

    def path(self, person: str) -> Path:
        """
        Where a person's is.

        + person: the name
        """

        return self.folder / f"{person}{_END}"

    def read(self) -> dict[str, str]:
        """Return person → kubeconfig. Raises ``InputError``."""

        try:
            paths = self.folder.iterdir() if self.folder.exists() else ()
            files = sorted(path for path in paths if path.name.endswith(_END))
            return {path.name.removesuffix(_END): path.read_text() for path in files}
        except (OSError, UnicodeDecodeError) as error:
            allowed = f"a folder of kubeconfigs that can be read ({error})"
            problem = Problem("credentials_dir", str(self.folder), None, allowed)
            raise InputError([problem]) from None

    def pending(self, wanted: Mapping[str, str]) -> list[str]:
        """
        Return a line for each file that is not as wanted.

        + wanted: person → kubeconfig; others are to go
        """

        held = self.read()
        changed = [person for person, text in wanted.items() if held.get(person) != text]
        gone = [person for person in held if person not in wanted]
        lines = [f"{self.path(person)}: written, content hidden" for person in changed]
        return lines + [f"{self.path(person)}: removed" for person in gone]

    def write(self, wanted: Mapping[str, str]) -> None:
        """
        Make the folder as wanted; each file is closed to others from its first byte.

        + wanted: person → kubeconfig; others go
        """

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = self.read()
        for person, text in wanted.items():
            if held.get(person) != text:
                write_whole(self.path(person), text)
        for person in held:
            if person not in wanted:
                self.path(person).unlink(missing_ok=True)
