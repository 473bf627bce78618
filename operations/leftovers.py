"""
Remove what kubelets, kube-proxies, CNI and pods left on a host.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.leftovers import (
    KUBE_RULES,
    KubeRules,
    Leftovers,
    files_in,
    folders_in,
    mounts_in,
)


@operation()
def kube_rules_absent() -> Generator[StringCommand, None, None]:
    """
    Remove the chains of rules that kubelets, kube-proxies and CNI left. Stop them first.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import leftovers

        leftovers.kube_rules_absent(name="Remove the rules of kubelet and kube-proxy")
    """

    lines = []
    for tool, count in (read(KubeRules) or {}).items():
        changes.show(f"{tool}: {count} chains of Kubernetes: present → absent")
        lines += [f"tool={tool}", KUBE_RULES]
    script = Script("\n".join(lines), "remove rules of Kubernetes") if lines else None
    yield from run_or_noop(script, "no rules of Kubernetes are left")


@operation()
def folders_emptied(
    folders: Sequence[str] = (),
    volumes: Sequence[str] = (),
    whole: Sequence[str] = (),
    hollow: Sequence[str] = (),
) -> Generator[StringCommand, None, None]:
    """
    Remove all that is in folders, after what is mounted there was unmounted. Other file systems are
    never gone into.

    + folders: absolute paths
    + volumes: those of them in which the volumes that pods wrote to stay
    + whole: folders that go themselves
    + hollow: folders that go where nothing but empty folders is in them

    Fails where something that is mounted there is in use.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import leftovers

        leftovers.folders_emptied(
            name="Remove what kubelet left",
            folders=["/var/lib/kubelet"],
            whole=["/var/log/pods"],
        )
    """

    asked = {"paths": folders, "volumes": volumes, "whole": whole, "hollow": hollow}
    found = read(Leftovers, **{key: list(paths) for key, paths in asked.items()})
    lines = []
    for path, left in found.items():
        mounts = f", {left.mounts} mounts" if left.mounts else ""
        stays = " but volumes" if path in volumes else ""
        what = "empty folders" if path in hollow else f"all that is in it{stays}"
        changes.show(f"{path}: {what} ({left.entries} entries{mounts}) → absent")
        if path in hollow:
            lines.append(f"{folders_in(path, whole=True)} -delete")
            continue
        lines += [mounts_in(path), 'for one in $mounts; do umount "$one"; done', mounts_in(path)]
        lines.append('if [ "$mounts" ]; then echo "$mounts: still in use" >&2; exit 1; fi')
        lines.append(f"{files_in(path, path in whole, path in volumes)} -delete")
    script = Script("\n".join(lines), f"empty {', '.join(found)}") if found else None
    yield from run_or_noop(script, "the folders are empty")
