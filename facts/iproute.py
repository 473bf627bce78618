"""What ``ip -json`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pyinfra.api.exceptions import FactProcessError


def objects(output: Iterable[str]) -> list[dict[str, Any]]:
    """
    Return the objects of iproute2's JSON, without the empty ones that it prints for what it hides.

    + output: the lines it printed; anything before the JSON is passed over
    """

    text = "\n".join(output)
    start = text.find("[")
    if start < 0:
        return []
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:])
    except json.JSONDecodeError as error:
        raise FactProcessError(f"ip printed what is not JSON: {error}") from error
    return [item for item in found if item]
