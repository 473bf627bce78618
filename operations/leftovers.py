"""
Remove what kubelets, kube-proxies, CNI and pods left on a host.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.leftovers import KUBE_RULES, KubeRules, Leftovers, files_in, mounts_in


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
    folders: Sequence[str], volumes: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """
    Remove all that is in folders, after what is mounted there was unmounted. Other file systems are
    never gone into.

    + folders: absolute paths
    + volumes: those of them in which the volumes that pods wrote to stay

    Fails where something that is mounted there is in use.

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import leftovers

        leftovers.folders_emptied(name="Remove what kubelet left", folders=["/var/lib/kubelet"])
    """

    found = read(Leftovers, paths=list(folders), volumes=list(volumes))
    lines = []
    for path, left in found.items():
        mounts = f", {left.mounts} mounts" if left.mounts else ""
        stays = " but volumes" if path in volumes else ""
        changes.show(f"{path}: all that is in it{stays} ({left.entries} entries{mounts}) → absent")
        name = shlex.quote(path)
        lines.append(f'{mounts_in(path)} | while read -r one; do umount "$one"; done')
        lines.append(f'if {mounts_in(path)} | grep .; then echo "still in use" >&2; exit 1; fi')
        lines.append(f"{files_in(path, path in volumes)} -delete")
        lines.append(f"find {name}/ -xdev -mindepth 1 -type d -empty -delete")
    script = Script("\n".join(lines), f"empty {', '.join(found)}") if found else None
    yield from run_or_noop(script, f"{len(folders)} folders are empty")
