"""The kinds of hosts that there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab import fedora, roots
from tests.lab.machine import LabError

FAMILIES = (*roots.SUITES, "fedora", "fedora-44")


def base(
    family: str, *, runtime: str = "", release: Path | None = None, more: Sequence[Path] = ()
) -> roots.Base:
    """The base of a kind of host; made now if the cache has none of this recipe.

    + runtime: installed already, as `roots.base` takes it
    + release: the folder of the Kubernetes that a distribution's repository has
    + more: those of other releases that it has too
    """
    if family not in FAMILIES:
        raise LabError(f"No such family of hosts: {family}. There are: {', '.join(FAMILIES)}.")
    if family == "fedora":
        return fedora.base(runtime=runtime, release=release)
    if family == "fedora-44":
        if runtime or not release:
            raise LabError("Hosts like Fedora 44 have no runtime yet, and a Kubernetes in RPMs.")
        return fedora.base_of_today(release, more)
    return roots.base(family, runtime=runtime)
