"""
What a host has of what a cluster needs: swap, control groups, disks, its clock, other clusters.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.cluster.fitness.states import Disk, HostState
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word, understanding
from pyinfra_kube.facts.swap import SWAP_SERVICES, zram_files

__all__ = ["Fitness", "FitnessState"]

_COMMAND = """\
date '+clock %s.%N'
[ ! -r /proc/swaps ] || awk 'NR > 1 {{ print "swap", $1 }}' /proc/swaps
[ ! -r /etc/fstab ] || awk '$1 !~ /^#/ && $3 == "swap" && $4 !~ /(^|,)noauto(,|$)/ {{
print "fstab", $1 }}' /etc/fstab
for file in /etc/systemd/system/*.wants/*.swap /etc/systemd/system/*.requires/*.swap {services}; do
[ ! -e "$file" ] || [ "$(readlink -f "/etc/systemd/system/${{file##*/}}")" = /dev/null ] ||
echo "swap-maker ${{file##*/}}"
done
if [ -e /usr/lib/systemd/system-generators/zram-generator ] && [ ! -e /run/systemd/container ]; then
{zram}
fi
if [ -r /sys/fs/cgroup/cgroup.controllers ]; then
echo "cgroups v2 $(cat /sys/fs/cgroup/cgroup.controllers)"
else
awk '$3 == "cgroup" {{ print "cgroups v1", $4; found = 1 }}
END {{ if (!found) print "cgroups none" }}' /proc/self/mounts
fi
echo "kernel $(cat /proc/sys/kernel/osrelease)"
[ -e "/lib/modules/$(cat /proc/sys/kernel/osrelease)" ] || [ ! -e /proc/modules ] ||
[ -e /run/systemd/container ] || for file in /lib/modules/*/modules.dep; do
[ ! -e "$file" ] || echo modules-gone
done
awk '$1 == "MemTotal:" {{ print "memory", $2 }}' /proc/meminfo
echo "processors $(grep -c '^processor' /proc/cpuinfo)"
[ ! -e /dev/kmsg ] || echo kmsg
for file in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
if [ -r "$file" ]; then
awk -v file="$file" 'BEGIN {{ print "resolv", file }}
$1 == "nameserver" {{ print "resolv", file, $2 }}' "$file"
else
echo "resolv-missing $file"
fi
done
for file in /etc/machine-id /sys/class/dmi/id/product_uuid /sys/fs/selinux/enforce \\
/sys/module/apparmor/parameters/enabled; do
[ ! -r "$file" ] || echo "${{file##*/}} $(cat "$file" 2>/dev/null)"
done
if grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null; then
sed -n 's/^DEFAULT_INPUT_POLICY="*\\([A-Z]*\\).*/ufw \\1/p' /etc/default/ufw 2>/dev/null
sed -n 's/^### tuple ### /ufw-rule /p' /etc/ufw/user.rules 2>/dev/null
fi
[ ! -e /run/systemd/container ] || echo container
# The machine's, in a network namespace that is not the first.
find /proc/sys/net/netfilter/nf_conntrack_max ! -perm -200 -printf 'conntrack-fixed\\n' 2>/dev/null
[ ! -r {configuration} ] || sed -n 's/^failSwapOn: *false.*/swap-accepted/p' {configuration}
for path in {paths}; do [ ! -e "$path" ] || echo "there $path"; done
for program in {programs}; do
! command -v "$program" >/dev/null 2>&1 || echo "program $program"
done
for folder in {folders}; do
at=$folder
while [ ! -d "$at" ]; do at=${{at%/*}}; at=${{at:-/}}; done
space=$(df -Pk "$at" 2>/dev/null | awk 'NR == 2 {{ print $(NF - 4), $(NF - 2), $NF }}')
inodes=$(df -Pi "$at" 2>/dev/null | awk 'NR == 2 {{ print $(NF - 4), $(NF - 2) }}')
mount=${{space##* }}
options=$(awk -v at="$mount" '$2 == at {{ found = $4 }} END {{ print found }}' /proc/self/mounts)
echo "disk $folder|$space|$inodes|$options"
done
echo end"""


@dataclass(frozen=True)
class FitnessState(HostState, Printable):
    """What :class:`Fitness` returns."""


class Fitness(FactBase[FitnessState]):
    """
    Returns what a host has of what a cluster needs. What it does not tell is left empty: a tool
    that is missing makes no host unfit.

    + paths: which of them exist
    + programs: which of them are installed
    + folders: those whose file systems are looked at, or those of the nearest folder above
    + configuration: kubelet's file

    .. code:: python

        FitnessState(
            cgroups="v2", controllers=("cpu", "cpuset", "memory"), kernel="6.1.0-9-amd64",
            memory=3915, processors=2, machine_id="9f86d0…", behind=(-0.2, 0.1),
            disks={"/etc": Disk("/", 8192000, 6144000, 524288, 500000, ("rw", "relatime"))},
            nameservers={"/etc/resolv.conf": ("192.0.2.1",)},
        )
    """

    default = FitnessState

    @override
    def command(
        self,
        paths: Sequence[str] = (),
        programs: Sequence[str] = (),
        folders: Sequence[str] = ("/etc",),
        configuration: str = "/var/lib/kubelet/config.yaml",
    ) -> str:
        self.asked = time.time()
        return _COMMAND.format(
            services=" ".join(f"/etc/systemd/system/*.wants/{one}" for one in SWAP_SERVICES),
            zram=zram_files(word="swap-maker "),
            paths=shlex.join(paths),
            programs=shlex.join(programs),
            folders=shlex.join(folders),
            configuration=shlex.quote(configuration),
        )

    @override
    def process(self, output: Iterable[str]) -> FitnessState:
        told, said = time.time(), by_word(output)
        if "end" not in said:
            raise FactProcessError("the host does not tell what it has for a cluster")
        with understanding("the host"):
            return self._state(said, told)

    def _state(self, said: Mapping[str, list[str]], told: float) -> FitnessState:
        groups = [line.partition(" ") for line in said.get("cgroups", [])]
        behind = None
        if clock := _number(_one(said, "clock")):
            # Its time was asked for after the one moment and before the other.
            behind = (self.asked - clock, told - clock)
        nameservers: dict[str, tuple[str, ...] | None] = dict.fromkeys(
            said.get("resolv-missing", [])
        )
        for line in said.get("resolv", []):
            file, *address = line.split()
            nameservers[file] = (*(nameservers.get(file) or ()), *address)
        machine_id = _one(said, "machine-id")
        return FitnessState(
            swaps=tuple(said.get("swap", [])),
            swaps_at_boot=tuple(said.get("fstab", [])),
            swap_makers=tuple(dict.fromkeys(said.get("swap-maker", []))),
            cgroups=groups[0][0] if groups else "",
            controllers=tuple(
                dict.fromkeys(word for *_, rest in groups for word in re.split("[ ,]", rest))
            ),
            kernel=_one(said, "kernel"),
            modules_gone="modules-gone" in said,
            memory=int(_number(_one(said, "memory"))) // 1024,
            processors=int(_number(_one(said, "processors"))),
            kmsg="kmsg" in said,
            disks=dict(_disks(said.get("disk", []))),
            nameservers=nameservers,
            machine_id=machine_id if re.fullmatch("[0-9a-f]{32}", machine_id) else "",
            product_uuid=_one(said, "product_uuid").lower(),
            container="container" in said,
            behind=behind,
            apparmor=_one(said, "enabled") == "Y",
            selinux={"1": "enforcing", "0": "permissive"}.get(_one(said, "enforce"), ""),
            ufw=_one(said, "ufw").lower(),
            ufw_rules=tuple(said.get("ufw-rule", [])),
            conntrack_fixed="conntrack-fixed" in said,
            swap_accepted="swap-accepted" in said,
            there=tuple(said.get("there", [])),
            programs=tuple(said.get("program", [])),
        )


def _one(said: Mapping[str, list[str]], word: str) -> str:
    return said.get(word, [""])[0].strip()


def _number(text: str) -> float:
    with suppress(ValueError):
        return float(text)
    return 0


def _disks(lines: Iterable[str]) -> Iterator[tuple[str, Disk]]:
    for line in lines:
        folder, space, inodes, options = line.split("|")
        # A btrfs has no table of inodes.
        size, free, mount = [*space.split(" ", 2), "", "", ""][:3]
        total, unused = [*inodes.split(), "", ""][:2]
        blocks, left, inode_count, inodes_left = (
            int(_number(text)) for text in (size, free, total, unused)
        )
        mounted = tuple(options.split(",")) if options else ()
        yield folder, Disk(mount, blocks, left, inode_count, inodes_left, mounted)
