"""
Open firewalld for a cluster.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra.api import StringCommand

from pyinfra_kube.engine import changes
from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script, run_or_noop
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.firewalld import TRUSTED, Firewalld


@operation()
def opened(
    sources: Sequence[str] = (), ports: Sequence[str] = (), present: bool = True
) -> Generator[StringCommand, None, None]:
    """
    Have firewalld trust sources, and open ports of its default zone, now and after it starts anew.
    It is not reloaded, and what others set stays. Where it does not run there is nothing to do.

    + sources: addresses and ranges, such as that of the pods
    + ports: such as ``6443/tcp``
    + present: whether they are let in; ``False`` takes that back

    **Example:**

    .. code:: python

        from pyinfra_kube.operations import firewalld

        firewalld.opened(
            name="Open firewalld for the cluster",
            sources=["10.10.0.0/16", "192.0.2.11"],
            ports=["6443/tcp"],
        )
    """

    state = read(Firewalld)
    lines = []
    verb, signs = ("add", "absent → let in") if present else ("remove", "let in → absent")
    if state:
        wanted = (
            ("source", TRUSTED, sources, state.sources),
            ("port", state.default, ports, state.ports),
        )
        for what, zone, values, (now, kept) in wanted:
            for value in values:
                places = (("", now), (" --permanent", kept))
                needed = [option for option, there in places if (value in there) != present]
                if needed:
                    changes.show(f"firewalld, zone {zone}: {what} {value}: {signs}")
                lines += [
                    f"firewall-cmd --quiet{option} --zone={zone} --{verb}-{what}={value}"
                    for option in needed
                ]
    reason = "firewalld is as wanted" if state else "firewalld does not run"
    script = Script("\n".join(lines), "open firewalld" if present else "close firewalld")
    yield from run_or_noop(script if lines else None, reason)
