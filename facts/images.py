"""
Container images that a host holds.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import content, decoded, understanding
from pyinfra_kube.facts.docker import RUNS

# Where images wait to be loaded; one fixed place, so that a killed run's leavings are found.
STAGE = "/var/tmp/pyinfra-kube-images"
# Where docker keeps its images' names, whichever way it stores layers.
_KEPT = "/var/lib/docker/image/*/repositories.json"


@dataclass(frozen=True)
class ImageStates(Printable):
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
[ ! -e {shlex.quote(STAGE)} ] || echo staged
if ! command -v docker >/dev/null 2>&1; then echo 'runtime missing'
elif ! docker_runs || ! shown=$(timeout 30 docker images --no-trunc 2>/dev/null)
then
echo 'runtime down'
for file in {_KEPT}; do
[ -f "$file" ] || continue
{content('"kept $file"', '"$file"')}
done
else echo 'runtime docker'; printf '%s\\n' "$shown"
fi"""

    @override
    def process(self, output: Iterable[str]) -> ImageStates:
        lines = list(output)
        staged = lines[:1] == ["staged"]
        runtime, *rest = lines[1:] if staged else lines
        if runtime == "runtime missing":
            return ImageStates("missing", {}, staged)
        if runtime == "runtime down":
            return ImageStates("down", _all_kept(rest), staged)
        if runtime != "runtime docker" or not rest or rest[0].split()[:2] != ["REPOSITORY", "TAG"]:
            raise FactProcessError("docker does not tell its images: it prints no table of them")
        rows = [line.split() for line in rest[1:] if line.strip()]
        if any(len(row) < 3 for row in rows):
            raise FactProcessError("docker does not tell its images: the table is cut off")
        ids = {f"{name}:{tag}": id_ for name, tag, id_, *_ in rows if "<none>" not in (name, tag)}
        return ImageStates("docker", ids, staged)


def _all_kept(lines: Iterable[str]) -> dict[str, str]:
    """The names in docker's own files, those by digest left out."""

    ids: dict[str, str] = {}
    for line in lines:
        _, path, text = line.split(" ")
        with understanding(path):
            repositories = _FILE.validate_json(decoded(text, path))["Repositories"]
        for names in repositories.values():
            ids |= {name: found for name, found in names.items() if "@" not in name}
    return ids


_FILE = TypeAdapter(dict[Literal["Repositories"], dict[str, dict[str, str]]])
