"""Tables of Kubernetes releases and packages."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def table(name: str) -> dict[str, Any]:
    """
    Give one of the tables.

    + name: of its file, without ``.json``
    """
    path = files(__name__) / f"{name}.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
