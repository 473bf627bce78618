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

    found = read(KubeRules)
    lines = []
    for tool, count in found.items():
        if tool == "nft":
            changes.show("nft table kube-proxy: present → absent")
            lines += ["for family in ip ip6; do nft delete table $family kube-proxy || :; done"]
        else:
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
        least = 1 if path in folders else 0
        if path not in hollow:
            lines.append(f'{mounts_in(path)} | while read -r one; do umount "$one"; done')
            lines.append(f'if {mounts_in(path)} | grep .; then echo "still in use" >&2; exit 1; fi')
            lines.append(f"{files_in(path, least, path in volumes)} -delete")
        else:
            lines.append(f"{folders_in(path, least)} -delete")
    script = Script("\n".join(lines), f"empty {', '.join(found)}") if found else None
    yield from run_or_noop(script, "the folders are empty")
