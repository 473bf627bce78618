"""
Software packages of a host, with rpm or dpkg.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, cast, get_args

import tomlkit
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from tomlkit.exceptions import TOMLKitError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

Manager = Literal["apt", "dnf", "yum", "missing"]


@dataclass(frozen=True)
class PackageStates(Printable):
    """
    What :class:`Packages` returns.

    + manager: what installs packages here: ``apt``, ``dnf``, ``yum`` or ``missing``
    + system: the distribution's ``ID``, for example ``fedora``
    + release: its ``VERSION_ID``, for example ``42``; empty where it names none
    + versions: version (of an RPM with its release) by the name asked for; a package that is not
      completely installed is left out
    + partial: names whose installation began and did not end
    + held: names that are not installed and that apt holds back
    """

    manager: Manager = "missing"
    system: str = ""
    release: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    partial: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


class Packages(FactBase[PackageStates]):
    """
    Returns which of the packages are installed.

    + names: names of packages, or of what packages provide

    .. code:: python

        PackageStates(
            manager="dnf", system="fedora", release="24",
            versions={"etcd": "2.2.5-1.fc24", "flannel": "0.5.5-5.fc24"},
        )
    """

    default = PackageStates

    @override
    def command(self, names: Sequence[str]) -> str:
        self.names = list(names)
        words = shlex.join(names)
        # What the answer must begin with, to be told from other output.
        rpm_format = shlex.quote("version %{VERSION}-%{RELEASE}\\n")
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
shown=$(dpkg-query -W -f={shlex.quote(_DPKG)} '*' 2>&1)
case $shown in *'installed	'dpkg'	'*) ;; *)
echo "dpkg-query does not tell what is installed: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1 ;; esac
printf '%s\\n' "$shown" | awk -F '\\t' -v names={shlex.quote(" ".join(names))} \\
{shlex.quote(_NAMED)} ;;
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
        partial = tuple(row[1] for row in rows if row[0] in _PARTIAL and row[1] in self.names)
        held = tuple(row[1] for row in rows if row[0] == "held")
        return PackageStates(cast(Manager, manager), system, release, wanted, partial, held)


class Candidates(FactBase[dict[str, str]]):
    """
    Returns the version of each package that apt would install, by the lists that the host has. A
    package that apt does not know is left out; with dnf nothing is known.

    + names: names of packages

    .. code:: python

        {"containerd": "2.2.1-0ubuntu1~24.04.3"}
    """

    default = dict

    @override
    def command(self, names: Sequence[str]) -> str:
        # dpkg itself, which is always installed, tells that it answers.
        return f"""\
for manager in dnf yum apt-get missing; do
command -v $manager >/dev/null 2>&1 && break
done
if [ $manager = apt-get ]; then
said=$(LC_ALL=C apt-cache policy dpkg {shlex.join(names)}) || exit
case $said in dpkg:*) printf '%s\\n' "$said" ;; *)
echo 'apt-cache does not tell what apt would install' >&2
exit 1 ;; esac
fi"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        found, name = dict[str, str](), ""
        for line in output:
            word, _, version = line.strip().partition(": ")
            if line.endswith(":") and not line.startswith(" "):
                name = line[:-1]
            elif word == "Candidate" and version != "(none)" and name != "dpkg":
                found[name] = version
        return found


_DPKG = r"${db:Status-Status}\t${Package}\t${Version}\t${Provides}\t${db:Status-Want}\n"

# The rows of packages with these names, and of packages that provide one.
_NAMED = r"""
BEGIN { count = split(names, list, " "); for (n = 1; n <= count; n++) wanted[list[n]] = 1 }
# Others' triggers wait for it, or it for theirs; it is there.
$1 ~ /^triggers-/ { $1 = "installed" }
$2 in wanted && $5 == "hold" && $1 != "installed" { print "held\t" $2 }
$2 in wanted { print $1 "\t" $2 "\t" $3 }
$1 == "installed" {
  count = split($4, provided, /, */)
  for (n = 1; n <= count; n++) {
    sub(/[ (].*/, "", provided[n])
    if (provided[n] in wanted) print $1 "\t" provided[n] "\t" $3
  }
}"""

# What dpkg calls a package that a killed run left half-way.
_PARTIAL = ("half-installed", "unpacked", "half-configured")


@dataclass(frozen=True)
class RemovalStates(Printable):
    """
    What :class:`Removals` returns.

    + known: whether the package manager could tell; it needs its lists of packages
    + names: packages that would be removed
    """

    known: bool = False
    names: tuple[str, ...] = ()


