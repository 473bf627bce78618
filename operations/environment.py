"""
Manage the environment files of packages.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from pyinfra.api import OperationValueError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.pending import note_pending
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.engine.templates import render
from pyinfra_kube.facts.environment import KEPT, EnvironmentFiles, EnvironmentText
from pyinfra_kube.facts.files import Files, FileState
from pyinfra_kube.operations.files import (
    WRITER,
    attribute_changes,
    attribute_lines,
    is_rewritten,
    refuse_obstacles,
)

__all__ = ["EnvironmentFile", "environment_files"]

HEADING = "# Kept: what else was set here."

# The user's own lines are copied from the old file to the new one on the host itself: their values
# may be secrets, and reach no log.
_FUNCTIONS = f"""\
{KEPT}
environment() {{
  arrive "$1" "$5"
  if [ -f "$1" ]; then kept show=0 "$6" < "$1" >> "$temporary"; fi
  wrote "$real" "$(sha256sum < "$temporary" | cut -d ' ' -f 1)"
  appear "$2" "$3" "$4"
}}
"""


@dataclass(frozen=True)
class EnvironmentFile:
    """
    A wanted environment file.

    + path: absolute path
    + variables: value by name; exactly those that its template names, or any for etcd
    + mode: octal digits
    + user, group: owners
    + template: path below ``templates/``; by default the file's own path
    """

    path: str
    variables: Mapping[str, str]
    mode: str = "644"
    user: str = "root"
    group: str = "root"
    template: str = ""

    def __post_init__(self) -> None:
        for name, value in self.variables.items():
            if not name.isidentifier() or set(value) & set("\"'\\$`\n"):
                raise OperationValueError(
                    f"{self.path}: systemd and a shell read {name}={value!r} differently; allowed "
                    "are a name, and a value without quotes, backslashes and dollar signs"
                )

    @property
    def text(self) -> str:
        quoted = {name: f'"{value}"' for name, value in self.variables.items()}
        return render(self.template or f"{self.path[1:]}.j2", values=quoted, **quoted)


@operation()
def environment_files(files: Sequence[EnvironmentFile]) -> Generator[StringCommand, None, None]:
    """
    Set whole environment files.

    A variable of a user that we do not set stays at the end of the file. ``--diff`` names it and
    never shows its value. Comments of a user do not stay. ``services`` restarts the units that
    read the files.

    + files: list of ``EnvironmentFile``

    **Example:**

    .. code:: python

        from pyinfra_kube.cluster.fedora_variables import environment
        from pyinfra_kube.operations.environment import EnvironmentFile, environment_files

        environment_files(
            name="Set the options of the components",
            files=[
                EnvironmentFile(path, variables)
                for path, variables in environment(command_lines).items()
            ],
        )
    """

    yield from run_or_noop(
        plan_environment_files(files), f"{len(files)} environment files are as wanted"
    )


def plan_environment_files(files: Sequence[EnvironmentFile]) -> Script | None:
    """
    Return the script that sets environment files, or ``None`` where they are as wanted. ``--diff``
    shows the differences.

    + files: list of ``EnvironmentFile``
    """

    states = read(Files, paths=[file.path for file in files])
    texts = read(EnvironmentFiles, files={file.path: sorted(file.variables) for file in files})
    plans = [_plan(file, states.get(file.path), texts.get(file.path)) for file in files]
    changing = [plan for plan in plans if plan.reasons]
    refuse_obstacles([file.path for file in files], [plan.file.path for plan in changing])
    if not changing:
        return None
    note_pending(plan.file.path for plan in changing if plan.anew)
    for plan in changing:
        changes.show(plan.shown())
    summary = "set " + ", ".join(plan.file.path for plan in changing)
    return Script(WRITER + _FUNCTIONS + "".join(plan.line() for plan in changing), summary)


@dataclass(frozen=True)
class _Plan:
    """What differs in one file, and which of the user's variables it keeps."""

    file: EnvironmentFile
    reasons: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    managed: str

    @property
    def anew(self) -> bool:
        """Whether the file is written anew; otherwise only its mode or owner changes."""
        return is_rewritten(self.reasons)

    def shown(self) -> str:
        title = f"{self.file.path}: {', '.join(self.reasons)}"
        return changes.text(title, self.before, self.after)

    def line(self) -> str:
        file, data = self.file, self.managed.encode()
        if not self.anew:
            return attribute_lines(file.path, file.mode, file.user, file.group)
        content = base64.encodebytes(data).decode()
        digest = hashlib.sha256(data).hexdigest()
        words = [file.path, file.mode, file.user, file.group, digest, " ".join(file.variables)]
        return f"environment {shlex.join(words)} <<'.'\n{content}.\n"


def _after(
    file: EnvironmentFile, text: EnvironmentText | None
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Our part of the file, and its lines with those that the user keeps."""

    own = text.own if text else ()
    managed = file.text + (f"\n{HEADING}\n" if own else "")
    return managed, (
        *(("line", line) for line in managed.splitlines()),
        *(("own", name) for name in own),
    )


def _plan(file: EnvironmentFile, state: FileState | None, text: EnvironmentText | None) -> _Plan:
    managed, after = _after(file, text)
    reasons = []
    if state and state.kind == "link" and state.points_at == "file":
        # A file behind a link keeps its mode and owner.
        file = replace(file, mode=state.mode, user=state.user, group=state.group)
    if state is None or state.points_at != "file" or text is None:
        reasons.append(f"{state.kind if state else 'absent'} → file")
    elif text.lines != after:
        reasons.append("content")
    else:
        reasons += attribute_changes(state, file.mode, file.user, file.group)
    before = text.lines if text else ()
    return _Plan(file, tuple(reasons), _readable(before), _readable(after), managed)


def _readable(lines: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    forms = {"line": "{}", "own": "{}=(kept, value hidden)", "comment": "#{}=(hidden)"}
    return tuple(forms[kind].format(text) for kind, text in lines)
