"""
Software packages of a host, whichever of rpm and dpkg manages them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from pyinfra.api import FactBase
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
        words = shlex.join(names)
        rpm_format = shlex.quote("%{VERSION}-%{RELEASE}\\n")
        dpkg_format = shlex.quote("${db:Status-Status}\\t${Package}\\t${Version}\\n")
        return f"""\
(. /etc/os-release 2>/dev/null && printf 'system\\t%s\\t%s\\n' "${{ID:-}}" "${{VERSION_ID:-}}")
for manager in dnf yum apt-get missing; do
command -v $manager >/dev/null 2>&1 && break
done
printf 'manager\\t%s\\n' "${{manager%-get}}"
case $manager in
missing) ;;
apt-get)
[ -z {shlex.quote(words)} ] || dpkg-query -W -f={dpkg_format} -- {words} 2>/dev/null || true ;;
*)
for name in {words}; do
version=$(rpm -q --qf {rpm_format} -- "$name" 2>/dev/null) ||
version=$(rpm -q --whatprovides --qf {rpm_format} -- "$name" 2>/dev/null) || continue
printf 'installed\\t%s\\t%s\\n' "$name" "${{version%%[[:space:]]*}}"
done ;;
esac"""

    @override
    def process(self, output: Iterable[str]) -> PackageStates:
        manager, system, release = "missing", "", ""
        versions: dict[str, str] = {}
        for line in output:
            key, *values = line.split("\t")
            if key == "system":
                system, release = values
            elif key == "manager":
                manager = values[0]
            elif key == "installed":
                versions[values[0]] = values[1]
        return PackageStates(cast(Manager, manager), system, release, versions)
