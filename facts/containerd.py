"""
containerd: its version, what it is told, and what asks it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word, content, decoded

CONFIG = "/etc/containerd/config.toml"
CRICTL_CONFIG = "/etc/crictl.yaml"
UNIT = "/etc/systemd/system/containerd.service"
# A folder for each registry, with its hosts.toml.
REGISTRIES = "/etc/containerd/certs.d"

# Where packages put programs, and where nobody but the host's owner and we do.
PACKAGED = "/usr/bin/containerd"
LOCAL = "/usr/local/bin/containerd"

_FILES = (CONFIG, CRICTL_CONFIG, UNIT)
_PROGRAMS = (LOCAL, PACKAGED, "/usr/local/bin/crictl", "/usr/bin/crictl")


@dataclass(frozen=True)
class ContainerdState(Printable):
    """
    What :class:`Containerd` returns.

    + config: the text of config.toml; ``None`` if there is none
    + crictl_config: the text of crictl.yaml; ``None`` if there is none
    + unit: the text of the unit in /etc; ``None`` if there is none
    + versions: of the programs that run, by path
    + hosts: registry → the text of its hosts.toml
    """

    config: str | None = field(default=None, repr=False)
    crictl_config: str | None = field(default=None, repr=False)
    unit: str | None = field(default=None, repr=False)
    versions: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def crictl(self) -> str:
        """The path of the crictl that is there; empty for none."""
        return next((path for path in self.versions if path.endswith("/crictl")), "")


class Containerd(FactBase[ContainerdState]):
    """
    Returns which containerd and crictl are installed, and their configuration.

    + root: the folder below which they are looked for

    .. code:: python

        ContainerdState(
            config='version = 2\\n…',
            versions={"/usr/bin/containerd": "1.6.20", "/usr/local/bin/crictl": "1.37.0"},
        )
    """

    # Its registries may have passwords.
    secret = True

    default = ContainerdState

    @override
    def command(self, root: str = "") -> str:
        return f"""\
root={shlex.quote(root)}
for file in {shlex.join(_FILES)}; do
[ -f "$root$file" ] || continue
{content('"file $file"', '"$root$file"')}
done
for file in "$root"{REGISTRIES}/*/hosts.toml; do
[ -f "$file" ] || continue
{content('"hosts ${file#"$root"}"', '"$file"')}
done
for program in {shlex.join(_PROGRAMS)}; do
[ -x "$root$program" ] && said=$("$root$program" --version 2>/dev/null) || continue
printf 'version %s %s\\n' "$program" "$(printf '%s\\n' "$said" | head -n 1)"
done
echo end"""

    @override
    def process(self, output: Iterable[str]) -> ContainerdState:
        said = by_word(output)
        if "end" not in said:
            raise FactProcessError("the host does not tell which containerd it has")
        texts = {}
        for line in said.get("file", []):
            path, _, text = line.partition(" ")
            texts[path] = decoded(text, path)
        hosts = {}
        for line in said.get("hosts", []):
            path, _, text = line.rpartition(" ")
            hosts[path.split("/")[-2]] = decoded(text, path)
        versions = {}
        for line in said.get("version", []):
            path, _, text = line.partition(" ")
            if found := re.search(r"\bv?(\d+\.\d+\.\d+)", text):
                versions[path] = found[1]
        config, crictl_config, unit = (texts.get(path) for path in _FILES)
        return ContainerdState(config, crictl_config, unit, versions, hosts)
