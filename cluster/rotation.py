"""
From one set of CAs to another, with the key of service accounts' tokens, in three steps. In any
step, and between two hosts of which one has taken it, each side trusts what the other shows:

1. the CAs that come are trusted beside those that sign (``ca_rotation`` names them);
2. they sign, and those that go are trusted beside them (``ca`` and ``ca_rotation`` change places);
3. they are trusted alone (``ca_rotation`` goes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pyinfra_kube.cluster.errors import Problem

# kubelet renews a token of an hour when a fifth of it is left.
TOKEN_LIFE = 3600


@dataclass(frozen=True)
class Held:
    """
    What a host has of CAs, by the names that settings give them.

    + trusted: those that it trusts, in each of its files
    + signed: those that signed its certificates; none on a host with nothing but a node
    + signing_for: seconds for which it has had the key that signs tokens
    """

    trusted: frozenset[str]
    signed: frozenset[str] = frozenset()
    signing_for: float | None = None


def rotation_problems(
    ca: str, beside: str | None, found: Mapping[str, Held], silent: Iterable[str] = ()
) -> list[Problem]:
    """
    Give why the CAs that are wanted may not follow those that there are.

    + ca: the name of those that are to sign
    + beside: the name of those that are to be trusted too
    + found: host → what it has; without hosts that have nothing yet
    + silent: hosts of the control plane and of etcd of which nothing is known

    ```
    >>> [problem] = rotation_problems("2", None, {"m": Held({"1"}, {"1"})})
    >>> problem.fix
    'set ca = "1" and ca_rotation = "2", and run that first'
    ```
    """
    signed = frozenset().union(*(one.signed for one in found.values()))
    wanted = {ca, *([beside] if beside else [])}
    comes = bool(signed) and ca not in signed
    # A node that comes back late is mended.
    goes = {name for one in found.values() if one.signed for name in one.trusted} - wanted
    untrusted = [*_untrusted(ca, signed, found)] if comes else []
    return [
        *(untrusted or _needed(ca, beside, signed - wanted)),
        *(_young(beside, found) if goes and not comes else ()),
        *(_silent(ca, silent) if comes or goes else ()),
    ]


def _untrusted(ca: str, signed: Iterable[str], found: Mapping[str, Held]) -> Iterator[Problem]:
    lacking = [host for host, one in found.items() if ca not in one.trusted]
    if lacking:
        allowed = f"CAs that every host trusts; {', '.join(lacking)} do not trust these"
        fix = f'set ca = "{min(signed)}" and ca_rotation = "{ca}", and run that first'
        yield Problem("ca", ca, None, allowed, fix)


def _needed(ca: str, beside: str | None, needed: Iterable[str]) -> Iterator[Problem]:
    for name in sorted(needed):
        allowed = f'"{name}", for certificates of hosts are signed by that'
        fix = f'set ca = "{ca}" and ca_rotation = "{name}", and run that first'
        yield Problem("ca_rotation", beside, None, allowed, fix)


def _young(beside: str | None, found: Mapping[str, Held]) -> Iterator[Problem]:
    ages = [one.signing_for for one in found.values() if one.signing_for is not None]
    if ages and min(ages) < TOKEN_LIFE:
        minutes = int((TOKEN_LIFE - min(ages)) // 60) + 1
        allowed = "what it was: pods still have tokens that the old key signed"
        fix = f"run again in {minutes} minutes, when kubelets have renewed them"
        yield Problem("ca_rotation", beside, None, allowed, fix)


def _silent(ca: str, silent: Iterable[str]) -> Iterator[Problem]:
    if names := ", ".join(silent):
        allowed = f"what it was: {names}, which a change must reach too, is not in this run"
        yield Problem("ca", ca, None, allowed, "run again when it answers")
