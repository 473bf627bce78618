"""Which connections verification tries, and what it takes for an answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyinfra_kube.deploys.run import questions

DNS = {"k8s-app": "kube-dns"}


def _pod(space: str, address: str, ready: str = "True", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": space, "labels": labels},
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


@pytest.mark.parametrize(
    ("said", "closed", "holds"),
    [
        ("", False, True),
        ("bash: connect: Connection refused", False, False),
        ("bash: connect: Connection refused", True, True),
        ("bash: connect: No route to host", True, False),
    ],
)
def test_only_a_closed_port_may_refuse(
    said: str, closed: bool, holds: bool, tmp_path: Path
) -> None:
    (tmp_path / "timeout").write_text(f"#!/bin/sh\necho '{said}'\n[ -z '{said}' ]\n")
    (tmp_path / "timeout").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = questions.way("192.0.2.1", 9, closed=closed)
    done = subprocess.run(["sh", "-c", command], env={"PATH": path}, check=False)
    assert (done.returncode == 0) is holds


def test_a_pod_that_a_policy_may_close_is_not_tried() -> None:
    pods = [
        _pod("shop", "10.10.0.5"),
        _pod("open", "10.10.0.6"),
        _pod("kube-system", "10.10.0.7", **DNS),
        _pod("kube-system", "10.10.0.8", "False", **DNS),
    ]
    policies = [
        {"metadata": {"namespace": "shop"}, "spec": {}},
        {"metadata": {"namespace": "kube-system"}, "spec": {"policyTypes": ["Ingress"]}},
        {"metadata": {"namespace": "open"}, "spec": {"policyTypes": ["Egress"]}},
    ]
    found = questions.pods_by_node(pods, policies)
    assert found == {"n": {"10.10.0.6": False, "10.10.0.7": True}}


def test_objects_are_asked_for_by_their_paths_and_secrets_without_values(tmp_path: Path) -> None:
    group = "networking.k8s.io/v1"
    objects = [
        {"apiVersion": group, "kind": "NetworkPolicy", "metadata": {"name": "x"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    ]
    script = questions.of_objects(objects).replace("/usr/local/bin/kubectl", "/none")
    (tmp_path / "kubectl").write_text(
        '#!/bin/sh\nfor last; do :; done\necho "{\\"path\\": \\"${last#--raw=}\\"}"\n'
    )
    (tmp_path / "kubectl").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env={"PATH": path}, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        '{"path": "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/x"}',
        "{}",
        '{"path": "/api/v1/namespaces/shop"}',
    ]
