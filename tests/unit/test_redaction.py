"""What is given to others has no secret, wherever it stood."""

from __future__ import annotations

import base64
import json
import re
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.components import PODS
from pyinfra_kube.cluster.redaction import HIDDEN, OWN_CONTAINERS, redact

ADDONS = Path(__file__).parents[2] / "templates" / "addons"

# Long enough not to be a part of what stands around it.
_SAFE = string.ascii_letters + string.digits
SECRETS = st.text(_SAFE + "+_=-.", min_size=14, max_size=60).map(lambda text: f"S{text}9")

# Where a secret stands, in `{}`.
PLACES = (
    "--token={}",
    "--bootstrap-token={} --v=2",
    "--password {}",
    "ETCD_PASSWORD={}",
    'KUBE_API_TOKEN="{}"',
    "export AWS_SECRET_ACCESS_KEY='{}'",
    "    token: {}",
    '    token: "{}"',
    "password: '{}'",
    '{{"password": "{}", "user": "joe"}}',
    '{{"auths": {{"r.example": {{"auth": "{}"}}}}}}',
    '{{\\"token\\": \\"{}\\"}}',
    "    client-key-data: {}",
    "- name: key1\n  secret: {}",
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    '"Authorization": "Bearer {}"',
    "Cookie: session={}; other={}",
    "Set-Cookie: a={}",
    "curl -H 'X-Auth-Token: {}' https://r.example",
    "http://joe:{}@proxy.example:3128/",
    "https://{}@r.example/v2/",
    '{{"name": "DB_PASSWORD", "value": "{}"}}',
    '{{"name":"DB_PASSWORD",\n "value":"{}"}}',
    '{{\\"name\\":\\"DB_PASSWORD\\",\\"value\\":\\"{}\\"}}',
    "- name: API_TOKEN\n  value: {}",
    "token: |\n  {}\nother: 1",
    "apiVersion: v1\nkind: Secret\ndata:\n  any: {}\ntype: Opaque",
    "apiVersion: v1\nstringData:\n  any: {}\n  more: {}\nkind: Secret",
    '{{"kind": "Secret", "data": {{"any": "{}"}}, "metadata": {{}}}}',
    '{{\\"data\\":{{\\"any\\":\\"{}\\"}},\\"kind\\":\\"Secret\\"}}',
    '{{"args":["--password","{}"]}}',
    '{{"args": ["-c",\n  "--password",\n  "{}"]}}',
    '{{\\"args\\":[\\"--password\\",\\"{}\\"]}}',
    '["mysqladmin", "password", "{}"]',
    "command: [mysqld, --password, {}]",
    "  args:\n  - --password\n  - {}\n",
    "  args:\n  - mysqladmin\n  - password\n  - '{}'\n",
    "/usr/bin/db\n--password\n{}\n--more",
    "DB_PASS={}",
    "export PGPASS={}",
    "MYSQL_PWD='{}'",
    "S3_KEY: {}",
    "GITHUB_PAT={}",
    '"dbPass": "{}"',
    "DB_PASSWORD=/{}",
    "S3_KEY=/{}/more",
    "password: {} and more {}",
    "password: 'it''{}'",
    "PASSWORD=a,{}",
    'PASSWORD="a"{}',
    "tokens:\n- {}\n- {}\n",
    '{{"tokens": ["a", "{}"]}}',
    "- value: {}\n  name: DB_PASS",
    "    token: >-\n\n      {}\n      {}\n    more: 1",
    "postgres://joe:a/{}@db.example/x",
    '{{"kind": "Secret", "stringData": {{"any": "{{}} {}"}}}}',
    '{{"kind":"SecretList","items":[{{"data":{{"any":"{}"}}}}]}}',
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\n{}\n",
)

AROUND = st.text(string.printable.replace("\r", ""), max_size=60)


@example("S0000000000000=9", "PASSWORD=a,{}", "", "")
@given(SECRETS, st.sampled_from(PLACES), AROUND, AROUND)
def test_no_secret_is_left(secret: str, place: str, before: str, after: str) -> None:
    # What begins a quotation elsewhere may not end here.
    before, after = (one.replace('"', "").replace("'", "") for one in (before, after))
    text = f"{before}\n{place.format(secret, secret)}\n{after}"
    found = redact(text)
    assert secret not in found
    assert HIDDEN in found


@pytest.mark.parametrize(
    "more",
    [
        'password="my secret phrase"',
        "passwords=[one secret, two]",
        "cookie=a=secret; b=secret",
        "X-Auth-Token=a secret",
        "Authorization=Basic secret",
    ],
)
def test_a_value_does_not_hide_where_the_next_one_begins(more: str) -> None:
    found = redact(f"token=abc,{more}")
    assert "abc" not in found
    assert "secret" not in found


