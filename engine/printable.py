"""
What facts return, so that ``pyinfra INVENTORY fact …`` can print it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any


class Printable:
    """
    Base of the dataclasses that facts return: pyinfra prints what ``to_json`` gives.

    **Example:**

    .. code:: python

        @dataclass(frozen=True)
        class UserRow(Printable):
            user: str
            text: str = field(repr=False)  # a secret
    """

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, without those that have ``repr=False``: they hold secrets."""

        return dict(_plain(self))


def _plain(value: Any) -> Any:
    """A value made of types that JSON has."""

    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
