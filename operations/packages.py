"""
Manage software packages, with the host's package manager: apt or dnf.

pyinfra's own operations support one package manager each, and refresh its lists in every run.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import FileUploadCommand, OperationError, OperationValueError
from pyinfra.api.command import PyinfraCommand
from pyinfra.context import ctx_host

from pyinfra_kube.cluster.errors import closed
from pyinfra_kube.cluster.packages import parse_rpm
from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import note_pending
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.packages import (
    REMOVALS,
    Locks,
    LockStates,
    Manager,
    Packages,
    PackageStates,
    Removals,
    dnf_options,
)
from pyinfra_kube.facts.record import Record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")

# A killed run may still install packages, which dnf would take for missing.
_IN_TURN = """\
exec 9>/run/pyinfra-kube-packages.lock
flock --timeout 600 9 || :
"""

# Removals are checked again when the lists are fresh.
_FUNCTIONS = f"""\
{REMOVALS}\
refuse_removals() {{
  allowed=$1
  shift
  for name in $(removals "$@"); do
    case " $allowed " in
    *" $name "*) ;;
    *) echo "it would remove $name; allow that in removable, or do without" >&2; exit 1 ;;
    esac
  done
}}
"""

# Locks versions with dnf; in dnf 4 a plugin does it.
_VERSIONLOCK = """\
dnf --quiet versionlock list >/dev/null 2>&1 ||
  dnf --assumeyes --quiet install 'dnf-command(versionlock)' || {
  echo 'dnf locks no versions: install python3-dnf-plugin-versionlock, or set' \\
    'lock_packages = False' >&2
  exit 1
}
"""

# The beginning of the path where an uploaded RPM file waits until it is installed.
_WAITING = "/var/cache/pyinfra-kube-"


@operation()
def packages(
    packages: Sequence[str] = (),
    enablerepo: Sequence[str] | str | None = None,
    rpm_files: Sequence[str] = (),
    removable: Sequence[str] = (),
    programs: Sequence[str] = (),
    kept: Sequence[str] = (),
) -> Generator[PyinfraCommand, None, None]:
    """
    Install missing packages, all in one command. Installed packages keep their version; only a
    package that is given as an RPM file gets that file's version.

    apt's lists are refreshed only if a package is missing; dnf refreshes its own. If a killed run
    still installs packages, this one waits for it, up to ten minutes.

    + packages: names of packages, or of what a package provides
    + enablerepo: dnf repositories to enable, such as ``updates-testing``; by default none
    + rpm_files: URLs (``file:`` for a file on the host) or paths on the control machine of RPM
      files, with rpmbuild's names: ``NAME-VERSION-RELEASE.ARCH.rpm``; by default none
    + removable: packages that an installation may remove; by default none
    + programs: files that another version brings, whose units are restarted by a later operation
    + kept: paths whose mode stays, though a package may bring another one

    The plan names what an installation would remove, and refuses it unless it is in ``removable``.
    On a host whose package manager has no lists yet, this is known only after the run has fetched
    them.

    Fails for invalid names, for a file that does not exist, on a host without a package manager,
    and for RPM files or ``enablerepo`` on a host with apt.

    **Examples:**

    .. code:: python

        from pyinfra_kube.operations import packages

        packages.packages(
            name="Install the control plane",
            packages=["kubernetes-master", "etcd"],
            enablerepo="updates-testing",
        )

        packages.packages(
            name="Install flannel from a file",
            rpm_files=["https://rpms.example.com/flannel-0.9.0-8.fc33.x86_64.rpm"],
        )
    """

    files = _checked(packages, rpm_files)
    names = list(dict.fromkeys([*packages, *(file.name for file in files)]))
    states = read(Packages, names=names)
    # What no installed package provides, and no given file brings.
    here = {*states.versions, *(file.name for file in files)}
    lacking = [name for name in dict.fromkeys(packages) if name not in here]
    wanted = [file for file in files if states.versions.get(file.name) != file.version]
    if not lacking and not wanted:
        ctx_host.get().noop(f"{len(names)} packages are installed")
        return
    repositories = enablerepo.split() if isinstance(enablerepo, str) else list(enablerepo or ())
    _check_manager(states, repositories, rpm_files)
    if held := [name for name in lacking if name in states.held]:
        names_held = " ".join(held)
        raise OperationError(
            f"{names_held}: apt holds it back, and does not install it; run apt-mark unhold "
            f"{names_held}, or install it by hand"
        )
    _check_removals(lacking, wanted, repositories, removable)
    lifted = _lifted([file.name for file in wanted])
    of_before = _versions_of_before(lacking) if states.manager == "dnf" else {}
    note_pending(programs)

    for package in lacking:
        changes.show(f"package {package}: absent → installed")
    for name, version in of_before.items():
        changes.show(f"package {name}: locked to {version}, or to another if that is gone")
    for file in wanted:
        found = states.versions.get(file.name, "absent")
        changes.show(f"package {file.name}: {found} → {file.version}")
    uploads = [file for file in wanted if not file.url]
    for file in uploads:
        yield FileUploadCommand(file.source, file.path)
    if states.manager == "apt":
        yield _apt(lacking, removable)
    else:
        yield _dnf(
            states.manager, lacking, repositories, wanted, removable, lifted, of_before, kept
        )


@operation()
def locked(packages: Sequence[str]) -> Generator[PyinfraCommand, None, None]:
    """
    Keep installed packages at their version when the system is upgraded: by dnf's versionlock or
    apt's hold. A lock of an earlier call whose package is not named any more is lifted; locks of
    others stay.

    + packages: names of packages that are installed, or that an earlier operation installs

    With dnf 4 its versionlock plugin is installed where it is missing.

    Fails for invalid names.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import packages

        packages.locked(name="Keep etcd at its version", packages=["etcd"])
    """

    _checked(packages, ())
    ours = read(Record).of("lock")
    names = list(dict.fromkeys([*packages, *ours]))
    found = read(Packages, names=names).versions if names else {}
    states = read(Locks, names=names) if names else LockStates()
    # What has another name is only what an installed package provides.
    real = [n for n in dict.fromkeys(packages) if n in states.installed or n not in found]
    others = {*states.locked, *(name for name in states.stale if name not in ours)}
    new = [name for name in real if name not in others]
    gone = [n for n in ours if n not in packages and n in (*states.locked, *states.stale)]
    if states.manager == "none" or not (new or gone):
        ctx_host.get().noop(f"{len(states.locked)} packages are locked")
        return
    for name in new:
        was = "locked to another version" if name in states.stale else "not locked"
        changes.show(f"package {name}: {was} → locked")
    for name in gone:
        changes.show(f"package {name}: locked → not locked")
    yield _lock(states, new, gone)


@dataclass(frozen=True)
class _RpmFile:
    """One RPM file, and the package that its name tells."""

    source: str
    name: str
    version: str

    @property
    def url(self) -> bool:
        return "://" in self.source

    @property
    def path(self) -> str:
        """Where the host's package manager finds it."""
        return self.source if self.url else _WAITING + os.path.basename(self.source)


