"""
SELinux's labels: where a host has SELinux, files have those of its policy.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Mapping, Sequence

from pyinfra.api import OperationValueError, StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.record import RECORDER
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.selinux import Labels


@operation()
def rules(rules: Mapping[str, str], present: bool = True) -> Generator[StringCommand, None, None]:
    """
    Add rules to the policy: which type files at other places than usual get. What is there already
    is labelled anew. Nothing is done on a host without SELinux.

    + rules: types by pattern of paths, as of ``semanage fcontext``
    + present: whether they are there; one with another type was set by somebody else, and is left

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import selinux

        selinux.rules(
            name="Let containers read the cluster's files",
            rules={"/srv/kubernetes(/.*)?": "container_share_t"},
        )
    """

    for pattern in rules:
        if not pattern.startswith("/"):
            raise OperationValueError(f"rules: {pattern!r} is no absolute path")
    states = read(Labels)
    if states.mode == "off":
        differing = []
    elif present:
        differing = [pattern for pattern in rules if pattern not in states.rules]
    else:
        differing = [pattern for pattern in rules if states.rules.get(pattern) == rules[pattern]]
    lines = [RECORDER.rstrip("\n")] if present and differing else []
    # restorecon leaves types that users choose, container_file_t too, and levels, unless forced.
    for pattern in differing:
        now, then = (rules[pattern], "absent") if not present else ("absent", rules[pattern])
        changes.show(f"SELinux's rule for {pattern}: {now} → {then}")
        lines += [shlex.join(["note", "rule", pattern, "absent"])] if present else []
        words = ["-a", "-t", rules[pattern]] if present else ["-d"]
        lines.append(shlex.join(["semanage", "fcontext", *words, pattern]))
        # The part of it that is no expression.
        lines.append(shlex.join(["restorecon", "-i", "-F", "-R", pattern.split("(")[0]]))
    script = Script("\n".join(lines), f"label {' '.join(differing)}") if lines else None
    yield from run_or_noop(script, f"{len(rules)} rules are as wanted")


@operation()
def labels(
    paths: Sequence[str] = (), whole: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """
    Give paths the labels that SELinux's policy has for them. Nothing is done on a host without
    SELinux, and with a path that is not there.

    + paths: absolute paths
    + whole: folders, with all that is in them

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import selinux

        selinux.labels(name="Label kubelet", paths=["/usr/local/bin/kubelet"])
    """

    wrong = read(Labels, paths=list(paths), whole=list(whole)).wrong
    for path, label in wrong.items():
        changes.show(f"{path}: SELinux's label {label.now} → {label.wanted}")
    text = f"restorecon -i -F {shlex.join(wrong)}"
    script = Script(text, f"label {' '.join(wrong)}") if wrong else None
    yield from run_or_noop(script, "SELinux's labels are as wanted, or it is off")
