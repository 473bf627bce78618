"""
Container images that a host holds.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.cluster.runtimes import Runtime, runtime_named
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import understanding

# Where uploaded images wait to be loaded: one fixed place, so that the next run finds what a killed
# one left.
STAGE = "/var/tmp/pyinfra-kube-images"


@dataclass(frozen=True)
class ImageStates(Printable):
    """
    What :class:`Images` returns.

    + runtime: its name, ``missing`` if it is not installed, ``down`` if it does not answer
    + ids: image id by name with tag, such as ``{"k8s.gcr.io/pause:3.2": "sha256:80d28b…"}``; of a
      runtime that does not answer, those that it keeps in files of its default folder, where an id
      may be empty
    + staged: whether an earlier run left uploaded images behind
    """

    runtime: str = "missing"
    ids: dict[str, str] = field(default_factory=dict)
    staged: bool = False


class Images(FactBase[ImageStates]):
    """
    Returns the names and ids of the container runtime's images.

    + runtime: name of the container runtime

    .. code:: python

        ImageStates(runtime="docker", ids={"k8s.gcr.io/pause:3.2": "sha256:80d28b…"})
    """

    default = ImageStates

    @override
    def command(self, runtime: str = "docker") -> str:
        self.runtime = runtime_named(runtime)
        kept = f"""\
for file in {self.runtime.kept_images}; do
[ -f "$file" ] || continue
text=$({self.runtime.kept_filter} < "$file" | base64 -w 0) || exit 1
echo "kept $file $text"
done"""
        return f"""\
[ ! -e {shlex.quote(STAGE)} ] || echo staged
{self.runtime.asked(self.runtime.images, down=kept if self.runtime.kept_images else "")}"""

    @override
    def process(self, output: Iterable[str]) -> ImageStates:
        lines = list(output)
        staged = lines[:1] == ["staged"]
        first, *rest = lines[1:] if staged else lines
        if first in ("runtime missing", "runtime down"):
            kept = _kept(self.runtime, rest)
            return ImageStates(first.removeprefix("runtime "), kept, staged)
        if first != f"runtime {self.runtime.name}":
            raise FactProcessError(f"the host does not tell whether {self.runtime.name} runs")
        with understanding(self.runtime.client):
            return ImageStates(self.runtime.name, self.runtime.read_images(rest), staged)


def _kept(runtime: Runtime, lines: Iterable[str]) -> dict[str, str]:
    """The names in the runtime's own files."""

    ids: dict[str, str] = {}
    for line in lines:
        _, path, text = line.split(" ")
        with understanding(path):
            ids |= runtime.read_kept_images(base64.b64decode(text, validate=True))
    return ids
