"""Docstrings have the form of pyinfra's own, which its documentation tools read."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from tests.unit.test_metadata import KINDS, public


def one(kind: str, name: str) -> Any:
    module, _, attribute = name.partition(".")
    return getattr(vars(KINDS[kind])[module], attribute)


def listed(text: str) -> list[str]:
    """The arguments that a docstring lists; one line may list several."""

    names = re.findall(r"^\+ ([\w, ]+): \S", text, re.M)
    return [name.strip() for line in names for name in line.split(",")]


def arguments(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", sorted(public("operation")))
def test_an_operation_lists_its_arguments_and_has_an_example(name: str) -> None:
    operation = one("operation", name)
    text = inspect.getdoc(operation) or ""
    assert listed(text) == arguments(operation._inner)
    assert re.search(r"^\*\*Examples?:\*\*\n\n\.\. code:: python\n\n    \S", text, re.M)


@pytest.mark.parametrize("name", sorted(public("fact")))
def test_a_fact_lists_its_arguments_and_shows_what_it_returns(name: str) -> None:
    fact = one("fact", name)
    text = inspect.getdoc(fact) or ""
    assert listed(text) == arguments(fact.command)
    assert re.search(r"\b[Rr]eturns ", text)
    assert re.search(r"^\.\. code:: python\n\n    \S", text, re.M)
