"""
Kernel settings: their values, what files set at boot, and the modules that they need.
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


def path(key: str) -> str:
    """The file of a setting: ``net.ipv4.ip_forward`` → ``/proc/sys/net/ipv4/ip_forward``."""

    separator = re.search(r"[./]", key)
    if separator and separator[0] == "/":
        return f"/proc/sys/{key}"
    # sysctl writes a dot inside a name as a slash: net.ipv4.conf.eth0/100.forwarding
    return f"/proc/sys/{key.translate(str.maketrans('./', '/.'))}"


class Sysctls(FactBase["dict[str, str | None]"]):
    """
    Returns the value of each kernel setting; ``None`` for one that this kernel does not have.

    + keys: names of settings

    .. code:: python

        {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": None}
    """

    default = dict

    @override
    def command(self, keys: Sequence[str]) -> str:
        pairs = " ".join(shlex.quote(word) for key in keys for word in (key, path(key)))
        self.keys = list(keys)
        # Not with read: dash reads one byte at a time, and the kernel gives a number only whole.
        return f"""\
set -- {pairs}
while [ $# -gt 1 ]; do
if [ ! -r "$2" ]; then echo "$1"
else printf '%s = %s\\n' "$1" "$(cat "$2" 2>/dev/null | head -n 1)"
fi
shift 2
done"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, str | None]:
        values: dict[str, str | None] = {}
        for line in output:
            key, found, value = line.partition(" = ")
            values[key] = " ".join(value.split()) if found else None
        if list(values) != list(dict.fromkeys(self.keys)):
            raise FactProcessError("the host does not tell its kernel settings")
        return values


@dataclass(frozen=True)
class Setting(Printable):
    """
    A line of a file that sets a kernel setting at boot.

    + file: path of the file
    + key: name of the setting, with dots
    + value: what it sets
    """

    file: str
    key: str
    value: str


class SysctlSettings(FactBase[list[Setting]]):
    """
    Returns what the files of sysctl.d set at boot, in the order in which they are read. The last
    one wins. A file in /etc hides those of the same name in /run and /usr/lib.

    .. code:: python

        [Setting(file="/etc/sysctl.d/99-kubernetes.conf", key="net.ipv4.ip_forward", value="1")]
    """

    default = list

    @override
    def command(self) -> str:
        return (
            "for file in /etc/sysctl.d/*.conf /run/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf "
            "/usr/lib/sysctl.d/*.conf /lib/sysctl.d/*.conf /etc/sysctl.conf; do "
            # In the C locale any byte is text.
            '[ -f "$file" ] && LC_ALL=C grep -aEH "^[[:space:]]*-?[a-z]" "$file"; '
            "[ $? -le 1 ] || exit 1; done; true"
        )

    @override
    def process(self, output: Iterable[str]) -> list[Setting]:
        files: dict[str, list[Setting]] = {}
        for line in output:
            file, _, text = line.partition(":")
            key, found, value = text.strip().lstrip("-").partition("=")
            if found:
                setting = Setting(file, _dotted(key.strip()), " ".join(value.split()))
                files.setdefault(file, []).append(setting)
        visible: dict[str, str] = {}
        for file in files:
            visible.setdefault(_rank(file), file)
        return [setting for name in sorted(visible) for setting in files[visible[name]]]


def _rank(file: str) -> str:
    """The sort key of a file: its name. ``sysctl --system`` reads /etc/sysctl.conf last."""

    return "~" if file == "/etc/sysctl.conf" else file.rsplit("/", 1)[-1]


def _dotted(key: str) -> str:
    separator = re.search(r"[./]", key)
    slashes = separator is not None and separator[0] == "/"
    return key.translate(str.maketrans("./", "/.")) if slashes else key


class Modules(FactBase[dict[str, str]]):
    """
    Returns the state of each kernel module: ``loaded``, ``builtin``, ``available`` (can be loaded),
    ``missing``, or ``unknown`` where the host has no modules of its kernel (in a container).

    + modules: names of modules

    .. code:: python

        {"br_netfilter": "loaded"}
    """

    default = dict

    @override
    def command(self, modules: Sequence[str]) -> str:
        self.modules = [module.replace("-", "_") for module in modules]
        return _MODULES.replace("NAMES", shlex.quote(" ".join(self.modules)))

    @override
    def process(self, output: Iterable[str]) -> dict[str, str]:
        states = dict(map(str.split, output))
        wrong = [module for module in self.modules if states.get(module) not in _STATES]
        if wrong:
            raise FactProcessError(f"the host does not tell how it has {', '.join(wrong)}")
        return states


_STATES = ("loaded", "builtin", "available", "missing", "unknown")

# The lists are long and are read once: a module's first line tells its state.
_MODULES = r"""
tree="/lib/modules/$(uname -r)"
[ -d "$tree" ] && state=missing || state=unknown
if [ -d "$tree" ]; then
sed 's/^/loaded /' /proc/modules
sed 's/^/builtin /' "$tree/modules.builtin"
sed 's/^/available /; s/:.*//' "$tree/modules.dep"
fi 2>/dev/null | awk -v names=NAMES -v state="$state" '
{ name = $2; sub(".*/", "", name); sub("[.]ko.*", "", name); gsub("-", "_", name) }
!(name in states) { states[name] = $1 }
END {
count = split(names, wanted, " ")
for (n = 1; n <= count; n++) print wanted[n], (wanted[n] in states ? states[wanted[n]] : state)
}'"""
