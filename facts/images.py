"""
Container images that a host holds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.facts.docker import RUNS

# Where images wait to be loaded; one fixed place, so that a killed run's leavings are found.
STAGE = "/var/tmp/pyinfra-kube-images"
# Where docker keeps its images' names, whichever way it stores layers.
_KEPT = "/var/lib/docker/image/*/repositories.json"


@dataclass(frozen=True)
class ImageStates:
    """
    What :class:`Images` returns.

    + runtime: ``docker``, ``missing`` where it is not installed, ``down`` where it does not answer
    + ids: image id by name with tag, as ``{"k8s.gcr.io/pause:3.2": "sha256:80d28b…"}``; of a docker
      that is down, as it keeps them in its default folder
    + staged: whether an earlier run left uploaded images behind
    """

    runtime: Literal["docker", "missing", "down"] = "missing"
    ids: dict[str, str] = field(default_factory=dict)
    staged: bool = False


class Images(FactBase[ImageStates]):
    """
    Returns the names and ids of docker's images.

    .. code:: python

        ImageStates(runtime="docker", ids={"k8s.gcr.io/pause:3.2": "sha256:80d28b…"})
    """

    @staticmethod
    @override
    def default() -> ImageStates:
        return ImageStates()

    @override
    def command(self) -> str:
        return f"""\
{RUNS}
[ -e {shlex.quote(STAGE)} ] && echo staged
if ! command -v docker >/dev/null 2>&1; then echo 'runtime missing'
elif ! docker_runs || ! shown=$(timeout 30 docker images --no-trunc 2>/dev/null)
then
  echo 'runtime down'
  if cat {_KEPT} 2>/dev/null; then echo; fi
else echo 'runtime docker'; printf '%s\\n' "$shown" | sed 1d
fi"""

    @override
    def process(self, output: Iterable[str]) -> ImageStates:
        runtime: Literal["docker", "missing", "down"] = "missing"
        ids: dict[str, str] = {}
        staged = False
        for line in output:
            words = line.split()
            if words == ["staged"]:
                staged = True
            elif words[:1] == ["runtime"]:
                runtime = "docker" if words[1] == "docker" else "down"
                runtime = "missing" if words[1] == "missing" else runtime
            elif line.startswith("{"):
                ids |= _kept(line)
            elif len(words) > 2 and "<none>" not in words[:2]:
                ids[f"{words[0]}:{words[1]}"] = words[2]
        return ImageStates(runtime, ids, staged)


def _kept(text: str) -> dict[str, str]:
    """The names in docker's own file, those by digest left out."""

    repositories: dict[str, dict[str, str]] = json.loads(text)["Repositories"]
    return {
        name: found
        for names in repositories.values()
        for name, found in names.items()
        if "@" not in name
    }
