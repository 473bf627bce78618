"""
nftables: single tables, as nft lists them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from pyinfra.api import FactBase
from typing_extensions import override


class NftTable(FactBase["str | None"]):
    """
    Returns a table of nftables as nft lists it, with single spaces; ``None`` where there is none,
    and without nft.

    + table: its family and name

    .. code:: python

        "table ip kube-masquerade { chain postrouting { type nat hook postrouting … } }"
    """

    @override
    def command(self, table: str) -> str:
        words = " ".join(map(shlex.quote, table.split()))
        return f"nft --stateless list table {words} 2>/dev/null || :"

    @override
    def process(self, output: Iterable[str]) -> str | None:
        return " ".join(" ".join(output).split()) or None
