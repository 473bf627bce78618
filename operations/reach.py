"""
Check that packets arrive where a cluster sends them: from pods to pods, to services, to ports.
"""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence

from pyinfra.api import StringCommand
from pyinfra.context import ctx_host, ctx_state

from pyinfra_kube.engine.operation import operation
from pyinfra_kube.engine.script import Script
from pyinfra_kube.engine.snapshot import ask_now, expect_at_execution, read
from pyinfra_kube.facts.reach import PORT, Place, PlaceOfPods, Reached, Target, Visit

__all__ = ["Target", "Visit", "arrived", "pairs", "send", "take_place"]

# Up to FULL hosts, each reaches all others; of more, the next in a ring and SAMPLE random ones.
FULL = 10
SAMPLE = 2
# Seconds after which a place that was read together with other facts is made again.
_FRESH = 20


def pairs(hosts: Sequence[str]) -> dict[str, list[str]]:
    """
    Return the hosts that each host tries to reach: all others, or a sample of many.

    Each host sends, and each is reached. The sample is the same in each run.

    + hosts: their names
    """

    if len(hosts) <= FULL:
        return {one: [other for other in hosts if other != one] for one in hosts}
    chance = random.Random(" ".join(hosts))
    found = {}
    for index, one in enumerate(hosts):
        following = hosts[(index + 1) % len(hosts)]
        rest = [other for other in hosts if other not in (one, following)]
        found[one] = [following, *chance.sample(rest, SAMPLE)]
    return found


@operation()
def take_place(
    places: MutableMapping[str, Place], bridge: str, pod_cidr: str = "", visitors: int = 0
) -> Generator[StringCommand, None, None]:
    """
    Make a place on the host's pod network for a moment, and note it.

    A place is a network namespace whose link is a member of the bridge, like that of a pod. It
    needs no container and no image. It comes and goes within a run, and does not count as a change.
    It ends after two minutes even if the run dies.

    + places: where it is noted, by host
    + bridge: of the pods
    + pod_cidr: of the node, for a bridge that may not exist yet
    + visitors: how many others will reach it

    **Example:**

    .. code:: python

        places, visits = {}, {}
        reach.take_place(name="Take a place", places=places, bridge="cbr0", visitors=2)
        reach.send(name="Send packets", places=places, to=others, visits=visits)
        reach.arrived(name="See that all arrived", places=places, visits=visits)
    """

    host = ctx_host.get()
    question = {"bridge": bridge, "pod_cidr": pod_cidr, "visitors": visitors}
    if ctx_state.get().is_executing:
        place = read(PlaceOfPods, **question)
        # A place that was noted before has ended by now.
        if host.name in places or time.monotonic() - place.since > _FRESH:
            place = ask_now(PlaceOfPods, **question)
        places[host.name] = place
    else:
        expect_at_execution(PlaceOfPods, **question)
    host.noop("it comes and goes with the run")
    yield from ()


@operation()
def send(
    places: Mapping[str, Place],
    visits: MutableMapping[str, Visit],
    to: Sequence[str] = (),
    targets: Sequence[Target] = (),
    look: Callable[[], object] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Send packets from this host's place to those of others, and to other ports. Note what does not
    arrive; ``arrived`` then reports it.

    Each target gets a whole TCP connection, on which what was sent must come back: a firewall may
    let ICMP pass, or refuse a connection in the name of its target.

    + places: from ``take_place``
    + visits: where it is noted what was reached, by host
    + to: hosts whose places to reach; those without a place in this run are left out
    + targets: more ports
    + look: called if something did not arrive

    **Example:**

    .. code:: python

        reach.send(name="Send packets", places=places, to=["kube-node-2"], visits=visits)
    """

    host = ctx_host.get()
    if not ctx_state.get().is_executing:
        host.noop("packets are sent in the run")
        return
    own = places.get(host.name, Place())
    others = {name: places[name] for name in to if name in places and places[name].address}
    wanted = [
        Target(
            f"the pods of {name}", place.address, PORT, True, "echo" if place.echoes else "refused"
        )
        for name, place in others.items()
    ]
    wanted = [target for target in [*wanted, *targets] if own.address or not target.inside]
    visit = ask_now(Reached, targets=wanted, pid=own.pid) if wanted or own.pid else Visit()
    if own.problem:
        visit = Visit({"the network of its own pods": own.problem, **visit.missed}, visit.left)
    visits[host.name] = visit
    if look and visit.missed:
        look()
    host.noop("see below" if visit.missed else f"{len(wanted)} of {len(wanted)} are reached")
    yield from ()


@operation()
def arrived(
    places: Mapping[str, Place],
    visits: Mapping[str, Visit],
    causes: Callable[[Visit], Sequence[str]] | None = None,
) -> Generator[StringCommand, None, None]:
    """
    Fail on a host whose packets did not arrive, and name the targets. End its place if some visitor
    has not come.

    + places: from ``take_place``
    + visits: from ``send``
    + causes: returns what may have stopped the packets

    **Example:**

    .. code:: python

        reach.arrived(name="See that all packets arrived", places=places, visits=visits)
    """

    host = ctx_host.get()
    visit = visits.get(host.name, Visit())
    if visit.left:
        host.run_shell_command(StringCommand(f"kill {places[host.name].pid} 2>/dev/null; true"))
    if not visit.missed:
        host.noop("all packets arrived, or will be sent in the run")
        return
    lines = [f"✗ {host.name} does not reach {name}: {why}" for name, why in visit.missed.items()]
    lines += [f"  {cause}" for cause in (causes(visit) if causes else ())]
    lines.append("  try on both hosts: ip route; iptables -L FORWARD -v; nft list ruleset")
    text = "\n".join(f"echo {shlex.quote(line)}" for line in lines)
    yield Script(f"{{\n{text}\n}} >&2\nexit 1", summary="say which packets did not arrive")
