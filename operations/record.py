"""
Put back what was on a host before us.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass

from pyinfra.api import StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import note_pending
from pyinfra_kube.engine.record import MARK, PLACE, SET_BY_COMPONENTS
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import FileContents, Files, FileState
from pyinfra_kube.facts.record import Folders, Record, Recorded
from pyinfra_kube.facts.sysctl import Sysctls
from pyinfra_kube.facts.sysctl import path as sysctl_path

# What somebody changed since we wrote it gets this name.
ASIDE = ".before-reset"
_STORE = f"{PLACE}/files"


@dataclass(frozen=True)
class _Path:
    """
    A path, how it was before us, what is there, and what was there.

    + changed: whether somebody else wrote the file that is there
    """

    path: str
    was: str
    now: FileState | None
    original: FileState | None
    changed: bool

    @property
    def differs(self) -> str:
        """What happens to it, for people; empty for nothing."""
        now, aside = self.now, f" (kept as {self.path}{ASIDE})" if self.changed else ""
        if self.was == "kept":
            if self.original and _same(now, self.original):
                return ""
            return f"{'changed' if now else 'absent'} → as before{aside}"
        if self.was.startswith("folder "):
            _, mode, owner = self.was.split()
            is_so = now and now.kind == "directory" and f"{now.mode} {now.user}:{now.group}"
            if not is_so or is_so == f"{mode} {owner}":
                return ""
            return f"{is_so} → {mode} {owner}"
        return f"present → absent{aside}" if now else ""

    @property
    def lines(self) -> list[str]:
        words = [[self.path]]
        if self.changed:
            words = [["mv", "-fT", self.path, f"{self.path}{ASIDE}"]]
        elif self.was == "kept":
            words = []
        elif self.was.startswith("folder "):
            _, mode, owner = self.was.split()
            words = [["chown", owner, self.path], ["chmod", mode, self.path]]
        elif self.now and self.now.kind == "directory":
            words = [["rmdir", self.path]]
        else:
            words = [["rm", "-f", self.path]]
        if self.was == "kept":
            folder, _, name = self.path.rpartition("/")
            beside = f"{folder}/.{name}.pyinfra-kube"
            words += [["mkdir", "-p", folder], ["cp", "-aT", _STORE + self.path, beside]]
            words += [["mv", "-fT", beside, self.path]]
        return [shlex.join(line) for line in words]


def _same(now: FileState | None, original: FileState) -> bool:
    fields = ("kind", "sha256", "target", "mode", "user", "group")
    return bool(now and all(getattr(now, one) == getattr(original, one) for one in fields))


@operation()
def files_restored(
    known: Sequence[str] = (),
    stay: Sequence[str] = (),
    emptied: Sequence[str] = (),
    gone: Sequence[str] = (),
) -> Generator[StringCommand, None, None]:
    """
    Put every file, folder and link that we changed back to what it was, and remove those that were
    not there. A file that somebody changed since is kept beside, with ``.before-reset`` after its
    name. A folder that holds something of others stays.

    + known: paths of ours, for a host whose cluster was built without a record; folders before
      what is in them. Of these, only a host with our CA is taken to have any
    + stay: paths that stay as they are
    + emptied: folders whose content earlier operations of the run remove
    + gone: folders that those remove whole

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import record

        record.files_restored(name="Put back the files that were there before")
    """

    paths = _paths(read(Record), known, stay)
    going = _without_full_folders(paths, emptied, gone)
    note_pending(one.path for one in going)
    _show(going)
    lines = [line for one in going for line in one.lines]
    lines += ["[ ! -d /run/systemd/system ] || systemctl daemon-reload"]
    script = Script("\n".join(lines), f"put back {len(going)} paths") if going else None
    yield from run_or_noop(script, "every file is as it was before")


def changed_since(record: Recorded, paths: Sequence[str]) -> list[str]:
    """
    Return those of some recorded files that somebody changed since we wrote them.

    + record: of the host
    + paths: which files
    """

    there = [path for path in paths if record.of("file").get(path) not in (None, "others")]
    states = read(Files, paths=there) if there else {}
    wrote = record.wrote
    return [
        path
        for path in there
        if record.late or (path in states and states[path].sha256 != wrote.get(path))
    ]


@operation()
def left_to_others(paths: Sequence[str]) -> Generator[StringCommand, None, None]:
    """
    Note of files that somebody changed them since we did, so that they are not put back whole.

    + paths: of the files

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import record

        record.left_to_others(name="Note what others changed", paths=["/etc/hosts"])
    """

    was = read(Record).of("file")
    paths = [path for path in paths if was.get(path) not in (None, "others")]
    for path in paths:
        changes.show(f"{path}: changed since, only what is ours goes")
    program = '$1 == "file" && index(paths, " " $2 " ") { $3 = "others" } { print }'
    text = f"""\
awk -F '\\t' -v OFS='\\t' -v paths={shlex.quote(f" {' '.join(paths)} ")} {shlex.quote(program)} \\
  {PLACE}/before > {PLACE}/before.new