@given(AROUND)
def test_it_is_the_same_the_second_time(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


def test_keys_in_base64_are_hidden() -> None:
    key = base64.b64encode(pki.make_key().encode()).decode()
    assert key[:60] not in redact(f"    any: {key}")


def test_tokens_are_hidden() -> None:
    parts = [
        base64.urlsafe_b64encode(one.encode()).decode().rstrip("=")
        for one in ('{"alg":"RS256"}', '{"sub":"system:serviceaccount:a:b"}', "signature")
    ]
    assert parts[1] not in redact(f"got {'.'.join(parts)} of a pod")


POD = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "web:1",
                "command": ["mysql", "-pHUNTER2"],
                "args": ["HUNTER2"],
                "env": [{"name": "ANY", "value": "HUNTER2"}, {"name": "B", "valueFrom": {}}],
                "livenessProbe": {
                    "exec": {"command": ["mysqladmin", "-pHUNTER2", "ping"]},
                    "httpGet": {"httpHeaders": [{"name": "X-Any", "value": "HUNTER2"}]},
                },
            }
        ]
    },
}


def _with(namespace: str, container: str) -> dict[str, Any]:
    found = json.loads(json.dumps(POD))
    found["metadata"]["namespace"] = namespace
    found["spec"]["containers"][0]["name"] = container
    return {"kind": "PodList", "items": [found]}


def _template(pods: dict[str, Any]) -> dict[str, Any]:
    (pod,) = pods["items"]
    return {"items": [{"metadata": pod["metadata"], "spec": {"template": {"spec": pod["spec"]}}}]}


@pytest.mark.parametrize("form", [json.dumps, lambda one: json.dumps(one, indent=2)])
@pytest.mark.parametrize("kind", [dict, _template])
@pytest.mark.parametrize(("namespace", "name"), [("shop", "coredns"), ("kube-system", "web")])
def test_variables_and_arguments_of_others_go(
    namespace: str, name: str, kind: Callable[[Any], Any], form: Callable[[Any], str]
) -> None:
    found = redact(f"# kubectl get\n{form(kind(_with(namespace, name)))}\n")
    assert "HUNTER2" not in found
    assert found.startswith("# kubectl get\n{")
    assert '"image":"web:1"' in found


def test_those_of_the_cluster_stay() -> None:
    text = json.dumps(_with("kube-system", "coredns"))
    assert redact(text) == text
    secret = text.replace('"ANY"', '"DB_PASS"').replace("-pHUNTER2", "--password")
    found = json.loads(redact(secret))["items"][0]["spec"]["containers"][0]
    assert found["env"][0] == {"name": "DB_PASS", "value": HIDDEN}
    assert found["command"] == ["mysql", "--password"]
    assert found["livenessProbe"]["exec"]["command"] == ["mysqladmin", "--password", HIDDEN]


def test_the_cluster_knows_its_containers() -> None:
    manifests = "".join(one.read_text() for one in ADDONS.glob("*.yaml.j2"))
    names = {*PODS, *re.findall(r"name: ([\w.-]+)\n +image:", manifests)}
    assert names <= OWN_CONTAINERS


def test_what_kubectl_notes_of_an_apply_goes() -> None:
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(POD)}
    assert "HUNTER2" not in redact(json.dumps({"metadata": {"annotations": note}}))


# What lines are made of.
PIECES = st.sampled_from(
    [
        *("a", "-", "--", ".", "_", " ", "\n", "\\", '"', "'", ":", "=", ",", "/", "@", "[", "{"),
        *("eyJ", "://", "x-", "token", "token=", "--password ", "name: token ", "value: ", "}]"),
        *(
            "secret: |\n",
            "secret:\n- ",
            '"data":{"',
            "kind: Secret\n",
            "cookie: ",
            "LS0tLS1CRUdJTi",
        ),
        *("bearer ", "-----BEGIN ", "PRIVATE KEY-----", 'token=\\"', "secret=/etc/", "A1"),
    ]
)


@given(st.lists(PIECES, min_size=1, max_size=4).map("".join))
def test_work_grows_as_the_text_does(piece: str) -> None:
    def work(size: int) -> float:
        begin = time.process_time()
        redact((piece * size)[:size])
        return time.process_time() - begin

    redact(piece)
    few, many = (min(work(size) for _ in range(3)) for size in (10_000, 80_000))
    # Of squares it would be 64 times as much.
    assert many < 24 * few + 0.1


KEPT = (
    "--kubeconfig=/var/lib/kubelet/kubeconfig",
    "--tls-private-key-file=/srv/kubernetes/server.key",
    "--service-account-key-file=/srv/kubernetes/service-account.pub",
    "--token-auth-file=/srv/kubernetes/known_tokens.csv",
    "https://192.0.2.1:6443/healthz",
    "--authorization-mode=Node,RBAC",
    "--authorization-webhook-cache-authorized-ttl=5m0s",
    "--legacy-service-account-token-clean-up-period=8760h0m0s",
    "Reached target Basic System.",
    "kubelet[7]: E1127 01:02:03 the node is not ready",
    "automountServiceAccountToken: false",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "kind: ConfigMap\ndata:\n  Corefile: text",
    'resources: ["secrets", "configmaps"]',
    "  - secrets\n  - configmaps\n",
    "imagePullSecrets:\n- name: registry\n",
    "topologyKey: kubernetes.io/hostname",
    'controller.go:1] "Syncing" key="kube-system/coredns" bypass=2',
    "PWD=/root",
    "    client-key: /srv/kubernetes/admin.key",
    'FLAG: --tls-private-key-file="/srv/kubernetes/server.key"',
    "image: r.example:5000/coredns@sha256:0123456789abcdef",
    "--token-auth-file /srv/kubernetes/known_tokens.csv --v=2",
)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
