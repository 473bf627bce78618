"""
What a host swaps to, and what turns that on at boot.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

# Of dphys-swapfile, and of Debian's and Ubuntu's packages for zram.
SWAP_SERVICES = ("dphys-swapfile.service", "zram-config.service", "zramswap.service")


@dataclass(frozen=True)
class SwapStates(Printable):
    """
    What :class:`Swaps` returns.

    + devices: devices and files that it swaps to
    + units: those of systemd that are active, and where each is from, such as ``/etc/fstab``; none
      in a container, which has its machine's swap
    + fstab: the text of /etc/fstab
    + zram: configurations of zram-generator that count and are not empty, below a folder such as
      ``/etc/systemd``
    """

    devices: tuple[str, ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    fstab: str = ""
    zram: tuple[str, ...] = ()


class Swaps(FactBase[SwapStates]):
    """
    Returns what the host swaps to, and what turns that on at boot.

    + root: of the host's files

    .. code:: python

        SwapStates(
            devices=("/dev/zram0",),
            units=(("dev-zram0.swap", ""),),
            zram=("zram-generator.conf",),
        )
    """

    default = SwapStates

    @override
    def command(self, root: str = "") -> str:
        return f"""\
# A kernel without swap does not have the file.
devices=
[ ! -e {root}/proc/swaps ] ||
devices=$(awk 'NR > 1 {{ print "device\\t" $1 }}' {root}/proc/swaps) || exit 1
if [ -n "$devices" ]; then
printf '%s\\n' "$devices"
units=$(systemctl list-units --type=swap --state=active --plain --no-legend 2>/dev/null |
awk '$1 ~ /\\.swap$/ {{ print $1 }}')
[ -n "$units" ] || [ -e {root}/run/systemd/container ] || {{
echo "systemctl does not tell its units of swap" >&2
exit 1
}}
for unit in $units; do
from=$(systemctl show --property=SourcePath "$unit") || exit 1
printf 'unit\\t%s\\t%s\\n' "$unit" "${{from#SourcePath=}}"
done
fi
[ ! -r {root}/etc/fstab ] || printf 'fstab\\t%s\\n' "$(base64 -w 0 {root}/etc/fstab)"
{zram_files(root)}
true"""

    @override
    def process(self, output: Iterable[str]) -> SwapStates:
        rows = [[*line.split("\t"), ""] for line in output]
        coded = next((row[1] for row in rows if row[0] == "fstab"), "")
        return SwapStates(
            devices=tuple(row[1] for row in rows if row[0] == "device"),
            units=tuple((row[1], row[2]) for row in rows if row[0] == "unit"),
            fstab=base64.b64decode(coded).decode(errors="surrogateescape"),
            zram=tuple(row[1] for row in rows if row[0] == "zram"),
        )


def zram_files(root: str = "", word: str = "zram\\t") -> str:
    """
    Return the shell that prints the configurations of zram-generator that count and are not empty.

    + root: of the host's files
    + word: what each line begins with
    """

    return f"""\
# Of one name the first one counts.
counted=
for folder in etc run usr/local/lib usr/lib; do
folder={root}/$folder/systemd
for file in "$folder"/zram-generator.conf "$folder"/zram-generator.conf.d/*.conf; do
[ -e "$file" ] || [ -L "$file" ] || continue
name=${{file#"$folder"/}}
case " $counted " in *" $name "*) continue ;; esac
counted="$counted $name"
[ ! -s "$file" ] || printf '{word}%s\\n' "$name"
done
done"""