def _checked(packages: Sequence[str], rpm_files: Sequence[str]) -> list[_RpmFile]:
    for name in packages:
        if not _NAME.fullmatch(name):
            raise OperationValueError(f"packages: {name!r} cannot be the name of a package")
    files = []
    for source in map(os.path.expanduser, rpm_files):
        found = parse_rpm(source)
        if not found:
            raise OperationValueError(
                f"rpm_files: {closed(source)!r} is not called as rpmbuild calls its files: "
                "NAME-VERSION-RELEASE.ARCH.rpm, as etcd-2.2.5-1.fc24.x86_64.rpm"
            )
        file = _RpmFile(source, *found)
        if not file.url and not os.path.isfile(source):
            raise OperationValueError(f"rpm_files: {source!r} does not exist on this machine")
        files.append(file)
    return files


def _check_manager(
    states: PackageStates, repositories: Sequence[str], rpm_files: Sequence[str]
) -> None:
    if states.manager == "missing":
        raise OperationError("no package manager on this host: neither dnf, yum nor apt-get")
    if states.manager == "apt" and (repositories or rpm_files):
        given = "rpm_files" if rpm_files else "enablerepo"
        raise OperationError(f"{given}: only for hosts with dnf; this one has apt")


def _check_removals(
    lacking: Sequence[str],
    files: Sequence[_RpmFile],
    repositories: Sequence[str],
    removable: Sequence[str],
) -> None:
    names = [*lacking, *(file.source for file in files if file.url)]
    asked = {"names": names, "enablerepo": repositories, "erasing": bool(removable)}
    found = read(Removals, **asked).names if names else ()
    refused = [name for name in found if name not in removable]
    if refused:
        raise OperationError(
            f"installing {', '.join(names)} would remove {', '.join(refused)}; allow that in "
            "removable (removable_packages in an inventory), or install what is needed by hand"
        )
    for name in found:
        changes.show(f"package {name}: installed → removed")


def _lifted(names: Sequence[str]) -> list[str]:
    """Those of packages whose version changes that are locked: by us, for others' locks stay."""

    if not names:
        return []
    states, ours = read(Locks, names=names), read(Record).of("lock")
    found = [name for name in names if name in (*states.locked, *states.stale)]
    if others := [name for name in found if name not in ours]:
        raise OperationError(
            f"{', '.join(others)}: locked to a version by somebody else; run dnf versionlock "
            f"delete {' '.join(others)}, or install it by hand"
        )
    return found


def _versions_of_before(names: Sequence[str]) -> dict[str, str]:
    """The versions to which we have locked packages that somebody has removed since."""

    if not names:
        return {}
    versions, ours = read(Locks, names=list(names)).versions, read(Record).of("lock")
    return {name: version for name, version in versions.items() if name in ours}


