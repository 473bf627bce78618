"""
Answers and files that are damaged: what reads them gives a value of its types, or an error that
names the file or the tool.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pyinfra.api import FactBase
from pyinfra.api.exceptions import FactProcessError

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.credential_store import CredentialStore
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.facts.bridge import Links
from pyinfra_kube.facts.certificates import Certificates
from pyinfra_kube.facts.etcd import EtcdHealth, EtcdKeys, EtcdMembers, Keys
from pyinfra_kube.facts.images import Images
from pyinfra_kube.facts.nodes import Nodes
from pyinfra_kube.facts.objects import AppliedObjects, Objects
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.facts.static_pods import StaticPods
from tests.unit import harness
from tests.unit.damage import damaged, retyped
from tests.unit.test_credential_store import NOW, spec_of

_URL = "http://127.0.0.1:2379"
_LABELS = {"io.kubernetes.pod.name": "etcd-m", "io.kubernetes.container.name": "etcd"}
_CRICTL = {
    "id": "c1",
    "metadata": {"name": "etcd", "attempt": 1},
    "image": {"image": "e:1"},
    "state": "CONTAINER_RUNNING",
    "createdAt": "1700000000000000000",
    "labels": _LABELS,
}
_LO: dict[str, Any] = {"ifname": "lo", "mtu": 65536, "flags": ["UP"]}
_VXLAN = {
    **_LO,
    "ifname": "flannel.1",
    "address": "46:f1:d0:18:d0:65",
    "linkinfo": {"info_kind": "vxlan", "info_data": {"port": 8472}},
    "addr_info": [{"family": "inet", "local": "10.16.1.0", "prefixlen": 32}],
    "master": "br0",
}
_BRIDGE = {**_VXLAN, "ifname": "cbr0", "linkinfo": {"info_kind": "bridge"}}
_ROUTE = {"dst": "10.10.2.0/24", "gateway": "192.0.2.12", "dev": "eth0", "protocol": "76"}
_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "key", "namespace": "shop", "annotations": {"a": "b"}},
    "data": {"password": "eA=="},
}
_NODE = {
    "metadata": {"name": "n", "labels": {"a": "b"}},
    "spec": {"podCIDR": "10.10.1.0/24"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "192.0.2.12"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "nodeInfo": {"kubeletVersion": "v1.20.2"},
    },
}
_KEY = {"key": "L2E=", "value": "Yg==", "mod_revision": "8"}
_V2 = {"key": "/d", "dir": True, "nodes": [{"key": "/d/a", "value": "b", "modifiedIndex": 4}]}
_NOW = "now 1700000000.5 1 (cat) " + " ".join(["R", *["1"] * 17, "500", "1"])

Asked = dict[str, Any]
Printed = Callable[[str], list[str]]


def _etcd(paths: Sequence[str]) -> Printed:
    return lambda text: [
        line for path in paths for line in (*text.split("\n"), f"answer 200 0 {_URL}/{path}")
    ]


def _file(name: str, *before: str) -> Printed:
    return lambda text: [*before, f"{name}{_base64(text)}"]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode(errors="replace")).decode()


# A fact, what it is asked with, the JSON that it reads, how that is printed, and who gives it.
CASES: dict[str, tuple[type[FactBase[Any]], Asked, Any, Printed, str]] = {
    "links": (Links, {}, [_LO, _VXLAN, _BRIDGE, {}], lambda t: ["iproute2", *t.split("\n")], "ip"),
    "routes": (Routes, {}, [_ROUTE], lambda t: ['[{"ifname":"lo"}]', *t.split("\n")], "ip"),
    "nodes": (
        Nodes,
        {},
        {"kind": "List", "items": [_NODE]},
        lambda text: ["answer", *text.split("\n"), "", "status 0", ""],
        "kubectl",
    ),
    "objects": (
        Objects,
        {"references": []},
        {"kind": "List", "items": [_SECRET]},
        lambda text: [
            *["answer", '{"gitVersion": "v1.37.2"}', "", "status 0", ""],
            "pyinfra-kube next",
            *["answer", *text.split("\n"), "", "status 0", ""],
        ],
        "kubectl",
    ),
    "objects as applied": (
        AppliedObjects,
        {"manifest": "{}"},
        {"kind": "List", "items": [_SECRET]},
        lambda text: [
            *["answer", *text.split("\n"), "", "status 0", ""],
            "pyinfra-kube next",
            *["answer", *text.split("\n"), "", "status 0", ""],
        ],
        "kubectl",
    ),
    "containers of crictl": (
        StaticPods,
        {"runtime": "crio"},
        {"containers": [_CRICTL]},
        lambda t: ["runtime crio", *t.split("\n"), _NOW],
        "crictl",
    ),
    "labels of containers": (
        StaticPods,
        {},
        _LABELS,
        lambda text: [
            "runtime docker",
            "count 1",
            *f"container 3e8a /k8s_0 true 1 2024-01-02T03:04:05Z 0 e:1 {text}".split("\n"),
            _NOW,
        ],
        "docker",
    ),
    "images of a docker that is down": (
        Images,
        {},
        {"Repositories": {"a": {"a:1": "sha256:12", "a@sha256:34": "sha256:12"}}},
        _file("kept /var/lib/docker/image/x/repositories.json ", "runtime down"),
        "repositories.json",
    ),
    "health": (
        EtcdHealth,
        {"endpoints": [_URL]},
        {"etcdserver": "3.4.13", "health": "true"},
        _etcd(["health", "version"]),
        "etcd",
    ),
    "members": (
        EtcdMembers,
        {"endpoints": [_URL]},
        {"header": {}, "members": [{"ID": "255", "name": "m", "peerURLs": ["http://m:2380"]}]},
        _etcd([*(f"{v}/cluster/member/list" for v in ("v3", "v3beta", "v3alpha")), "v2/members"]),
        "etcd",
    ),
    "keys": (
        EtcdKeys,
        {"endpoints": [_URL], "paths": ["/a"]},
        {"header": {"revision": "9"}, "kvs": [_KEY]},
        _etcd(["v3/kv/range", "v3beta/kv/range", "v3alpha/kv/range"]),
        "etcd",
    ),
    "keys of v2": (
        EtcdKeys,
        {"endpoints": [_URL], "prefix": "/d/", "api": "v2"},
        {"action": "get", "node": _V2},
        _etcd(["v2/keys/d?recursive=true"]),
        "etcd",
    ),
}


def _read(case: str, text: str) -> Any:
    fact, arguments, _, printed, _ = CASES[case]
    instance = fact()
    instance.command(**arguments)
    return instance.process(printed(text))


@pytest.mark.parametrize("case", CASES)
def test_what_is_whole_is_read(case: str) -> None:
    assert harness.plain(_read(case, json.dumps(CASES[case][2]))) not in ({}, [], None)


@pytest.mark.parametrize("case", CASES)
@given(data=st.data())
def test_what_is_damaged_is_read_or_an_error(case: str, data: st.DataObject) -> None:
    text = json.dumps(CASES[case][2])
    broken = data.draw(damaged(text) | retyped(text))
    value = _outcome(lambda: _read(case, broken))
    if isinstance(value, FactProcessError):
        assert CASES[case][4] in str(value)
        assert "\n" not in str(value)
        return
    _check_types(value)
    if isinstance(value, Keys) and value.status != "ok":
        assert not value.keys


def _outcome(read: Callable[[], Any]) -> Any:
    """The value, or the error that may be raised in its place."""

    try:
        return read()
    except (FactProcessError, InputError) as error:
        return error


def _check_types(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_types(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_types(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name, hint in get_type_hints(type(value)).items():
            TypeAdapter(hint).validate_python(getattr(value, name), strict=True)
            _check_types(getattr(value, name))


# Certificates

_PATH = "/srv/kubernetes/server.crt"


@pytest.fixture(scope="module")
def bundle() -> str:
    ca = pki.make_ca("ca")
    pair = pki.issue(ca, "server", "server", names=["kubernetes", "192.0.2.10"])
    return f"{pair.cert}{ca.cert}"


def _certificates(text: str) -> Any:
    return Certificates().process([f"file {_PATH}", _base64(text)])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: f"subject=CN = ca\n{text}\n\n# end\n",
        lambda text: re.sub("(?m)$", "  ", text),
    ],
    ids=["as it was", "no newline", "as Windows has lines", "words around", "blanks"],
)
def test_certificates_are_read(bundle: str, change: Callable[[str], str]) -> None:
    assert _certificates(change(bundle)) == _certificates(bundle)
    assert len(_certificates(bundle)[_PATH]) == 2


@given(data=st.data())
def test_damaged_certificates(bundle: str, data: st.DataObject) -> None:
    broken = data.draw(damaged(bundle))
    found = _outcome(lambda: _certificates(broken))
    if isinstance(found, FactProcessError):
        assert _PATH in str(found)
    else:
        assert len(found.get(_PATH, [])) == broken.count("-----BEGIN CERTIFICATE-----")


# The folder on the control machine


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("store")
    spec = spec_of(basic_auth=True)
    store = CredentialStore(folder)
    store.plan(spec, make_plan(spec), now=NOW)
    store.save()
    return {
        p.name: p.read_text() for p in folder.iterdir() if p.suffix in (".crt", ".key", ".json")
    }


@given(data=st.data())
def test_a_damaged_folder(
    stored: dict[str, str], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    name = data.draw(st.sampled_from(sorted(stored)))
    text = stored[name]
    kinds = damaged(text) | (retyped(text) if name.endswith(".json") else st.nothing())
    for other, content in {**stored, name: data.draw(kinds)}.items():
        (folder / other).write_bytes(content.encode(errors="replace"))
    spec = spec_of()
    made = _outcome(lambda: CredentialStore(folder).plan(spec, make_plan(spec), now=NOW))
    if isinstance(made, InputError):
        assert name in str(made) or str(folder) in str(made)
    else:
        assert made.ca_fingerprints


def test_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(InputError, match="store"):
        CredentialStore(tmp_path / "store")
