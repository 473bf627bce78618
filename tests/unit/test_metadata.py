"""pyinfra-metadata.toml and docs/library.md name every operation and fact that is public."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyinfra.api import FactBase

from pyinfra_kube import facts, operations

REPOSITORY = Path(__file__).parents[2]

KINDS = {"operation": operations, "fact": facts}


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg:
            yield importlib.import_module(f"{package.__name__}.{module.name}")


def _is_operation(value: Any) -> bool:
    return hasattr(value, "_inner")


def _is_fact(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, FactBase)


def public(kind: str) -> set[str]:
    """``MODULE.NAME`` of all operations, or all facts."""

    is_one = _is_operation if kind == "operation" else _is_fact
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in _modules(KINDS[kind])
        for name, value in vars(module).items()
        if is_one(value)
        and (value.__module__ == module.__name__ or name in getattr(module, "__all__", ()))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_metadata_names_every_module(kind: str) -> None:
    # It reads TOML with what Python has from 3.11 on.
    metadata = pytest.importorskip("pyinfra.api.metadata")
    plugins = metadata.parse_plugins((REPOSITORY / "pyinfra-metadata.toml").read_text())
    named = [plugin for plugin in plugins if plugin.type == kind]
    modules = {name.partition(".")[0] for name in public(kind)}
    assert sorted(plugin.name for plugin in named) == sorted(modules)
    assert all(plugin.tags for plugin in named)
    paths = {plugin.name: plugin.path for plugin in named}
    files = {m.__name__.rpartition(".")[2]: m.__file__ for m in _modules(KINDS[kind])}
    for name, path in paths.items():
        assert (REPOSITORY / path).samefile(str(files[name]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_page_names_every_one(kind: str) -> None:
    column = 2 if kind == "operation" else 3
    assert _listed(column) == public(kind)


def _listed(column: int) -> set[str]:
    """What a column of the page's table names, as ``MODULE.NAME``."""

    page = (REPOSITORY / "docs/library.md").read_text()
    rows = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    return {
        f"{_module(row[1])}.{name}" for row in rows for name in re.findall(r"`(\w+)`", row[column])
    }


def _module(cell: str) -> str:
    return cell.strip(" `")
