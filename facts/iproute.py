"""What ``ip -json`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def if_there(command: str) -> str:
    """
    Return shell text that runs a command of iproute2, and prints nothing where that is missing.

    + command: for example ``ip -j address show``; its failure fails the fact
    """

    return f"if command -v ip >/dev/null 2>&1; then echo iproute2; {command}; fi"


def answers(output: Iterable[str], count: int) -> list[list[dict[str, Any]]]:
    """
    Return the objects of each JSON array that iproute2 printed, without the empty objects that it
    prints for what it hides.

    + output: the lines that it printed; text before the JSON is passed over
    + count: number of arrays

    Raises ``ValueError`` for what is not JSON.
    """

    text = "\n".join(output)
    found: list[Any] = []
    end = 0
    for _ in range(count):
        answer, end = json.JSONDecoder().raw_decode(text, text.index("[", end))
        found.append([item for item in answer if item])
    return found