class Removals(FactBase[RemovalStates]):
    """
    Returns the packages that an installation would remove, by the package lists that the host has.

    + names: names of packages, or URLs of RPM files, to install
    + enablerepo: repositories that dnf enables for it
    + erasing: whether dnf may remove what conflicts with it

    .. code:: python

        RemovalStates(known=True, names=("docker-ce", "containerd.io"))
    """

    default = RemovalStates

    @override
    def command(
        self, names: Sequence[str], enablerepo: Sequence[str] = (), erasing: bool = False
    ) -> str:
        options = dnf_options(enablerepo, cached=True, erasing=erasing)
        return f"""\
{REMOVALS}
for manager in dnf yum apt-get; do
command -v $manager >/dev/null 2>&1 || continue
if names=$(removals $manager {shlex.join(options)} -- \
{shlex.join(names)}); then echo known; printf '%s\\n' "$names" | sed -n 's/./removed &/p'; fi
break
done
true"""

    @override
    def process(self, output: Iterable[str]) -> RemovalStates:
        lines = list(output)
        removed = tuple(line.partition(" ")[2] for line in lines if line.startswith("removed "))
        return RemovalStates("known" in lines, removed)


def dnf_options(
    enablerepo: Sequence[str], cached: bool = False, erasing: bool = False
) -> list[str]:
    """
    Return dnf's options for an installation. They stand after ``install``: dnf5 wants that.

    + enablerepo: repositories to enable
    + cached: whether it uses only the lists that it has already
    + erasing: whether it may remove what conflicts
    """

    given = {"--cacheonly": cached, "--allowerasing": erasing}
    return [
        *(f"--enablerepo={name}" for name in enablerepo),
        *(option for option, used in given.items() if used),
    ]


# MANAGER [OPTION…] -- PACKAGE…: prints what would be removed; fails where that is not known.
REMOVALS = r"""removals() {
  manager=$1
  shift
  if [ "$manager" = apt-get ]; then
    while [ "$1" != -- ]; do shift; done
    said=$(apt-get -qq --simulate --no-install-recommends install "$@" 2>/dev/null) || return 1
    case "$said" in *"Inst "*) ;; *) return 1 ;; esac
    printf '%s\n' "$said" | sed -n 's/^Remv \([^ ]*\).*/\1/p'
    return
  fi
  options=
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  # Who only looks leaves no trace: dnf dates its cache anew.
  dated=$(stat -c %y /var/cache/dnf 2>/dev/null) || dated=
  # What conflicts is told only where it may be removed.
  for erasing in '' --allowerasing; do
    said=$(LC_ALL=C $manager --assumeno install $options $erasing "$@" 2>&1) || :
    case "$said" in *"Transaction Summary"* | *"Nothing to do"*) break ;; esac
  done
  [ -z "$dated" ] || touch -d "$dated" /var/cache/dnf
  case "$said" in
  *"Transaction Summary"* | *"Nothing to do"*) ;;
  *) return 1 ;;
  esac
  printf '%s\n' "$said" | awk '
    # dnf5 has the architecture beside the name, and says it of an older version, too.
    $1 == "replacing" {
      if (NF < 5) sub(/\.[^.]*$/, "", $2)
      if ($2 != new) print $2
      next
    }
    /^Removing.*: *$/ { removing = 1; next }
    /^[^ ]/ { removing = 0 }
    removing && NF > 2 { print $1 }
    { new = $1 }'
}
"""


@dataclass(frozen=True)
class LockStates(Printable):
    """
    What :class:`Locks` returns.

    + manager: whose locks they are: ``apt``, ``dnf`` (4), ``dnf5``, or ``none`` where nothing
      locks versions
    + installed: version, with the epoch, by package
    + locked: packages that an upgrade of the system leaves at their version
    + stale: packages that are locked to another version than the one that is installed, if any
    + versions: the version that dnf's lock names, by package
    """

    manager: Literal["apt", "dnf", "dnf5", "none"] = "none"
    installed: dict[str, str] = field(default_factory=dict)
    locked: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


