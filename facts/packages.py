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
    + partial: names whose installation was begun and not ended
    """

    manager: Manager = "missing"
    system: str = ""
    release: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    partial: tuple[str, ...] = ()


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
        partial: list[str] = []
        for line in output:
            key, *values = line.split("\t")
            if key == "system":
                system, release = values
            elif key == "manager":
                manager = values[0]
            elif key == "installed":
                versions[values[0]] = values[1]
            elif key in _PARTIAL:
                partial.append(values[0])
        return PackageStates(cast(Manager, manager), system, release, versions, tuple(partial))


# What dpkg calls a package that a killed run left half-way.
_PARTIAL = ("half-installed", "unpacked", "half-configured")


@dataclass(frozen=True)
class RemovalStates:
    """
    What :class:`Removals` returns.

    + known: whether the package manager could tell, which needs its lists
    + names: packages that would be removed
    """

    known: bool = False
    names: tuple[str, ...] = ()


class Removals(FactBase[RemovalStates]):
    """
    Returns what an installation would remove, as far as the host's package manager can tell from
    the lists that it has.

    + names: names of packages, or URLs of RPM files, to install
    + enablerepo: repositories of dnf to enable for it

    .. code:: python

        RemovalStates(known=True, names=("docker-ce", "containerd.io"))
    """

    default = RemovalStates

    @override
    def command(self, names: Sequence[str], enablerepo: Sequence[str] = ()) -> str:
        return f"""\
{REMOVALS}
for manager in dnf yum apt-get; do
command -v $manager >/dev/null 2>&1 || continue
if names=$(removals $manager {shlex.join(dnf_options(enablerepo, cached=True))} -- \
{shlex.join(names)}); then echo known; printf '%s\\n' "$names" | sed -n 's/./removed &/p'; fi
break
done
true"""

    @override
    def process(self, output: Iterable[str]) -> RemovalStates:
        lines = list(output)
        removed = tuple(line.partition(" ")[2] for line in lines if line.startswith("removed "))
        return RemovalStates("known" in lines, removed)


def dnf_options(enablerepo: Sequence[str], cached: bool = False) -> list[str]:
    """
    Return dnf's options.

    + enablerepo: repositories to enable
    + cached: whether only what it has already is looked at
    """

    return [f"--enablerepo={name}" for name in enablerepo] + (["--cacheonly"] if cached else [])


# MANAGER [OPTION…] -- PACKAGE…: names what would go; fails where that cannot be told.
REMOVALS = r"""removals() {
  manager=$1
  shift
  if [ "$manager" = apt-get ]; then
    while [ "$1" != -- ]; do shift; done
    said=$(apt-get -qq --simulate --no-install-recommends install "$@" 2>/dev/null) || return 1
    printf '%s
' "$said" | sed -n 's/^Remv \([^ ]*\).*/\1/p'
    return
  fi
  options=
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  said=$(LC_ALL=C $manager --assumeno $options install "$@" 2>&1) || :
  case "$said" in
  *"Transaction Summary"* | *"Nothing to do"*) ;;
  *) return 1 ;;
  esac
  printf '%s
' "$said" | awk '
    /^Removing.*:$/ { removing = 1; next }
    /^[^ ]/ { removing = 0 }
    removing && NF > 2 { print $1 }
    $1 == "replacing" { sub(/\.[^.]*$/, "", $2); print $2 }'
}
"""
