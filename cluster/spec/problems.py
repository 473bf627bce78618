"""What a value should have been: pydantic's errors as problems, each with its way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pyinfra_kube.cluster.errors import Problem, Wrong

_REQUIRED = {"kubernetes_version": 'a release in quotes, such as "1.37.2"'}

_EXPECTED = {
    "missing": "{required}; there is no default",
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "bool_type": "True or False",
    "dict_type": "a dictionary",
    "tuple_type": "a list",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def problems_of(
    error: ValidationError, given: Mapping[str, Any], host: str | None = None
) -> list[Problem]:
    """
    Give one problem for each wrong value, whatever number of types it could have had.

    + error: pydantic's
    + given: what it is about, by field
    + host: whose data it is; ``None`` for the cluster's
    """
    merged: dict[tuple[str, bool], Problem] = {}
    for detail in error.errors():
        if detail["type"] == "default_factory_not_called":
            continue
        allowed, fix = _expected(detail)
        key = ".".join(_place(detail["loc"], given))
        value = None if detail["type"] == "missing" else detail["input"]
        place = key, "[key]" in detail["loc"]
        if place in merged:
            allowed = f"{merged[place].allowed} or {allowed}"
            fix = merged[place].fix or fix
        merged[place] = Problem(key, value, host, allowed, fix)
    return list(merged.values())


def _place(loc: tuple[int | str, ...], given: Mapping[str, Any]) -> list[str]:
    """A field, and what is wrong within it. pydantic names types that it could have had, too."""

    value = given.get(str(loc[0]))
    items = range(len(value)) if isinstance(value, (list, tuple)) else ()
    parts = {str(part) for part in (value if isinstance(value, Mapping) else items)}
    return [str(loc[0]), *(str(part) for part in loc[1:2] if str(part) in parts)]


def did_you_mean(word: str, words: Iterable[str]) -> str | None:
    """
    Ask for the word that is nearest to another one; ``None`` where none is near.

    + word: what somebody wrote
    + words: what there is
    """
    near = nearest(word, words)
    return f"did you mean {near}?" if near else None


def nearest(word: str, words: Iterable[str]) -> str | None:
    """
    Give the word that is nearest to another one, in whatever case.

    + word: what somebody wrote
    + words: what there is
    """
    known = {one.lower(): one for one in words}
    near = get_close_matches(word.lower(), known, 1)
    return known[near[0]] if near else None


def _expected(detail: ErrorDetails) -> tuple[str, str | None]:
    context = detail.get("ctx", {})
    wrong = context.get("error")
    if isinstance(wrong, Wrong):
        return wrong.allowed, wrong.fix
    value, kind = detail["input"], detail["type"]
    required = _REQUIRED.get(str(detail["loc"][-1]), "a value")
    allowed = _EXPECTED.get(kind, detail["msg"]).format(**context, required=required)
    return allowed, _right_type(kind, value, allowed)


def _right_type(kind: str, value: object, allowed: str) -> str | None:
    """The same value as the type that it should have."""
    if kind == "string_type" and isinstance(value, (int, float)):
        return f'write "{value}"'
    if kind == "tuple_type" and isinstance(value, str) and value.isprintable():
        return f'write ["{value}"]'
    if value is None:
        return "leave it out"
    if not isinstance(value, str):
        return f"write {bool(value)}" if kind == "bool_type" and value in (0, 1) else None
    if kind == "int_type" and value.isdecimal():
        return f"write {value} without quotes"
    if kind == "bool_type" and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return f"write {value.lower() in ('true', 'yes', 'on')} without quotes"
    if kind == "literal_error":
        return did_you_mean(value, re.findall("'([^']*)'", allowed))
    return None