class Locks(FactBase[LockStates]):
    """
    Returns which of the packages are locked, by dnf's versionlock or apt's hold.

    + names: names of packages

    .. code:: python

        LockStates(
            manager="dnf5",
            installed={"kubernetes1.37": "0:1.37.2-1.fc44", "etcd": "0:3.7.3-1.fc44"},
            locked=("kubernetes1.37",),
            versions={"kubernetes1.37": "1.37.2-1.fc44"},
        )
    """

    default = LockStates

    @override
    def command(self, names: Sequence[str]) -> str:
        self.names = list(names)
        words = shlex.join(names)
        rpm_format = shlex.quote("package %{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n")
        dpkg_format = shlex.quote(
            "${db:Status-Status}\\t${Package}\\t${Version}\\t${db:Status-Want}\\n"
        )
        return f"""\
export LC_ALL=C
tell() {{ if [ -e "$1" ]; then sed 's/^/line\\t/' "$1"; fi; }}
query() {{
shown=$(rpm -q --qf {rpm_format} -- "$1" 2>&1) && case $shown in 'package '*)
set -- $shown
printf 'package\\t%s\\t%s\\n' "$2" "$3"
return 0 ;; esac
case $shown in *' is not installed'*) return 0 ;; esac
echo "rpm does not tell what is installed: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1
}}
if command -v dnf >/dev/null 2>&1; then
case $(readlink -f "$(command -v dnf)") in
*dnf5*) printf 'manager\\tdnf5\\n'; tell {DNF5_LOCKS} ;;
*) printf 'manager\\tdnf\\n'; tell {DNF_LOCKS} ;;
esac
for name in {words}; do query "$name"; done
elif command -v apt-get >/dev/null 2>&1; then
printf 'manager\\tapt\\n'
# dpkg itself, which is always installed, tells that it answers.
shown=$(dpkg-query -W -f={dpkg_format} -- dpkg {words} 2>&1)
case $shown in *'installed	dpkg	'*) printf '%s\\n' "$shown" ;; *)
echo "dpkg-query does not tell what is installed: $(printf '%s\\n' "$shown" | head -n 1)" >&2
exit 1 ;; esac
fi
true"""

    @override
    def process(self, output: Iterable[str]) -> LockStates:
        rows = [line.split("\t") for line in output]
        manager = next((row[1] for row in rows if row[0] == "manager"), "none")
        if manager == "apt":
            rows = [row for row in rows if row[0] == "installed" and row[1] != "dpkg"]
            there = {row[1]: row[2] for row in rows}
            held = tuple(row[1] for row in rows if row[-1] == "hold")
            return LockStates("apt", there, held)
        installed = {row[1]: row[2] for row in rows if row[0] == "package"}
        lines = ["\t".join(row[1:]) for row in rows if row[0] == "line"]
        read = _dnf5_locks if manager == "dnf5" else _dnf_locks
        found = {name: read(lines, name, installed.get(name, "")) for name in self.names}
        locked, stale = (
            tuple(name for name, (state, _) in found.items() if state == one) for one in _LOCKED
        )
        versions = {name: version for name, (_, version) in found.items() if version}
        kind = cast(Literal["dnf", "dnf5", "none"], manager)
        return LockStates(kind, installed, locked, stale, versions)


DNF_LOCKS, DNF5_LOCKS = "/etc/dnf/plugins/versionlock.list", "/etc/dnf/versionlock.toml"
_Lock = Literal["locked", "stale", "free"]
_LOCKED: tuple[_Lock, _Lock] = ("locked", "stale")


def _dnf_locks(lines: Sequence[str], name: str, evr: str) -> tuple[_Lock, str]:
    """
    Of dnf 4, whose lines are ``NAME-EPOCH:VERSION-RELEASE.*``; a ``!`` bars one version only. What
    is not installed comes in the version that is locked.
    """

    own = [line.strip() for line in lines if _named(line.strip()) == name]
    version = own[-1].removeprefix(f"{name}-").removesuffix(".*") if own else ""
    locked = any(line.startswith(f"{name}-{evr}.") for line in own) or bool(own and not evr)
    return "locked" if locked else "stale" if own else "free", version


def _named(line: str) -> str:
    parts = line.rsplit("-", 2)
    return parts[0] if len(parts) == 3 else ""


def _dnf5_locks(lines: Sequence[str], name: str, evr: str) -> tuple[_Lock, str]:
    """
    Of dnf5, which writes no epoch of 0. What others wrote in words of their own, such as
    ``evr < 2``, is a lock.
    """

    try:
        packages = tomlkit.parse("\n".join(lines)).unwrap().get("packages", [])
        own = [one for one in packages if fnmatchcase(name, one["name"])]
        exact = [
            condition["value"].removeprefix("0:")
            for one in own
            for condition in one.get("conditions", [])
            if condition["key"] == "evr" and condition["comparator"] == "="
        ]
    except (TOMLKitError, AttributeError, KeyError, TypeError) as error:
        raise FactProcessError(f"{DNF5_LOCKS} cannot be read: {error}") from error
    bars = all(c.get("comparator") == "!=" for one in own for c in one.get("conditions", []))
    version = exact[-1] if exact else ""
    if evr.removeprefix("0:") in exact or (exact and not evr) or (own and not exact and not bars):
        return "locked", version
    return "stale" if exact else "free", version
