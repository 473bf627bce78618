"""
CNI: the networks that a container runtime may give pods, and the plugins that make them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import by_word


@dataclass(frozen=True)
class CniState(Printable):
    """
    What :class:`Cni` returns.

    + configurations: names of the files that describe networks, in the order of a runtime's choice
    + plugins: names of the programs
    """

    configurations: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


class Cni(FactBase[CniState]):
    """
    Returns the CNI networks that are described on the host, and its CNI plugins.

    + conf_dir: the folder of the descriptions
    + bin_dir: the folder of the plugins

    .. code:: python

        CniState(configurations=("10-pods.conflist",), plugins=("bridge", "host-local"))
    """

    default = CniState

    @override
    def command(self, conf_dir: str = "/etc/cni/net.d", bin_dir: str = "/opt/cni/bin") -> str:
        return f"""\
for file in {shlex.quote(conf_dir)}/*.conf {shlex.quote(conf_dir)}/*.conflist \
{shlex.quote(conf_dir)}/*.json; do
[ ! -f "$file" ] || echo "configuration ${{file##*/}}"
done
for file in {shlex.quote(bin_dir)}/*; do
[ ! -f "$file" ] || [ ! -x "$file" ] || echo "plugin ${{file##*/}}"
done
echo end"""

    @override
    def process(self, output: Iterable[str]) -> CniState:
        said = by_word(output)
        if "end" not in said:
            raise FactProcessError("the host does not tell which CNI networks it has")
        configurations = sorted(said.get("configuration", []))
        return CniState(tuple(configurations), tuple(sorted(said.get("plugin", []))))
