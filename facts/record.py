"""
The record of what was on a host before us.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.record import PLACE


@dataclass(frozen=True)
class Recorded(Printable):
    """
    + exists: whether there is a record
    + late: whether it began when the cluster was built already
    + was: kind → name → how it was, in the order of the first changes
    + wrote: path → digest of what we wrote last
    """

    exists: bool = False
    late: bool = False
    was: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wrote: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, str]:
        """
        Give name → how it was.

        + kind: ``file``, ``unit``, ``sysctl``, ``module``, ``lock``, ``rule`` (SELinux's) or
          ``firewalld``
        """
        return dict(self.was.get(kind, {}))


class Record(FactBase[Recorded]):
    """
    Returns what was on the host before us.

    + place: of the record

    .. code:: python

        Recorded(
            exists=True,
            was={"file": {"/etc/hosts": "kept"}, "unit": {"kubelet.service": "absent"}},
            wrote={"/etc/hosts": "9f86d0…"},
        )
    """

    default = Recorded

    @override
    def command(self, place: str = PLACE) -> str:
        return f"""\
tell() {{
while IFS= read -r line; do printf '%s\\t%s\\n' "$1" "$line"; done < {shlex.quote(place)}/$2
}}
if [ -e {shlex.quote(place)}/before ]; then
echo record
[ ! -e {shlex.quote(place)}/late ] || echo late
tell was before
[ ! -e {shlex.quote(place)}/wrote ] || tell wrote wrote
fi"""

    @override
    def process(self, output: Iterable[str]) -> Recorded:
        lines = [line.split("\t") for line in output]
        was: dict[str, dict[str, str]] = {}
        for _, kind, name, state in (one for one in lines if one[0] == "was" and len(one) == 4):
            was.setdefault(kind, {})[name] = state
        return Recorded(
            exists=["record"] in lines,
            late=["late"] in lines,
            was=was,
            wrote={one[1][66:]: one[1][:64] for one in lines if one[0] == "wrote"},
        )


class Folders(FactBase[dict[str, list[str]]]):
    """
    Returns what is in each of the folders, by its name. A path that is no folder is left out.

    + paths: absolute paths

    .. code:: python

        {"/etc/kubernetes": ["manifests"]}
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        return f"""\
for folder in {shlex.join(paths)}; do
[ -d "$folder" ] && [ ! -L "$folder" ] || continue
echo "$folder"
for path in "$folder"/* "$folder"/.[!.]* "$folder"/..?*; do
[ ! -e "$path" ] && [ ! -L "$path" ] || printf '\\t%s\\n' "${{path##*/}}"
done
done"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        folder = ""
        for line in output:
            if line.startswith("\t"):
                found[folder].append(line[1:])
            else:
                folder = line
                found[folder] = []
        return found