mv -fT {PLACE}/before.new {PLACE}/before"""
    yield from run_or_noop(Script(text, "note it") if paths else None, "nothing is to be noted")


def _paths(record: Recorded, known: Sequence[str], stay: Sequence[str]) -> list[_Path]:
    """Every path that may have to change, what is in a folder before the folder."""

    was = record.of("file")
    states = read(Files, paths=[*was, *known])
    if not record.exists or record.late:
        was = {path: "late" for path in known if MARK in states} | was
    stored = {path: f"{_STORE}{path}" for path in was if was[path] == "kept"}
    originals = read(Files, paths=list(stored.values())) if stored else {}
    found = []
    for path in reversed(was):
        now, original = states.get(path), originals.get(stored.get(path, ""))
        if path in stay or was[path] == "others" or (was[path] == "kept" and not original):
            continue
        wrote = record.wrote.get(path)
        known_texts = {wrote, original.sha256 if original else wrote}
        changed = bool(now and now.kind == "file" and wrote and now.sha256 not in known_texts)
        found.append(_Path(path, was[path], now, original, changed))
    return [one for one in found if one.differs]


def _without_full_folders(
    paths: Sequence[_Path], emptied: Collection[str], before: Collection[str]
) -> list[_Path]:
    folders = [p.path for p in paths if p.was in ("absent", "late") and _is_folder(p)]
    inside = read(Folders, paths=folders) if folders else {}
    gone = {*before}
    going = []
    for one in paths:
        within = [] if one.path in emptied else inside.get(one.path, [])
        if any(f"{one.path}/{name}" not in gone for name in within):
            continue
        if one.was in ("absent", "late") and not one.changed:
            gone.add(one.path)
        going.append(one)
    return going


def _is_folder(one: _Path) -> bool:
    return bool(one.now and one.now.kind == "directory")


def _show(paths: Sequence[_Path]) -> None:
    if not changes.wanted():
        return
    open_to_all = {
        one.path
        for one in paths
        if one.original
        and one.now
        and all(
            state.kind == "file" and int(state.mode[-1]) & 4 for state in (one.original, one.now)
        )
    }
    both = [text for path in open_to_all for text in (path, f"{_STORE}{path}")]
    contents = read(FileContents, paths=both) if both else {}
    for one in paths:
        title = f"{one.path}: {one.differs}"
        try:
            old, new = (contents.get(p, b"").decode() for p in (one.path, f"{_STORE}{one.path}"))
        except UnicodeDecodeError:
            old = new = ""
        lines = (text.splitlines(keepends=True) for text in (old, new))
        changes.show(changes.text(title, *lines) if old != new else title)


@operation()
def kernel_restored() -> Generator[StringCommand, None, None]:
    """
    Give kernel settings the values that they had before us, and unload the modules that we loaded
    and that nothing uses.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import record

        record.kernel_restored(name="Restore the kernel's settings")
    """

    record = read(Record)
    before: Mapping[str, str] = {k: v for k, v in record.of("sysctl").items() if v != "late"}
    values = read(Sysctls, keys=list(before)) if before else {}
    lines = []
    for key, value in before.items():
        # What kubelet and kube-proxy set, others may have set otherwise since.
        theirs = SET_BY_COMPONENTS.get(key.replace(".", "/"), values.get(key))
        if values.get(key) not in (None, value) and values[key] == theirs:
            changes.show(f"sysctl {key}: {values[key]} → {value}")
            lines.append(f"echo {shlex.quote(value)} > {shlex.quote(sysctl_path(key))}")
    modules = [
        f"/sys/module/{name}" for name, was in record.of("module").items() if was == "absent"
    ]
    for path in read(Files, paths=modules, digest=False) if modules else ():
        name = path.rpartition("/")[2]
        changes.show(f"module {name}: unloaded, unless something uses it")
        lines.append(f"modprobe --quiet --remove {shlex.quote(name)} || :")
    script = Script("\n".join(lines), "restore the kernel's settings") if lines else None
    yield from run_or_noop(script, "the kernel's settings are as before")


@operation()
def forgotten(stay: Sequence[str] = ()) -> Generator[StringCommand, None, None]:
    """
    Remove the record of what was there before us. Do so last.

    + stay: paths of ours that stay, of which the record still tells

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import record

        record.forgotten(name="Remove the record of what was there before")
    """

    record = read(Record)
    kept = [f"file\t{path}\t{was}" for path, was in record.of("file").items() if path in stay]
    script = None
    if record.exists and len(kept) < sum(map(len, record.was.values())):
        changes.show(f"{PLACE}: {'all but what stays' if kept else 'present'} → absent")
        script = Script(
            f"rm -rf {PLACE}\nrmdir --ignore-fail-on-non-empty {PLACE.rpartition('/')[0]}", "forget"
        )
        if kept:
            text = shlex.join(kept)
            script = Script(
                f"printf '%s\\n' {text} > {PLACE}/before.new\n"
                f"mv -fT {PLACE}/before.new {PLACE}/before\nrm -rf {PLACE}/wrote {PLACE}/files",
                "forget the others",
            )
    yield from run_or_noop(script, "nothing is recorded that went")
