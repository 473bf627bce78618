"""``pyinfra INVENTORY fact …`` prints every public fact, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pyinfra.api import Inventory
from pyinfra_cli.prints import jsonify  # type: ignore[import-untyped]
from pyinfra_cli.util import json_encode  # type: ignore[import-untyped]

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.facts.docker import DockerState
from pyinfra_kube.facts.systemd import Unit
from pyinfra_kube.facts.users import UserRow
from tests.unit import harness
from tests.unit.test_metadata import KINDS, public


def printed(value: Any) -> Any:
    """What the command line prints of a fact of one host."""

    host = Inventory((["host"], {})).get_host("host")
    return json.loads(jsonify({host: value}, indent=4, default=json_encode))["host"]


def outer(kind: Any) -> Iterator[Any]:
    """The classes of a type, but not those of a dataclass's fields."""

    yield kind
    for part in () if is_dataclass(kind) else get_args(kind):
        yield from outer(part)


@pytest.mark.parametrize("name", sorted(public("fact")))
def test_the_type_of_each_fact_can_be_printed(name: str) -> None:
    module, _, fact = name.partition(".")
    kind = getattr(vars(KINDS["fact"])[module], fact)
    kinds = list(outer(get_type_hints(kind.process)["return"]))
    assert all(issubclass(one, Printable) for one in kinds if is_dataclass(one))
    assert not {set, frozenset} & set(kinds)
    printed(kind.default())


@pytest.mark.parametrize("path", harness.cases("facts"), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_what_a_fact_tells_is_printed(path: Path) -> None:
    case = harness.load(path)
    _, fact = harness.find(path, "facts")
    instance = fact()
    assert instance.command(**case.get("arg", {}))
    value = instance.process(case["output"])
    assert "secret" in vars(fact) or printed(value) == case["fact"]
    printed(value)


def test_secrets_are_not_printed() -> None:
    row = UserRow("alice", "alice-uid", "developers", "token,alice,alice-uid\n")
    assert printed([row]) == [{"user": "alice", "uid": "alice-uid", "groups": "developers"}]
    state = DockerState(
        installed=True,
        file_text='{"log-opts": {"token": "hidden"}}',
        option_files={"/etc/sysconfig/docker": "OPTIONS=hidden"},
        unit=Unit("loaded", words=("dockerd", "hidden")),
        unit_files={"/lib/systemd/system/docker.service": "ExecStart=dockerd hidden"},
        words=("hidden",),
    )
    assert printed(state)["installed"]
    assert "hidden" not in str(printed(state))