def _refusal(
    manager: str, options: Sequence[str], names: Sequence[str], removable: Sequence[str]
) -> str:
    words = [" ".join(removable), manager, *options, "--", *names]
    return f"{_FUNCTIONS}{shlex.join(['refuse_removals', *words])}\n"


def _apt(names: Sequence[str], removable: Sequence[str]) -> Script:
    return Script(
        f"""\
{_IN_TURN}\
export DEBIAN_FRONTEND=noninteractive
# Waits for whoever else installs packages; dpkg does not.
apt-get -qq -o DPkg::Lock::Timeout=600 check >/dev/null 2>&1 || :
# Ends what was begun and cut off.
dpkg --force-confold --configure -a
apt-get -qq update
{_refusal("apt-get", (), names, removable)}\
apt-get -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=600 \\
  -o Dpkg::Options::=--force-confold install -- {shlex.join(names)}
""",
        summary=f"install {' '.join(names)}",
    )


def _dnf(
    manager: Manager,
    names: Sequence[str],
    repositories: Sequence[str],
    files: Sequence[_RpmFile],
    removable: Sequence[str],
    lifted: Sequence[str],
    of_before: Mapping[str, str],
    kept: Sequence[str],
) -> Script:
    options = dnf_options(repositories, erasing=bool(removable))
    all_names = [*names, *(file.path for file in files)]
    what = shlex.join(all_names)
    uploads = [file.path for file in files if not file.url]
    words = shlex.join([manager, "--assumeyes", "--quiet", "install", *options])
    lift = f"{_delete(lifted)}\n" if lifted else ""
    gone = _gone(of_before, dnf_options(repositories)) if of_before else ""
    refusal = _refusal(manager, options, all_names, removable)
    lines = [f"{_IN_TURN}{gone}{refusal}{lift}{words} {what}"]
    lines += [f'[ -z "$gone" ] || {_ADD} $gone'] if of_before else []
    lines += [f"{_ADD} {shlex.join(lifted)}"] if lifted else []
    for index, path in enumerate(map(shlex.quote, kept)):
        lines.insert(0, f"mode{index}=$(stat -L -c %a -- {path} 2>/dev/null) || :")
        lines.append(f'[ -z "$mode{index}" ] || chmod "$mode{index}" -- {path}')
    lines += [f"rm -f -- {shlex.join(uploads)}"] if uploads else []
    return Script("\n".join(lines), summary=f"install {what}")


def _lock(states: LockStates, new: Sequence[str], gone: Sequence[str]) -> Script:
    """Lock packages, those that are installed, and lift locks."""

    free = [name for name in new if name not in states.stale]
    stale = [name for name in new if name in states.stale]
    apt = states.manager == "apt"
    lock, lift = ("apt-mark -qq hold", "apt-mark -qq unhold") if apt else (_ADD, _DELETE)
    query = "dpkg-query -W -f='${db:Status-Status}'" if apt else "rpm -q --qf installed"
    lines = [_IN_TURN.rstrip("\n"), RECORDER.rstrip("\n")]
    if new:
        lines += [
            "names=",
            f"for name in {shlex.join(new)}; do",
            f'  if [ "$({query} -- "$name" 2>/dev/null)" = installed ]; then',
            '    names="$names $name"',
            "  fi",
            "done",
        ]
        # Noted first: a killed run leaves no lock of which we do not know.
        lines += [f"note lock {name} free" for name in free]
    lines += [] if apt else [_VERSIONLOCK.rstrip("\n")]
    lifted = [*stale, *gone]
    lines += [f"{lift} {shlex.join(lifted)}"] if lifted else []
    lines += [f'[ -z "$names" ] || {lock} $names'] if new else []
    # sed -i writes the file anew.
    lines += [f"sed -i '/^lock\t{name}\t/d' \"$record/before\"" for name in gone]
    parts = [f"lock {' '.join(new)}"] if new else []
    parts += [f"unlock {' '.join(gone)}"] if gone else []
    return Script("\n".join(lines), summary="; ".join(parts))


def _gone(versions: Mapping[str, str], options: Sequence[str]) -> str:
    """Lift the locks of packages whose version has left the repositories."""

    query = shlex.join(["dnf", "--quiet", "repoquery", *options, "--"])
    looks = "".join(
        f"said=$({query} {shlex.quote(f'{name}-{version}')})\n"
        f'[ -n "$said" ] || gone="$gone {name}"\n'
        for name, version in versions.items()
    )
    return f'gone=\n{looks}[ -z "$gone" ] || {_DELETE} $gone\n'


_ADD, _DELETE = "dnf --quiet versionlock add", "dnf --quiet versionlock delete"


def _delete(names: Sequence[str]) -> str:
    return f"{_DELETE} {shlex.join(names)}"
