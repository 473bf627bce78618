"""
Software packages of a host, whichever of rpm and dpkg manages them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

Manager = Literal["apt", "dnf", "yum", "missing"]


@dataclass(frozen=True)
class PackageStates:
    """
    What :class:`Packages` returns.

    + manager: what installs packages here: ``apt``, ``dnf``, ``yum`` or ``missing``
    + system: the distribution's ``ID``, as ``fedora``
    + release: its ``VERSION_ID``, as ``42``; empty where it names none
    + versions: version (of an RPM with its release) by the name asked for; one that is not
      installed, or not wholly, is left out
    """

    manager: Manager = "missing"
    system: str = ""
    release: str = ""
    versions: dict[str, str] = field(default_factory=dict)


class Packages(FactBase[PackageStates]):
    """
    Returns which of the packages are installed.

    + names: names of packages; with rpm also of what a package provides

    .. code:: python

        PackageStates(
            manager="dnf", system="fedora", release="24",
            versions={"etcd": "2.2.5-1.fc24", "flannel": "0.5.5-5.fc24"},
        )
    """

    @staticmethod
    @override
    def default() -> PackageStates:
        return PackageStates()

    @override
    def command(self, names: Sequence[str]) -> str:
        self.names = list(names)
        words = shlex.join(names)
        # What a query must begin with, to be told from what else may be printed.
        rpm_format = shlex.quote("version %{VERSION}-%{RELEASE}\\n")
        dpkg_format = shlex.quote("${db:Status-Status}\\t${Package}\\t${Version}\\n")
        return f"""\
if [ -e /etc/os-release ]; then
(. /etc/os-release && printf 'system\\t%s\\t%s\\n' "${{ID:-}}" "${{VERSION_ID:-}}") || exit 1
fi
for manager in dnf yum apt-get missing; do
command -v $manager >/dev/null 2>&1 && break
done
printf 'manager\\t%s\\n' "${{manager%-get}}"
export LC_ALL=C
query() {{
shown=$(rpm -q "$@" 2>&1) && case $shown in 'version '*) return 0 ;; esac
case $shown in *' is not installed'*|*'no package provides '*) return 1 ;; esac
echo "rpm does not tell what is installed: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1
}}
case $manager in
missing) ;;
apt-get)
# dpkg itself, which is always installed, tells that it answers.
shown=$(dpkg-query -W -f={dpkg_format} -- dpkg {words} 2>&1)
case $shown in *'installed	'dpkg'	'*) ;; *)
echo "dpkg-query does not tell what is installed: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1 ;; esac
printf '%s\\n' "$shown" ;;
*)
for name in {words}; do
query --qf {rpm_format} -- "$name" || query --whatprovides --qf {rpm_format} -- "$name" || continue
shown=${{shown#version }}
printf 'installed\\t%s\\t%s\\n' "$name" "${{shown%%[[:space:]]*}}"
done ;;
esac"""

    @override
    def process(self, output: Iterable[str]) -> PackageStates:
        rows = [line.split("\t") for line in output]
        found = {(row[0], len(row)): row[1:] for row in rows}
        (manager,) = found.get(("manager", 2), [""])
        system, release = found.get(("system", 3), ["", ""])
        versions = {row[1]: row[2] for row in rows if row[0] == "installed" and len(row) == 3}
        if manager not in get_args(Manager):
            raise FactProcessError("the host does not tell what manages its packages")
        wanted = {name: versions[name] for name in self.names if name in versions}
        return PackageStates(cast(Manager, manager), system, release, wanted)
