"""
The flags that components run with, and those that they are configured with; who uses a port.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word, understanding
from pyinfra_kube.facts.systemd import Unit, read_unit, unit_command

# All-in-one programs take the component as their first argument, some without its prefix.
_HYPERKUBE = ("hyperkube", "km")


@dataclass(frozen=True)
class ProcessState(Printable):
    """
    One component on a host.

    + pid: of the process that runs, 0 for none
    + running: flags of that process; ``None`` where none runs
    + configured: flags in the unit of its name, with the variables of its environment files filled
      in; ``None`` where there is no such unit
    """

    pid: int = 0
    running: dict[str, str] | None = None
    configured: dict[str, str] | None = None


class Flags(FactBase[dict[str, ProcessState]]):
    """
    Returns the effective flags of components, running as a unit or in a pod, without their
    leading dashes. A flag without a value is ``true``, as the components take it.

    + names: names of the programs, for example ``kubelet``, ``kube-proxy``

    .. code:: python

        {
            "kubelet": ProcessState(
                pid=812,
                running={"v": "2", "kubeconfig": "/var/lib/kubelet/kubeconfig"},
                configured={"v": "2", "kubeconfig": "/var/lib/kubelet/kubeconfig"},
            ),
            "kube-proxy": ProcessState(),
        }
    """

    default = dict
    # It reads whole environment files, which may hold anything.
    secret = True

    @override
    def command(self, names: Sequence[str] = ("kubelet", "kube-proxy")) -> str:
        self.names = list(names)
        short = [name.removeprefix("kube-") for name in names]
        programs = "|".join(re.escape(name) for name in dict.fromkeys([*names, *short]))
        units = "\n".join(
            f"echo {shlex.quote(f'of {name}.service')}\n{unit_command(f'{name}.service')}"
            for name in names
        )
        # Command lines of other programs may hold secrets.
        return f"""\
for file in $(grep -lszxE '([^ ]*/)?({programs})' /proc/[0-9]*/cmdline); do
set -f -- $(tr '\\0' '\\n' 2>/dev/null < "$file" | head -n 2 | sed 's|.*/||')
case "${{1-}} ${{2-}}" in
{"|".join(f"{shlex.quote(name)}' '*" for name in names)}) ;;
{"|".join(f"{shlex.quote(f'{w} {name}')}" for w in _HYPERKUBE for name in [*names, *short])}) ;;
*) continue ;;
esac
echo "process $file"
tr '\\0\\n' '\\n ' 2>/dev/null < "$file" | sed 's/^/word /'
done
{units}"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, ProcessState]:
        processes: dict[int, list[str]] = {}
        units: dict[str, list[str]] = {}
        pid, unit = 0, ""
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "process":
                pid = int(rest.split("/")[2])
                processes[pid] = []
            elif word == "word":
                processes[pid].append(rest)
            elif word == "of":
                unit = rest.removesuffix(".service")
                units[unit] = []
            else:
                units.setdefault(unit, []).append(line)
        try:
            return {
                name: _state(name, processes, read_unit(units.get(name, []))) for name in self.names
            }
        except ValueError as error:
            raise FactProcessError(str(error)) from error


@dataclass(frozen=True)
class Listener(Printable):
    """
    What listens on a port.

    + program: the first one that holds it; empty for the kernel
    + pid: its process, 0 for the kernel
    + groups: the control groups of all who hold it, which contain the names of units or containers
    """

    program: str = ""
    pid: int = 0
    groups: str = ""


