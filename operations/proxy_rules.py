"""
Manage the rules that a kube-proxy left.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator
from typing import Literal

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.files import Files


@operation()
def proxy_rules_absent(
    binary: str = "/usr/local/bin/kube-proxy",
    flag: Literal["cleanup", "cleanup-iptables"] = "cleanup",
) -> Generator[StringCommand, None, None]:
    """
    Have kube-proxy remove its rules, of whatever mode. Stop it first, and remove its program
    afterwards: without one there is nothing to do.

    + binary: the program
    + flag: what its release calls it: ``cleanup`` from 1.8 on

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import proxy_rules, services

        services.services(
            name="Stop kube-proxy",
            units=[services.Unit("kube-proxy.service", running=False, enabled=False)],
        )
        proxy_rules.proxy_rules_absent(name="Remove kube-proxy's rules")
    """

    if binary not in read(Files, paths=[binary], digest=False):
        ctx_host.get().noop("there is no kube-proxy")
        return
    changes.show("rules of kube-proxy: removed")
    program = shlex.quote(binary)
    lines = f"""\
said=$(timeout 60 {program} --{flag} 2>&1) || {{
  printf '%s\\n' "$said" | tail -n 5 >&2
  echo 'kube-proxy could not remove its rules: they stay until the host starts anew' >&2
}}"""
    yield Script(lines, "remove kube-proxy's rules")
