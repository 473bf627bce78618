"""
With which keys Secrets are encrypted in etcd, and the steps from one key to another.

Every apiserver has a list of *providers*, names of keys or ``IDENTITY`` for no encryption: the
first one writes, all of them read. A key that comes is known to every apiserver before the first
one writes with it, and a key that goes stays known until no Secret in etcd needs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

IDENTITY = "identity"
"""The provider that encrypts nothing."""

Providers = tuple[str, ...]


def key_name(setting: str, secret: str) -> str:
    """
    Give the name of a key, which tells what key it is: etcd keeps it beside each Secret.

    + setting: what the inventory calls it
    + secret: the key in base64

    ```
    >>> key_name("1", "c2VjcmV0")
    '1-bae85bd1'
    ```
    """
    return f"{setting}-{hashlib.sha256(secret.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class EncryptionPlan:
    """
    What a run does with the providers of the apiservers, in this order.

    + wanted: the key that is to be the only one, or ``IDENTITY``
    + first: control-plane host → its providers, with which its apiserver comes up
    + turned: the providers of every host thereafter; ``None`` where they are those already
    + last: the providers of every host when all Secrets are rewritten; ``None`` where they are
      those already, or where that has to wait
    + waits_for: control-plane hosts that the run cannot ask, without which no key goes
    """

    wanted: str
    first: Mapping[str, Providers]
    turned: Providers | None = None
    last: Providers | None = None
    waits_for: tuple[str, ...] = field(default=())


def plan_encryption(
    wanted: str,
    found: Mapping[str, Providers | None],
    stored: Collection[str] | None,
    silent: Iterable[str] = (),
) -> EncryptionPlan:
    """
    Give the steps from what is found to one provider alone.

    + wanted: the key that is to be the only one, or ``IDENTITY``
    + found: control-plane host → the providers of its apiserver; empty without an apiserver,
      ``None`` where a file that is not ours says them
    + stored: the providers that Secrets in etcd need; ``None`` where etcd does not tell
    + silent: control-plane hosts of which nothing is known

    ```
    >>> plan_encryption("new", {"m1": ("old",)}, {"old"})
    EncryptionPlan(wanted='new', first={'m1': ('new', 'old')}, turned=None, last=('new',), …)
    ```
    """
    waits_for = tuple(silent)
    known = [names for names in found.values() if names]
    others = dict.fromkeys(name for names in known for name in names)
    others |= dict.fromkeys(sorted(stored or ()))
    others.pop(wanted, None)
    goal = (wanted,)
    if not others:
        return EncryptionPlan(wanted, dict.fromkeys(found, goal), waits_for=waits_for)
    turned = in_order((wanted, *others))
    last = None if waits_for else goal
    if len(found) == 1 and not waits_for:
        return EncryptionPlan(wanted, dict.fromkeys(found, turned), last=last)
    writing = next((names[0] for names in known if names[0] != wanted), wanted)
    coming = in_order(dict.fromkeys((writing, *others, wanted)))
    first = {host: _first(names, wanted, coming) for host, names in found.items()}
    step = turned if not waits_for and any(one != turned for one in first.values()) else None
    return EncryptionPlan(wanted, first, step, last, waits_for)


def in_order(names: Iterable[str]) -> Providers:
    """
    Give providers as a file has them: without encryption comes first or last, for all keys are
    together.

    + names: in the order that is wanted
    """
    given = tuple(dict.fromkeys(names))
    keys = tuple(name for name in given if name != IDENTITY)
    if IDENTITY not in given:
        return keys
    return (IDENTITY, *keys) if given[0] == IDENTITY else (*keys, IDENTITY)


def _first(names: Providers | None, wanted: str, coming: Providers) -> Providers:
    """What one of several apiservers comes up with: it must write what all others can read."""
    if not names:
        return coming
    return names if wanted in names else in_order((*names, *coming))
