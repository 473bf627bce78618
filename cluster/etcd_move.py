"""
The way of a running etcd from HTTP to TLS, in steps between which every member answers.

Clients: from 3.0 on a member serves HTTP and TLS on one port, so apiservers change over one by one
while all members serve both. Members: a port for them speaks one of the two only. But a member may
be *registered* with several URLs, and the others use the one that answers. So each is registered
with both before it changes over, and with the new one alone after all have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

Serves = Literal["http", "both", "tls"]
"""What a member serves: HTTP alone; HTTP and TLS to clients and HTTP to members; TLS alone."""

Scheme = Literal["http", "https"]

Change = Literal["serve both", "ask with TLS", "register both", "serve TLS", "register TLS"]

BOTH: frozenset[Scheme] = frozenset({"http", "https"})
TLS: frozenset[Scheme] = frozenset({"https"})


class Step(NamedTuple):
    """
    One step.

    + change: what changes
    + host: of the member, or of the apiserver that asks
    """

    change: Change
    host: str


@dataclass(frozen=True)
class EtcdState:
    """
    + members: host of each member → what it serves
    + registered: host of each member → the schemes of the URLs that the other members know
    + clients: host of each apiserver → how it asks
    """

    members: Mapping[str, Serves]
    registered: Mapping[str, frozenset[Scheme]]
    clients: Mapping[str, Scheme]

    def after(self, step: Step) -> EtcdState:
        """
        Give the state after a step.

        + step: it
        """
        host = step.host
        match step.change:
            case "serve both":
                return replace(self, members={**self.members, host: "both"})
            case "serve TLS":
                return replace(self, members={**self.members, host: "tls"})
            case "ask with TLS":
                return replace(self, clients={**self.clients, host: "https"})
            case "register both":
                return replace(self, registered={**self.registered, host: BOTH})
            case "register TLS":
                return replace(self, registered={**self.registered, host: TLS})


def next_step(state: EtcdState) -> Step | None:
    """
    Give the next step to TLS alone; ``None`` at the end.

    + state: what there is

    ```
    >>> next_step(EtcdState({"m": "both"}, {"m": frozenset({"http"})}, {"m": "https"}))
    Step(change='register both', host='m')
    ```
    """
    for host, serves in state.members.items():
        if serves == "http":
            return Step("serve both", host)
    for host, scheme in state.clients.items():
        if scheme == "http":
            return Step("ask with TLS", host)
    for host, schemes in state.registered.items():
        if "https" not in schemes:
            return Step("register both", host)
    for host, serves in state.members.items():
        if serves == "both":
            return Step("serve TLS", host)
    for host, schemes in state.registered.items():
        if schemes != TLS:
            return Step("register TLS", host)
    return None


def steps_from(state: EtcdState) -> tuple[Step, ...]:
    """
    Give every step to TLS alone, in order.

    + state: what there is
    """
    found = []
    while step := next_step(state):
        found.append(step)
        state = state.after(step)
    return tuple(found)


@dataclass(frozen=True)
class EtcdMove:
    """
    What a run does with etcd.

    + first: what members serve, and how apiservers ask, until the steps begin
    + steps: to TLS alone
    + waits_for: hosts that the run cannot ask, without which no step is made
    """

    first: EtcdState = field(default_factory=lambda: EtcdState({}, {}, {}))
    steps: tuple[Step, ...] = ()
    waits_for: tuple[str, ...] = ()


def plan_move(
    members: Mapping[str, Serves | None],
    registered: Mapping[str, frozenset[Scheme]],
    clients: Mapping[str, Scheme | None],
    silent: tuple[str, ...] = (),
) -> EtcdMove:
    """
    Give the steps from what is found to TLS alone.

    + members: host of each member → what it serves; ``None`` without one, or where its manifest
      is lost
    + registered: host of each member → the schemes of its URLs, as far as etcd tells
    + clients: host of each apiserver → how it asks; ``None`` without one
    + silent: hosts of which nothing is known

    ```
    >>> [step.change for step in plan_move({"m": "both"}, {}, {"m": "http"}).steps]
    ['ask with TLS', 'register both', 'serve TLS', 'register TLS']
    ```
    """
    moving = "http" in clients.values() or not {*members.values()} <= {"tls", None}
    lost: Serves = "both" if moving else "tls"
    # What nobody tells: before a member serves TLS alone, it has been registered with both.
    known = {
        host: registered.get(host, BOTH if serves == "tls" else frozenset({"http"}))
        for host, serves in members.items()
    }
    first: dict[str, Serves] = {
        host: serves or (lost if "http" in known[host] else "tls")
        for host, serves in members.items()
    }
    all_both = "http" not in first.values()
    asks: dict[str, Scheme] = {
        host: scheme or ("https" if all_both else "http") for host, scheme in clients.items()
    }
    state = EtcdState(first, known, asks)
    if not moving and not registered:
        # Nothing has to be asked of an etcd that serves TLS alone: registering is looked after.
        return EtcdMove(state)
    return EtcdMove(state, () if silent else steps_from(state), silent)
