"""What is given to others has no secret, wherever it stood."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.redaction import HIDDEN, redact

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
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\n{}\n",
)

AROUND = st.text(string.printable.replace("\r", ""), max_size=60)


@given(SECRETS, st.sampled_from(PLACES), AROUND, AROUND)
def test_no_secret_is_left(secret: str, place: str, before: str, after: str) -> None:
    # What begins a quotation elsewhere may not end here.
    before, after = (one.replace('"', "").replace("'", "") for one in (before, after))
    text = f"{before}\n{place.format(secret, secret)}\n{after}"
    found = redact(text)
    assert secret not in found
    assert HIDDEN in found


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
)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
