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
        return f"""\
if command -v nft >/dev/null 2>&1; then
  case $(nft --version) in nftables*) ;; *) echo 'nft does not work' >&2; exit 1 ;; esac
  tables=$(nft list tables) || exit
  if printf '%s\\n' "$tables" | grep -qxF {shlex.quote(f"table {table}")}; then
    nft --stateless list table {words}
  fi
fi"""

    @override
    def process(self, output: Iterable[str]) -> str | None:
        return " ".join(" ".join(output).split()) or None
