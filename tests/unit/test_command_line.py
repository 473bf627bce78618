"""What pyinfra's command line has, JSON, is enough for operations that take lists of objects."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
from pyinfra.api import OperationValueError

from pyinfra_kube.engine.operation import _objects
from pyinfra_kube.operations import bridge, docker, etcd, packages, routes, services
from pyinfra_kube.operations.files import File, files
from tests.unit import harness
from tests.unit.test_metadata import KINDS, public

CASES: list[tuple[Any, str, Any, Any]] = [
    (files, "files", [{"path": "/x", "content": "y"}], [File("/x", "y")]),
    (files, "files", [File("/x")], [File("/x")]),
    (routes.routes, "routes", [{"destination": "10.1.0.0/24", "via": "192.0.2.1"}],
     [routes.Route("10.1.0.0/24", via="192.0.2.1")]),
    (services.services, "units", [{"name": "a.service"}, services.Unit("b.service")],
     [services.Unit("a.service"), services.Unit("b.service")]),
    (etcd.keys, "keys", [{"path": "/a", "value": "1"}], [etcd.Key("/a", "1")]),
    # What is no list of objects, or no argument of its own.
    (files, "name", "Set files", "Set files"),
    (files, "_env", {"A": "b"}, {"A": "b"}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "name", "value", "wanted"), CASES)
def test_mappings_become_objects(operation: Any, name: str, value: Any, wanted: Any) -> None:
    assert _objects(operation._inner, name, value) == wanted


@pytest.mark.parametrize("item", [{"contents": "y"}, {"path": "relative"}])
def test_a_wrong_field_is_named(item: dict[str, str]) -> None:
    with pytest.raises(OperationValueError, match=r"files: .*(contents|relative)"):
        _objects(files._inner, "files", [item])


def test_each_list_of_objects_is_known() -> None:
    found = {}
    for one in public("operation"):
        module, _, name = one.partition(".")
        inner = getattr(vars(KINDS["operation"])[module], name)._inner
        kinds = [kind for hint in get_type_hints(inner).values() for kind in get_args(hint)]
        found[one] = [kind.__name__ for kind in kinds if is_dataclass(kind)]
    assert {one: kinds for one, kinds in found.items() if kinds} == {
        "access.bindings": ["Binding"],
        "binaries.binaries": ["Binary"],
        "environment.environment_files": ["EnvironmentFile"],
        "etcd.keys": ["Key"],
        "files.files": ["File"],
        "firewall_report.seen": ["Packet"],
        "nodes.node_objects": ["NodeObject"],
        # Whose text no host has, and no command line should.
        "objects.objects": ["Manifest", "Kubeconfig"],
        # Places and visits are noted in them.
        "reach.take_place": ["Place"],
        "reach.send": ["Place", "Visit", "Target"],
        "reach.arrived": ["Place", "Visit"],
        "routes.routes": ["Route"],
        "services.services": ["Unit"],
        "static_pods.static_pods": ["StaticPod"],
        "verify.verified": ["Check"],
    }


@pytest.mark.parametrize(
    ("operation", "arguments", "error"),
    [
        (packages.packages, {"packages": "socat"}, "packages: 'socat' is not a list"),
        (docker.docker, {"options": {}, "config": "x"}, "config: 'x' is not 'daemon.json' or"),
        (docker.docker, {"options": {}, "nofile": "many"}, "nofile: 'many' is not a whole number"),
        (docker.docker, {"options": "x"}, "options: 'x' is not a mapping"),
        (bridge.bridge, {"bridge": "br7", "present": "no"}, "present: 'no' is not true or false"),
    ],
)
def test_a_word_where_none_is_meant(operation: Any, arguments: dict[str, Any], error: str) -> None:
    with harness.fake_host({}), pytest.raises(OperationValueError, match=error):
        operation(**arguments)