class Listeners(FactBase[dict[str, list[Listener]]]):
    """
    Returns what listens on ports, by ``tcp PORT`` and ``udp PORT``. A free port is left out.

    The kernel's own tables are read, so no tool such as ss need be there.

    + ports: numbers of TCP
    + udp: numbers of UDP

    .. code:: python

        {"tcp 2379": [Listener("etcd", 811, "0::/system.slice/etcd.service")]}
    """

    default = dict

    @override
    def command(self, ports: Sequence[int], udp: Sequence[int] = ()) -> str:
        return f"""\
sockets() {{
cat /proc/net/$1 /proc/net/${{1}}6 2>/dev/null | awk -v kind=$1 -v state=$2 -v ports="$3" '
$4 == state {{
port = $2
sub(/.*:/, "", port)
if (index(ports, " " port " ")) print kind, port, $10
}}'
}}
all() {{ sockets tcp 0A "{_hex(ports)}"; sockets udp 07 "{_hex(udp)}"; }}
found=$(all)
if [ -n "$found" ]; then
printf '%s\n' "$found" | sed 's/^/socket /'
held=$(find /proc/[0-9]*/fd -maxdepth 1 -lname 'socket:*' -printf '%l %p\n' 2>/dev/null |
awk -v wanted=" $(printf '%s\n' "$found" | awk '{{ print $3 }}' | tr '\n' ' ')" '{{
gsub(/[^0-9]/, "", $1)
split($2, part, "/")
if (index(wanted, " " $1 " ")) print $1, part[3]
}}' | sort -u)
printf '%s\n' "$held" | sed -n 's/./held &/p'
for pid in $(printf '%s\n' "$held" | awk '{{ print $2 }}' | sort -u); do
printf 'name %s %s\n' "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)"
printf 'of %s %s\n' "$pid" "$(tr '\n' ' ' 2>/dev/null < "/proc/$pid/cgroup")"
done
# A process that ends holds nothing any more, and its sockets close a moment later.
inodes=" $(printf '%s\n' "$held" | awk '{{ print $1 }}' | tr '\n' ' ')"
printf '%s\n' "$found" | awk -v held="$inodes" '
$1 == "tcp" && !index(held, " " $3 " ") {{ unheld = 1 }}
END {{ exit unheld }}' || sleep 1
all | sed 's/^/still /'
fi"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, list[Listener]]:
        said = by_word(output)
        found: dict[str, list[Listener]] = {}
        with understanding("/proc/net"):
            holders: dict[str, list[int]] = {}
            for line in said.get("held", []):
                inode, pid = line.split()
                holders.setdefault(inode, []).append(int(pid))
            names, groups = (
                {
                    int(pid): rest.strip()
                    for pid, _, rest in (x.partition(" ") for x in said.get(w, []))
                }
                for w in ("name", "of")
            )
            still = set(said.get("still", []))
            for line in dict.fromkeys(one for one in said.get("socket", []) if one in still):
                kind, port, inode = line.split()
                pids = sorted(holders.get(inode, []))
                first = pids[0] if pids else 0
                # A socket that systemd opened is held by it and by who serves it.
                together = " ".join(groups.get(pid, "") for pid in pids).strip()
                listener = Listener(names.get(first, ""), first, together)
                found.setdefault(f"{kind} {int(port, 16)}", []).append(listener)
        return found


def _hex(ports: Sequence[int]) -> str:
    """Ports as the kernel prints them, between spaces."""

    return " ".join(["", *(f"{port:04X}" for port in sorted(ports)), ""])


def parse_flags(words: Sequence[str]) -> dict[str, str]:
    """
    Return a component's flags by name, without dashes.

    + words: of a command line, without the program's name
    """

    flags: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("-"):
            name, equals, value = word.lstrip("-").partition("=")
            flags[name] = value if equals else "true"
            name = "" if equals else name
        elif name:
            flags[name] = word
            name = ""
    return flags


def _state(name: str, processes: dict[int, list[str]], unit: Unit) -> ProcessState:
    configured = None
    if unit.load == "unknown":
        raise FactProcessError(f"systemctl does not tell what {name}.service is")
    if unit.loaded:
        words = [word.text for word in unit.expanded()]
        configured = parse_flags(words[2:] if _is_hyperkube(words) else words[1:])
    for pid, words in sorted(processes.items()):
        rest = _arguments(name, words)
        if rest is not None:
            return ProcessState(pid, parse_flags(rest), configured)
    return ProcessState(configured=configured)


def _is_hyperkube(words: list[str]) -> bool:
    return bool(words) and words[0].rpartition("/")[2] in _HYPERKUBE


def _arguments(name: str, words: list[str]) -> list[str] | None:
    """The words after the program's name; ``None`` where this is another program."""

    programs = [word.rpartition("/")[2] for word in words[:2]]
    if programs[:1] == [name]:
        return words[1:]
    short = name.removeprefix("kube-")
    if len(programs) > 1 and programs[0] in _HYPERKUBE and programs[1] in (name, short):
        return words[2:]
    return None
