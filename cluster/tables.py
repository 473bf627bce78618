"""Tables as text, for people."""

from __future__ import annotations

from collections.abc import Iterable


def lines_of(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """
    Give the lines of a table whose columns stand below each other.

    + rows: the cells of each row, all rows with as many

    ```
    >>> lines_of([("HOST", "PODS"), ("node1", "253")])
    ['HOST   PODS', 'node1  253']
    ```
    """
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
